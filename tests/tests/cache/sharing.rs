//! What sessions cannot do to each other by way of the cache.

use crate::ground::{Ground, PATIENCE, holds, put, secret};
use postgres::Client;
use secretlink_e2e::{Cluster, Fault, Stage, eventually, unique};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A server that tries as often as by default.
fn ground(setting: &str) -> Ground {
    Ground::with(|local| local.conf("secretlink.max_attempts = 3").conf(setting))
}

/// A session whose entries in the cache the worker of the cache leaves alone: it asks under another name.
fn session(ground: &Ground) -> Client {
    let mut client = ground.session();
    client.batch_execute("SET secretlink.role_session_name = 'test'; SET statement_timeout = '60s'").unwrap();
    client
}

#[test]
fn who_hardly_tries_does_not_make_others_use_an_old_value() {
    let ground = ground("secretlink.cache_ttl = 1");
    let secret = secret("old");
    let (mut hasty, mut thorough) = (session(&ground), session(&ground));
    hasty.batch_execute("SET secretlink.max_attempts = 1; SET secretlink.request_timeout = '1h'").unwrap();
    for session in [&mut hasty, &mut thorough] {
        holds(session, &secret, "old");
    }
    put(&secret, "new");
    let asked = AtomicUsize::new(0);
    ground.relay.rule(&secret, move |_| match asked.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Fault::Refuse(400, "ThrottlingException"),
        _ => Fault::None,
    });
    eventually("it is too old", PATIENCE, || {
        let age = "SELECT state FROM secret_cache WHERE secret_id = $1";
        let state: String = thorough.query_one(age, &[&secret]).unwrap().get(0);
        if state == "stale" { Ok(()) } else { Err(state) }
    });
    // Once is not often enough.
    holds(&mut hasty, &secret, "old");
    // Within the second for which nobody would try again.
    ground.relay.pass(&secret);
    holds(&mut thorough, &secret, "new");
}

#[test]
fn a_cache_that_is_too_small_for_all_serves_all() {
    // Room for two.
    let ground = ground("secretlink.cache_size = 2");
    let secrets: Vec<_> = (0..8).map(|number| secret(&format!("value {number}"))).collect();
    for secret in &secrets {
        ground.relay.rule(secret, |_| Fault::Delay(Duration::from_millis(300)));
    }
    thread::scope(|scope| {
        for (number, secret) in secrets.iter().enumerate() {
            let mut session = session(&ground);
            scope.spawn(move || holds(&mut session, secret, &format!("value {number}")));
        }
    });
    for secret in &secrets {
        assert_eq!(ground.asked(secret), 1, "pushed out is not asked for again");
    }
}

#[test]
fn a_session_without_the_servers_cache_sleeps_while_it_waits() {
    let stage = Stage::shared();
    let secret = unique("wrong");
    let value = serde_json::json!({
        "username": "app", "password": "wrong", "host": "127.0.0.1", "port": stage.remote.port(), "dbname": "testdb",
    });
    stage.moto.secrets().create_secret(&secret, &value.to_string());
    let ground = Cluster::local(&stage.moto).start();
    let mut client = ground.connect("postgres", "postgres");
    let process = secretlink_e2e::backend_pid(&mut client);
    // Until it is asked for again, a wrong password is thought to be right for longer and longer.
    thread::scope(|scope| {
        let trying = scope.spawn(|| {
            for _ in 0..5 {
                let sql = format!("SELECT connect_with_secret('{secret}')");
                assert!(client.simple_query(&sql).is_err());
            }
        });
        let mut watcher = ground.connect("postgres", "postgres");
        let sql = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $1";
        let (mut busy, mut waiting) = (0, 0);
        while !trying.is_finished() {
            let row = watcher.query_one(sql, &[&process.pid().cast_signed()]).unwrap();
            match row.get::<_, Option<String>>(0) {
                None => busy += 1,
                Some(_) => waiting += 1,
            }
            thread::sleep(Duration::from_millis(5));
        }
        assert!(busy < waiting, "{busy} times busy, {waiting} times waiting");
    });
}
