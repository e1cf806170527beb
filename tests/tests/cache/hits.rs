//! What is asked for once, and what is asked for again.

use crate::ground::{Ground, PATIENCE, api, get, holds, put, requests, secret, stat, text};
use postgres::Client;
use secretlink_e2e::{Fault, unique};
use serde_json::json;
use std::time::Duration;

#[test]
fn many_sessions_ask_once_until_it_is_too_old() {
    let ground = Ground::start();
    let name = secret("one");
    let mut sessions: Vec<Client> = (0..12).map(|_| ground.session()).collect();
    for _ in 0..3 {
        for session in &mut sessions {
            holds(session, &name, "one");
        }
    }
    assert_eq!(ground.asked(&name), 1);
    let session = &mut sessions[0];
    assert_eq!((stat(session, "cache_misses"), stat(session, "cache_hits")), (1, 35));
    put(&name, "two");
    holds(session, &name, "one");
    ground.expire(session);
    holds(session, &name, "two");
    assert!(ground.asked(&name) > 1);
}

#[test]
fn without_preloading_each_session_has_its_own() {
    let ground = Ground::with(|local| local.preload(false));
    let name = secret("one");
    let (mut session, mut other) = (ground.session(), ground.session());
    for _ in 0..3 {
        holds(&mut session, &name, "one");
        holds(&mut other, &name, "one");
    }
    assert_eq!(ground.asked(&name), 2);
    put(&name, "two");
    other.batch_execute(&format!("SELECT refresh_secret('{name}')")).unwrap();
    holds(&mut other, &name, "two");
    holds(&mut session, &name, "one");
    // Here nobody renews it.
    ground.expire(&mut session);
    assert_eq!(ground.asked(&name), 3);
    holds(&mut session, &name, "two");
    assert_eq!(ground.asked(&name), 4);
    // The same version is as good as another.
    std::thread::sleep(Duration::from_millis(1_100));
    holds(&mut session, &name, "two");
    assert_eq!(ground.asked(&name), 5);
    ground.set(&mut session, "secretlink.cache_ttl", "300");
    holds(&mut session, &name, "two");
    assert_eq!(ground.asked(&name), 5);
}

#[test]
fn no_cache_asks_each_time() {
    for preload in [true, false] {
        let ground = Ground::with(|local| local.preload(preload).conf("secretlink.cache_size = 0"));
        let name = secret("one");
        let mut session = ground.session();
        for _ in 0..3 {
            holds(&mut session, &name, "one");
        }
        assert_eq!(ground.asked(&name), 3);
        assert_eq!(text(&mut session, "SELECT count(*) FROM secret_cache"), "0");
        assert_eq!(text(&mut session, &format!("SELECT forget_secret('{name}')")), "0");
        assert_eq!(text(&mut session, "SELECT forget_all_secrets()"), "0");
        text(&mut session, &format!("SELECT refresh_secret('{name}')"));
    }
}

#[test]
fn a_cache_without_age_is_for_those_who_ask_at_the_same_time() {
    let ground = Ground::with(|local| local.conf("secretlink.cache_ttl = 0"));
    let name = secret("one");
    let mut session = ground.session();
    for times in 1..=3 {
        holds(&mut session, &name, "one");
        assert_eq!(ground.asked(&name), times);
    }
    ground.relay.rule(&name, |_| Fault::Delay(Duration::from_secs(2)));
    let sessions: Vec<Client> = (0..8).map(|_| ground.session()).collect();
    std::thread::scope(|scope| {
        for mut session in sessions {
            let name = &name;
            scope.spawn(move || holds(&mut session, name, "one"));
        }
    });
    // A late one may have come after the answer.
    assert!(ground.asked(&name) < 3 + 8, "{}", ground.asked(&name));
}

#[test]
fn stages_and_versions_are_kept_apart() {
    let ground = Ground::start();
    let name = secret("one");
    let first = api().version_at(&name, "AWSCURRENT").unwrap();
    let second = put(&name, "two");
    let mut session = ground.session();
    let mut all = |current: &str, previous: &str| {
        for (arguments, value) in [
            (String::new(), current),
            (", version_stage => 'AWSCURRENT'".to_owned(), current),
            (", version_stage => 'AWSPREVIOUS'".to_owned(), previous),
            (format!(", version_id => '{first}'"), "one"),
            (format!(", version_id => '{second}'"), "two"),
        ] {
            let sql = format!("SELECT get_secret_string('{name}'{arguments})");
            assert_eq!(text(&mut session, &sql), value, "{arguments}");
        }
    };
    for _ in 0..2 {
        all("two", "one");
        assert_eq!(ground.asked(&name), 4);
    }
    put(&name, "three");
    all("two", "one");
    ground.session().batch_execute(&format!("SELECT refresh_secret('{name}')")).unwrap();
    all("three", "two");
    let mut session = ground.session();
    let versions =
        format!("SELECT count(*), count(DISTINCT version_id) FROM secret_cache WHERE secret_id = '{name}'");
    let row = session.query_one(&versions, &[]).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (4, 3));
}

#[test]
fn any_value_is_kept_as_it_is() {
    let ground = Ground::start();
    let binary = unique("binary");
    // The bytes 0 to 5 and 255, in base64.
    api().call("CreateSecret", json!({ "Name": binary, "SecretBinary": "AAECAwQF/w==" })).unwrap();
    let large: String = ("ü".repeat(1_000) + &"0123456789".repeat(6_353)).chars().collect();
    assert_eq!(large.len(), 65_530);
    let (large_name, empty) = (secret(&large), secret("{}"));
    for _ in 0..3 {
        let mut session = ground.session();
        let row = session.query_one("SELECT get_secret_binary($1)", &[&binary]).unwrap();
        assert_eq!(row.get::<_, Vec<u8>>(0), [0, 1, 2, 3, 4, 5, 255]);
        let error = get(&mut session, &binary).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42809", "{error:?}");
        holds(&mut session, &large_name, &large);
        holds(&mut session, &empty, "{}");
    }
    for name in [&binary, &large_name, &empty] {
        assert_eq!(ground.asked(name), 1, "{name}");
    }
}

#[test]
fn what_is_too_large_for_the_cache_is_asked_for_by_each_and_at_once() {
    let ground = Ground::with(|local| local.conf("secretlink.cache_size = 64kB"));
    let large = "x".repeat(65_000);
    let (name, small) = (secret(&large), secret("small"));
    let mut session = ground.session();
    holds(&mut session, &small, "small");
    ground.relay.rule(&name, |_| Fault::Delay(Duration::from_millis(700)));
    let sessions: Vec<Client> = (0..12).map(|_| ground.session()).collect();
    // One after the other, they would take longer than that.
    std::thread::scope(|scope| {
        for mut session in sessions {
            let (name, large) = (&name, &large);
            scope.spawn(move || {
                session.batch_execute("SET secretlink.request_timeout = '6s'").unwrap();
                holds(&mut session, name, large);
            });
        }
    });
    assert_eq!(ground.asked(&name), 12);
    // It has not pushed out what does fit.
    holds(&mut session, &small, "small");
    assert_eq!(ground.asked(&small), 1);
    put(&name, "it fits now");
    ground.relay.pass(&name);
    holds(&mut session, &name, "it fits now");
}

#[test]
fn a_full_cache_lets_go_what_was_not_used_for_longest() {
    let ground = Ground::with(|local| local.conf("secretlink.cache_size = 64kB"));
    let mut session = ground.session();
    let names: Vec<String> = (0..5).map(|n| secret(&format!("{n}{}", "x".repeat(10_000)))).collect();
    for name in &names[..4] {
        get(&mut session, name).unwrap();
    }
    assert_eq!(text(&mut session, "SELECT count(*) FROM secret_cache"), "4");
    // Used by somebody else, and looked at, which is no use.
    get(&mut ground.session(), &names[0]).unwrap();
    session.batch_execute("SELECT * FROM secret_cache").unwrap();
    get(&mut session, &names[4]).unwrap();
    let rows = session.query("SELECT secret_id FROM secret_cache", &[]).unwrap();
    let mut left: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    left.sort();
    let mut expected = vec![names[0].clone(), names[2].clone(), names[3].clone(), names[4].clone()];
    expected.sort();
    assert_eq!(left, expected);
    for (name, asked) in names.iter().zip([1, 2, 1, 1, 1]) {
        if asked == 1 {
            assert!(get(&mut session, name).unwrap().ends_with('x'));
            assert_eq!(ground.asked(name), 1);
        }
    }
    get(&mut session, &names[1]).unwrap();
    assert_eq!(ground.asked(&names[1]), 2);
}

#[test]
fn databases_of_other_encodings_share_it() {
    let ground = Ground::start();
    let (name, foreign) = (secret("é"), secret("€ is not in Latin-1"));
    let mut session = ground.session();
    session.batch_execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'").unwrap();
    let mut latin = ground.local.connect("postgres", "latin");
    latin.batch_execute("CREATE EXTENSION secretlink").unwrap();
    holds(&mut latin, &name, "é");
    holds(&mut session, &name, "é");
    assert_eq!(text(&mut latin, &format!("SELECT octet_length(get_secret_string('{name}'))")), "1");
    assert_eq!(ground.asked(&name), 1);
    for _ in 0..2 {
        assert_eq!(get(&mut latin, &foreign).unwrap_err().code().unwrap().code(), "22P05");
        holds(&mut session, &foreign, "€ is not in Latin-1");
    }
    assert_eq!(ground.asked(&foreign), 1);
    // An error that one of them is told is told to the other.
    let missing = unique("missing");
    ground.relay.rule(&missing, |_| Fault::Delay(Duration::from_secs(2)));
    std::thread::scope(|scope| {
        for mut client in [latin, session] {
            let missing = &missing;
            scope.spawn(move || {
                assert_eq!(get(&mut client, missing).unwrap_err().code().unwrap().code(), "42704");
            });
        }
    });
}

#[test]
fn an_answer_that_is_an_error_is_for_all_who_wait() {
    let ground = Ground::start();
    let name = unique("missing");
    ground.relay.rule(&name, |_| Fault::Delay(Duration::from_secs(2)));
    let sessions: Vec<Client> = (0..10).map(|_| ground.session()).collect();
    std::thread::scope(|scope| {
        for mut session in sessions {
            let name = &name;
            scope.spawn(move || {
                let error = get(&mut session, name).unwrap_err();
                let error = error.as_db_error().unwrap();
                assert_eq!(error.code().code(), "42704");
                assert!(error.message().contains(name.as_str()), "{error:?}");
            });
        }
    });
    assert!(ground.asked(&name) < 10, "{}", ground.asked(&name));
    // It is not kept for those who come later.
    ground.relay.pass(&name);
    api().create_secret(&name, "there it is");
    holds(&mut ground.session(), &name, "there it is");
    let mut session = ground.session();
    secretlink_e2e::eventually("the requests are counted", PATIENCE, || {
        let counted = requests(&mut session);
        if usize::try_from(counted) == Ok(ground.asked(&name)) { Ok(()) } else { Err(counted.to_string()) }
    });
}
