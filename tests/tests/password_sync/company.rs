//! Password sync beside others: synchronous standbys, and the workers of a Citus cluster.

use crate::ground::{Ground, SETTLED, api, new_password};
use crate::session::Session;
use secretlink_e2e::{eventually, unique};
use serde_json::json;
use std::thread;

/// Wait until a setting has a value in new sessions.
fn set(ground: &Ground, setting: &str, value: &str) {
    let mut session = ground.session();
    session.run(&format!("ALTER SYSTEM SET {setting} = '{value}'"));
    session.run("SELECT pg_reload_conf()");
    eventually(&format!("{setting} is {value}"), SETTLED, || {
        match ground.session().text(&format!("SHOW {setting}")) {
            Some(shown) if shown == value => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_staged_password_waits_for_the_synchronous_standby_whatever_the_session_says() {
    let ground = Ground::start();
    let role = ground.synced_role("standby");
    let mut session = ground.session();
    session.run("CREATE ROLE unsynced LOGIN");
    for level in ["off", "local", "remote_write", "on", "remote_apply"] {
        set(&ground, "synchronous_standby_names", "nobody");
        session.run(&format!("SET synchronous_commit = {level}"));
        let before = role.password();
        let (sql, password) = role.alter();
        let pid = session.text("SELECT pg_backend_pid()").unwrap();
        thread::scope(|scope| {
            let change = scope.spawn(|| session.run(&sql));
            let waits = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}");
            let mut other = ground.session();
            // What this session does waits for nobody.
            other.run("SET synchronous_commit = local");
            eventually(&format!("{level}: the commit waits"), SETTLED, || {
                match other.text(&waits).as_deref() {
                    Some("SyncRep") => Ok(()),
                    event => Err(format!("{event:?}")),
                }
            });
            assert_eq!(role.password(), before, "{level}: it is not promoted before the standby has it");
            other.run("ALTER SYSTEM SET synchronous_standby_names = ''");
            other.run("SELECT pg_reload_conf()");
            change.join().unwrap();
        });
        role.assert_password(&password);
        // It was for that transaction alone.
        assert_eq!(session.text("SHOW synchronous_commit").as_deref(), Some(level));
    }
    // Others are left as they are.
    set(&ground, "synchronous_standby_names", "nobody");
    session.run("SET synchronous_commit = local; SET statement_timeout = '20s'");
    session.run("ALTER ROLE unsynced CONNECTION LIMIT 5");
    session.run("ALTER SYSTEM RESET synchronous_standby_names");
}

/// What Citus's coordinator has a worker do for `ALTER ROLE` and `SECURITY LABEL`.
fn as_citus(session: &mut Session, statement: &str) -> Result<(), postgres::Error> {
    let gid = unique("citus_0_1");
    let sql = format!("BEGIN; {statement}; PREPARE TRANSACTION '{gid}'");
    let prepared = session.client.batch_execute(&sql);
    match prepared {
        Ok(()) => session.client.batch_execute(&format!("COMMIT PREPARED '{gid}'")),
        Err(error) => {
            session.run("ROLLBACK");
            Err(error)
        }
    }
}

#[test]
fn a_citus_worker_takes_hashes_and_labels_with_password_sync_off() {
    let ground = Ground::start();
    let mut session = ground.session();
    let check = "SELECT concat_ws(' ', ok, detail, hint) FROM secretlink_check() WHERE item = 'citus'";
    assert_eq!(session.text(check), None, "no Citus, no line");
    // What tells nodes of Citus from each other.
    session
        .run("SET allow_system_table_mods = on; CREATE TABLE pg_catalog.pg_dist_local_group (groupid int)");
    session.run("INSERT INTO pg_catalog.pg_dist_local_group VALUES (0)");
    assert!(session.text(check).unwrap().starts_with("t This is the coordinator"));
    session.run("UPDATE pg_catalog.pg_dist_local_group SET groupid = 2");
    let said = session.text(check).unwrap();
    assert!(
        said.starts_with("f This is a worker") && said.contains("secretlink.password_sync to off"),
        "{said}"
    );

    let (secret, password) = (unique("citus"), new_password());
    let hash = {
        let mut session = ground.session();
        session.run(&format!("CREATE ROLE app LOGIN PASSWORD '{password}'"));
        session.text("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'").unwrap()
    };
    let label = format!("SECURITY LABEL FOR secretlink ON ROLE app IS '{secret}'");
    let alter = format!("DO $do$ BEGIN EXECUTE $q$ALTER ROLE app PASSWORD '{hash}'$q$; END $do$");
    api().create_secret(&secret, &json!({ "username": "app", "password": "the coordinator's" }).to_string());
    for statement in [format!("{label}; {alter}"), label.clone()] {
        let error = as_citus(&mut session, &statement).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "0A000", "{error:?}");
        assert!(
            error.hint().is_some_and(|hint| hint.contains("secretlink.password_sync to off")),
            "{error:?}"
        );
    }
    set(&ground, "secretlink.password_sync", "off");
    let mut session = ground.session();
    assert!(session.text(check).unwrap().starts_with("t This is a worker"));
    as_citus(&mut session, &format!("{label}; {alter}")).unwrap();
    as_citus(&mut session, &alter).unwrap();
    assert_eq!(ground.log_in("app", &password).as_deref(), Ok("app"));
    assert_eq!(ground.relay.operations(&secret), Vec::<String>::new(), "a worker leaves the secret alone");
}
