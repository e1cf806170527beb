//! What is not rotated, and is left as it was.

use crate::crashes::{behind_a_relay, storm_ground};
use crate::ground::{Ground, PATIENCE, api, ground, rotate};
use secretlink_e2e::{Cluster, Fault, db_error, eventually, unique};
use serde_json::{Value, json};

#[test]
fn secrets_that_cannot_be_rotated() {
    let subject = ground().subject("bad");
    let good = subject.at("AWSCURRENT");
    let with = |field: &str, value: Value| {
        let mut changed = good.clone();
        changed[field] = value;
        changed.to_string()
    };
    for (text, code, message) in [
        ("no JSON".to_owned(), "22032", "is not valid JSON"),
        ("[1]".to_owned(), "2203C", "is not a JSON object"),
        (with("username", Value::Null), "22023", "has no username field"),
        (with("host", json!("")), "22023", "has no host field"),
        (with("password", Value::Null), "2203A", "has no password field"),
        (with("engine", json!("mysql")), "22023", "is of another kind of server: mysql"),
        (with("host", json!("host.invalid")), "08001", "could not establish connection"),
        (with("port", json!(1)), "08001", "could not establish connection"),
        (with("password", json!("wrong")), "28P01", "neither the current nor the previous password"),
        (with("username", json!("nobody_at_all")), "28P01", "neither the current nor the previous password"),
    ] {
        let secret = unique("rotation/bad");
        api().create_secret(&secret, &text);
        let error = db_error(rotate(&mut subject.ground.session(), &secret, None));
        assert_eq!(error.code().code(), code, "{text}: {error:?}");
        assert!(error.message().contains(message), "{text}: {error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
        assert_eq!(api().get_secret_value(&secret).unwrap(), text);
        assert_eq!(api().version_at(&secret, "AWSPENDING"), None);
        let sql = "SELECT outcome, error FROM rotation_history WHERE secret_id = $1";
        let row = subject.ground.session().query_one(sql, &[&secret]).unwrap();
        assert_eq!(row.get::<_, &str>(0), "failed");
        assert!(row.get::<_, &str>(1).contains(message));
    }
    subject.assert_untouched(&good);
}

#[test]
fn somebody_elses_awspending_is_not_stolen() {
    let subject = ground().subject("held");
    let before = subject.at("AWSCURRENT");
    let theirs =
        api().put_secret_value(&subject.secret, &subject.value("theirs").to_string(), &["AWSPENDING"]);
    let (code, message) = subject.refused();
    assert_eq!(
        (code.as_str(), message),
        ("55006", format!("a rotation of secret \"{}\" is in progress", subject.secret))
    );
    assert_eq!(api().version_at(&subject.secret, "AWSPENDING"), Some(theirs));
    assert_eq!(subject.at("AWSCURRENT"), before);
    assert!(subject.current_logs_in());
}

/// A rotation by somebody else has ended, and a hand has written another version since: nobody is at work any more.
#[test]
fn awspending_that_was_left_at_the_previous_version() {
    let subject = ground().subject("left");
    let text = subject.at("AWSCURRENT").to_string();
    let theirs = api().put_secret_value(&subject.secret, &text, &["AWSCURRENT"]);
    api().put_secret_value(&subject.secret, &text, &["AWSCURRENT"]);
    api().move_label(&subject.secret, "AWSPENDING", None, Some(&theirs)).unwrap();
    for stage in ["AWSPENDING", "AWSPREVIOUS"] {
        assert_eq!(api().version_at(&subject.secret, stage).as_ref(), Some(&theirs), "{stage}");
    }
    let version = subject.rotate().unwrap();
    assert_eq!(api().version_at(&subject.secret, "AWSCURRENT"), Some(version));
    subject.assert_at_rest();
}

#[test]
fn arguments_and_transactions() {
    let subject = ground().subject("arguments");
    let mut session = subject.ground.session();
    let mut code = |sql: &str| db_error(session.batch_execute(sql)).code().code().to_owned();
    let secret = &subject.secret;
    assert_eq!(code("SELECT rotate_secret(NULL)"), "22004");
    assert_eq!(code("SELECT rotate_secret('')"), "22023");
    assert_eq!(code(&format!("SELECT rotate_secret('{secret}', 'by_hand')")), "22023");
    assert_eq!(code("SELECT rotate_secret('no/such/secret')"), "42704");
    assert_eq!(
        code(&format!("CREATE TABLE t_{} (); SELECT rotate_secret('{secret}')", subject.role)),
        "25001"
    );
    assert_eq!(code(&format!("SELECT rotate_secret('{secret}', 'managed')")), "55000");
    assert!(subject.current_logs_in());
}

#[test]
fn where_no_password_is_needed_none_can_be_tried() {
    let ground = ground();
    let trusting = Cluster::remote().auth("host", "all", "trust").start();
    let subject = ground.subject_at(&trusting, "trusted");
    let before = subject.at("AWSCURRENT");
    let (code, message) = subject.refused();
    assert_eq!(
        (code.as_str(), message),
        ("55000", format!("the server does not ask role \"{}\" for a password", subject.role))
    );
    subject.assert_untouched(&before);
}

#[test]
fn roles_that_cannot_log_in_properly() {
    let ground = ground();
    let subject = ground.subject("limited");
    let before = subject.at("AWSCURRENT");
    assert!(subject.server.psql(&format!("ALTER ROLE {} CONNECTION LIMIT 0", subject.role)).success);
    let (code, message) = subject.refused();
    assert_eq!((code.as_str(), message.as_str()), ("08001", "could not establish connection"));
    assert!(subject.server.psql(&format!("ALTER ROLE {} CONNECTION LIMIT -1", subject.role)).success);
    subject.assert_untouched(&before);
}

#[test]
fn roles_that_can() {
    let ground = ground();
    // The session that changes the password is the only one there may be: the new one is proven all the same.
    let subject = ground.subject("one_session");
    assert!(subject.server.psql(&format!("ALTER ROLE {} CONNECTION LIMIT 1", subject.role)).success);
    subject.rotate().unwrap();
    subject.assert_at_rest();
    let subject = ground.subject("superuser");
    assert!(subject.server.psql(&format!("ALTER ROLE {} SUPERUSER", subject.role)).success);
    subject.rotate().unwrap();
    subject.assert_at_rest();
}

#[test]
fn a_password_that_has_expired() {
    let subject = ground().subject("expired");
    let before = subject.at("AWSCURRENT");
    let until = |when: &str| {
        let sql = format!("ALTER ROLE {} VALID UNTIL '{when}'", subject.role);
        assert!(subject.server.psql(&sql).success);
    };
    until("2000-01-01");
    assert_eq!(subject.refused().0, "28P01");
    until("infinity");
    subject.assert_untouched(&before);
}

#[test]
fn a_server_that_refuses_hashes() {
    let ground = storm_ground();
    let (subject, relay) = behind_a_relay(&ground, "hashes");
    let before = subject.at("AWSCURRENT");
    // As credcheck does.
    let relay = relay.unwrap();
    relay.rule(|said| match said.query.as_ref().is_some_and(|sql| sql.contains("SCRAM-SHA-256")) {
        true => Fault::Refuse(0, "28P01"),
        false => Fault::None,
    });
    let error = db_error(subject.rotate());
    assert_eq!(error.code().code(), "28P01");
    assert!(error.message().starts_with("the server refused to set the password"), "{error:?}");
    assert!(error.hint().unwrap().contains("credcheck"), "{error:?}");
    assert!(!format!("{error:?}").contains("SCRAM-SHA-256$"), "{error:?}");
    assert_eq!(subject.last_outcome(), "failed");
    subject.assert_untouched(&before);
}

#[test]
fn without_a_database_to_keep_it_in() {
    let ground = Ground::with(|local| local.conf("secretlink.database = 'elsewhere'"));
    let subject = ground.subject("database");
    let before = subject.at("AWSCURRENT");
    let (code, message) = subject.refused();
    assert_eq!((code.as_str(), message.as_str()), ("3D000", "database \"elsewhere\" does not exist"));
    assert!(ground.local.psql("CREATE DATABASE elsewhere").success);
    let (code, message) = subject.refused();
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("55000", "extension secretlink is not installed in database \"elsewhere\"")
    );
    // Nobody is connected to it now.
    assert!(ground.local.psql("DROP DATABASE elsewhere").success);
    assert_eq!(subject.at("AWSCURRENT"), before);
}

/// Item, whether it is well, detail.
fn checks(ground: &Ground, secret: &str) -> Vec<(String, Option<bool>, String)> {
    let rows = ground.session().query("SELECT item, ok, detail FROM check_rotation($1)", &[&secret]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[test]
fn a_look_beforehand_changes_nothing() {
    let subject = ground().subject("looked");
    let before = subject.at("AWSCURRENT");
    let found = checks(subject.ground, &subject.secret);
    let items: Vec<_> = found.iter().map(|(item, ok, _)| (item.as_str(), *ok)).collect();
    let good = |item| (item, Some(true));
    assert_eq!(
        items,
        [
            good("this server"),
            good("secret"),
            good("AWSPENDING"),
            good("strategy"),
            good("login"),
            good("server"),
            good("ALTER ROLE"),
            ("write", None)
        ],
        "{found:?}"
    );
    subject.assert_untouched(&before);
    assert!(subject.history().is_empty());

    let trouble = |found: Vec<(String, Option<bool>, String)>| {
        found.into_iter().find(|(_, ok, _)| *ok == Some(false)).map(|(item, _, detail)| (item, detail))
    };
    let (item, detail) = trouble(checks(subject.ground, "no/such/secret")).unwrap();
    assert_eq!(item, "secret", "{detail}");
    api().put_secret_value(&subject.secret, &subject.value("wrong").to_string(), &["AWSPENDING"]);
    assert_eq!(trouble(checks(subject.ground, &subject.secret)).unwrap().0, "AWSPENDING");
}

#[test]
fn a_server_without_tls_is_said_to_be_the_secrets_business() {
    let ground = ground();
    let subject = ground.subject_at(&ground.local, "no_tls");
    let before = subject.at("AWSCURRENT");
    let error = db_error(subject.rotate());
    assert_eq!(error.code().code(), "08001", "{error:?}");
    assert_eq!(error.hint(), Some(r#"Turn on ssl at the server, or add "ssl": false to the secret."#));
    subject.assert_untouched(&before);
    let mut value = before;
    value["ssl"] = false.into();
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    subject.rotate().unwrap();
    subject.assert_at_rest();
}

/// However much a server says, and in whatever letters, its refusal is written down.
#[test]
fn a_server_that_refuses_at_length() {
    let ground = Ground::with_both(
        |local| local.conf("secretlink.database = 'kept'"),
        // A relay does not understand TLS.
        |remote| remote.auth("hostnossl", "all", "scram-sha-256"),
    );
    for (encoding, expected) in
        [("UTF8", "password: Нельзя! Нельзя!"), ("LATIN1", "password: ????????????! ?")]
    {
        ground
            .session()
            .batch_execute(&format!(
                "CREATE DATABASE kept ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
            ))
            .unwrap();
        let mut session = ground.local.connect("postgres", "kept");
        session.batch_execute("CREATE EXTENSION secretlink; SET client_encoding = 'UTF8'").unwrap();
        let (subject, relay) = behind_a_relay(&ground, "at_length");
        let relay = relay.unwrap();
        relay.refusals_say(&"Нельзя! ".repeat(1_000));
        relay.rule(|said| match &said.query {
            Some(sql) if sql.contains("PASSWORD 'SCRAM") => Fault::Refuse(0, "42501"),
            _ => Fault::None,
        });
        let before = subject.at("AWSCURRENT");
        let error = db_error(subject.rotate());
        assert!(error.message().contains("Нельзя"), "{encoding}: {error:?}");
        session.query_one("SELECT schedule_rotation($1, 'rate(4 hours)')", &[&subject.secret]).unwrap();
        let due = "UPDATE rotation_plan SET next_from = now() - interval '1 min', next_to = now() + interval '1 hour'";
        session.execute(due, &[]).unwrap();
        ground.session().simple_query("SELECT rotate_secret('no/such/secret')").unwrap_err();
        eventually(&format!("{encoding}: it is to be tried again"), PATIENCE, || {
            let sql = "SELECT last_error FROM rotation_plan WHERE retry_at > now() AND attempts = 1";
            match session.query_opt(sql, &[]).unwrap() {
                Some(row) if row.get::<_, String>(0).contains(expected) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        eventually(&format!("{encoding}: both runs are over"), PATIENCE, || {
            let sql = "SELECT cause, outcome, error, finished_at IS NOT NULL FROM rotation_history WHERE secret_id = $1 ORDER BY run";
            let rows = session.query(sql, &[&subject.secret]).unwrap();
            let is_noted = rows.iter().all(|row| {
                row.get::<_, Option<&str>>(1) == Some("failed")
                    && row.get::<_, &str>(2).contains(expected)
                    && row.get(3)
            });
            let causes: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
            if is_noted && causes == ["call", "schedule"] { Ok(()) } else { Err(format!("{rows:?}")) }
        });
        assert_eq!(subject.at("AWSCURRENT"), before);
        assert!(subject.logs_in(&before));
        drop(session);
        ground.session().batch_execute("DROP DATABASE kept WITH (FORCE)").unwrap();
    }
}
