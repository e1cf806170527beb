//! Cancel, `statement_timeout` and termination, while Secrets Manager keeps a backend waiting.

use crate::ground::{Ground, SETTLED};
use crate::session::Session;
use crate::synced_role::SyncedRole;
use secretlink_e2e::{Fault, SecretsRequest, Witness, backend_pid};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How fast an interrupt must act, on however busy a machine; the requests take far longer.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How long a request is kept waiting: longer than any of these tests.
const LONG: Duration = Duration::from_secs(60);

/// Keep the requests of this operation waiting, and tell when the first has arrived.
fn hold(role: &SyncedRole<'_>, operation: &'static str) -> mpsc::Receiver<SecretsRequest> {
    let (sender, arrived) = mpsc::channel();
    role.ground.relay.rule(&role.secret, move |request| {
        if request.operation != operation {
            return Fault::None;
        }
        let _ = sender.send(request.clone());
        Fault::Delay(LONG)
    });
    arrived
}

/// A ground of its own, where the worker soon gives up on what is held for long.
fn ground() -> Ground {
    Ground::with(|cluster| {
        cluster.conf("secretlink.request_timeout = 500").conf("secretlink.promote_timeout = '3s'")
    })
}

/// A session that does not give up.
fn patient(ground: &Ground) -> Session {
    let mut session = ground.session();
    session.run("SET secretlink.request_timeout = '5min'");
    session
}

#[test]
fn a_cancel_during_staging_aborts_cleanly_and_at_once() {
    let ground = ground();
    let mut witness = Witness::of(&ground.cluster);
    for (operation, in_block) in [
        ("DescribeSecret", false),
        ("GetSecretValue", false),
        ("PutSecretValue", false),
        ("PutSecretValue", true),
    ] {
        let role = ground.synced_role("cancelled");
        let arrived = hold(&role, operation);
        let mut session = patient(&ground);
        let backend = backend_pid(&mut session.client);
        let (sql, password) = role.alter();
        let sql = if in_block { format!("BEGIN; {sql}; COMMIT") } else { sql };
        thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                let error = session.fails(&sql);
                (Instant::now(), error, session)
            });
            arrived.recv_timeout(SETTLED).unwrap();
            let cancelled = Instant::now();
            witness.client.execute("SELECT pg_cancel_backend($1)", &[&backend.pid().cast_signed()]).unwrap();
            let (ended, error, mut session) = waiting.join().unwrap();
            assert_eq!(error.code().code(), "57014", "{operation}: {error:?}");
            assert!(ended - cancelled < AT_ONCE, "{operation}: {:?}", ended - cancelled);
            role.try_log_in().unwrap();
            assert!(ground.log_in(&role.name, &password).is_err(), "the change is undone");
            // The session goes on, and so does the role.
            ground.relay.pass(&role.secret);
            let (sql, password) = role.alter();
            session.run("ROLLBACK");
            session.run_quietly(&sql);
            assert_eq!(role.password(), password);
            role.try_log_in().unwrap();
        });
    }
    witness.confirm(&ground.cluster);
}

#[test]
fn statement_timeout_during_staging_aborts_cleanly() {
    let ground = ground();
    let role = ground.synced_role("timeout");
    let _arrived = hold(&role, "PutSecretValue");
    let mut session = patient(&ground);
    let (sql, password) = role.alter();
    for sql in [sql.clone(), format!("BEGIN; {sql}; COMMIT")] {
        session.run("SET statement_timeout = 400");
        let began = Instant::now();
        let error = session.refused(&sql, "57014", "statement timeout");
        assert!(began.elapsed() < AT_ONCE, "{:?} {error:?}", began.elapsed());
        session.run("ROLLBACK; RESET statement_timeout");
    }
    // A COMMIT of its own counts as a statement too.
    session.run(&format!("BEGIN; {sql}; SET statement_timeout = 400"));
    session.refused("COMMIT", "57014", "statement timeout");
    session.run("ROLLBACK");
    role.try_log_in().unwrap();
    assert!(ground.log_in(&role.name, &password).is_err());
}

#[test]
fn a_backend_terminated_while_it_stages_changes_nothing() {
    let ground = ground();
    let mut witness = Witness::of(&ground.cluster);
    for operation in ["DescribeSecret", "PutSecretValue"] {
        let role = ground.synced_role("terminated");
        let arrived = hold(&role, operation);
        let mut session = patient(&ground);
        let backend = backend_pid(&mut session.client);
        let (sql, password) = role.alter();
        thread::scope(|scope| {
            let waiting = scope.spawn(move || session.client.batch_execute(&sql).unwrap_err());
            arrived.recv_timeout(SETTLED).unwrap();
            witness
                .client
                .execute("SELECT pg_terminate_backend($1)", &[&backend.pid().cast_signed()])
                .unwrap();
            backend.until_gone(AT_ONCE);
            let error = waiting.join().unwrap();
            assert!(
                error.is_closed() || error.code().is_some_and(|code| code.code() == "57P01"),
                "{error:?}"
            );
        });
        assert!(ground.log_in(&role.name, &password).is_err(), "{operation}");
        role.try_log_in().unwrap();
        ground.relay.pass(&role.secret);
    }
    witness.confirm(&ground.cluster);
}

#[test]
fn a_backend_terminated_or_cancelled_while_it_promotes_has_committed() {
    let ground = ground();
    let mut witness = Witness::of(&ground.cluster);
    for function in ["pg_terminate_backend", "pg_cancel_backend"] {
        let role = ground.synced_role("promoting");
        let arrived = hold(&role, "UpdateSecretVersionStage");
        let mut session = patient(&ground);
        let backend = backend_pid(&mut session.client);
        let (sql, password) = role.alter();
        thread::scope(|scope| {
            let waiting = scope.spawn(move || (session.client.batch_execute(&sql), session));
            arrived.recv_timeout(SETTLED).unwrap();
            let sql = format!("SELECT {function}($1)");
            witness.client.execute(&sql, &[&backend.pid().cast_signed()]).unwrap();
            let began = Instant::now();
            let (outcome, session) = waiting.join().unwrap();
            // promote_timeout bounds it in any case.
            assert!(began.elapsed() < Duration::from_secs(6), "{function}: {:?}", began.elapsed());
            if function == "pg_cancel_backend" {
                outcome.unwrap_or_else(|e| panic!("a cancel that comes after the commit: {e:?}"));
            } else {
                backend.until_gone(SETTLED);
            }
            drop(session);
        });
        assert_eq!(ground.log_in(&role.name, &password).as_ref(), Ok(&role.name), "{function}");
        ground.relay.pass(&role.secret);
        role.until_in_sync();
        assert_eq!(role.password(), password);
    }
    witness.confirm(&ground.cluster);
}
