//! Secrets that do not exist yet.

use crate::ground::{Ground, api, ground};
use crate::synced_role::{SyncedRole, password_in};
use secretlink_e2e::{Fault, backend_pid, eventually, random_password, unique};
use std::time::Duration;

/// A labelled role whose secret does not exist.
fn role_without_secret<'a>(ground: &'a Ground, name: &str) -> SyncedRole<'a> {
    let role = unique(name).replace('-', "_");
    let secret = format!("sync/{role}");
    ground.synced_role_with_secret(&role, &secret, &random_password())
}

#[test]
fn a_missing_secret_is_created() {
    let ground = ground();
    let role = role_without_secret(ground, "missing");
    let (sql, password) = role.alter();
    ground.session().run_quietly(&sql);
    role.assert_password(&password);
    let create = &ground
        .relay
        .requests(&role.secret)
        .into_iter()
        .find(|r| r.operation == "CreateSecret")
        .unwrap()
        .input;
    assert!(create["ClientRequestToken"].as_str().unwrap().starts_with("secretlink-"), "a token of ours");
    assert_eq!(role.versions(), 1);
    let (sql, password) = role.alter();
    ground.session().run_quietly(&sql);
    role.assert_password(&password);
}

#[test]
fn a_missing_secret_is_an_error_if_none_may_be_created() {
    let ground = ground();
    let (role, old) = (role_without_secret(ground, "off"), random_password());
    let mut without_sync = ground.session();
    without_sync.run("SET secretlink.password_sync = off");
    without_sync.run(&role.alter_to(&old));
    let mut session = ground.session();
    session.run("SET secretlink.create_missing_secrets = off");
    let error = session.refused(&role.alter().0, "42704", &role.secret);
    assert!(error.hint().unwrap_or_default().contains("create_missing_secrets"), "{error:?}");
    session.refused(&format!("SELECT sync_role('{}', '{}')", role.name, role.secret), "42704", &role.secret);
    assert_eq!(ground.log_in(&role.name, &old).as_ref(), Ok(&role.name));
    assert_eq!(api().get_secret_value(&role.secret).unwrap_err().kind, "ResourceNotFoundException");
}

#[test]
fn a_secret_created_at_the_same_moment_is_used() {
    let ground = ground();
    let role = role_without_secret(ground, "race");
    let (name, secret) = (role.name.clone(), role.secret.clone());
    ground.relay.rule(&role.secret, move |request| {
        if request.operation == "CreateSecret" {
            api().create_login_secret(&secret, &name, "y");
        }
        Fault::None
    });
    let (sql, password) = role.alter();
    let mut session = ground.session();
    // To tell that it exists is as good as to go on with it; a second try must work.
    if session.client.batch_execute(&sql).is_err() {
        ground.relay.pass(&role.secret);
        session.run_quietly(&sql);
    }
    role.assert_password(&password);
}

#[test]
fn an_answer_that_is_lost_does_not_lose_the_secret() {
    let ground = ground();
    let role = role_without_secret(ground, "lost");
    ground.relay.rule(&role.secret, |request| match request.operation.as_str() {
        "CreateSecret" => Fault::CutAnswer,
        _ => Fault::None,
    });
    let mut session = ground.session();
    let failed = session.client.batch_execute(&role.alter().0).is_err();
    ground.relay.pass(&role.secret);
    if !failed {
        role.assert_in_sync();
    }
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
}

#[test]
fn a_creation_whose_answer_is_lost_is_found_out_about() {
    let ground = ground();
    let mut session = ground.session();
    let (role, secret) = (unique("lost").replace('-', "_"), unique("lost"));
    let create = format!("SELECT create_role_with_secret('{role}', '{secret}')");
    // The secret is there, though nobody said so.
    ground.relay.rule(&secret, |request| match request.operation.as_str() {
        "CreateSecret" => Fault::CutAnswer,
        _ => Fault::None,
    });
    session.run(&create);
    let made = SyncedRole { ground, name: role, secret };
    made.assert_in_sync();
    assert_eq!(made.versions(), 1);
}

#[test]
fn a_creation_that_nobody_heard_of_can_be_tried_again() {
    let ground = ground();
    let mut session = ground.session();
    let (role, secret) = (unique("again").replace('-', "_"), unique("again"));
    let create = format!("SELECT create_role_with_secret('{role}', '{secret}')");
    // From the creation on there is no way to Secrets Manager.
    let created = std::sync::atomic::AtomicBool::new(false);
    ground.relay.rule(&secret, move |request| {
        use std::sync::atomic::Ordering::SeqCst;
        match request.operation.as_str() {
            "CreateSecret" if !created.swap(true, SeqCst) => Fault::CutAnswer,
            _ if created.load(SeqCst) => Fault::Cut,
            _ => Fault::None,
        }
    });
    let error = session.fails(&create);
    assert_eq!(error.code().code(), "08001", "{error:?}");
    ground.relay.pass(&secret);
    let left = api().get_secret_value(&secret).unwrap();
    session.run(&create);
    let made = SyncedRole { ground, name: role.clone(), secret: secret.clone() };
    made.assert_in_sync();
    assert_ne!(made.current(), left);
    // What is somebody's, be it of a role of the same name, is not taken.
    session.run(&format!("DROP ROLE {role}"));
    api().put_secret_value(&secret, &made.current().replace('}', r#","more":1}"#), &["AWSCURRENT"]);
    session.refused(&create, "42710", &secret);
}

#[test]
fn create_role_with_secret_makes_role_password_and_secret_at_once() {
    let ground = Ground::with(|cluster| {
        cluster
            .conf("log_statement = 'all'")
            .conf("log_min_error_statement = error")
            .conf("secretlink.advertised_host = 'db.example.com'")
    });
    let mut session = ground.session();
    let secret = unique("made");
    let returned = session.text(&format!("SELECT create_role_with_secret('made', '{secret}')"));
    assert_eq!(returned, Some(secret.clone()));
    let made = SyncedRole { ground: &ground, name: "made".to_owned(), secret };
    let password = made.password();
    assert_eq!(password.chars().count(), 32);
    made.assert_in_sync();
    assert_eq!(made.check(), "in_sync");
    let current: serde_json::Value = serde_json::from_str(&made.current()).unwrap();
    assert_eq!(
        (current["username"].as_str(), current["host"].as_str()),
        (Some("made"), Some("db.example.com"))
    );

    // Named arguments and another length.
    let secret = unique("long");
    session.run(&format!(
        "SELECT create_role_with_secret(role => 'long', secret_id => '{secret}', password_length => 64)"
    ));
    let long = SyncedRole { ground: &ground, name: "long".to_owned(), secret };
    assert_eq!(long.password().chars().count(), 64);
    long.assert_in_sync();
    assert_ne!(long.password()[..32], password);

    // A secret that is there already may be somebody's.
    let taken = unique("taken");
    api().create_secret(&taken, r#"{"password":"somebody's"}"#);
    session.refused(&format!("SELECT create_role_with_secret('taker', '{taken}')"), "42710", &taken);
    assert_eq!(api().get_secret_value(&taken).unwrap(), r#"{"password":"somebody's"}"#);
    assert_eq!(session.text("SELECT count(*) FROM pg_roles WHERE rolname = 'taker'").as_deref(), Some("0"));

    // In one transaction with the rest.
    let secret = unique("undone");
    session.run(&format!("BEGIN; SELECT create_role_with_secret('undone', '{secret}'); ROLLBACK"));
    assert_eq!(api().get_secret_value(&secret).unwrap_err().kind, "ResourceNotFoundException");
    session.run(&format!("BEGIN; SELECT create_role_with_secret('done', '{secret}'); COMMIT"));
    let done = SyncedRole { ground: &ground, name: "done".to_owned(), secret };
    done.assert_in_sync();

    session.refused("SELECT create_role_with_secret('made', 'x')", "42710", "made");
    for length in ["0", "-1", "7", "100000"] {
        session.refused(&format!("SELECT create_role_with_secret('n', 'x', {length})"), "22023", "");
    }
    let log = ground.cluster.log();
    assert!(log.contains("create_role_with_secret"), "the statements are logged");
    for role in [&made, &long, &done] {
        assert!(!log.contains(&role.password()), "the password of {} is in the log", role.name);
    }
    assert!(!log.contains("SCRAM-SHA-256$"), "nor its verifier");
}

#[test]
fn the_password_that_is_made_up_is_nowhere_but_in_the_secret() {
    let ground = Ground::with(|cluster| {
        cluster
            .preload(false)
            .conf("shared_preload_libraries = 'pg_stat_statements, secretlink'")
            .conf("pg_stat_statements.track = all")
            .conf("pg_stat_statements.track_utility = on")
            .conf("log_statement = all")
            .conf("log_min_error_statement = error")
            .conf("log_error_verbosity = verbose")
    });
    let mut session = ground.session();
    session.run("CREATE EXTENSION pg_stat_statements");
    for encryption in ["scram-sha-256", "md5"] {
        session.run(&format!("SET password_encryption = '{encryption}'"));
        let backend = backend_pid(&mut session.client);
        let (role, secret) = (format!("Made \"so\" {encryption}"), unique("nowhere"));
        session.run(&format!("SELECT create_role_with_secret('{role}', '{secret}')"));
        let made = SyncedRole { ground: &ground, name: role.clone(), secret };
        made.assert_in_sync();
        let password = made.password();
        eventually("the backend's memory is clean", Duration::from_secs(5), || {
            let hits = backend.find_in_memory(password.as_bytes());
            if hits.is_empty() { Ok(()) } else { Err(format!("{hits:?}")) }
        });
        let hash =
            session.text(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")).unwrap();
        let is_expected =
            if encryption == "md5" { hash.starts_with("md5") } else { hash.starts_with("SCRAM-") };
        assert!(is_expected, "{hash}");

        // What goes wrong inside says no more.
        let error = session.fails(&format!(
            "DO $do$ BEGIN PERFORM create_role_with_secret('{role}', '{}'); END $do$",
            unique("nowhere")
        ));
        assert_eq!(error.code().code(), "42710", "{error:?}");
        let statements = session.text("SELECT string_agg(query, E'\\n') FROM pg_stat_statements").unwrap();
        assert!(statements.contains("create_role_with_secret"), "{statements}");
        for told in [format!("{error:?}"), statements, ground.cluster.log()] {
            assert!(!told.contains(&password) && !told.contains(&hash), "{told}");
            assert!(!told.contains("SCRAM-SHA-256$"), "{told}");
        }
    }
    // It goes the way of a client's statement, with the checks that are made there.
    let create = format!("SELECT create_role_with_secret('read_only', '{}')", unique("nowhere"));
    session.refused(&format!("BEGIN READ ONLY; {create}"), "25006", "CREATE ROLE");
    session.run("ROLLBACK; CREATE ROLE helper LOGIN");
    session.run("GRANT EXECUTE ON FUNCTION create_role_with_secret TO helper");
    ground.session_of("helper", "postgres").refused(&create, "42501", "permission denied to create role");
}

#[test]
fn no_two_passwords_are_alike() {
    let ground = ground();
    let mut session = ground.session();
    let passwords: std::collections::HashSet<String> = (0..10)
        .map(|_| {
            let role = unique("alike").replace('-', "_");
            session.run(&format!("SELECT create_role_with_secret('{role}', 'sync/{role}')"));
            password_in(&api().get_secret_value(&format!("sync/{role}")).unwrap())
        })
        .collect();
    assert_eq!(passwords.len(), 10);
}
