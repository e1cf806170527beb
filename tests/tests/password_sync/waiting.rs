//! Statements about a role whose password another session is changing: they wait, and go on.

use crate::ground::{Ground, SETTLED, api, ground, new_password};
use crate::session::Session;
use secretlink_e2e::{backend_pid, eventually, unique};
use std::thread;

/// Until the backend waits for a lock.
fn until_waiting(session: &mut Session, pid: u32) {
    let sql = format!("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}");
    eventually("it waits", SETTLED, || match session.text(&sql).as_deref() {
        Some("t") => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
}

/// Runs `second` in a session while `first`, a transaction, is open, and ends that with `end`.
fn one_after_the_other(ground: &Ground, first: &str, end: &str, second: &str) -> Result<(), postgres::Error> {
    let (mut one, mut two) = (ground.session(), ground.session());
    let pid = backend_pid(&mut two.client).pid();
    one.run(&format!("BEGIN; {first}"));
    thread::scope(|scope| {
        let waiting = scope.spawn(move || two.client.simple_query(second).map(drop));
        until_waiting(&mut ground.session(), pid);
        one.run(end);
        waiting.join().unwrap()
    })
}

#[test]
fn the_second_waits_for_the_first_and_goes_on() {
    let ground = ground();
    for end in ["COMMIT", "ROLLBACK"] {
        for second in [
            "ALTER ROLE {r} PASSWORD '{p}'",
            "SET ROLE {r}; ALTER ROLE CURRENT_USER PASSWORD '{p}'",
            "DO $$BEGIN ALTER ROLE {r} PASSWORD '{p}'; END$$",
            "ALTER ROLE {r} VALID UNTIL 'infinity' CONNECTION LIMIT 7",
            "ALTER ROLE {r} SET work_mem = '5MB'",
            "ALTER ROLE {r} RENAME TO {r}_renamed; ALTER ROLE {r}_renamed RENAME TO {r}",
            "SELECT sync_role('{r}', '{s}')",
            "SECURITY LABEL FOR secretlink ON ROLE {r} IS '{s}'",
            "SECURITY LABEL FOR secretlink ON ROLE {r} IS NULL",
            "SELECT unsync_role('{r}')",
            "DROP ROLE {r}",
        ] {
            let role = ground.synced_role("waiting");
            let (mut first, password) = role.alter();
            let unlinks = !second.contains("ALTER");
            if unlinks {
                // A label is a row of its own.
                let (name, secret) = (&role.name, &role.secret);
                first.push_str(&format!("; SECURITY LABEL FOR secretlink ON ROLE {name} IS '{secret}'"));
            }
            let (wanted, free) = (new_password(), unique("sync/free"));
            api().create_secret(&free, "x");
            let sql = second.replace("{r}", &role.name).replace("{p}", &wanted).replace("{s}", &free);
            one_after_the_other(ground, &first, end, &sql).unwrap_or_else(|e| panic!("{end}, {sql}: {e:?}"));
            if second.contains("{p}") {
                role.assert_password(&wanted);
            } else if end == "COMMIT" && !unlinks {
                role.assert_password(&password);
            }
        }
    }
}

#[test]
fn what_the_first_has_done_counts() {
    let ground = ground();
    // The name is nobody's any more.
    let role = ground.synced_role("gone");
    let first = format!("ALTER ROLE {0} RENAME TO {0}_away", role.name);
    let error = one_after_the_other(ground, &first, "COMMIT", &role.alter().0).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42704", "{error:?}");
    ground.session().run(&format!("ALTER ROLE {0}_away RENAME TO {0}", role.name));
    // The role is none any more.
    let role = ground.synced_role("dropped");
    let error = one_after_the_other(ground, &format!("DROP ROLE {}", role.name), "COMMIT", &role.alter().0)
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42704", "{error:?}");
    // The name is another's.
    let (role, next) = (ground.synced_role("former"), ground.synced_role("later"));
    let first =
        format!("ALTER ROLE {0} RENAME TO {0}_away; ALTER ROLE {1} RENAME TO {0}", role.name, next.name);
    let (sql, password) = role.alter();
    one_after_the_other(ground, &first, "COMMIT", &sql).unwrap();
    let current = api().get_secret_value(&next.secret).unwrap();
    assert!(current.contains(&password), "the password is that of the role which has the name now");
    assert!(!role.current().contains(&password));
}

#[test]
fn who_waits_can_be_stopped_and_tells_no_password() {
    let ground = Ground::with(|cluster| {
        cluster
            .conf("log_min_error_statement = error")
            .conf("log_lock_waits = on")
            .conf("deadlock_timeout = '50ms'")
    });
    let role = ground.synced_role("stopped");
    let mut first = ground.session();
    first.run(&format!("BEGIN; {}", role.alter().0));
    for (limit, code) in [("lock_timeout", "55P03"), ("statement_timeout", "57014")] {
        let mut second = ground.session();
        second.run(&format!("SET {limit} = '300ms'"));
        let (sql, password) = role.alter();
        assert_eq!(second.fails(&sql).code().code(), code);
        assert!(!ground.cluster.log().contains(&password), "{limit}");
        second.run(&format!("SET {limit} = 0"));
    }
    // Two that wait for each other.
    let other = ground.synced_role("other");
    let mut second = ground.session();
    let passwords = [role.alter(), other.alter(), other.alter(), role.alter()];
    second.run(&format!("BEGIN; {}", passwords[1].0));
    let pid = backend_pid(&mut first.client).pid();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| first.client.batch_execute(&passwords[2].0));
        until_waiting(&mut ground.session(), pid);
        let ended = second.client.batch_execute(&passwords[3].0);
        let outcomes = [waiting.join().unwrap(), ended];
        let codes: Vec<_> = outcomes
            .iter()
            .filter_map(|o| o.as_ref().err())
            .map(|e| e.code().unwrap().code().to_owned())
            .collect();
        assert_eq!(codes, ["40P01"], "one of them");
    });
    let _ = first.client.batch_execute("ROLLBACK");
    let _ = second.client.batch_execute("ROLLBACK");
    for (_, password) in &passwords {
        assert!(!ground.cluster.log().contains(password), "{}", ground.cluster.log());
    }
    let (sql, password) = role.alter();
    ground.session().run_quietly(&sql);
    role.assert_password(&password);
}

/// A role that is not synced takes no lock.
#[test]
fn other_roles_are_left_to_postgres() {
    let ground = ground();
    let mut session = ground.session();
    let role = unique("plain").replace('-', "_");
    session.run(&format!("CREATE ROLE {role}"));
    let locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'object' AND mode = 'ExclusiveLock'";
    session.run(&format!("BEGIN; ALTER ROLE {role} PASSWORD 'x'; ALTER ROLE {role} RENAME TO {role}_2; ALTER ROLE ALL SET work_mem = '5MB'"));
    assert_eq!(session.text(locks).as_deref(), Some("0"));
    session.run("ROLLBACK");
    session.refused("ALTER ROLE nobody_at_all PASSWORD 'x'", "42704", "does not exist");
    session.refused("ALTER ROLE nobody_at_all RENAME TO x", "42704", "does not exist");
    session.refused("DROP ROLE nobody_at_all", "42704", "does not exist");
    session.run("DROP ROLE IF EXISTS nobody_at_all");
    session.refused("ALTER ROLE PUBLIC PASSWORD 'x'", "42704", "");
    session.run(&format!("DROP ROLE {role}"));
}
