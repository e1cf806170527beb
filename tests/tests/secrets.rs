//! Reading and writing secrets through SQL, and what every failure of AWS looks like there.
//!
//! The tests share one stage; each has secrets and roles of its own.

use postgres::{Client, NoTls};
use secretlink_e2e::{
    Cluster, Moto, OsUser, Proxy, ScriptedEndpoint, SecretsApi, Stage, db_error, free_port, random_password,
};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Never dropped: guardians end its servers when the process ends.
fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(Stage::start)
}

fn api() -> SecretsApi {
    stage().moto.secrets()
}

/// A session of the superuser.
fn session() -> Client {
    stage().local.connect("postgres", "postgres")
}

/// A name that no other test uses.
fn unique(name: &str) -> String {
    format!("{name}-{}", random_password().to_lowercase())
}

fn text(client: &mut Client, sql: &str, parameters: &[&str]) -> String {
    let parameters: Vec<_> = parameters.iter().map(|p| p as &(dyn postgres::types::ToSql + Sync)).collect();
    client.query_one(sql, &parameters).unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

/// That `sql` is refused with this SQLSTATE and message, and a hint that contains `hint`.
#[track_caller]
fn refused(client: &mut Client, sql: &str, sqlstate: &str, message: &str, hint: &str) {
    let error = db_error(client.simple_query(sql));
    assert_eq!((error.code().code(), error.message()), (sqlstate, message), "{sql}: {error:?}");
    assert!(error.hint().unwrap_or_default().contains(hint), "{sql}: {error:?}");
}

/// Log in on the remote with a secret, and say who is there.
fn log_in(client: &mut Client, secret: &str) -> String {
    let connected = text(
        client,
        "SELECT connect_with_secret($1, '127.0.0.1', 'testdb', remote_port => $2::text::int)",
        &[secret, &stage().remote.port().to_string()],
    );
    assert_eq!(connected, "Connection established successfully");
    let user = text(client, "SELECT u FROM dblink('remote_conn', 'SELECT current_user') AS t(u text)", &[]);
    text(client, "SELECT dblink_disconnect('remote_conn')", &[]);
    user
}

#[test]
fn a_secret_is_read_by_its_name_its_arn_and_its_partial_arn() {
    let name = unique("prod/orders");
    let arn = api().create_secret(&name, r#"{"password": "p", "n": [1, 2]}"#);
    let (partial, _) = arn.rsplit_once('-').unwrap();
    let mut client = session();
    for id in [name.as_str(), &arn, partial] {
        let value = text(&mut client, "SELECT get_secret_value($1)::text", &[id]);
        assert_eq!(value, r#"{"password": "p", "n": [1, 2]}"#, "{id}: as it is stored, to the space");
        assert_eq!(text(&mut client, "SELECT get_secret_value($1) -> 'n' ->> 1", &[id]), "2");
        assert_eq!(text(&mut client, "SELECT get_secret_string($1)", &[id]), value);
        assert_eq!(text(&mut client, "SELECT name FROM describe_secret($1)", &[id]), name);
    }
}

#[test]
fn a_version_is_chosen_by_stage_and_by_id() {
    let (api, name) = (api(), unique("versions"));
    api.create_secret(&name, "one");
    let two = api.put_secret_value(&name, "two", &["AWSCURRENT"]);
    let three = api.put_secret_value(&name, "three", &["AWSPENDING"]);
    let mut client = session();
    let mut read = |stage: Option<&str>, id: Option<&str>| -> String {
        client.query_one("SELECT get_secret_string($1, $2, $3)", &[&name, &stage, &id]).unwrap().get(0)
    };
    assert_eq!(read(None, None), "two");
    assert_eq!(read(Some("AWSCURRENT"), None), "two");
    assert_eq!(read(Some("AWSPREVIOUS"), None), "one");
    assert_eq!(read(Some("AWSPENDING"), None), "three");
    assert_eq!(read(None, Some(&two)), "two");
    assert_eq!(read(Some("AWSPENDING"), Some(&three)), "three");

    let lacks = |what: &str| format!("secret \"{name}\" has no version with {what}");
    let none = "00000000-0000-0000-0000-000000000000";
    for (arguments, message) in [
        (format!("version_id => '{none}'"), lacks(&format!("id \"{none}\""))),
        (
            format!("version_stage => 'AWSPENDING', version_id => '{two}'"),
            lacks(&format!("id \"{two}\" and stage \"AWSPENDING\"")),
        ),
    ] {
        let sql = format!("SELECT get_secret_string('{name}', {arguments})");
        refused(&mut client, &sql, "42704", &message, "describe_secret");
    }
}

#[test]
fn a_full_arn_is_asked_for_in_its_own_region() {
    let name = unique("regional");
    let irish = api().in_region("eu-west-1").create_login_secret(&name, "app", stage().remote.app_password());
    assert!(irish.contains(":eu-west-1:"), "{irish}");
    let mut client = session();
    client.batch_execute("SET secretlink.region = 'us-east-1'").unwrap();
    assert_eq!(text(&mut client, "SELECT get_secret_value($1) ->> 'username'", &[&irish]), "app");
    assert_eq!(text(&mut client, "SELECT arn FROM describe_secret($1)", &[&irish]), irish);
    assert_eq!(log_in(&mut client, &irish), "app");
    text(&mut client, r#"SELECT put_secret_value($1, '"new"')"#, &[&irish]);
    assert_eq!(api().in_region("eu-west-1").get_secret_value(&name).unwrap(), "\"new\"");

    let sql = format!("SELECT get_secret_value('{name}')");
    let message = format!("secret \"{name}\" not found in region us-east-1");
    refused(&mut client, &sql, "42704", &message, "secretlink.region");
    let gone = irish.replace("eu-west-1", "eu-north-1");
    let message = format!("secret \"{gone}\" not found in region eu-north-1");
    refused(&mut client, &format!("SELECT get_secret_value('{gone}')"), "42704", &message, "");
}

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
        stage().remote.create_login(&role, password, "scram-sha-256");
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
fn a_value_that_is_not_json_is_an_error_that_names_get_secret_string() {
    let mut client = session();
    for value in ["plain text", "{\"a\": }", "", "'", "{} {}", "\u{feff}{}", "{'a': 1}", "nul", "\"a\nb\""] {
        if value.is_empty() {
            continue; // Secrets Manager stores no empty value.
        }
        let name = unique("not-json");
        api().create_secret(&name, value);
        let message = format!("secret \"{name}\" is not valid JSON");
        let sql = format!("SELECT get_secret_value('{name}')");
        refused(&mut client, &sql, "22032", &message, "get_secret_string");
        assert_eq!(text(&mut client, "SELECT get_secret_string($1)", &[&name]), value);
        let sql = format!("SELECT connect_with_secret('{name}', '127.0.0.1')");
        refused(&mut client, &sql, "22032", &message, "");
    }
}

#[test]
fn a_binary_secret_is_read_as_bytes_and_only_so() {
    let name = unique("binary");
    let input = json!({ "Name": name, "SecretBinary": "AAH/IidcJA==" });
    api().call("CreateSecret", input).unwrap();
    let mut client = session();
    let bytes: Vec<u8> = client.query_one("SELECT get_secret_binary($1)", &[&name]).unwrap().get(0);
    assert_eq!(bytes, b"\x00\x01\xff\"'\\$");
    for function in ["get_secret_string", "get_secret_value", "connect_with_secret"] {
        let message = format!("secret \"{name}\" is binary");
        let sql = format!("SELECT {function}('{name}')");
        refused(&mut client, &sql, "42809", &message, "get_secret_binary");
    }
    let name = unique("not-binary");
    api().create_secret(&name, "text");
    let sql = format!("SELECT get_secret_binary('{name}')");
    refused(&mut client, &sql, "42809", &format!("secret \"{name}\" is not binary"), "get_secret_string");
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
fn describe_secret_has_one_row_for_each_version() {
    let (mut client, name) = (session(), unique("described"));
    let input =
        json!({ "Name": name, "SecretString": "1", "Description": "what for", "KmsKeyId": "alias/k" });
    let arn = api().call("CreateSecret", input).unwrap()["ARN"].as_str().unwrap().to_owned();
    let pending = api().put_secret_value(&name, "2", &["AWSPENDING"]);
    let rows = client
        .query(
            "SELECT arn, name, version_id, stages, description, kms_key_id, rotation_enabled,
                    created BETWEEN now() - interval '10 min' AND now() + interval '1 min' AS fresh,
                    owning_service IS NULL AND next_rotation IS NULL AND last_rotated IS NULL
                        AND deleted IS NULL AS nulls
             FROM describe_secret($1) ORDER BY stages",
            &[&name],
        )
        .unwrap();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!((row.get::<_, String>("arn"), row.get::<_, String>("name")), (arn.clone(), name.clone()));
        assert_eq!((row.get("description"), row.get("kms_key_id")), (Some("what for"), Some("alias/k")));
        assert!(!row.get::<_, bool>("rotation_enabled"));
        assert!(row.get::<_, bool>("fresh") && row.get::<_, bool>("nulls"), "{row:?}");
    }
    assert_eq!(rows[0].get::<_, Vec<String>>("stages"), ["AWSCURRENT"]);
    assert_eq!(rows[1].get::<_, Vec<String>>("stages"), ["AWSPENDING"]);
    assert_eq!(rows[1].get::<_, String>("version_id"), pending);

    let columns: Vec<String> = client
        .query_one("SELECT proargnames FROM pg_proc WHERE proname = 'describe_secret'", &[])
        .unwrap()
        .get(0);
    let promised = [
        "arn",
        "name",
        "version_id",
        "stages",
        "created",
        "owning_service",
        "rotation_enabled",
        "next_rotation",
    ];
    assert_eq!(columns[1..9], promised, "the order is a contract");
}

#[test]
fn describe_secret_of_a_managed_and_rotated_secret() {
    let endpoint = ScriptedEndpoint::start();
    // One answer for both calls, DescribeSecret and ListSecretVersionIds: each takes its own fields.
    let answer = json!({
        "ARN": "arn:x", "Name": "rds!db-1", "OwningService": "rds", "RotationEnabled": true,
        "NextRotationDate": 1_800_000_000.5, "LastRotatedDate": 1_700_000_000, "DeletedDate": 1_750_000_000,
        "PrimaryRegion": "us-west-2",
        "Versions": [{ "VersionId": "v1", "VersionStages": ["AWSCURRENT", "MINE"], "CreatedDate": 1_700_000_000.25 }],
    });
    endpoint.answer(200, &answer.to_string());
    let mut client = session();
    client.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", endpoint.url())).unwrap();
    let row =
        client.query_one("SELECT row_to_json(d)::text FROM describe_secret('rds!db-1') d", &[]).unwrap();
    let row: Value = serde_json::from_str(row.get(0)).unwrap();
    assert_eq!(row["owning_service"], "rds");
    assert_eq!(row["rotation_enabled"], true);
    assert_eq!(row["stages"], json!(["AWSCURRENT", "MINE"]));
    assert_eq!(row["primary_region"], "us-west-2");
    for (column, time) in [
        ("created", "2023-11-14T22:13:20.25+00:00"),
        ("last_rotated", "2023-11-14T22:13:20+00:00"),
        ("next_rotation", "2027-01-15T08:00:00.5+00:00"),
        ("deleted", "2025-06-15T15:06:40+00:00"),
    ] {
        assert_eq!(row[column], time, "{column}");
    }
}

#[test]
fn a_deleted_secret_is_marked_for_deletion() {
    let (mut client, name) = (session(), unique("deleted"));
    api().create_login_secret(&name, "app", "p");
    api().delete_secret(&name, false);
    let message = format!("secret \"{name}\" is marked for deletion");
    for call in ["get_secret_value", "get_secret_string", "connect_with_secret"] {
        let sql = format!("SELECT {call}('{name}')");
        refused(&mut client, &sql, "55000", &message, "RestoreSecret");
    }
    let deleted = text(&mut client, "SELECT count(deleted)::text FROM describe_secret($1)", &[&name]);
    assert_eq!(deleted, "1", "describe_secret says when");
}

#[test]
fn every_refusal_of_aws_has_its_own_line() {
    let endpoint = ScriptedEndpoint::start();
    let mut client = session();
    client
        .batch_execute(&format!(
            "SET secretlink.endpoint_url = '{}'; SET secretlink.max_attempts = 1",
            endpoint.url()
        ))
        .unwrap();
    let denied = "User: arn:aws:sts::1:assumed-role/db/i-0 is not authorized to perform: secretsmanager:GetSecretValue";
    for (code, said, sqlstate, message, hint) in [
        (
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret.",
            "42704",
            "secret \"x\" not found in region us-east-1",
            "secretlink.region",
        ),
        (
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT",
            "42704",
            "secret \"x\" has no version with stage \"AWSCURRENT\"",
            "describe_secret",
        ),
        (
            "AccessDeniedException",
            denied,
            "42501",
            "not authorized to perform secretsmanager:GetSecretValue on secret \"x\"",
            "Grant secretsmanager:GetSecretValue",
        ),
        (
            "DecryptionFailure",
            "Secrets Manager can't decrypt the protected secret text using the provided KMS key.",
            "42501",
            "KMS could not decrypt secret \"x\"",
            "kms:Decrypt",
        ),
        (
            "AccessDeniedException",
            "Access to KMS is not allowed",
            "42501",
            "KMS could not decrypt secret \"x\"",
            "kms:Decrypt",
        ),
        (
            "ThrottlingException",
            "Rate exceeded",
            "53400",
            "Secrets Manager throttled the request for secret \"x\"",
            "secretlink.max_attempts",
        ),
        (
            "ExpiredTokenException",
            "The security token included in the request is expired",
            "28000",
            "AWS refused the credentials: ExpiredTokenException",
            "clock",
        ),
        (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            "28000",
            "AWS refused the credentials: UnrecognizedClientException",
            "Check that the credentials exist",
        ),
        (
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
            "55000",
            "secret \"x\" is marked for deletion",
            "RestoreSecret",
        ),
        ("InvalidParameterException", "bad", "22023", "invalid parameter for secret \"x\"", ""),
    ] {
        endpoint.refuse(code, said);
        refused(&mut client, "SELECT get_secret_value('x')", sqlstate, message, hint);
    }
    let error = db_error({
        endpoint.refuse("AccessDeniedException", denied);
        client.simple_query("SELECT connect_with_secret('x', 'h')")
    });
    assert_eq!(error.detail(), Some(denied), "who was refused");
}

#[test]
fn answers_of_a_broken_or_foreign_server_have_their_own_lines() {
    let endpoint = ScriptedEndpoint::start();
    let mut client = session();
    client
        .batch_execute(&format!(
            "SET secretlink.endpoint_url = '{}'; SET secretlink.max_attempts = 2",
            endpoint.url()
        ))
        .unwrap();
    let read = "SELECT get_secret_value('x')";

    endpoint.answer(
        500,
        r#"{"__type":"InternalServiceError","message":"An error occurred on the server side."}"#,
    );
    refused(&mut client, read, "58000", "Secrets Manager failed: InternalServiceError", "");
    assert_eq!(endpoint.requests().len(), 2, "a fault is tried again");
    endpoint.answer(503, "<html>Service Unavailable</html>");
    refused(&mut client, read, "58000", "Secrets Manager failed: HTTP status 503", "");

    let not_understood = "could not understand the answer of Secrets Manager";
    for (status, body) in
        [(200, "<html>Welcome</html>"), (200, ""), (200, "{}"), (200, "[1]"), (403, "no"), (404, "<p>")]
    {
        endpoint.answer(status, body);
        refused(&mut client, read, "58000", not_understood, "secretlink.endpoint_url");
    }
    // Nothing of HTTP.
    endpoint.answer_raw(b"SSH-2.0-OpenSSH_9.2\r\n");
    let message = format!("could not reach Secrets Manager at {}", endpoint.url());
    refused(&mut client, read, "08001", &message, "secretlink.endpoint_url");
}

#[test]
fn an_endpoint_where_nobody_listens_is_named() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut client = session();
    client
        .batch_execute(&format!("SET secretlink.endpoint_url = '{url}'; SET secretlink.max_attempts = 1"))
        .unwrap();
    let message = format!("could not reach Secrets Manager at {url}");
    refused(&mut client, "SELECT get_secret_value('x')", "08001", &message, "secretlink.endpoint_url");
}

#[test]
fn request_timeout_bounds_the_whole_call() {
    let hole = Proxy::black_hole();
    let mut client = session();
    client
        .batch_execute(&format!(
            "SET secretlink.endpoint_url = '{}'; SET secretlink.request_timeout = 500",
            hole.endpoint()
        ))
        .unwrap();
    let began = Instant::now();
    let error = db_error(client.simple_query("SELECT get_secret_value('x')"));
    let took = began.elapsed();
    assert_eq!(error.code().code(), "58000", "{error:?}");
    assert!(error.message().starts_with("request to Secrets Manager timed out after 5"), "{error:?}");
    assert_eq!(error.detail(), Some(format!("{} was asked.", hole.endpoint()).as_str()));
    assert!(error.hint().unwrap().contains("secretlink.request_timeout"), "{error:?}");
    assert!((Duration::from_millis(490)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

#[test]
fn without_credentials_the_error_says_where_they_are_looked_for() {
    let local = Cluster::local(&stage().moto)
        .without_env("AWS_ACCESS_KEY_ID")
        .without_env("AWS_SECRET_ACCESS_KEY")
        .start();
    let mut client = local.connect("postgres", "postgres");
    refused(
        &mut client,
        "SELECT get_secret_value('x')",
        "28000",
        "no AWS credentials found",
        "AWS_ACCESS_KEY_ID",
    );
}

#[test]
fn without_a_region_the_error_names_the_setting() {
    let name = unique("no-region");
    let arn = api().create_secret(&name, "1");
    let mut client = session();
    client.batch_execute("SET secretlink.region = ''").unwrap();
    let sql = format!("SELECT get_secret_value('{name}')");
    refused(&mut client, &sql, "55000", "no AWS region is set", "secretlink.region");
    assert_eq!(text(&mut client, "SELECT get_secret_string($1)", &[&arn]), "1", "an ARN names a region");
}

/// A server whose only credentials are in profile files.
fn with_profiles(endpoint: &ScriptedEndpoint) -> Cluster {
    let local = Cluster::local_with_endpoint(&endpoint.url())
        .without_env("AWS_ACCESS_KEY_ID")
        .without_env("AWS_SECRET_ACCESS_KEY")
        .start();
    let home = local.socket_dir().with_file_name("home");
    let aws = home.join(".aws");
    fs::create_dir(&aws).unwrap();
    let process = home.join("give-credentials");
    let answer =
        r#"{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "s", "SessionToken": "t"}"#;
    fs::write(&process, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    fs::set_permissions(&process, fs::Permissions::from_mode(0o755)).unwrap();
    let credentials = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n\
                       [other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = s\n";
    fs::write(aws.join("credentials"), credentials).unwrap();
    let config = format!(
        "[profile other]\nregion = eu-west-3\n[profile process]\ncredential_process = {}\n",
        process.display()
    );
    fs::write(aws.join("config"), config).unwrap();
    for path in [&aws, &aws.join("credentials"), &aws.join("config"), &process] {
        OsUser::for_servers().own(path);
    }
    local
}

#[test]
fn credentials_come_from_a_profile_file_and_from_credential_process() {
    let endpoint = ScriptedEndpoint::start();
    let answer = json!({ "ARN": "arn:x", "Name": "x", "VersionId": "v", "SecretString": "1" });
    endpoint.answer(200, &answer.to_string());
    let local = with_profiles(&endpoint);
    let mut client = local.connect("postgres", "postgres");
    for (profile, region, scope) in [
        ("", "us-east-1", "Credential=AKIADEFAULT/"),
        ("other", "us-east-1", "Credential=AKIAOTHER/"),
        ("process", "us-east-1", "Credential=AKIAPROCESS/"),
        // The profile's own region counts when the setting is empty.
        ("other", "", "/eu-west-3/secretsmanager/aws4_request"),
    ] {
        client
            .batch_execute(&format!(
                "SET secretlink.profile = '{profile}'; SET secretlink.region = '{region}'"
            ))
            .unwrap();
        assert_eq!(text(&mut client, "SELECT get_secret_string('x')", &[]), "1");
        let request = endpoint.requests().pop().unwrap();
        assert!(request.contains(scope), "profile {profile:?}: {request}");
    }
    client.batch_execute("SET secretlink.profile = 'no-such'; SET secretlink.region = 'us-east-1'").unwrap();
    let error = db_error(client.simple_query("SELECT get_secret_string('x')"));
    assert_eq!(error.code().code(), "28000", "{error:?}");
    assert!(format!("{error:?}").contains("no-such"), "{error:?}");
}

/// A role without any right but to log in.
fn plain_role() -> String {
    let role = unique("plain").replace('-', "_");
    session().batch_execute(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    role
}

#[test]
fn who_may_decide_where_requests_go_is_a_superuser() {
    let mut client = stage().local.connect(&plain_role(), "postgres");
    client.batch_execute("LOAD 'secretlink'").unwrap_err(); // Not theirs to load,
    let _ = client.simple_query("SELECT dblink_get_connections()").unwrap(); // but loaded at first use.
    for setting in ["region", "endpoint_url", "profile"] {
        let message = format!("permission denied to set parameter \"secretlink.{setting}\"");
        refused(&mut client, &format!("SET secretlink.{setting} = 'x'"), "42501", &message, "");
        refused(
            &mut client,
            &format!("SELECT set_config('secretlink.{setting}', 'x', false)"),
            "42501",
            &message,
            "",
        );
    }
    for (setting, too_low, too_high) in
        [("request_timeout", "0", "2h"), ("connect_timeout", "0", "2h"), ("max_attempts", "0", "11")]
    {
        client.batch_execute(&format!("SET secretlink.{setting} = 2")).unwrap();
        for value in [too_low, too_high] {
            let error = db_error(client.simple_query(&format!("SET secretlink.{setting} = '{value}'")));
            assert_eq!(error.code().code(), "22023", "{setting} = {value}: {error:?}");
        }
    }
}

#[test]
fn a_setting_made_before_the_library_is_loaded_is_nobodys_way_around() {
    let role = plain_role();
    let name = unique("around");
    api().create_secret(&name, "1");
    session().batch_execute(&format!("GRANT EXECUTE ON FUNCTION get_secret_string TO {role}")).unwrap();
    let evil = ScriptedEndpoint::start();
    let answer = json!({ "ARN": "arn:x", "Name": name, "VersionId": "v", "SecretString": "false" });
    evil.answer(200, &answer.to_string());

    let mut client = stage().local.connect(&role, "postgres");
    client.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", evil.url())).unwrap();
    assert_eq!(
        text(&mut client, "SELECT get_secret_string($1)", &[&name]),
        "1",
        "the server's value is back"
    );

    // Given at the start of the session, it takes the place of the server's value for good: asking
    // the public endpoint, or as another identity, is not what the server's owner has said.
    for (setting, value) in
        [("endpoint_url", evil.url()), ("region", "eu-west-1".into()), ("endpoint_url", "".into())]
    {
        let conninfo = stage().local.conninfo(&role, "postgres");
        let conninfo = format!("{conninfo} options='-c secretlink.{setting}={value}'");
        let mut client = conninfo.parse::<postgres::Config>().unwrap().connect(NoTls).unwrap();
        let message = format!("permission denied to set parameter \"secretlink.{setting}\"");
        let sql = format!("SELECT get_secret_string('{name}')");
        refused(&mut client, &sql, "42501", &message, "Start a session");
    }
    assert!(evil.requests().is_empty());

    // A superuser may.
    let mut client = session();
    client.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", evil.url())).unwrap();
    assert_eq!(text(&mut client, "SELECT get_secret_string($1)", &[&name]), "false");
}

#[test]
fn with_the_library_preloaded_such_a_session_does_not_even_start() {
    let local = Cluster::local(&stage().moto).preload(true).start();
    local.connect("postgres", "postgres").batch_execute("CREATE ROLE plain LOGIN").unwrap();
    let mut client = local.connect("plain", "postgres");
    let message = "permission denied to set parameter \"secretlink.region\"";
    refused(&mut client, "SET secretlink.region = 'x'", "42501", message, "");
    let conninfo = format!("{} options='-c secretlink.region=x'", local.conninfo("plain", "postgres"));
    let error = db_error(conninfo.parse::<postgres::Config>().unwrap().connect(NoTls).map(|_| ()));
    assert_eq!((error.code().code(), error.message()), ("42501", message), "{error:?}");
}

#[test]
fn an_unknown_setting_is_rejected() {
    let mut client = session();
    client.simple_query("SELECT dblink_get_connections()").unwrap();
    let outcome = client.simple_query("SET secretlink.no_such = 1");
    if secretlink_e2e::PostgresBin::get().major() >= 15 {
        let error = db_error(outcome);
        assert_eq!(error.code().code(), "42602", "{error:?}");
        assert!(error.message().contains("secretlink.no_such"), "{error:?}");
    } else {
        outcome.unwrap();
    }
}

#[test]
fn a_changed_setting_counts_in_the_same_session() {
    let name = unique("changed");
    api().create_secret(&name, "american");
    api().in_region("eu-west-1").create_secret(&name, "irish");
    let other = Moto::start();
    other.secrets().create_secret(&name, "of the other endpoint");
    let mut client = session();
    let mut read = |set: &str| {
        client.batch_execute(set).unwrap();
        text(&mut client, "SELECT get_secret_string($1)", &[&name])
    };
    assert_eq!(read(""), "american");
    assert_eq!(read("SET secretlink.region = 'eu-west-1'"), "irish");
    assert_eq!(read("RESET secretlink.region"), "american");
    let set = format!("BEGIN; SET LOCAL secretlink.endpoint_url = '{}'", other.endpoint());
    assert_eq!(read(&set), "of the other endpoint");
    assert_eq!(read("ROLLBACK"), "american");
}

#[test]
fn a_setting_that_makes_no_sense_is_named() {
    let mut client = session();
    for (setting, value) in [
        ("region", "us east 1"),
        ("region", "x.evil.example/#"),
        ("endpoint_url", "localhost:5000"),
        ("endpoint_url", "ftp://x"),
    ] {
        client.batch_execute(&format!("SET secretlink.{setting} = '{value}'")).unwrap();
        let message = format!("invalid value for setting \"secretlink.{setting}\"");
        refused(&mut client, "SELECT get_secret_value('x')", "22023", &message, "");
        client.batch_execute(&format!("RESET secretlink.{setting}")).unwrap();
    }
}

#[test]
fn in_a_latin1_database_secrets_come_out_right_or_with_a_clear_error() {
    let local = &stage().local;
    let database = unique("latin").replace('-', "_");
    session()
        .batch_execute(&format!(
            "CREATE DATABASE {database} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ))
        .unwrap();
    let mut client = local.connect("postgres", &database);
    client.batch_execute("CREATE EXTENSION secretlink").unwrap();

    let (remote, role) = (&stage().remote, "latin_accent");
    remote.create_login(role, "clé-ü", "scram-sha-256");
    let name = unique("latin1");
    let value = json!({ "username": role, "password": "clé-ü" }).to_string();
    text(&mut client, "SELECT create_secret($1, $2::text::json)", &[&name, &value]);
    assert_eq!(api().get_secret_value(&name).unwrap(), value, "AWS gets UTF-8");
    let password = "get_secret_value($1) ->> 'password'";
    assert_eq!(text(&mut client, &format!("SELECT {password}"), &[&name]), "clé-ü");
    assert_eq!(text(&mut client, &format!("SELECT octet_length({password})::text"), &[&name]), "5");
    assert_eq!(text(&mut client, "SELECT get_secret_string($1)", &[&name]), value);
    assert_eq!(log_in(&mut client, &name), role);

    // The euro sign came with LATIN9.
    let name = unique("euro");
    remote.create_login("latin_euro", "10 €", "scram-sha-256");
    api().create_login_secret(&name, "latin_euro", "10 €");
    for function in ["get_secret_value", "get_secret_string"] {
        let error = db_error(client.simple_query(&format!("SELECT {function}('{name}')")));
        assert_eq!(error.code().code(), "22P05", "{error:?}");
        assert!(error.message().contains("has no equivalent in encoding \"LATIN1\""), "{error:?}");
    }
    assert_eq!(log_in(&mut client, &name), "latin_euro", "a password on its way is never converted");

    // Errors carry names: these are fine in any encoding.
    let error = db_error(client.simple_query("SELECT get_secret_value('clé')"));
    assert_eq!(error.code().code(), "42704", "{error:?}");
}

#[test]
fn secrets_are_for_those_to_whom_they_are_given() {
    let name = unique("given");
    let remote = &stage().remote;
    api().create_login_secret(&name, "app", remote.app_password());
    let role = plain_role();
    let mut client = stage().local.connect(&role, "postgres");
    let calls = [
        ("get_secret_value", format!("get_secret_value('{name}')")),
        ("get_secret_string", format!("get_secret_string('{name}')")),
        ("get_secret_binary", format!("get_secret_binary('{name}')")),
        ("describe_secret", format!("describe_secret('{name}')")),
        ("create_secret", format!("create_secret('{name}-2', '{{}}')")),
        ("put_secret_value", format!("put_secret_value('{name}-2', '{{}}')")),
        (
            "connect_with_secret",
            format!("connect_with_secret('{name}', '127.0.0.1', 'testdb', 'app', {})", remote.port()),
        ),
    ];
    for (function, call) in &calls {
        let message = format!("permission denied for function {function}");
        refused(&mut client, &format!("SELECT {call}"), "42501", &message, "");
    }
    for (function, call) in &calls {
        session().batch_execute(&format!("GRANT EXECUTE ON FUNCTION {function} TO {role}")).unwrap();
        let outcome = client.simple_query(&format!("SELECT {call}"));
        if *function == "get_secret_binary" {
            assert_eq!(db_error(outcome).code().code(), "42809", "it gets as far as the secret");
        } else {
            outcome.unwrap_or_else(|e| panic!("{call}: {e:?}"));
        }
    }
    let user =
        text(&mut client, "SELECT u FROM dblink('remote_conn', 'SELECT current_user') AS t(u text)", &[]);
    assert_eq!(user, "app");
}

#[test]
fn every_function_says_what_it_is_for() {
    let silent: Vec<String> = session()
        .query(
            "SELECT p.oid::regprocedure::text FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
             WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
               AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')
               AND obj_description(p.oid, 'pg_proc') IS NULL",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn what_talks_to_the_world_is_volatile_and_not_parallel_safe() {
    let rows = session()
        .query(
            "SELECT p.oid::regprocedure::text, p.provolatile = 'v' AND p.proparallel <> 's' AND NOT p.prosecdef
             FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
             WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
               AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')",
            &[],
        )
        .unwrap();
    assert!(rows.len() >= 20, "{}", rows.len());
    for row in rows {
        assert!(row.get::<_, bool>(1), "{}", row.get::<_, String>(0));
    }
}

#[test]
fn dblink_functions_are_declared_as_in_contrib() {
    let database = unique("both").replace('-', "_");
    session().batch_execute(&format!("CREATE DATABASE {database}")).unwrap();
    let mut client = stage().local.connect("postgres", &database);
    client
        .batch_execute(
            "CREATE SCHEMA contrib; CREATE EXTENSION dblink SCHEMA contrib;
             CREATE SCHEMA ours; CREATE EXTENSION secretlink SCHEMA ours",
        )
        .unwrap();
    let mut declared = |schema: &str| -> Vec<String> {
        client
            .query(
                "SELECT format('%s(%s) returns %s%s strict=%s volatile=%s parallel=%s acl=%s',
                               proname, oidvectortypes(proargtypes), CASE WHEN proretset THEN 'setof ' END,
                               prorettype::regtype, proisstrict AND pronargs > 0, provolatile, proparallel, proacl)
                 FROM pg_proc WHERE pronamespace = $1::text::regnamespace AND proname LIKE 'dblink%' ORDER BY 1",
                &[&schema],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    let (contrib, ours) = (declared("contrib"), declared("ours"));
    for function in &ours {
        assert!(contrib.contains(function), "{function} is not in {contrib:#?}");
    }
    let mut promised = contrib.clone();
    promised.retain(|f| {
        ["dblink(", "dblink_connect(", "dblink_exec(", "dblink_disconnect(", "dblink_get_connections("]
            .iter()
            .any(|name| f.starts_with(name))
    });
    for function in &promised {
        assert!(ours.contains(function), "{function} is missing");
    }
    assert_eq!(promised.len(), 13);
}
