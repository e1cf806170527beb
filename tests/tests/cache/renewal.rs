//! Secrets in use are renewed before they are too old.

use crate::ground::{Ground, PATIENCE, api, get, holds, moto, put, secret, stat, text};
use secretlink_e2e::{ScriptedEndpoint, StopMode, eventually, private_file, unique};
use serde_json::json;
use std::time::Duration;

const WORKER: &str = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'secretlink cache'";

/// Reads a secret until it was asked for so often.
#[track_caller]
fn use_until(ground: &Ground, session: &mut postgres::Client, name: &str, times: usize) {
    eventually("it is renewed", PATIENCE, || {
        get(session, name).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        if ground.asked(name) >= times { Ok(()) } else { Err(ground.asked(name).to_string()) }
    });
}

#[test]
fn nobody_waits_for_what_is_in_use_and_nobody_asks_for_what_is_not() {
    let ground = Ground::with(|local| local.conf("secretlink.cache_ttl = 4"));
    let (used, unused) = (secret("used"), secret("unused"));
    let mut session = ground.session();
    holds(&mut session, &unused, "unused");
    holds(&mut session, &used, "used");
    use_until(&ground, &mut session, &used, 3);
    assert_eq!(stat(&mut session, "cache_misses"), 2);
    assert_eq!((stat(&mut session, "cache_waits"), stat(&mut session, "cache_refreshes") >= 2), (0, true));
    // A new value arrives by itself.
    put(&used, "new");
    eventually("the new value is there", PATIENCE, || {
        let seen = get(&mut session, &used).unwrap();
        if seen == "new" { Ok(()) } else { Err(seen) }
    });
    assert_eq!(stat(&mut session, "cache_misses"), 2);
    // By now the other one has not been in use for long.
    let asked = ground.asked(&unused);
    use_until(&ground, &mut session, &used, 5);
    assert!(ground.asked(&unused) == asked && asked <= 3, "{asked} {}", ground.asked(&unused));
    holds(&mut session, &unused, "unused");
    assert_eq!(ground.asked(&unused), asked + 1);
}

#[test]
fn the_worker_comes_back_and_is_in_nobodys_way() {
    let ground = Ground::with(|local| local.conf("secretlink.cache_ttl = 2"));
    let name = secret("one");
    let mut session = ground.session();
    use_until(&ground, &mut session, &name, 2);
    let worker = text(&mut session, WORKER);
    text(&mut session, &format!("SELECT pg_terminate_backend({worker})"));
    eventually("another worker is there", PATIENCE, || {
        let seen = text(&mut session, WORKER);
        if !seen.is_empty() && seen != worker { Ok(()) } else { Err(seen) }
    });
    let before = stat(&mut session, "cache_refreshes");
    eventually("it renews", PATIENCE, || {
        get(&mut session, &name).unwrap();
        let now = stat(&mut session, "cache_refreshes");
        if now > before { Ok(()) } else { Err(now.to_string()) }
    });
    for sql in ["CREATE DATABASE short_lived", "DROP DATABASE short_lived"] {
        session.batch_execute(sql).unwrap();
    }
}

#[test]
fn each_is_renewed_where_it_was_read() {
    let ground = Ground::with(|local| local.conf("secretlink.cache_ttl = 2"));
    let name = unique("cache");
    api().create_secret(&name, r#"{"username":"here","password":"x"}"#);
    let abroad = moto().secrets().in_region("eu-west-1");
    abroad.create_secret(&name, r#"{"username":"abroad","password":"x"}"#);
    let elsewhere = ScriptedEndpoint::start();
    let answer = json!({ "ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:x-AbCdEf", "Name": name,
                         "VersionId": "00000000-0000-0000-0000-000000000000", "VersionStages": ["AWSCURRENT"],
                         "SecretString": "elsewhere" });
    elsewhere.answer(200, &answer.to_string());
    let (mut session, mut superuser) = (ground.session(), ground.session());
    superuser.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", elsewhere.url())).unwrap();
    holds(&mut superuser, &name, "elsewhere");
    holds(&mut session, &name, r#"{"username":"here","password":"x"}"#);
    let server = unique("server");
    session
        .batch_execute(&format!(
            "CREATE SERVER \"{server}\" FOREIGN DATA WRAPPER secretlink_fdw
             OPTIONS (secret_id '{name}', region 'eu-west-1', host '127.0.0.1', port '1', dbname 'x')"
        ))
        .unwrap();
    // The login fails, for want of a server; the secret was read.
    session.batch_execute(&format!("SELECT dblink_connect('{server}')")).unwrap_err();
    let entries = "SELECT string_agg(concat(region, ' ', version_id), ',' ORDER BY region) FROM secret_cache WHERE secret_id = ";
    let mut versions = || text(&mut superuser, &format!("{entries}'{name}'"));
    let before = versions();
    assert_eq!(before.split(',').count(), 3, "{before}");
    // Each has a new version in its place.
    put(&name, "here again");
    let version = abroad.put_secret_value(&name, r#"{"username":"abroad","password":"y"}"#, &["AWSCURRENT"]);
    let asked_elsewhere = elsewhere.requests().len();
    eventually("both are renewed", PATIENCE, || {
        session.batch_execute(&format!("SELECT dblink_connect('{server}')")).unwrap_err();
        let here = get(&mut session, &name).unwrap();
        let seen = versions();
        if here == "here again" && seen.contains(&format!("eu-west-1 {version}")) {
            Ok(())
        } else {
            Err(seen)
        }
    });
    // What was read with the settings of one session is renewed by nobody, though it is in use.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(20));
        get(&mut session, &name).unwrap();
    }
    assert_eq!(elsewhere.requests().len(), asked_elsewhere);
    assert_eq!(stat(&mut session, "cache_waits"), 0);
    let mut superuser = ground.session();
    superuser.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", elsewhere.url())).unwrap();
    holds(&mut superuser, &name, "elsewhere");
    holds(&mut session, &name, "here again");
}

#[test]
fn a_standby_has_all_of_it() {
    let mut ground = Ground::with(|local| local.conf("secretlink.cache_ttl = 2"));
    ground.local.stop(StopMode::Fast);
    private_file(ground.local.data_dir().join("standby.signal"), "");
    ground.local.start();
    let name = secret("one");
    let mut session = ground.session();
    assert_eq!(text(&mut session, "SELECT pg_is_in_recovery()"), "t");
    holds(&mut session, &name, "one");
    use_until(&ground, &mut session, &name, 3);
    assert!(stat(&mut session, "cache_refreshes") > 0);
    put(&name, "two");
    text(&mut session, &format!("SELECT refresh_secret('{name}')"));
    holds(&mut ground.session(), &name, "two");
    let worker = text(&mut session, WORKER);
    assert!(!worker.is_empty());
    text(&mut session, "SELECT pg_promote()");
    use_until(&ground, &mut session, &name, ground.asked(&name) + 2);
    assert_eq!(text(&mut session, WORKER), worker);
}
