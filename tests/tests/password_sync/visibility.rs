//! What is seen of the sync, and what never is.

use crate::ground::{Ground, SETTLED, api, ground};
use crate::session::Session;
use postgres::fallible_iterator::FallibleIterator;
use secretlink_e2e::{Fault, random_password};
use serde_json::Value;
use std::time::Duration;

/// The notifications on channel `secretlink`, until one is right.
pub fn until_notified(listener: &mut Session, right: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Vec::new();
    let mut notifications = listener.client.notifications();
    let mut iterator = notifications.timeout_iter(SETTLED);
    while let Some(notification) = iterator.next().unwrap() {
        assert_eq!(notification.channel(), "secretlink");
        let payload: Value = serde_json::from_str(notification.payload()).expect("the payload is JSON");
        if right(&payload) {
            return payload;
        }
        seen.push(payload);
    }
    panic!("no such notification; seen: {seen:?}");
}

fn tells<'a>(role: &'a str, state: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |payload| payload["role"] == role && payload["state"] == state
}

/// Refuse the requests of this operation for a secret.
pub fn refuse(ground: &Ground, secret: &str, operation: &'static str) {
    ground.relay.rule(secret, move |request| {
        if request.operation == operation { Fault::Refuse(403, "AccessDeniedException") } else { Fault::None }
    });
}

#[test]
fn the_view_follows_a_role_through_its_states() {
    let ground = ground();
    let role = ground.synced_role("view");
    assert_eq!(role.check(), "in_sync");
    let (sql, _) = role.alter();
    let mut session = ground.session();
    session.run_quietly(&sql);
    let seen = role.seen();
    assert_eq!(
        (seen.secret.as_deref(), seen.state.as_str()),
        (Some(role.secret.as_str()), "in_sync"),
        "{seen:?}"
    );
    assert_eq!(seen.version, api().version_at(&role.secret, "AWSCURRENT"), "{seen:?}");
    assert!(seen.synced && seen.last_error.is_none(), "{seen:?}");

    refuse(ground, &role.secret, "UpdateSecretVersionStage");
    let (sql, password) = role.alter();
    let warning = session.warned(&sql);
    assert!(warning.message().contains(&role.name), "{warning:?}");
    let seen = role.until_state("pending");
    assert_eq!(seen.version, api().version_at(&role.secret, "SECRETLINK"), "{seen:?}");
    assert!(
        seen.last_error.as_ref().is_some_and(|error| error.contains("UpdateSecretVersionStage")),
        "{seen:?}"
    );
    assert_eq!(role.check(), "pending");

    ground.relay.pass(&role.secret);
    role.until_in_sync();
    role.assert_password(&password);
    let seen = role.until_state("in_sync");
    assert!(seen.last_error.is_none(), "{seen:?}");
    assert_eq!(role.check(), "in_sync");

    // A secret that somebody else has changed.
    api().put_secret_value(
        &role.secret,
        &serde_json::json!({ "username": role.name, "password": "theirs" }).to_string(),
        &["AWSCURRENT"],
    );
    assert_eq!(role.check(), "drifted");
    // One that cannot be read.
    refuse(ground, &role.secret, "GetSecretValue");
    assert_eq!(role.check(), "unknown");
    ground.relay.pass(&role.secret);
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
    assert_eq!(role.check(), "in_sync");
}

#[test]
fn drift_and_repair_are_announced() {
    let ground = ground();
    let role = ground.synced_role("announced");
    let mut listener = ground.session();
    listener.run("LISTEN secretlink");
    let mut session = ground.session();
    session.run("SET secretlink.password_sync = warn");
    refuse(ground, &role.secret, "PutSecretValue");
    let (sql, password) = role.alter();
    let warning = session.warned(&sql);
    assert!(warning.message().contains(&role.name), "{warning:?}");
    assert_eq!(ground.log_in(&role.name, &password).as_ref(), Ok(&role.name), "the change is committed");
    let seen = role.until_state("drifted");
    assert!(seen.last_error.is_some(), "{seen:?}");
    let announced = until_notified(&mut listener, tells(&role.name, "drifted"));
    assert_eq!(announced["secret"], role.secret.as_str());
    assert!(!format!("{announced:?}").contains(&password));

    ground.relay.pass(&role.secret);
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
    until_notified(&mut listener, tells(&role.name, "in_sync"));
    role.until_state("in_sync");
}

#[test]
fn a_repair_by_hand_in_secrets_manager_is_announced() {
    let ground = ground();
    let role = ground.synced_role("by_hand");
    let mut listener = ground.session();
    listener.run("LISTEN secretlink");
    let mut session = ground.session();
    session.run("SET secretlink.password_sync = warn");
    refuse(ground, &role.secret, "PutSecretValue");
    let (sql, password) = role.alter();
    session.warned(&sql);
    until_notified(&mut listener, tells(&role.name, "drifted"));
    ground.relay.pass(&role.secret);
    let value = serde_json::json!({ "username": role.name, "password": password });
    api().put_secret_value(&role.secret, &value.to_string(), &["AWSCURRENT"]);
    until_notified(&mut listener, tells(&role.name, "in_sync"));
    role.until_state("in_sync");
}

#[test]
fn every_step_has_a_line_in_the_log_and_no_password_is_in_any() {
    let ground = ground();
    let role = ground.synced_role("logged");
    let mut session = ground.session();
    let mut passwords = vec![role.password()];
    let lines = |words: &[&str]| {
        let log = ground.cluster.log();
        log.lines()
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let change = |session: &mut Session, passwords: &mut Vec<String>| {
        let (sql, password) = role.alter();
        passwords.push(password);
        session.client.batch_execute(&sql)
    };
    let about = [role.name.as_str(), role.secret.as_str()];

    change(&mut session, &mut passwords).unwrap();
    let version = api().version_at(&role.secret, "AWSCURRENT").unwrap();
    for word in ["staged", "promoted"] {
        let seen = lines(&["LOG:  ", word, about[0], about[1], &version]);
        assert_eq!(seen.len(), 1, "{word}: {:?}", lines(&about));
    }

    refuse(ground, &role.secret, "UpdateSecretVersionStage");
    change(&mut session, &mut passwords).unwrap();
    let version = api().version_at(&role.secret, "SECRETLINK").unwrap();
    ground.relay.pass(&role.secret);
    role.until_in_sync();
    let reconciled = || lines(&["LOG:  ", "reconciled", about[0], about[1], &version]);
    secretlink_e2e::eventually("the worker logs it", Duration::from_secs(5), || {
        if reconciled().len() == 1 { Ok(()) } else { Err(format!("{:?}", lines(&about))) }
    });
    assert_eq!(lines(&["WARNING:  ", about[0], about[1], &version]).len(), 1, "{:?}", lines(&about));

    refuse(ground, &role.secret, "PutSecretValue");
    change(&mut session, &mut passwords).unwrap_err();
    assert_eq!(lines(&["ERROR:  ", about[0], about[1]]).len(), 1, "{:?}", lines(&about));
    ground.relay.pass(&role.secret);

    session.run("SET log_min_messages = debug5; SET client_min_messages = debug5");
    change(&mut session, &mut passwords).unwrap();
    let told = format!("{:?}", session.told());
    let views = session.text("SELECT (SELECT string_agg(r::text, '') FROM role_sync r) || (SELECT string_agg(l::text, '') FROM pg_seclabels l)").unwrap();
    let log = ground.cluster.log();
    for password in &passwords {
        assert!(!views.contains(password));
        // The statement itself is Postgres's to log or not; DEBUG5 shows none of it but in the
        // places that this test has switched off.
        let leaks: Vec<&str> =
            log.lines().filter(|line| line.contains(password) && !line.contains("statement: ")).collect();
        assert_eq!(leaks, Vec::<&str>::new());
        assert!(!told.contains(password), "{told}");
    }
}

#[test]
fn the_view_lists_synced_roles_alone() {
    let ground = ground();
    let role = ground.synced_role("reader");
    let mut session = ground.session();
    let sql = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'role_sync'::regclass AND attnum > 0 ORDER BY attnum";
    let columns: Vec<String> = session.client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(columns, ["role", "secret_id", "state", "version_id", "synced_at", "last_error"]);
    let unlinked = format!("{}_{}", role.name, random_password().to_lowercase());
    session.run(&format!("CREATE ROLE {unlinked}"));
    let seen = session.text(&format!("SELECT count(*) FROM role_sync WHERE role = '{unlinked}'"));
    assert_eq!(seen.as_deref(), Some("0"), "only synced roles");
}

#[test]
fn neither_activity_nor_the_log_of_errors_shows_a_password_while_it_is_stored() {
    let ground = Ground::with(|cluster| {
        cluster.conf("log_min_error_statement = error").conf("secretlink.request_timeout = '1min'")
    });
    let role = ground.synced_role("unseen");
    let mut session = ground.session();
    let (sql, password) = role.alter();
    // Refused, too slow, in time out of time: each is an error of the statement that has the password.
    refuse(&ground, &role.secret, "PutSecretValue");
    session.fails(&sql);
    session.fails(&format!("BEGIN; {sql}; COMMIT"));
    session.run("ROLLBACK; SET statement_timeout = 300");
    ground.relay.rule(&role.secret, |request| match request.operation.as_str() {
        "PutSecretValue" => Fault::Delay(Duration::from_secs(1)),
        _ => Fault::None,
    });
    session.refused(&sql, "57014", "statement timeout");
    session.run("RESET statement_timeout");

    let (sender, staging) = std::sync::mpsc::channel();
    ground.relay.rule(&role.secret, move |request| {
        if request.operation == "PutSecretValue" {
            let _ = sender.send(());
            return Fault::Delay(Duration::from_secs(1));
        }
        Fault::None
    });
    std::thread::scope(|scope| {
        let (sql, password) = (&sql, &password);
        scope.spawn(move || session.run_quietly(sql));
        staging.recv_timeout(SETTLED).unwrap();
        let mut looker = ground.session();
        let seen = looker
            .text("SELECT string_agg(a::text, '') FROM pg_stat_activity a WHERE pid <> pg_backend_pid()");
        assert!(!seen.unwrap().contains(password), "pg_stat_activity shows the password");
        let pid = looker.text("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND state = 'active'");
        assert!(pid.is_some(), "somebody is seen to work");
    });
    role.assert_password(&password);
    let log = ground.cluster.log();
    let leaks: Vec<&str> = log.lines().filter(|line| line.contains(&password)).collect();
    assert_eq!(leaks, Vec::<&str>::new());
    assert!(log.contains("statement timeout"), "the errors are in this log");
}
