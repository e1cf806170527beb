//! Writing a secret.

use crate::session::{api, log_in, refused, session, text};
use secretlink_e2e::{Fault, SecretsRelay, Stage, db_error, unique};
use serde_json::json;

#[test]
fn any_password_goes_unharmed_from_create_secret_to_the_login() {
    let mut client = session();
    for (number, password) in [
        "\"",
        "'",
        "\\",
        "$",
        " leading and trailing ",
        "two\nlines\r\n\tand a tab",
        "pässwörd-ñ-ß",
        "密码 пароль 🔑",
        r#"a"b'c\d$e$$f{g}h%i%%s\n\u0041\\"#,
        "\u{1}\u{7f}",
        "=&?/:@#;,",
        "x'); DROP TABLE t; --",
    ]
    .into_iter()
    .enumerate()
    {
        let name = unique("unharmed");
        let role = format!("unharmed_{number}");
        Stage::shared().remote.create_login(&role, password, "scram-sha-256");
        let value = json!({ "username": role, "password": password }).to_string();
        text(&mut client, "SELECT create_secret($1, $2::text::json)", &[&name, &value]);
        assert_eq!(api().get_secret_value(&name).unwrap(), value, "stored");
        let read = text(&mut client, "SELECT get_secret_value($1) ->> 'password'", &[&name]);
        assert_eq!(read, password, "read");
        let read = text(&mut client, "SELECT get_secret_string($1)", &[&name]);
        assert_eq!(read, value);
        assert_eq!(log_in(&mut client, &name), role, "{password:?} logs in");
    }
}

#[test]
fn create_secret_returns_the_arn_and_does_not_overwrite() {
    let (mut client, name) = (session(), unique("created"));
    let arn = text(
        &mut client,
        "SELECT create_secret($1, '{\"password\": \"p\"}', description => 'what for', kms_key_id => 'alias/k')",
        &[&name],
    );
    let there = api().call("DescribeSecret", json!({ "SecretId": name })).unwrap();
    assert_eq!(there["ARN"], json!(arn));
    assert_eq!((&there["Description"], &there["KmsKeyId"]), (&json!("what for"), &json!("alias/k")));
    let sql = format!("SELECT create_secret('{name}', '{{}}')");
    refused(&mut client, &sql, "42710", &format!("secret \"{name}\" already exists"), "put_secret_value");
    assert_eq!(api().get_secret_value(&name).unwrap(), r#"{"password": "p"}"#);
    let error = db_error(client.simple_query("SELECT create_secret('with space', '{}')"));
    assert_eq!((error.code().code(), error.message()), ("22023", "invalid secret name"));
}

#[test]
fn put_secret_value_returns_the_version_and_moves_only_the_stages_it_names() {
    let (mut client, name) = (session(), unique("put"));
    api().create_secret(&name, "1");
    let version_at = |stage: &str| -> String {
        let input = json!({ "SecretId": name, "VersionStage": stage });
        api().call("GetSecretValue", input).unwrap()["VersionId"].as_str().unwrap().to_owned()
    };
    let first = version_at("AWSCURRENT");
    let pending = text(&mut client, "SELECT put_secret_value($1, '2', '{AWSPENDING}')", &[&name]);
    assert_eq!((version_at("AWSCURRENT"), version_at("AWSPENDING")), (first.clone(), pending));
    let current = text(&mut client, "SELECT put_secret_value($1, '3')", &[&name]);
    assert_eq!((version_at("AWSCURRENT"), version_at("AWSPREVIOUS")), (current, first));
    let two = text(&mut client, "SELECT put_secret_value($1, '4', '{MINE,AWSPENDING}')", &[&name]);
    assert_eq!((version_at("MINE"), version_at("AWSPENDING")), (two.clone(), two));
    assert_eq!(api().get_secret_value(&name).unwrap(), "3");

    let sql = format!("SELECT put_secret_value('{name}-none', '{{}}')");
    let message = format!("secret \"{name}-none\" not found in region us-east-1");
    refused(&mut client, &sql, "42704", &message, "secretlink.region");
}

#[test]
fn text_and_bytes_are_stored_as_they_are() {
    let (mut client, name) = (session(), unique("text"));
    api().create_secret(&name, "1");
    for value in ["hunter2", "{not json", " two\nlines ", "pässwörd 密码"] {
        text(&mut client, "SELECT put_secret_string($1, $2)", &[&name, value]);
        assert_eq!(api().get_secret_value(&name).unwrap(), value);
    }
    let pending = text(&mut client, "SELECT put_secret_string($1, 'later', '{AWSPENDING}')", &[&name]);
    assert_eq!(text(&mut client, "SELECT get_secret_string($1, 'AWSPENDING')", &[&name]), "later");
    assert_eq!(
        text(&mut client, "SELECT get_secret_string($1, version_id => $2)", &[&name, &pending]),
        "later"
    );

    let bytes: Vec<u8> = (0..=255).collect();
    client.query_one("SELECT put_secret_binary($1, $2)", &[&name, &bytes]).unwrap();
    let read: Vec<u8> = client.query_one("SELECT get_secret_binary($1)", &[&name]).unwrap().get(0);
    assert_eq!(read, bytes);
    for call in ["put_secret_string($1, '')", "put_secret_binary($1, '')"] {
        let error = db_error(client.query_one(&format!("SELECT {call}"), &[&name]));
        assert_eq!(error.code().code(), "22023", "{call}: {error}");
    }
    let call = format!("SELECT put_secret_string('{name}', repeat('x', 65537))");
    assert_eq!(db_error(client.simple_query(&call)).code().code(), "54000");
}

#[test]
fn an_empty_name_is_an_error_everywhere() {
    let mut client = session();
    for call in [
        "get_secret_value('')",
        "get_secret_value('x', '')",
        "get_secret_string('x', version_id => '')",
        "get_secret_binary('x', '')",
        "describe_secret('')",
        "list_secrets('')",
        "create_secret('', '{}')",
        "create_secret('x', '{}', kms_key_id => '')",
        "put_secret_value('', '{}')",
        "put_secret_value('x', '{}', '{\"\"}')",
        "put_secret_value('x', '{}', '{AWSCURRENT,\"\"}')",
        "put_secret_string('', 'x')",
        "put_secret_binary('', 'x')",
        "refresh_secret('')",
        "forget_secret('')",
        "secretlink_check('')",
        "connect_with_secret('')",
        "connect_with_secret('x', remote_db => '')",
        "connect_with_secret('x', connection_name => '')",
        "sync_role('postgres', '')",
        "create_role_with_secret('x', '')",
        "create_role_with_secret('', 'x')",
        "sync_role('', 'x')",
        "unsync_role('')",
        "check_role_sync('')",
        "get_secret_field('', 'x')",
        "get_secret_field('x', '')",
        "get_secret_field('x', 'y', '')",
        "get_secret_field('x', 'y', version_id => '')",
        "put_secret_field('', 'x', 'y')",
        "put_secret_field('x', '', 'y')",
        "put_secret_string('x', 'x', '{\"\"}')",
        "put_secret_binary('x', 'x', '{}')",
        "connect_with_secret('x', '')",
        "connect_with_secret('x', remote_user => '')",
        "connect_with_iam('h', 'd', 'u', region => '')",
        "connect_with_iam('h', 'd', 'u', connection_name => '')",
        "iam_auth_token('h', 'u', region => '')",
        "rotate_secret('')",
        "rotate_secret('x', '')",
        "rotate_secret('x', master_secret_id => '')",
        "check_rotation('')",
        "check_rotation('x', '')",
        "check_rotation('x', master_secret_id => '')",
        "schedule_rotation('', 'rate(1 day)')",
        "schedule_rotation('x', '')",
        "schedule_rotation('x', 'rate(1 day)', '')",
        "schedule_rotation('x', 'rate(1 day)', strategy => '')",
        "schedule_rotation('x', 'rate(1 day)', master_secret_id => '')",
        "unschedule_rotation('')",
        "next_rotations('')",
        "next_rotations('rate(1 day)', '')",
    ] {
        let error = db_error(client.simple_query(&format!("SELECT {call}")));
        assert_eq!(error.code().code(), "22023", "{call}: {error}");
        let says_so = ["must not be empty", "is empty", "label is needed", "invalid secret"];
        let text = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        assert!(says_so.iter().any(|words| text.contains(words)), "{call}: {error:?}");
    }
    let row = client.query_one("SELECT * FROM try_connect_with_secret('x', '')", &[]).unwrap();
    let (connected, message): (bool, &str) = (row.get(0), row.get(2));
    assert!(!connected && message.contains("must not be empty"), "{message}");
    for options in ["secret_id ''", "region ''", "role_arn ''", "iam_host ''"] {
        let sql = format!("CREATE SERVER empty FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({options})");
        assert_eq!(db_error(client.simple_query(&sql)).code().code(), "22023", "{options}");
    }
}

#[test]
fn one_field_is_read_and_changed() {
    let (mut client, name) = (session(), unique("field"));
    let odd = r#"{ "username": "app", "password": "old", "port": 5432, "ssl": true, "none": null,
                   "deep": {"a" : [1, 2]}, "huge": 1e999, "half": "\ud800" }"#;
    api().create_secret(&name, odd);
    let field = |client: &mut postgres::Client, field: &str| -> Option<String> {
        client.query_one("SELECT get_secret_field($1, $2)", &[&name, &field]).unwrap().get(0)
    };
    for (wanted, value) in [
        ("username", Some("app")),
        ("port", Some("5432")),
        ("ssl", Some("true")),
        ("none", None),
        ("deep", Some(r#"{"a" : [1, 2]}"#)),
        ("huge", Some("1e999")),
    ] {
        assert_eq!(field(&mut client, wanted).as_deref(), value, "{wanted}");
    }
    for (call, sqlstate) in [
        ("get_secret_field($1, 'Username')", "2203A"),
        ("get_secret_field($1, 'half')", "22023"),
        ("get_secret_field($1, '')", "22023"),
        ("get_secret_field($1, NULL)", "22004"),
        ("put_secret_field($1, 'x', NULL)", "22004"),
        ("put_secret_field($1, '', 'x')", "22023"),
    ] {
        let error = db_error(client.query_one(&format!("SELECT {call}"), &[&name]));
        assert_eq!(error.code().code(), sqlstate, "{call}: {error}");
    }
    assert_eq!(api().get_secret_value(&name).unwrap(), odd, "nothing has changed");

    for (wanted, value, json) in [
        ("password", "n\"e\\w é", r#""password":"n\"e\\w é""#),
        ("port", "5433", r#""port":5433"#),
        ("ssl", "false", r#""ssl":false"#),
        ("port", "none", r#""port":"none""#),
        ("added", "7", r#""added":"7""#),
    ] {
        let version = text(&mut client, "SELECT put_secret_field($1, $2, $3)", &[&name, wanted, value]);
        let current = api().call("GetSecretValue", json!({ "SecretId": name })).unwrap();
        assert_eq!(current["VersionId"], version.as_str());
        assert!(current["SecretString"].as_str().unwrap().contains(json), "{json}");
        assert_eq!(field(&mut client, wanted).as_deref(), Some(value), "the cache has forgotten the old one");
    }
    let now = api().get_secret_value(&name).unwrap();
    for kept in [r#""username":"app""#, r#"{"a" : [1, 2]}"#, "1e999", r#""\ud800""#, r#""none":null"#] {
        assert!(now.contains(kept), "{kept}");
    }
    let there = api().call("DescribeSecret", json!({ "SecretId": name })).unwrap();
    let stages = there["VersionIdsToStages"].to_string();
    assert!(!stages.contains("SECRETLINK"), "no label is left: {stages}");

    // Not JSON, and not an object.
    for (value, sqlstate) in [("hunter2", "22032"), ("[1]", "2203C")] {
        api().put_secret_value(&name, value, &["AWSCURRENT"]);
        client.query_one("SELECT forget_secret($1)", &[&name]).unwrap();
        for call in ["get_secret_field($1, 'a')", "put_secret_field($1, 'a', 'b')"] {
            let error = db_error(client.query_one(&format!("SELECT {call}"), &[&name]));
            assert_eq!(error.code().code(), sqlstate, "{call}: {error}");
        }
        assert_eq!(api().get_secret_value(&name).unwrap(), value);
    }
}

#[test]
fn a_change_of_a_field_undoes_no_other_change() {
    let (mut client, name) = (session(), unique("race"));
    api().create_secret(&name, r#"{"password":"old","host":"a"}"#);
    let relay = SecretsRelay::to(&Stage::shared().moto);
    client.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", relay.endpoint())).unwrap();
    // A rotation is done while the field is changed.
    let rotated = r#"{"password":"rotated","host":"a"}"#;
    let secret = name.clone();
    relay.rule(&name, move |request| {
        let secret = secret.clone();
        match request.operation.as_str() {
            "PutSecretValue" => Fault::BeforeAnswer(Box::new(move || {
                api().put_secret_value(&secret, rotated, &["AWSCURRENT"]);
            })),
            _ => Fault::None,
        }
    });
    let call = format!("SELECT put_secret_field('{name}', 'host', 'b')");
    let message = format!("secret \"{name}\" was changed by somebody else at the same time");
    refused(&mut client, &call, "40001", &message, "Try again");
    assert_eq!(api().get_secret_value(&name).unwrap(), rotated);
    relay.pass(&name);
    client.simple_query(&call).unwrap();
    assert_eq!(api().get_secret_value(&name).unwrap(), r#"{"password":"rotated","host":"b"}"#);
}
