//! A password that has changed, and the cache of secrets.

use crate::ground::{SETTLED, api, ground};
use crate::session::Session;
use crate::synced_role::{SyncedRole, password_in};
use secretlink_e2e::{Fault, eventually};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Another name of the role's secret, for which the relay has no rule.
fn arn(role: &SyncedRole<'_>) -> String {
    let described = api().call("DescribeSecret", json!({ "SecretId": role.secret })).unwrap();
    described["ARN"].as_str().unwrap().to_owned()
}

/// The password that a session finds in a secret.
fn read(session: &mut Session, secret: &str) -> String {
    let text: String = session.client.query_one("SELECT get_secret_string($1)", &[&secret]).unwrap().get(0);
    password_in(&text)
}

#[test]
fn what_was_read_before_the_promotion_does_not_outlive_it() {
    let ground = ground();
    let role = ground.synced_role("window");
    let (arn, before) = (arn(&role), role.password());
    ground.relay.rule(&role.secret, |request| match request.operation.as_str() {
        "UpdateSecretVersionStage" => Fault::Delay(Duration::from_secs(2)),
        _ => Fault::None,
    });
    let mut reader = ground.session();
    let (sql, password) = role.alter();
    thread::scope(|scope| {
        let change = scope.spawn(|| ground.session().run_quietly(&sql));
        eventually("it is committed", SETTLED, || ground.log_in(&role.name, &password));
        assert!(!change.is_finished(), "and not yet promoted");
        assert_eq!(read(&mut reader, &arn), before, "AWS says so");
    });
    assert_eq!(read(&mut reader, &arn), password);
}

#[test]
fn nor_does_it_outlive_a_promotion_that_nobody_waited_for() {
    let ground = ground();
    let role = ground.synced_role("late");
    let (arn, before) = (arn(&role), role.password());
    let mut session = ground.session();
    session.run("SET secretlink.promote_timeout = 300");
    let staged = AtomicBool::new(false);
    ground.relay.rule(&role.secret, move |request| match request.operation.as_str() {
        "UpdateSecretVersionStage" => {
            staged.store(true, Ordering::SeqCst);
            Fault::Delay(Duration::from_secs(2))
        }
        // The worker comes too late to promote it itself.
        _ if staged.load(Ordering::SeqCst) => Fault::Refuse(500, "InternalServiceError"),
        _ => Fault::None,
    });
    let (sql, password) = role.alter();
    session.warned(&sql);
    assert_eq!(read(&mut session, &arn), before, "the request is still on its way");
    eventually("it has arrived", SETTLED, || {
        if role.password() == password { Ok(()) } else { Err("not yet".to_owned()) }
    });
    ground.relay.pass(&role.secret);
    role.until_state("in_sync");
    assert_eq!(read(&mut session, &arn), password);
}

#[test]
fn nor_does_a_renewal_bring_it_back_while_the_promotion_goes_on_failing() {
    let ground = crate::ground::Ground::with(|cluster| cluster.conf("secretlink.cache_ttl = '3s'"));
    let role = ground.synced_role("failing");
    let before = role.password();
    let mut session = ground.session();
    assert_eq!(read(&mut session, &role.secret), before);
    ground.relay.rule(&role.secret, |request| match request.operation.as_str() {
        "UpdateSecretVersionStage" => Fault::Refuse(403, "AccessDeniedException"),
        _ => Fault::None,
    });
    let (sql, password) = role.alter();
    session.warned(&sql);
    // Several times as long as a value is kept.
    thread::sleep(Duration::from_secs(10));
    assert_eq!(role.password(), before, "AWSCURRENT has not moved");
    eventually("the right one is read", SETTLED, || match read(&mut session, &role.secret) {
        found if found == password => Ok(()),
        found => Err(found),
    });
    ground.relay.pass(&role.secret);
    role.until_in_sync();
    assert_eq!(read(&mut session, &role.secret), password);
}
