//! The primary dies in the middle of a rotation, its synchronous standby is promoted, and the old primary comes
//! back by mistake.

use crate::crashes::{
    Blow,
    Moment::{self, Arrives, Done},
    Target, assert_in_order, behind_a_relay, storm_ground, strike,
};
use crate::ground::{Ground, PATIENCE, Subject, api, log_in, major, master_of, rotate};
use postgres::Client;
use secretlink_e2e::{StopMode, backend_pid, db_error, eventually};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// What somebody's interference would change: the version at each label, and what the server has stored.
fn standing(subject: &Subject<'_>) -> [Option<String>; 3] {
    let verifier = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{}'", subject.role);
    let mut admin = subject.server.connect("postgres", "postgres");
    [
        api().version_at(&subject.secret, "AWSCURRENT"),
        api().version_at(&subject.secret, "AWSPENDING"),
        admin.query_one(&verifier, &[]).unwrap().get(0),
    ]
}

fn open_runs(session: &mut Client) -> i64 {
    let sql = "SELECT count(*) FROM rotation_history WHERE finished_at IS NULL";
    session.query_one(sql, &[]).unwrap().get(0)
}

/// `goes_on`: the new primary rotates the secret once more before the old one comes back.
fn fails_over(moment: Moment, goes_on: bool) {
    let what = format!("{moment:?}");
    let mut ground = storm_ground();
    let standby = ground.local.synchronous_standby();
    let (secret, role, relay) = {
        let (subject, relay) = behind_a_relay(&ground, "failover");
        let mut session = ground.session();
        let caller = backend_pid(&mut session);
        let target = Target { ground: &ground, secret: &subject.secret, relay: relay.as_ref(), caller };
        let fallen = strike(&target, moment, Blow::ServerKilled);
        rotate(&mut session, &subject.secret, None).unwrap_err();
        assert!(fallen.load(Ordering::SeqCst), "{what}");
        (subject.secret.clone(), subject.role.clone(), relay)
    };
    let mut old = std::mem::replace(&mut ground.local, standby);
    old.stop(StopMode::Immediate);
    ground.relay.pass_all();
    if let Some(relay) = &relay {
        relay.pass();
    }
    ground.session().query_one("SELECT pg_promote()", &[]).unwrap();
    let subject = Subject { ground: &ground, server: &ground.remote, secret, role };
    assert_in_order(&subject, &what);
    if goes_on {
        subject.rotate().unwrap();
        subject.assert_at_rest();
    }
    let before = standing(&subject);

    // Its commits are to wait for nobody: that alone would keep it from doing harm.
    std::fs::write(old.data_dir().join("postgresql.auto.conf"), "").unwrap();
    old.start();
    let mut zombie = old.connect("postgres", "postgres");
    eventually("the old primary has given up its run", PATIENCE, || match open_runs(&mut zombie) {
        0 => Ok(()),
        open => Err(format!("{open}")),
    });
    assert_eq!(standing(&subject), before, "{what}: the old primary has changed something");
    assert!(subject.current_logs_in());
    if goes_on {
        let error = db_error(rotate(&mut zombie, &subject.secret, None));
        assert_eq!(error.code().code(), "55000", "{error:?}");
        assert!(error.message().starts_with("this server has been superseded"), "{error:?}");
        assert_eq!(standing(&subject), before);
    }
    // And the new one goes on.
    subject.rotate().unwrap();
    assert_in_order(&subject, &what);
}

#[test]
fn at_a_standby() {
    let ground = Ground::start();
    let standby = ground.local.synchronous_standby();
    let subject = ground.subject_at(&ground.local, "at_standby");
    let set = |secret: &str, port: u16, master: Option<&str>| {
        let mut value: Value = serde_json::from_str(&api().get_secret_value(secret).unwrap()).unwrap();
        value["port"] = json!(port);
        value["ssl"] = json!(false);
        if let Some(master) = master {
            value["masterarn"] = json!(master);
        }
        api().put_secret_value(secret, &value.to_string(), &["AWSCURRENT"]);
    };
    set(&subject.secret, standby.port(), None);
    let before = subject.at("AWSCURRENT");
    let (code, message) = subject.refused();
    assert_eq!((code.as_str(), message.as_str()), ("55000", "server \"127.0.0.1\" is a standby"));
    subject.assert_untouched(&before);

    // A master at the primary may act for it.
    let master = master_of(&ground.local, (major() >= 16).then_some(&subject.role));
    set(&master, ground.local.port(), None);
    set(&subject.secret, standby.port(), Some(&master));
    for user in [format!("{}_clone", subject.role), subject.role.clone()] {
        subject.rotate().unwrap();
        subject.assert_at_rest();
        let login = subject.at("AWSCURRENT");
        assert_eq!(
            (login["username"].as_str(), login["port"].as_u64()),
            (Some(&*user), Some(standby.port().into()))
        );
        assert!(log_in(&standby, &user, login["password"].as_str().unwrap()));
    }

    // The standby itself rotates nothing.
    let error = db_error(rotate(&mut standby.connect("postgres", "postgres"), &subject.secret, None));
    assert_eq!(error.code().code(), "25006", "{error:?}");
}

#[test]
fn in_create_secret() {
    fails_over(Done("PutSecretValue", 1), true);
}

#[test]
fn in_set_secret() {
    fails_over(Done("ALTER ROLE", 1), false);
}

#[test]
fn in_test_secret() {
    fails_over(Arrives("login", 2), true);
}

#[test]
fn in_finish_secret() {
    fails_over(Arrives("UpdateSecretVersionStage", 2), false);
    fails_over(Done("UpdateSecretVersionStage", 2), true);
}
