//! Secrets Manager fails: strict, warn, off.

use crate::ground::{Ground, SETTLED, api, ground};
use crate::synced_role::SyncedRole;
use postgres::error::DbError;
use secretlink_e2e::{Fault, NeverAnswers, Proxy, eventually};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Every request for the role's secret of this operation meets this fault.
fn fail(role: &SyncedRole<'_>, operation: &'static str, fault: fn() -> Fault) {
    role.ground.relay.rule(
        &role.secret,
        move |request| {
            if request.operation == operation { fault() } else { Fault::None }
        },
    );
}

/// That a change fails and leaves everything as it was.
#[track_caller]
fn fails_and_changes_nothing(role: &SyncedRole<'_>, settings: &str, what: &str) -> DbError {
    let password = role.password();
    let mut session = role.ground.session();
    session.run(settings);
    let (sql, new) = role.alter();
    let error = session.fails(&sql);
    for said in [Some(error.message()), error.detail(), error.hint()].into_iter().flatten() {
        assert!(!said.contains(&new), "{what}: {error:?}");
    }
    assert_eq!(role.password(), password, "{what}");
    role.try_log_in().unwrap_or_else(|e| panic!("{what}: the old password no longer works: {e}"));
    assert!(role.ground.log_in(&role.name, &new).is_err(), "{what}: the new password works");
    error
}

#[test]
fn strict_fails_with_aws_unreachable_and_the_old_password_still_works() {
    let role = ground().synced_role("unreachable");
    let hole = Proxy::black_hole();
    let nowhere = NeverAnswers::new();
    let nobody = format!("http://127.0.0.1:{}", secretlink_e2e::free_port());
    let limit = Duration::from_millis(800);
    for endpoint in [hole.endpoint(), format!("http://{}", nowhere.address()), nobody] {
        let settings = format!(
            "SET secretlink.endpoint_url = '{endpoint}'; SET secretlink.request_timeout = {}; SET secretlink.connect_timeout = 500",
            limit.as_millis()
        );
        let began = Instant::now();
        let error = fails_and_changes_nothing(&role, &settings, &endpoint);
        // Two logins are part of what was measured; a request that hangs would take far longer.
        assert!(began.elapsed() < limit + Duration::from_secs(3), "{endpoint}: {:?}", began.elapsed());
        assert!(["08001", "58000"].contains(&error.code().code()), "{endpoint}: {error:?}");
        let said = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        assert!(said.contains(&endpoint) || said.contains("timed out"), "{endpoint}: {error:?}");
    }
}

#[test]
fn request_timeout_bounds_all_of_staging() {
    // Each request is slow, but none too slow: only their sum is.
    let ground = ground();
    let roles = [1, 2].map(|_| ground.synced_role("slow"));
    for role in &roles {
        ground.relay.rule(&role.secret, |_| Fault::Delay(Duration::from_secs(3)));
    }
    let mut session = ground.session();
    session.run("SET secretlink.request_timeout = '4s'");
    let all = roles.iter().map(|role| role.alter().0).collect::<Vec<_>>().join("; ");
    let began = Instant::now();
    let error = session.fails(&format!("BEGIN; {all}; COMMIT"));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}: {error:?}");
    assert_eq!(error.code().code(), "58000", "{error:?}");
    for role in &roles {
        ground.relay.pass(&role.secret);
        eventually("nothing is left over", SETTLED, || role.left_over().map_or(Ok(()), Err));
        role.assert_in_sync();
    }
}

#[test]
fn strict_fails_with_every_fault_of_staging_and_says_which() {
    let role = ground().synced_role("strict");
    for operation in ["DescribeSecret", "GetSecretValue", "PutSecretValue"] {
        for (sqlstate, fault) in [
            ("08001", (|| Fault::Cut) as fn() -> Fault),
            ("08001", || Fault::CutAnswer),
            ("58000", || Fault::Refuse(500, "InternalServiceError")),
            ("53400", || Fault::Refuse(400, "ThrottlingException")),
            ("42501", || Fault::Refuse(403, "AccessDeniedException")),
            ("42501", || Fault::Refuse(400, "EncryptionFailure")),
        ] {
            fail(&role, operation, fault);
            let error = fails_and_changes_nothing(&role, "", operation);
            assert_eq!(error.code().code(), sqlstate, "{operation}: {error:?}");
        }
    }
    role.ground.relay.pass(&role.secret);
    // What was staged by the puts whose answers were cut is the worker's to clear.
    eventually("nothing is left over", SETTLED, || role.left_over().map_or(Ok(()), Err));
    let (sql, password) = role.alter();
    role.ground.session().run_quietly(&sql);
    role.assert_password(&password);
}

#[test]
fn passing_trouble_is_tried_again() {
    let role = ground().synced_role("retried");
    let tries = Mutex::new(HashMap::new());
    role.ground.relay.rule(&role.secret, move |request| {
        let mut tries = tries.lock().unwrap();
        let tries: &mut i32 = tries.entry(request.operation.clone()).or_default();
        *tries += 1;
        match tries {
            1 => Fault::Refuse(500, "InternalServiceError"),
            2 => Fault::Refuse(400, "ThrottlingException"),
            _ => Fault::None,
        }
    });
    let mut session = role.ground.session();
    session.run("SET secretlink.max_attempts = 3");
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
    assert_eq!(role.versions(), 2, "retries carry the same token");
}

#[test]
fn warn_commits_says_so_and_shows_drift() {
    let ground = ground();
    let role = ground.synced_role("warn");
    for operation in ["GetSecretValue", "PutSecretValue"] {
        fail(&role, operation, || Fault::Refuse(403, "AccessDeniedException"));
        let mut session = ground.session();
        session.run("SET secretlink.password_sync = warn");
        let (sql, password) = role.alter();
        let warning = session.warned(&sql);
        assert!(warning.message().contains(&role.name), "{warning:?}");
        assert!(!format!("{warning:?}").contains(&password));
        assert_eq!(ground.log_in(&role.name, &password).as_ref(), Ok(&role.name), "it is committed");
        assert_eq!(role.until_state("drifted").secret.as_ref(), Some(&role.secret));
        ground.relay.pass(&role.secret);
        assert_eq!(role.check(), "drifted");
        let (sql, password) = role.alter();
        session.run_quietly(&sql);
        role.assert_password(&password);
        role.until_state("in_sync");
    }
}

#[test]
fn warn_does_not_wait_longer_than_strict() {
    let role = ground().synced_role("hole");
    let hole = Proxy::black_hole();
    let mut session = role.ground.session();
    session.run(&format!(
        "SET secretlink.password_sync = warn; SET secretlink.endpoint_url = '{}'; SET secretlink.request_timeout = 600",
        hole.endpoint()
    ));
    let (sql, password) = role.alter();
    let began = Instant::now();
    session.warned(&sql);
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    assert_eq!(role.ground.log_in(&role.name, &password).as_ref(), Ok(&role.name));
}

#[test]
fn warn_still_refuses_what_is_no_failure_of_aws() {
    // One of several roles fails: the others are synced all the same.
    let ground = ground();
    let roles = [1, 2].map(|_| ground.synced_role("half"));
    fail(&roles[0], "PutSecretValue", || Fault::Refuse(403, "AccessDeniedException"));
    let changes: Vec<_> = roles.iter().map(SyncedRole::alter).collect();
    let mut session = ground.session();
    session.run("SET secretlink.password_sync = warn");
    session.warned(&format!("BEGIN; {}; {}; COMMIT", changes[0].0, changes[1].0));
    roles[1].assert_password(&changes[1].1);
    assert_eq!(ground.log_in(&roles[0].name, &changes[0].1).as_ref(), Ok(&roles[0].name));
    roles[0].until_state("drifted");
}

#[test]
fn off_asks_nothing() {
    let role = ground().synced_role("off");
    let mut session = role.ground.session();
    session.run("SET secretlink.password_sync = off");
    let before = role.current();
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    assert_eq!(role.current(), before);
    assert_eq!(role.ground.relay.count(&role.secret, "PutSecretValue"), 0);
    assert_eq!(role.ground.log_in(&role.name, &password).as_ref(), Ok(&role.name));
    assert_eq!(role.check(), "drifted");
}

#[test]
fn a_promotion_that_does_not_get_through_is_the_workers() {
    let ground = Ground::with(|cluster| cluster.conf("secretlink.promote_timeout = 700"));
    for fault in [
        (|| Fault::Cut) as fn() -> Fault,
        || Fault::CutAnswer,
        || Fault::Refuse(500, "InternalServiceError"),
        || Fault::Refuse(400, "ThrottlingException"),
        || Fault::Refuse(403, "AccessDeniedException"),
        // It lands late, after the worker has done the same.
        || Fault::Delay(Duration::from_secs(9)),
    ] {
        let role = ground.synced_role("promotion");
        fail(&role, "UpdateSecretVersionStage", fault);
        let (sql, password) = role.alter();
        let mut session = ground.session();
        let began = Instant::now();
        let warning = session.warned(&sql);
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(warning.message().contains(&role.name), "{warning:?}");
        assert!(!format!("{warning:?}").contains(&password));
        assert_eq!(ground.log_in(&role.name, &password).as_ref(), Ok(&role.name), "it is committed");
        // The session goes on.
        assert_eq!(session.text("SELECT 1").as_deref(), Some("1"));
        ground.relay.pass(&role.secret);
        role.until_in_sync();
        eventually("no request is on its way", SETTLED, || match ground.relay.open() {
            0 => Ok(()),
            open => Err(open.to_string()),
        });
        role.assert_password(&password);
        role.until_state("in_sync");
    }
}

#[test]
fn a_put_that_lands_late_is_harmless() {
    let ground = Ground::with(|cluster| cluster.conf("secretlink.request_timeout = '3s'"));
    let role = ground.synced_role("late");
    let mut session = ground.session();
    fail(&role, "PutSecretValue", || Fault::Delay(Duration::from_secs(6)));
    session.fails(&role.alter().0);
    // Meanwhile another change goes through.
    ground.relay.pass(&role.secret);
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    assert_eq!(role.password(), password);
    eventually("the late one lands", SETTLED, || {
        if ground.relay.open() == 0 { Ok(()) } else { Err(String::new()) }
    });
    // It has the label, and that is all. The next change, or the worker's next look, takes it away.
    assert_eq!(role.password(), password);
    role.try_log_in().unwrap();
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
}

/// A request to stage that was given up arrives, and takes the label from the version that has it now.
fn until_another_takes_the_label(role: &SyncedRole<'_>) {
    let ours = api().version_at(&role.secret, "SECRETLINK");
    eventually("the late one lands", SETTLED, || {
        let now = api().version_at(&role.secret, "SECRETLINK");
        if now != ours { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn a_put_that_lands_late_takes_the_label_from_a_change_that_is_in_doubt() {
    let ground = Ground::with(|cluster| cluster.conf("secretlink.request_timeout = '3s'"));
    let role = ground.synced_role("label_lost");
    let mut session = ground.session();
    fail(&role, "PutSecretValue", || Fault::Delay(Duration::from_secs(5)));
    session.fails(&role.alter().0);
    // The second change is committed but not promoted; then the put of the first takes the label away.
    fail(&role, "UpdateSecretVersionStage", || Fault::Cut);
    let (sql, password) = role.alter();
    session.warned(&sql);
    until_another_takes_the_label(&role);
    assert_ne!(role.password(), password);
    ground.relay.pass(&role.secret);
    role.until_in_sync();
    eventually("nothing is left over", SETTLED, || role.left_over().map_or(Ok(()), Err));
    role.assert_password(&password);
}

#[test]
fn a_rename_whose_version_has_lost_its_label_is_not_lost_with_the_next_change() {
    let ground = Ground::with(|cluster| cluster.conf("secretlink.request_timeout = '3s'"));
    for with_password in [false, true] {
        let mut role = ground.synced_role("rename_lost");
        let mut session = ground.session();
        fail(&role, "PutSecretValue", || Fault::Delay(Duration::from_secs(5)));
        session.fails(&role.alter().0);
        // The rename is committed but not promoted, by nobody; then that put takes the label away.
        fail(&role, "UpdateSecretVersionStage", || Fault::Cut);
        let before = role.current();
        let change = if with_password { role.alter().0 } else { "SELECT 1".to_owned() };
        let name = format!("{}_renamed", role.name);
        session
            .warned(&format!("BEGIN; {change}; ALTER ROLE \"{}\" RENAME TO \"{name}\"; COMMIT", role.name));
        role.name = name;
        until_another_takes_the_label(&role);
        // The next change goes on from there.
        let (sql, password) = role.alter();
        session.warned(&sql);
        assert_eq!(role.current(), before, "nothing was promoted yet");
        ground.relay.pass(&role.secret);
        role.until_in_sync();
        assert_eq!(role.password(), password);
        let value: serde_json::Value = serde_json::from_str(&role.current()).unwrap();
        assert_eq!(value["username"], role.name.as_str(), "with a password: {with_password}");
    }
}

#[test]
fn a_version_that_has_lost_its_label_is_found_behind_an_edit_of_somebody_else() {
    let ground = Ground::with(|cluster| cluster.conf("secretlink.request_timeout = '3s'"));
    for (renamed, with_password) in [(true, false), (true, true), (false, true)] {
        let mut role = ground.synced_role("edited");
        let mut session = ground.session();
        fail(&role, "PutSecretValue", || Fault::Delay(Duration::from_secs(5)));
        session.fails(&role.alter().0);
        // The change is committed but not promoted, by nobody.
        fail(&role, "UpdateSecretVersionStage", || Fault::Cut);
        let mut edited: serde_json::Value = serde_json::from_str(&role.current()).unwrap();
        let (change, password) = match with_password {
            true => role.alter(),
            false => ("SELECT 1".to_owned(), role.password()),
        };
        let name = if renamed { format!("{}_renamed", role.name) } else { role.name.clone() };
        let rename = match renamed {
            true => format!("ALTER ROLE \"{}\" RENAME TO \"{name}\"", role.name),
            false => "SELECT 1".to_owned(),
        };
        session.warned(&format!("BEGIN; {change}; {rename}; COMMIT"));
        role.name = name;
        until_another_takes_the_label(&role);
        // The edit is of what was current. The stand-in says of a version in which second it was made.
        std::thread::sleep(Duration::from_millis(1100));
        edited["note"] = "by hand".into();
        api().put_secret_value(&role.secret, &edited.to_string(), &["AWSCURRENT"]);
        ground.relay.pass(&role.secret);
        role.until_in_sync();
        role.assert_password(&password);
        let value: serde_json::Value = serde_json::from_str(&role.current()).unwrap();
        assert_eq!(value["username"], role.name.as_str(), "renamed: {renamed}, password: {with_password}");
    }
}
