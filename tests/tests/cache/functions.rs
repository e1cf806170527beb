//! Refreshing, forgetting, and looking at what is cached.

use crate::ground::{Ground, api, get, holds, moto, put, secret, text};
use secretlink_e2e::{Fault, db_error, random_password, unique};
use serde_json::json;
use std::time::Duration;

#[test]
fn refresh_is_seen_by_all_and_costs_one_request() {
    let ground = Ground::start();
    let name = secret("one");
    let (mut session, mut other) = (ground.session(), ground.session());
    holds(&mut other, &name, "one");
    let version = put(&name, "two");
    assert_eq!(text(&mut session, &format!("SELECT refresh_secret('{name}')")), version);
    holds(&mut other, &name, "two");
    assert_eq!(ground.asked(&name), 2);
    // Each asks for what is there from its own time on.
    let version = put(&name, "three");
    assert_eq!(text(&mut session, &format!("SELECT refresh_secret('{name}')")), version);
    holds(&mut other, &name, "three");
    let missing = unique("missing");
    let error = db_error(session.batch_execute(&format!("SELECT refresh_secret('{missing}')")));
    assert_eq!(error.code().code(), "42704");
}

#[test]
fn a_secret_is_forgotten_by_any_of_its_names() {
    let ground = Ground::start();
    let name = unique("cache");
    let arn = api().create_secret(&name, "one");
    let partial = arn.rsplit_once('-').unwrap().0.to_owned();
    let version = api().version_at(&name, "AWSCURRENT").unwrap();
    let other = secret("other");
    let mut session = ground.session();
    holds(&mut session, &other, "other");
    for known_as in [&name, &arn, &partial] {
        for id in [&name, &arn, &partial] {
            holds(&mut session, id, "one");
        }
        text(&mut session, &format!("SELECT get_secret_string('{name}', version_id => '{version}')"));
        assert_eq!(text(&mut session, "SELECT count(*) FROM secret_cache"), "5");
        assert_eq!(text(&mut session, &format!("SELECT forget_secret('{}')", &name[1..])), "0");
        assert_eq!(text(&mut session, &format!("SELECT forget_secret('{known_as}')")), "4");
        assert_eq!(text(&mut session, "SELECT secret_id FROM secret_cache"), other);
    }
    assert_eq!(ground.asked(&name), 6);
    assert_eq!((ground.asked(&arn), ground.asked(&partial)), (3, 3));
    holds(&mut session, &name, "one");
    assert_eq!(text(&mut session, "SELECT forget_all_secrets()"), "2");
    assert_eq!(text(&mut session, "SELECT count(*) FROM secret_cache"), "0");
    holds(&mut session, &other, "other");
    assert_eq!(ground.asked(&other), 2);
}

#[test]
fn the_view_shows_everything_but_values() {
    let ground = Ground::start();
    let marker = random_password();
    let (name, failing, late) = (secret(&marker), unique("failing"), secret(&marker));
    let (mut session, mut other) = (ground.session(), ground.session());
    holds(&mut session, &name, &marker);
    holds(&mut session, &name, &marker);
    db_error(get(&mut session, &failing));
    ground.relay.rule(&late, |_| Fault::Delay(Duration::from_secs(2)));
    let asking = std::thread::spawn({
        let late = late.clone();
        move || get(&mut other, &late)
    });
    ground.until_asked(&late, 1);
    let mut row = |name: &str| {
        let sql = format!(
            "SELECT concat_ws(' ', state, stage, version_id, hits, region, role_arn, last_error IS NOT NULL,
                    age >= '0' AND age < '1 min', expires - now() > '4 min' AND expires - now() < '5 min 1 s')
             FROM secret_cache WHERE secret_id = '{name}'"
        );
        text(&mut session, &sql)
    };
    let version = api().version_at(&name, "AWSCURRENT").unwrap();
    assert_eq!(row(&name), format!("fresh AWSCURRENT {version} 1 us-east-1 f t t"));
    assert_eq!(row(&failing), "failed AWSCURRENT 0 us-east-1 t");
    assert_eq!(row(&late), "asking AWSCURRENT 0 us-east-1 f");
    asking.join().unwrap().unwrap();
    ground.relay.rule(&name, |_| Fault::Cut);
    ground.expire(&mut session);
    let state = format!("SELECT state FROM secret_cache WHERE secret_id = '{name}'");
    assert!(["stale", "asking"].contains(&text(&mut session, &state).as_str()));
    ground.set(&mut session, "secretlink.cache_max_stale", "0");
    assert!(["expired", "asking"].contains(&text(&mut session, &state).as_str()));
    db_error(get(&mut session, &name));
    let error =
        text(&mut session, &format!("SELECT last_error FROM secret_cache WHERE secret_id = '{name}'"));
    assert!(error.contains("Secrets Manager"), "{error}");
    let all = text(&mut session, "SELECT string_agg(c::text, ' ') FROM secret_cache_entries() c");
    assert!(all.contains(&name) && !all.contains(&marker), "{all}");
}

#[test]
fn what_this_server_writes_is_seen_at_once() {
    let ground = Ground::start();
    let name = unique("cache");
    let (mut session, mut other) = (ground.session(), ground.session());
    assert_eq!(db_error(get(&mut other, &name)).code().code(), "42704");
    text(&mut session, &format!("SELECT create_secret('{name}', '{{}}')"));
    holds(&mut other, &name, "{}");
    for value in ["1", "2", "3"] {
        text(&mut session, &format!("SELECT put_secret_value('{name}', '{value}')"));
        holds(&mut other, &name, value);
        holds(&mut session, &name, value);
    }
    // Stored, but the answer is lost, or nobody waits for it any more.
    ground.relay.rule(&name, |request| match request.operation.as_str() {
        "PutSecretValue" => Fault::CutAnswer,
        _ => Fault::None,
    });
    db_error(session.batch_execute(&format!("SELECT put_secret_value('{name}', '4')")));
    holds(&mut other, &name, "4");
    let (stored, is_stored) = std::sync::mpsc::channel();
    let stored = std::sync::Mutex::new(stored);
    ground.relay.rule(&name, move |request| match request.operation.as_str() {
        "PutSecretValue" => {
            let stored = stored.lock().unwrap().clone();
            Fault::BeforeAnswer(Box::new(move || {
                stored.send(()).unwrap();
                std::thread::sleep(Duration::from_secs(3));
            }))
        }
        _ => Fault::None,
    });
    let cancel = session.cancel_token();
    let put = std::thread::spawn({
        let name = name.clone();
        move || session.batch_execute(&format!("SELECT put_secret_value('{name}', '5')"))
    });
    is_stored.recv().unwrap();
    cancel.cancel_query(postgres::NoTls).unwrap();
    assert_eq!(db_error(put.join().unwrap()).code().code(), "57014");
    holds(&mut other, &name, "5");
}

#[test]
fn what_was_asked_for_before_a_change_is_not_kept_after_it() {
    let ground = Ground::start();
    let (name, other_name) = (unique("cache"), unique("cache"));
    let arn = api().create_secret(&name, r#"{"v":"old"}"#);
    api().create_secret(&other_name, "other");
    let partial = arn.rsplit_once('-').unwrap().0.to_owned();
    for (n, asked_as) in [&name, &arn, &partial].into_iter().enumerate() {
        for change in ["put_secret_value", "forget_secret", "forget_all_secrets"] {
            let value = json!({ "v": format!("{n} {change}") }).to_string();
            let mut session = ground.session();
            text(&mut session, "SELECT forget_all_secrets()");
            let (hold, held) = std::sync::mpsc::channel::<()>();
            let held = std::sync::Mutex::new(Some(held));
            ground.relay.forget(asked_as);
            ground.relay.rule(asked_as, move |request| {
                if request.operation != "GetSecretValue" {
                    return Fault::None;
                }
                match held.lock().unwrap().take() {
                    Some(held) => Fault::BeforeAnswer(Box::new(move || {
                        let _ = held.recv();
                    })),
                    None => Fault::None,
                }
            });
            let mut asking = ground.session();
            let asking = std::thread::spawn({
                let asked_as = asked_as.clone();
                move || get(&mut asking, &asked_as)
            });
            ground.until_asked(asked_as, 1);
            // moto has answered with the old value when it has served somebody who came later.
            holds(&mut session, &other_name, "other");
            std::thread::sleep(Duration::from_millis(300));
            match change {
                "put_secret_value" => {
                    text(&mut session, &format!("SELECT put_secret_value('{name}', '{value}')"));
                }
                "forget_secret" => {
                    put(&name, &value);
                    text(&mut session, &format!("SELECT forget_secret('{name}')"));
                }
                _ => {
                    put(&name, &value);
                    text(&mut session, "SELECT forget_all_secrets()");
                }
            }
            hold.send(()).unwrap();
            // A session that asked before may be told what was then.
            assert_ne!(asking.join().unwrap().unwrap(), value, "it was asked for before the {change}");
            holds(&mut session, asked_as, &value);
            ground.relay.pass(asked_as);
        }
    }
}

/// The region asked, wherever it is from.
#[test]
fn the_view_shows_the_region_that_was_asked() {
    let ground = Ground::with(|local| local.conf("secretlink.region = ''").env("AWS_REGION", "eu-west-1"));
    let irish = moto().secrets().in_region("eu-west-1");
    let (name, abroad, missing) = (unique("region"), unique("abroad"), unique("missing"));
    irish.create_secret(&name, "1");
    let arn = api().create_secret(&abroad, "1");
    let mut session = ground.session();
    holds(&mut session, &name, "1");
    holds(&mut session, &arn, "1");
    db_error(get(&mut session, &missing));
    let mut region = |secret: &str| {
        text(&mut session, &format!("SELECT region FROM secret_cache WHERE secret_id = '{secret}'"))
    };
    assert_eq!(region(&name), "eu-west-1");
    assert_eq!(region(&arn), "us-east-1");
    assert_eq!(region(&missing), "eu-west-1");
}

#[test]
fn uses_are_counted_from_the_reset_on() {
    let ground = Ground::start();
    let name = unique("hits");
    api().create_secret(&name, "1");
    let (mut session, mut other) = (ground.session(), ground.session());
    let hits = format!("SELECT hits::text FROM secret_cache WHERE secret_id = '{name}'");
    for _ in 0..4 {
        holds(&mut session, &name, "1");
    }
    assert_eq!(text(&mut other, &hits), "3");
    other.batch_execute("SELECT secretlink_stats_reset()").unwrap();
    assert_eq!(text(&mut session, &hits), "0");
    holds(&mut session, &name, "1");
    assert_eq!(text(&mut other, &hits), "1");
    assert_eq!(ground.asked(&name), 1, "the value has stayed");
}
