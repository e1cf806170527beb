//! Which role belongs to which secret, and who says so.

use crate::ground::{Ground, SETTLED, api, ground};
use crate::synced_role::SyncedRole;
use secretlink_e2e::{Fault, eventually, unique};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

fn label_of(ground: &Ground, role: &str) -> Option<String> {
    let sql = format!(
        "SELECT label FROM pg_shseclabel WHERE provider = 'secretlink' AND classoid = 'pg_authid'::regclass
         AND objoid = (SELECT oid FROM pg_roles WHERE rolname = '{role}')"
    );
    ground.session().text(&sql)
}

fn new_role(ground: &Ground, attributes: &str) -> String {
    let role = unique("labelled").replace('-', "_");
    ground.session().run(&format!("CREATE ROLE {role} {attributes}"));
    role
}

#[test]
fn sync_role_is_a_security_label() {
    let ground = ground();
    let role = ground.synced_role("label");
    assert_eq!(label_of(ground, &role.name).as_ref(), Some(&role.secret));
    let mut session = ground.session();

    session.run_quietly(&format!("SELECT unsync_role('{}')", role.name));
    assert_eq!(label_of(ground, &role.name).unwrap_or_default(), "");
    let before = role.current();
    let (sql, _) = role.alter();
    session.run_quietly(&sql);
    assert_eq!(role.current(), before, "no longer synced");
    assert_eq!(ground.relay.count(&role.secret, "PutSecretValue"), 0);

    session.run_quietly(&format!("SECURITY LABEL FOR secretlink ON ROLE {} IS '{}'", role.name, role.secret));
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);

    session.run_quietly(&format!("SECURITY LABEL FOR secretlink ON ROLE {} IS NULL", role.name));
    let (sql, _) = role.alter();
    session.run_quietly(&sql);
    assert_eq!(role.password(), password, "no longer synced");

    // It is part of its transaction, too.
    let (sql, last) = role.alter();
    session.run_quietly(&format!(
        "BEGIN; SELECT sync_role('{}', '{}'); {sql}; ROLLBACK",
        role.name, role.secret
    ));
    assert_eq!((label_of(ground, &role.name), role.password()), (None, password));
    session
        .run_quietly(&format!("BEGIN; {sql}; SELECT sync_role('{}', '{}'); COMMIT", role.name, role.secret));
    role.assert_password(&last);
    let (sql, _) = role.alter();
    session.run_quietly(&format!("BEGIN; {sql}; SELECT unsync_role('{}'); COMMIT", role.name));
    assert_eq!(role.password(), last, "not synced when it was committed");
}

#[test]
fn a_label_is_validated() {
    let ground = ground();
    let role = new_role(ground, "LOGIN");
    let mut session = ground.session();
    let long = "x".repeat(3000);
    for wrong in ["has space", "semi;colon", "quo\"te", "arn:aws:s3:::bucket", "é", &long] {
        session.refused(&format!("SELECT sync_role('{role}', '{wrong}')"), "22023", "");
        session.refused(&format!("SECURITY LABEL FOR secretlink ON ROLE {role} IS '{wrong}'"), "22023", "");
    }
    session.refused(&format!("SELECT sync_role('{role}', '')"), "22023", "");
    session.refused("SELECT sync_role('no_such_role', 'x')", "42704", "no_such_role");
    session.refused("SELECT unsync_role('no_such_role')", "42704", "no_such_role");
    session.refused("SELECT check_role_sync('no_such_role')", "42704", "no_such_role");
    session.run("CREATE TABLE labels_t (a int)");
    for other in [
        "TABLE labels_t",
        "COLUMN labels_t.a",
        "DATABASE postgres",
        "SCHEMA public",
        "FUNCTION pg_sleep(float8)",
    ] {
        let error = session.fails(&format!("SECURITY LABEL FOR secretlink ON {other} IS 'x'"));
        assert!(["0A000", "42809"].contains(&error.code().code()), "{other}: {error:?}");
    }
    for right in ["prod/app", "a_+=.@-/Z9"] {
        session.run_quietly(&format!("SELECT sync_role('{role}', '{right}')"));
        assert_eq!(label_of(ground, &role).as_deref(), Some(right));
    }
    session.run_quietly(&format!("SECURITY LABEL FOR secretlink ON ROLE {role} IS ''; DROP TABLE labels_t"));
}

#[test]
fn a_secret_belongs_to_one_role() {
    let ground = ground();
    let role = ground.synced_role("owner");
    let other = new_role(ground, "LOGIN");
    let mut session = ground.session();
    session.refused(&format!("SELECT sync_role('{other}', '{}')", role.secret), "42710", &role.secret);
    session.run_quietly(&format!(
        "SELECT sync_role('{0}', '{1}'); SELECT sync_role('{0}', '{1}')",
        role.name, role.secret
    ));
    session.run_quietly(&format!("DROP ROLE {}", role.name));
    session.run_quietly(&format!("SELECT sync_role('{other}', '{}')", role.secret));
}

#[test]
fn of_two_roles_that_are_linked_with_a_secret_at_the_same_time_one_gets_it() {
    let ground = ground();
    let secret = unique("wanted");
    let [one, other] = [1, 2].map(|_| new_role(ground, "LOGIN"));
    for link in [
        |role: &str, secret: &str| format!("SELECT sync_role('{role}', '{secret}')"),
        |role: &str, secret: &str| format!("SECURITY LABEL FOR secretlink ON ROLE {role} IS '{secret}'"),
    ] {
        let mut first = ground.session();
        first.run(&format!("BEGIN; {}", link(&one, &secret)));
        thread::scope(|scope| {
            let second = scope.spawn(|| ground.session().fails(&link(&other, &secret)));
            let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'object'";
            eventually("the second waits", SETTLED, || match ground.session().text(sql).as_deref() {
                Some("0") => Err("nobody waits".to_owned()),
                _ => Ok(()),
            });
            first.run("COMMIT");
            let error = second.join().unwrap();
            assert_eq!(error.code().code(), "42710", "{error:?}");
        });
        first.run(&format!("SELECT unsync_role('{one}')"));
    }
}

#[test]
fn a_secret_given_by_its_arn_is_synced() {
    let ground = ground();
    let role = ground.synced_role("arn");
    let described = api().call("DescribeSecret", serde_json::json!({ "SecretId": role.secret })).unwrap();
    let mut session = ground.session();
    session.run(&format!("SELECT sync_role('{}', '{}')", role.name, described["ARN"].as_str().unwrap()));
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
}

#[test]
fn only_a_superuser_labels() {
    let ground = ground();
    let role = ground.synced_role("guarded");
    // Rights over every role, and still not over every secret.
    let admin = new_role(ground, "LOGIN CREATEROLE");
    let mut session = ground.session_of(&admin, "postgres");
    let label = format!("SECURITY LABEL FOR secretlink ON ROLE {} IS 'somebody/elses'", role.name);
    session.refused(&label, "42501", "");
    session.refused(&format!("SECURITY LABEL FOR secretlink ON ROLE {} IS NULL", role.name), "42501", "");
    for call in [
        format!("sync_role('{}', 'somebody/elses')", role.name),
        format!("unsync_role('{}')", role.name),
        format!("create_role_with_secret('{}_x', 'somebody/elses')", role.name),
    ] {
        session.refused(&format!("SELECT {call}"), "42501", "permission denied for function");
    }
    assert_eq!(label_of(ground, &role.name).as_ref(), Some(&role.secret));
}

#[test]
fn a_dba_delegates_with_execute_which_still_asks_for_rights_over_the_role() {
    let ground = ground();
    let role = ground.synced_role("delegated");
    let (helper, outsider) = (new_role(ground, "LOGIN CREATEROLE"), new_role(ground, "LOGIN"));
    let superuser = new_role(ground, "LOGIN SUPERUSER");
    let mut session = ground.session();
    session.run(&format!("GRANT EXECUTE ON FUNCTION sync_role, unsync_role TO {helper}, {outsider}"));
    // Admin rights came with CREATEROLE until PostgreSQL 15, and are granted from 16 on.
    session.run(&format!("GRANT {} TO {helper} WITH ADMIN OPTION", role.name));

    let mut helper = ground.session_of(&helper, "postgres");
    helper.run_quietly(&format!("SELECT unsync_role('{}')", role.name));
    assert_eq!(label_of(ground, &role.name).unwrap_or_default(), "");
    helper.run_quietly(&format!("SELECT sync_role('{}', '{}')", role.name, role.secret));
    assert_eq!(label_of(ground, &role.name).as_ref(), Some(&role.secret));
    let (sql, password) = role.alter();
    helper.run_quietly(&sql);
    role.assert_password(&password);

    let mut outsider = ground.session_of(&outsider, "postgres");
    for call in [format!("sync_role('{}', 'x')", role.name), format!("unsync_role('{}')", role.name)] {
        outsider.refused(&format!("SELECT {call}"), "42501", "");
    }
    helper.refused(&format!("SELECT sync_role('{superuser}', 'x')"), "42501", "");
    assert_eq!(label_of(ground, &role.name).as_ref(), Some(&role.secret));
}

#[test]
fn a_role_that_may_alter_itself_may_not_choose_its_secret() {
    let ground = ground();
    let role = ground.synced_role("itself");
    let mut session = ground.session_of(&role.name, "postgres");
    session.refused(&format!("SELECT sync_role('{}', 'x')", role.name), "42501", "");
    session.refused(&format!("SECURITY LABEL FOR secretlink ON ROLE {} IS 'x'", role.name), "42501", "");
    // Nor where requests go, nor whether its password is synced at all.
    for setting in [
        "secretlink.password_sync = off",
        "secretlink.hashed_password = warn",
        "secretlink.sync_secret_template = 'x{role}'",
        "secretlink.create_missing_secrets = off",
        "secretlink.advertised_host = 'x'",
        "secretlink.cluster_name = 'x'",
        "secretlink.max_synced_roles = 100",
        "secretlink.database = 'x'",
    ] {
        let error = session.fails(&format!("SET {setting}"));
        assert!(["42501", "55P02"].contains(&error.code().code()), "{setting}: {error:?}");
    }
}

#[test]
fn a_label_that_changes_while_a_password_is_stored_is_noticed() {
    let ground = ground();
    let role = ground.synced_role("relabelled");
    let other = format!("{}/other", role.secret);
    api().create_login_secret(&other, &role.name, "not the role's");
    let (sender, staging) = mpsc::channel();
    ground.relay.rule(&role.secret, move |request| {
        if request.operation != "PutSecretValue" {
            return Fault::None;
        }
        let _ = sender.send(());
        Fault::Delay(Duration::from_secs(1))
    });
    let (sql, password) = role.alter();
    thread::scope(|scope| {
        scope.spawn(|| ground.session().run(&sql));
        staging.recv_timeout(SETTLED).unwrap();
        ground.session().run(&format!("SELECT sync_role('{}', '{other}')", role.name));
    });
    // One of the two came first. Either way the new secret does not hold the password, and that shows.
    let role = SyncedRole { ground, name: role.name.clone(), secret: other };
    role.until_state("drifted");
    assert_eq!(ground.log_in(&role.name, &password).as_ref(), Ok(&role.name));
    let (sql, password) = role.alter();
    ground.session().run_quietly(&sql);
    role.assert_password(&password);
}
