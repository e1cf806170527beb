//! One token for many logins, and its end.

use crate::ground::{Ground, refusal, signed, text, who};
use secretlink_e2e::eventually;
use std::sync::Barrier;
use std::time::Duration;

#[test]
fn a_thousand_logins_in_a_row_take_one_token() {
    let ground = Ground::start();
    let mut client = ground.session();
    let connect = ground.connect("app").replace('\'', "''");
    text(&mut client, &format!("DO $$BEGIN FOR i IN 1..1000 LOOP EXECUTE '{connect}'; END LOOP; END$$"));
    assert_eq!(signed(&mut client), 1);
    let verdicts = ground.verifier.verdicts();
    assert_eq!(verdicts.len(), 1000);
    assert!(verdicts.iter().all(|verdict| verdict.token == verdicts[0].token && verdict.refusal.is_none()));
}

#[test]
fn five_hundred_backends_at_once_take_one_token() {
    const BACKENDS: usize = 500;
    let many = |cluster: secretlink_e2e::ClusterBuilder| cluster.conf("max_connections = 600");
    let ground = Ground::with(many, many);
    let gate = Barrier::new(BACKENDS);
    let connect = ground.connect("app");
    std::thread::scope(|scope| {
        for _ in 0..BACKENDS {
            scope.spawn(|| {
                let mut client = ground.session();
                // The library is loaded, and nothing of it used.
                text(&mut client, "SELECT count(*) FROM remote_connections");
                gate.wait();
                text(&mut client, &connect);
            });
        }
    });
    assert_eq!(signed(&mut ground.session()), 1);
    let verdicts = ground.verifier.verdicts();
    assert_eq!(verdicts.len(), BACKENDS);
    assert!(verdicts.iter().all(|verdict| verdict.token == verdicts[0].token && verdict.refusal.is_none()));
}

/// Credentials that end long before a token would: it is renewed in time, and never used past their end.
#[test]
fn credentials_that_end_early() {
    let directory = secretlink_e2e::TempDir::new();
    let ground = Ground::with_credentials_that_end_early(&directory);
    let mut client = ground.session();
    text(&mut client, &ground.connect("app"));
    let left = "SELECT extract(epoch FROM expires - now())::float8 FROM secret_cache";
    let seconds: f64 = client.query_one(left, &[]).unwrap().get(0);
    assert!(seconds <= 15.0, "{seconds}");
    text(&mut client, &ground.connect("app"));
    // In use, it is renewed by the worker.
    eventually("the token is renewed", Duration::from_secs(60), || match signed(&mut client) {
        1 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    text(&mut client, &ground.connect("app"));
    assert!(ground.verifier.verdicts().iter().all(|verdict| verdict.refusal.is_none()));
    // Not used any more, it ends.
    eventually("it has expired", Duration::from_secs(60), || {
        match text(&mut client, "SELECT state FROM secret_cache").as_str() {
            "expired" => Ok(()),
            state => Err(state.to_owned()),
        }
    });
    let before = signed(&mut client);
    text(&mut client, &ground.connect("app"));
    assert_eq!(signed(&mut client), before + 1);
    assert_eq!(who(&mut client), "app");
}

/// A refusal of many at once does not make many tokens.
#[test]
fn refused_at_once() {
    const BACKENDS: usize = 40;
    let ground = Ground::start();
    text(&mut ground.session(), &ground.connect("app"));
    std::thread::sleep(Duration::from_millis(1_100));
    ground.verifier.set_clock_ahead(Duration::from_secs(3_600));
    let gate = Barrier::new(BACKENDS);
    let connect = ground.connect("app");
    std::thread::scope(|scope| {
        for _ in 0..BACKENDS {
            scope.spawn(|| {
                let mut client = ground.session();
                gate.wait();
                refusal(&mut client, &connect);
            });
        }
    });
    let signed = signed(&mut ground.session());
    assert!(signed <= 12, "one, and one more for each second that this took: {signed}");
}
