//! A password change is part of its transaction.

use crate::ground::ground;
use crate::synced_role::SyncedRole;
use secretlink_e2e::{Fault, eventually, random_password};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// That a statement leaves role and secret as they were, and asks nothing of Secrets Manager.
#[track_caller]
fn changes_nothing(role: &SyncedRole<'_>, sql: &str) {
    let (password, versions) = (role.password(), role.versions());
    let before = role.ground.relay.requests(&role.secret).len();
    role.ground.session().run_quietly(sql);
    assert_eq!((role.password(), role.versions()), (password, versions), "{sql}");
    assert_eq!(role.ground.relay.requests(&role.secret).len(), before, "{sql}");
    role.assert_in_sync();
}

/// That a statement leaves this password, and one version more.
#[track_caller]
fn changes_to(role: &SyncedRole<'_>, password: &str, sql: &str) {
    let versions = role.versions();
    role.ground.session().run_quietly(sql);
    assert_eq!(role.password(), password, "{sql}");
    role.assert_in_sync();
    assert_eq!(role.versions(), versions + 1, "{sql}");
}

#[test]
fn a_rollback_changes_nothing() {
    let role = ground().synced_role("rollback");
    let sql = |_| role.alter().0;
    changes_nothing(&role, &format!("BEGIN; {}; ROLLBACK", sql(())));
    changes_nothing(&role, &format!("BEGIN; {}; SAVEPOINT a; {}; ROLLBACK", sql(()), sql(())));
    changes_nothing(&role, &format!("BEGIN; SAVEPOINT a; {}; ROLLBACK TO a; COMMIT", sql(())));
    changes_nothing(&role, &format!("BEGIN; SAVEPOINT a; {}; RELEASE a; ROLLBACK", sql(())));

    // A statement that fails takes what came before with it.
    let before = ground().relay.requests(&role.secret).len();
    ground().session().fails(&format!("BEGIN; {}; SELECT 1/0; COMMIT", sql(())));
    ground().session().fails(&format!("{}; SELECT 1/0", sql(())));
    assert_eq!(ground().relay.requests(&role.secret).len(), before);
    role.assert_in_sync();
}

#[test]
fn what_fails_at_the_end_of_the_transaction_leaves_the_secret_as_it_was() {
    let ground = ground();
    let role = ground.synced_role("deferred");
    let mut session = ground.session();
    session.run("CREATE TEMP TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    let (sql, _) = role.alter();
    let error = session.fails(&format!("BEGIN; {sql}; INSERT INTO t VALUES (1), (1); COMMIT"));
    assert_eq!(error.code().code(), "23505", "{error:?}");
    role.assert_in_sync();
    // The session goes on as if nothing had been.
    let (sql, password) = role.alter();
    session.run("ROLLBACK");
    session.run_quietly(&sql);
    role.assert_password(&password);
}

#[test]
fn savepoints_are_followed() {
    let role = ground().synced_role("savepoint");
    let [(a, first), (b, second), (c, third)] = [role.alter(), role.alter(), role.alter()];
    changes_to(&role, &first, &format!("BEGIN; {a}; SAVEPOINT s; {b}; ROLLBACK TO s; COMMIT"));
    changes_to(&role, &second, &format!("BEGIN; {a}; SAVEPOINT s; {b}; RELEASE s; COMMIT"));
    changes_to(&role, &third, &format!("BEGIN; {a}; SAVEPOINT s; {b}; ROLLBACK TO s; {c}; COMMIT"));
    let nested = format!("BEGIN; {a}; SAVEPOINT s; {b}; SAVEPOINT t; {c}; RELEASE t; ROLLBACK TO s; COMMIT");
    changes_to(&role, &first, &nested);
    let nested = format!("BEGIN; SAVEPOINT s; {b}; SAVEPOINT t; {c}; ROLLBACK TO t; RELEASE s; COMMIT");
    changes_to(&role, &second, &nested);
    let reused = format!(
        "BEGIN; SAVEPOINT s; {a}; SAVEPOINT s; {b}; ROLLBACK TO s; RELEASE s; {c}; ROLLBACK TO s; COMMIT"
    );
    changes_nothing(&role, &reused);
}

#[test]
fn exception_blocks_are_followed() {
    let role = ground().synced_role("exception");
    let [(a, first), (b, second), (c, third)] = [role.alter(), role.alter(), role.alter()];
    let block = |inner: &str, handler: &str| {
        format!("BEGIN {inner}; PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN {handler}; END")
    };
    let run = |body: &str| format!("DO $do$ BEGIN {body}; END $do$");
    changes_nothing(&role, &run(&block(&a, "NULL")));
    changes_to(&role, &second, &run(&block(&a, &b)));
    changes_to(&role, &first, &run(&format!("{a}; {}", block(&b, "NULL"))));
    changes_to(
        &role,
        &third,
        &run(&format!("{}; {c}", block(&format!("{a}; {}", block(&b, "NULL")), "NULL"))),
    );
    let (c, third) = role.alter();
    let loops = format!("FOR i IN 1..50 LOOP {}; END LOOP; {c}", block(&a, "NULL"));
    changes_to(&role, &third, &run(&loops));
}

#[test]
fn a_procedure_that_commits_syncs_at_each_commit() {
    let role = ground().synced_role("procedure");
    let [(a, _), (b, second), (c, third)] = [role.alter(), role.alter(), role.alter()];
    changes_to(&role, &second, &format!("DO $do$ BEGIN {a}; ROLLBACK; {b}; COMMIT; {c}; ROLLBACK; END $do$"));
    let versions = role.versions();
    ground().session().run_quietly(&format!("DO $do$ BEGIN {a}; COMMIT; {b}; COMMIT; {c}; END $do$"));
    role.assert_password(&third);
    assert_eq!(role.versions(), versions + 3);
}

#[test]
fn the_last_change_wins_and_writes_one_version() {
    let role = ground().synced_role("last");
    let [(a, first), (b, second)] = [role.alter(), role.alter()];
    changes_to(&role, &second, &format!("BEGIN; {a}; {b}; COMMIT"));
    changes_to(&role, &first, &format!("BEGIN; {a}; {b}; {b}; {a}; COMMIT"));
    changes_to(&role, &second, &format!("{a}; {b}"));
    // To what it is anyhow.
    let versions = role.versions();
    ground().session().run_quietly(&b);
    role.assert_password(&second);
    assert_eq!(role.versions(), versions);
}

#[test]
fn several_roles_change_together() {
    let ground = ground();
    let roles = [1, 2, 3].map(|_| ground.synced_role("several"));
    let mut session = ground.session();
    let changes: Vec<_> = roles.iter().map(SyncedRole::alter).collect();
    let all = changes.iter().map(|(sql, _)| sql.as_str()).collect::<Vec<_>>().join("; ");

    // Each put waits for the other two: only those that run side by side ever meet.
    let arrived = Arc::new(AtomicUsize::new(0));
    for role in &roles {
        let arrived = Arc::clone(&arrived);
        ground.relay.rule(&role.secret, move |request| {
            if request.operation == "PutSecretValue" {
                arrived.fetch_add(1, Ordering::SeqCst);
                let began = Instant::now();
                while arrived.load(Ordering::SeqCst) < 3 && began.elapsed() < Duration::from_secs(5) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if arrived.load(Ordering::SeqCst) < 3 {
                    return Fault::Refuse(400, "NotSideBySide");
                }
            }
            Fault::None
        });
    }
    session.run_quietly(&format!("BEGIN; {all}; COMMIT"));
    for (role, (_, password)) in roles.iter().zip(&changes) {
        ground.relay.pass(&role.secret);
        role.assert_password(password);
    }

    // Together also in failure: one secret that cannot be written, and no role has changed.
    ground.relay.rule(&roles[1].secret, |request| match request.operation.as_str() {
        "PutSecretValue" => Fault::Refuse(400, "AccessDeniedException"),
        _ => Fault::None,
    });
    let failing = roles.iter().map(|role| role.alter().0).collect::<Vec<_>>().join("; ");
    let error = session.refused(&format!("BEGIN; {failing}; COMMIT"), "42501", "");
    assert!(error.message().contains(&roles[1].secret), "the error names the secret: {error:?}");
    ground.relay.pass(&roles[1].secret);
    for (role, (_, password)) in roles.iter().zip(&changes) {
        assert_eq!(role.password(), *password);
        role.try_log_in().unwrap();
        // What the other two had staged is the worker's to clear.
        eventually("nothing is left over", crate::ground::SETTLED, || role.left_over().map_or(Ok(()), Err));
    }
}

#[test]
fn many_roles_change_together() {
    let ground = ground();
    let roles: Vec<_> = (0..20).map(|_| ground.synced_role("many")).collect();
    let changes: Vec<_> = roles.iter().map(SyncedRole::alter).collect();
    let all = changes.iter().map(|(sql, _)| sql.as_str()).collect::<Vec<_>>().join("; ");
    ground.session().run_quietly(&format!("BEGIN; {all}; COMMIT"));
    for (role, (_, password)) in roles.iter().zip(&changes) {
        role.assert_password(password);
    }
}

#[test]
fn two_sessions_change_a_role_one_after_the_other() {
    let ground = ground();
    let role = ground.synced_role("two");
    let mut first = ground.session();
    first.run(&format!("BEGIN; {}", role.alter().0));
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let (sql, password) = role.alter();
            (ground.session().client.batch_execute(&sql), password)
        });
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '<password%'";
        eventually("the second waits for the first", Duration::from_secs(10), || {
            match ground.session().text(sql).as_deref() {
                Some("0") => Err("nobody waits".to_owned()),
                _ => Ok(()),
            }
        });
        first.run("COMMIT");
        let (outcome, password) = second.join().unwrap();
        outcome.unwrap();
        assert_eq!(role.password(), password);
    });
    role.assert_in_sync();
}

#[test]
fn prepare_transaction_is_refused() {
    let ground = ground();
    let role = ground.synced_role("prepared");
    let mut session = ground.session();
    let (sql, _) = role.alter();
    session.run(&format!("BEGIN; {sql}"));
    let error = session.refused("PREPARE TRANSACTION 'p'", "0A000", "");
    assert!(error.message().contains(&role.name), "{error:?}");
    session.run("ROLLBACK");
    role.assert_in_sync();
    assert_eq!(session.text("SELECT count(*) FROM pg_prepared_xacts").as_deref(), Some("0"));
    assert_eq!(ground.relay.operations(&role.secret), Vec::<String>::new());

    // What was taken back, or concerns no synced role, is no reason to refuse.
    let plain = format!("{}_plain", role.name);
    session.run(&format!(
        "BEGIN; SAVEPOINT a; {sql}; ROLLBACK TO a; CREATE ROLE {plain} PASSWORD 'x'; PREPARE TRANSACTION 'p'"
    ));
    session.run("ROLLBACK PREPARED 'p'");
    // And the session is none the worse for it.
    let password = random_password();
    session.run_quietly(&role.alter_to(&password));
    role.assert_password(&password);
}
