//! Input that makes no sense: each a clear error, and afterwards nothing is missing and nothing is left.
//!
//! The tests share one stage; each has secrets and a remote role of its own.

use postgres::Client;
use postgres::types::ToSql;
use secretlink_e2e::{Process, SecretsApi, Stage, backend_pid, db_error, eventually, random_password};
use serde_json::json;
use std::time::Duration;

/// A session under test, and what proves afterwards that nothing broke and nothing leaked.
struct Trial {
    client: Client,
    backend: Process,
    /// When the server was started: another time means that it crashed.
    started: String,
    /// A role of the remote that only this trial uses.
    role: String,
    /// A good secret, for that role.
    secret: String,
    api: SecretsApi,
}

impl Trial {
    fn new() -> Self {
        let name = random_password().to_lowercase();
        let (role, secret) = (format!("r{name}"), format!("good-{name}"));
        let password = random_password();
        Stage::shared().remote.create_login(&role, &password, "scram-sha-256");
        let api = Stage::shared().moto.secrets();
        api.create_login_secret(&secret, &role, &password);
        let mut client = Stage::shared().local.connect("postgres", "postgres");
        let backend = backend_pid(&mut client);
        Self { started: started(), client, backend, role, secret, api }
    }

    /// A secret with this value.
    fn secret(&self, value: &str) -> String {
        let name = format!("bad-{}", random_password());
        self.api.create_secret(&name, value);
        name
    }

    /// The conninfo of the good role, with its password.
    fn conninfo(&self) -> String {
        let value = self.api.get_secret_value(&self.secret).unwrap();
        let value: serde_json::Value = serde_json::from_str(&value).unwrap();
        format!(
            "host=127.0.0.1 port={} dbname=testdb user={} password={} sslmode=require",
            Stage::shared().remote.port(),
            self.role,
            value["password"].as_str().unwrap()
        )
    }

    /// Open the connection `name` with the good secret.
    fn connect(&mut self, name: &str) {
        let port = i32::from(Stage::shared().remote.port());
        let sql =
            "SELECT connect_with_secret($1, '127.0.0.1', 'testdb', remote_port => $2, connection_name => $3)";
        self.client.query_one(sql, &[&self.secret, &port, &name]).unwrap();
    }

    /// That a statement is refused with this SQLSTATE, and that message and detail together, with a
    /// space between them, are `what`.
    #[track_caller]
    fn refused(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)], sqlstate: &str, what: &str) {
        let error = db_error(self.client.query(sql, parameters));
        let said =
            [Some(error.message()), error.detail()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        assert_eq!((error.code().code(), said.as_str()), (sqlstate, what), "{:.200}: {error:?}", sql);
    }

    /// That the session still works, the server never restarted, and no remote session is left but
    /// those that the session still has open.
    #[track_caller]
    fn nothing_broke(&mut self) {
        self.connect("at the end");
        let sql = "SELECT one FROM dblink('at the end', 'SELECT 1') AS t(one int)";
        assert_eq!(self.client.query_one(sql, &[]).unwrap().get::<_, i32>(0), 1);
        let sql = "SELECT count(dblink_disconnect(c)) FROM unnest(dblink_get_connections()) c";
        self.client.query_one(sql, &[]).unwrap();
        assert_eq!(started(), self.started, "the server was restarted");
        assert_eq!(backend_pid(&mut self.client), self.backend);
        self.no_remote_session();
    }

    #[track_caller]
    fn no_remote_session(&self) {
        let mut remote = Stage::shared().remote.connect("postgres", "postgres");
        let sql = "SELECT pid, state, query FROM pg_stat_activity WHERE usename = $1";
        eventually("no remote session is left", Duration::from_secs(5), || {
            let left = remote.query(sql, &[&self.role]).unwrap();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
}

fn started() -> String {
    let mut witness = Stage::shared().local.connect("postgres", "postgres");
    witness.query_one("SELECT pg_postmaster_start_time()::text", &[]).unwrap().get(0)
}

#[test]
fn null_where_a_value_is_needed_names_the_argument() {
    let mut trial = Trial::new();
    for (call, argument) in [
        ("get_secret_value(NULL)", "secret_id"),
        ("get_secret_string(NULL, 'AWSCURRENT', 'x')", "secret_id"),
        ("get_secret_binary(NULL)", "secret_id"),
        ("describe_secret(NULL)", "secret_id"),
        ("create_secret(NULL, '{}')", "name"),
        ("create_secret('x', NULL)", "secret"),
        ("put_secret_value(NULL, '{}')", "secret_id"),
        ("put_secret_value('x', NULL)", "secret"),
        ("put_secret_value('x', '{}', NULL)", "version_stages"),
        ("put_secret_value('x', '{}', '{A,NULL}')", "version_stages"),
        ("connect_with_secret(NULL)", "secret_name"),
        ("connect_with_secret(NULL, 'h', 'd', 'u', 1, 'c', 'sslmode=require', true)", "secret_name"),
        ("connect_with_secret('x', connection_name => NULL)", "connection_name"),
    ] {
        let message = format!("argument \"{argument}\" must not be null");
        trial.refused(&format!("SELECT {call}"), &[], "22004", &message);
    }
    trial.nothing_broke();
}

#[test]
fn null_where_a_default_exists_is_the_default() {
    let mut trial = Trial::new();
    let remote = &Stage::shared().remote;
    let value: serde_json::Value =
        serde_json::from_str(&trial.api.get_secret_value(&trial.secret).unwrap()).unwrap();
    let full = trial.secret(
        &json!({ "username": trial.role, "password": value["password"], "host": "127.0.0.1",
                 "port": remote.port().to_string(), "dbname": "testdb", "engine": null, "more": [1] })
        .to_string(),
    );
    let sql = "SELECT connect_with_secret($1, NULL, NULL, NULL, NULL, 'c', NULL, NULL)";
    let answer: String = trial.client.query_one(sql, &[&full]).unwrap().get(0);
    assert_eq!(answer, "Connection established successfully");
    let sql = "SELECT d FROM dblink('c', 'SELECT current_database()') AS t(d text)";
    assert_eq!(trial.client.query_one(sql, &[]).unwrap().get::<_, String>(0), "testdb");
    // fail => NULL is not fail => false.
    let sql = "SELECT connect_with_secret('no-such', fail => NULL)";
    trial.refused(sql, &[], "42704", "secret \"no-such\" not found in region us-east-1");
    trial.nothing_broke();
}

#[test]
fn null_gives_null_in_the_dblink_family() {
    let mut trial = Trial::new();
    trial.connect("c");
    for call in [
        "dblink_connect(NULL)",
        "dblink_connect(NULL, 'host=x')",
        "dblink_connect('c', NULL)",
        "dblink_disconnect(NULL)",
        "dblink_exec(NULL)",
        "dblink_exec(NULL, 'SELECT')",
        "dblink_exec('c', NULL)",
        "dblink_exec('c', 'SELECT', NULL)",
        "dblink_exec('SELECT', NULL::boolean)",
    ] {
        let row = trial
            .client
            .query_one(&format!("SELECT {call}"), &[])
            .unwrap_or_else(|e| panic!("{call}: {e:?}"));
        assert_eq!(row.get::<_, Option<String>>(0), None, "{call}");
    }
    for call in [
        "dblink(NULL)",
        "dblink(NULL, 'SELECT 1')",
        "dblink('c', NULL::text)",
        "dblink('c', 'SELECT 1', NULL)",
    ] {
        let rows = trial.client.query(&format!("SELECT * FROM {call} AS t(a int)"), &[]).unwrap();
        assert!(rows.is_empty(), "{call}");
    }
    trial.nothing_broke();
}

#[test]
fn an_empty_name_is_an_error() {
    let mut trial = Trial::new();
    let secret = trial.secret.clone();
    for (call, argument) in [
        ("get_secret_value('')".to_owned(), "secret_id"),
        ("get_secret_string('')".to_owned(), "secret_id"),
        ("get_secret_binary('')".to_owned(), "secret_id"),
        ("describe_secret('')".to_owned(), "secret_id"),
        ("create_secret('', '{}')".to_owned(), "name"),
        ("put_secret_value('', '{}')".to_owned(), "secret_id"),
        ("connect_with_secret('')".to_owned(), "secret_name"),
        (format!("connect_with_secret('{secret}', '127.0.0.1', connection_name => '')"), "connection_name"),
        // libpq would take these for a local socket, and for the operating system's user.
        (format!("connect_with_secret('{secret}', '')"), "remote_host"),
        (format!("connect_with_secret('{secret}', 'h', '')"), "remote_db"),
        (format!("connect_with_secret('{secret}', 'h', 'd', '')"), "remote_user"),
    ] {
        let message = format!("argument \"{argument}\" must not be empty");
        trial.refused(&format!("SELECT {call}"), &[], "22023", &message);
    }
    let sql = format!("SELECT connect_with_secret('{secret}', options => 'host='''' hostaddr=''''')");
    trial.refused(&sql, &[], "22023", &format!("secret \"{secret}\" has no host field"));
    let sql = format!("SELECT put_secret_value('{secret}', '{{}}', '{{}}')");
    let message = format!("invalid parameter for secret \"{secret}\" At least one staging label is needed.");
    trial.refused(&sql, &[], "22023", &message);
    trial.nothing_broke();
}

#[test]
fn names_of_ten_thousand_characters_are_refused_or_cut_as_in_contrib() {
    let mut trial = Trial::new();
    let long = "x".repeat(10_000);
    for call in [
        "get_secret_value($1)",
        "get_secret_string($1)",
        "get_secret_binary($1)",
        "describe_secret($1)",
        "put_secret_value($1, '{}')",
        "connect_with_secret($1, 'h')",
    ] {
        let message = "invalid secret id It is longer than 2048 bytes.";
        trial.refused(&format!("SELECT {call}"), &[&long], "22023", message);
    }
    let message = "invalid secret name It is longer than 512 characters.";
    trial.refused("SELECT create_secret($1, '{}')", &[&long], "22023", message);
    let secret = trial.secret.clone();
    let sql = "SELECT get_secret_value($1, $2)";
    let error = db_error(trial.client.query(sql, &[&secret, &long]));
    assert_eq!(error.code().code(), "42704", "a stage that no version has: {:.200}", format!("{error:?}"));

    let message = "connection name is too long A connection name has at most 63 bytes.";
    for name in [&long[..], &long[..64], &"é".repeat(32)] {
        let sql = "SELECT connect_with_secret($1, 'h', connection_name => $2)";
        trial.refused(sql, &[&secret, &name], "42622", message);
    }
    let longest = &long[..63];
    trial.connect(longest);
    // contrib cuts what it is given; and so a longer name is the same connection.
    let sql = "SELECT a FROM dblink($1, 'SELECT 1') AS t(a int)";
    trial.client.query_one(sql, &[&long]).unwrap();
    let conninfo = trial.conninfo();
    trial.refused("SELECT dblink_connect($1, $2)", &[&long, &conninfo], "42710", "duplicate connection name");
    trial.client.query_one("SELECT dblink_disconnect($1)", &[&long]).unwrap();

    let message = format!("connection \"{longest}\" not available");
    trial.refused("SELECT dblink_disconnect($1)", &[&long], "08003", &message);
    // Neither a connection nor a connection string.
    let message = "there is no connection and no foreign server of that name";
    trial.refused(sql, &[&long], "08003", message);
    let host = "could not establish connection host name number 1 is too long (maximum 255 bytes)";
    trial.refused("SELECT dblink_connect($1)", &[&format!("host={long}")], "08001", host);
    trial.nothing_broke();
}

#[test]
fn secrets_without_what_a_connection_needs_are_named() {
    let mut trial = Trial::new();
    let connect = "SELECT connect_with_secret($1, '127.0.0.1', 'testdb', 'u', $2)";
    let port = i32::from(Stage::shared().remote.port());
    let no_password = |s: &str| format!("secret \"{s}\" has no password field");
    let no_object = |s: &str| format!("secret \"{s}\" is not a JSON object");
    for (value, sqlstate, message) in [
        (r#"{}"#, "2203A", &no_password as &dyn Fn(&str) -> String),
        (r#"{"username": "u"}"#, "2203A", &no_password),
        (r#"{"password": ""}"#, "2203A", &no_password),
        (r#"{"password": null}"#, "2203A", &no_password),
        (r#"{"PASSWORD": "p"}"#, "2203A", &no_password),
        (r#"["password", "p"]"#, "2203C", &no_object),
        (r#""password""#, "2203C", &no_object),
        ("null", "2203C", &no_object),
        ("42", "2203C", &no_object),
    ] {
        let secret = trial.secret(value);
        trial.refused(connect, &[&secret, &port], sqlstate, &message(&secret));
    }
    for (value, place) in [
        ("{", "Line 1, column 1."),
        (r#"{"password": "p""#, "Line 1, column 16."),
        ("{\"password\":\n  p}", "Line 2, column 3."),
        ("not JSON", "Line 1, column 2."),
    ] {
        let secret = trial.secret(value);
        let message = format!("secret \"{secret}\" is not valid JSON {place}");
        trial.refused(connect, &[&secret, &port], "22032", &message);
        trial.refused("SELECT get_secret_value($1)", &[&secret], "22032", &message);
    }
    trial.nothing_broke();
}

#[test]
fn a_host_and_a_user_come_from_the_secret_or_from_arguments_and_from_nowhere_else() {
    let mut trial = Trial::new();
    let good: serde_json::Value =
        serde_json::from_str(&trial.api.get_secret_value(&trial.secret).unwrap()).unwrap();
    let (password, port) = (&good["password"], i32::from(Stage::shared().remote.port()));

    let no_host = trial.secret(&json!({ "username": trial.role, "password": password }).to_string());
    let error = db_error(trial.client.query("SELECT connect_with_secret($1)", &[&no_host]));
    assert_eq!(error.code().code(), "22023");
    assert_eq!(error.message(), format!("secret \"{no_host}\" has no host field"));
    assert_eq!(error.hint(), Some("Add \"host\" to the secret, or pass remote_host."));
    let sql = "SELECT connect_with_secret($1, '127.0.0.1', 'testdb', remote_port => $2)";
    trial.client.query_one(sql, &[&no_host, &port]).unwrap();

    let no_user = trial.secret(&json!({ "host": "127.0.0.1", "password": password }).to_string());
    let error = db_error(trial.client.query("SELECT connect_with_secret($1)", &[&no_user]));
    assert_eq!(error.code().code(), "22023");
    assert_eq!(error.message(), format!("secret \"{no_user}\" has no username field"));
    assert_eq!(error.hint(), Some("Add \"username\" to the secret, or pass remote_user."));
    let sql = "SELECT connect_with_secret($1, NULL, 'testdb', $2, $3)";
    trial.client.query_one(sql, &[&no_user, &trial.role, &port]).unwrap();

    let no_password = trial.secret(&json!({ "username": trial.role, "host": "127.0.0.1" }).to_string());
    let message = format!("secret \"{no_password}\" has no password field");
    trial.refused("SELECT connect_with_secret($1)", &[&no_password], "2203A", &message);
    let sql = "SELECT connect_with_secret($1, options => 'password=x')";
    let message = "option \"password\" is not allowed here A password has no place here: it comes from the secret, or is an IAM token.";
    trial.refused(sql, &[&no_password], "22023", message);
    trial.nothing_broke();
}

#[test]
fn ports_that_cannot_be_are_refused_wherever_they_come_from() {
    let mut trial = Trial::new();
    let secret = trial.secret.clone();
    for port in [70_000, 65_536, 0, -1, i32::MAX, i32::MIN] {
        let sql = "SELECT connect_with_secret($1, '127.0.0.1', remote_port => $2)";
        let message = format!("port {port} is out of range A port is a number from 1 to 65535.");
        trial.refused(sql, &[&secret, &port], "22023", &message);

        let message = format!("invalid port number: \"{port}\"");
        let sql = "SELECT connect_with_secret($1, '127.0.0.1', options => $2)";
        trial.refused(sql, &[&secret, &format!("port={port}")], "22023", &message);
        let message = format!("could not establish connection {message}");
        trial.refused("SELECT dblink_connect($1)", &[&format!("host=h port={port}")], "08001", &message);
    }
    for port in [
        "70000",
        "0",
        "-1",
        "5432.5",
        "1e3",
        "true",
        "[5432]",
        "\"x\"",
        "\" 5432\"",
        "\"+5432\"",
        "\"70000\"",
    ] {
        let bad = trial
            .secret(&format!(r#"{{"username": "u", "password": "p", "host": "127.0.0.1", "port": {port}}}"#));
        let message =
            format!("field \"port\" of secret \"{bad}\" is not valid It must be a number from 1 to 65535.");
        trial.refused("SELECT connect_with_secret($1)", &[&bad], "22023", &message);
    }
    // A URI may have a password where the port should be: its text is never shown.
    for port in ["70000", "0", "-1", "x"] {
        let message = "could not establish connection invalid port number in URI, at byte 16";
        trial.refused("SELECT dblink_connect($1)", &[&format!("postgresql://h:{port}/d")], "08001", message);
    }
    trial.nothing_broke();
}

#[test]
fn fields_of_a_secret_that_cannot_be_are_named() {
    let mut trial = Trial::new();
    for (field, value, problem) in [
        ("password", r#"["p"]"#, "It must be a string."),
        ("password", "12345", "It must be a string."),
        ("password", r#"{"p": 1}"#, "It must be a string."),
        ("password", r#""a\u0000b""#, "It contains a NUL character."),
        ("username", "1", "It must be a string."),
        ("username", r#""a\u0000b""#, "It contains a NUL character."),
        ("host", r#"["h"]"#, "It must be a string."),
        ("host", r#""h\u0000""#, "It contains a NUL character."),
        ("dbname", r#""\u0000""#, "It contains a NUL character."),
        ("dbname", "true", "It must be a string."),
    ] {
        let mut fields = json!({ "username": "u", "password": "p", "host": "127.0.0.1" });
        fields[field] = serde_json::from_str(value).unwrap();
        let bad = trial.secret(&fields.to_string());
        let message = format!("field \"{field}\" of secret \"{bad}\" is not valid {problem}");
        trial.refused("SELECT connect_with_secret($1)", &[&bad], "22023", &message);
    }
    trial.nothing_broke();
}

#[test]
fn a_zero_byte_in_a_secret_is_postgres_own_error() {
    let mut trial = Trial::new();
    // Escaped, it is JSON that Postgres can store but not take apart.
    let escaped = trial.secret(r#"{"password": "a\u0000b"}"#);
    let read: String = trial.client.query_one("SELECT get_secret_string($1)", &[&escaped]).unwrap().get(0);
    assert_eq!(read, r#"{"password": "a\u0000b"}"#);
    let error = db_error(trial.client.query("SELECT get_secret_value($1) ->> 'password'", &[&escaped]));
    assert_eq!(error.code().code(), "22P05", "{error:?}");

    let raw = trial.secret("a\0b");
    let error = db_error(trial.client.query("SELECT get_secret_string($1)", &[&raw]));
    assert_eq!(error.code().code(), "22021", "{error:?}");
    assert!(error.message().contains("0x00"), "{error:?}");
    let message = format!("secret \"{raw}\" is not valid JSON Line 1, column 1.");
    trial.refused("SELECT get_secret_value($1)", &[&raw], "22032", &message);
    trial.nothing_broke();
}

#[test]
fn a_secret_nested_ten_thousand_deep_is_read_and_crashes_nobody() {
    let mut trial = Trial::new();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let name = trial.secret(&deep);
    let read: String = trial.client.query_one("SELECT get_secret_value($1)::text", &[&name]).unwrap().get(0);
    assert_eq!(read, deep);
    let error = db_error(trial.client.query("SELECT connect_with_secret($1, 'h')", &[&name]));
    assert!(["22032", "2203C"].contains(&error.code().code()), "{error:?}");
    trial.nothing_broke();
}

#[test]
fn a_value_beyond_the_limit_of_secrets_manager_is_never_sent() {
    let mut trial = Trial::new();
    let value = json!("x".repeat(65_536)).to_string();
    let requests = Stage::shared().moto.log().matches("too-large-").count();
    let sql = "SELECT create_secret('too-large-1', $1::text::json)";
    let message =
        "value for secret \"too-large-1\" is too large It has 65538 bytes; a secret holds at most 65536.";
    trial.refused(sql, &[&value], "54000", message);
    assert_eq!(Stage::shared().moto.log().matches("too-large-").count(), requests);
    // The most there can be goes both ways.
    let most = json!("x".repeat(65_534)).to_string();
    let name = format!("most-{}", trial.role);
    trial.client.query_one("SELECT create_secret($1, $2::text::json)", &[&name, &most]).unwrap();
    let read: String = trial.client.query_one("SELECT get_secret_string($1)", &[&name]).unwrap().get(0);
    assert_eq!(read, most);
    trial.nothing_broke();
}

#[test]
fn host_names_that_no_host_has_are_refused_before_anybody_is_asked() {
    let mut trial = Trial::new();
    let secret = trial.secret.clone();
    for (host, problem) in [
        ("my host", "contains a space"),
        ("127.0.0.1 port=1", "contains a space"),
        ("h\nh", "contains a space"),
        ("h\u{a0}h", "contains a space"),
        ("h'h", "contains a character that no host name has"),
        ("user@host", "contains a character that no host name has"),
        ("a=b", "contains a character that no host name has"),
        ("h\u{1}", "contains a character that no host name has"),
    ] {
        let message = format!("host name number 1 {problem}");
        trial.refused("SELECT connect_with_secret($1, $2)", &[&secret, &host], "22023", &message);
        let bad = trial.secret(&json!({ "username": "u", "password": "p", "host": host }).to_string());
        trial.refused("SELECT connect_with_secret($1)", &[&bad], "22023", &message);
        let quoted = format!("host='{}'", host.replace('\'', "\\'"));
        let message = format!("could not establish connection {message}");
        trial.refused("SELECT dblink_connect($1)", &[&quoted], "08001", &message);
    }
    trial.nothing_broke();
}

#[test]
fn a_conninfo_that_is_none_says_what_is_wrong_and_where() {
    let mut trial = Trial::new();
    let secret = trial.secret.clone();
    let unknown_word = "invalid connection option at byte 8, after the value of \"host\"";
    for (conninfo, what) in [
        ("host='h", "unterminated quoted string in connection info string"),
        ("host=h password='it\\'s", "unterminated quoted string in connection info string"),
        ("no_such_option=1", "invalid connection option \"no_such_option\""),
        ("host=h ssl_mode=require", "invalid connection option \"ssl_mode\""),
        ("host=h HOST=h", unknown_word),
        ("host=h port", "missing \"=\" after \"port\" in connection info string"),
        (
            "host=h words in a row",
            "missing \"=\" at byte 8, after the value of \"host\" in connection info string",
        ),
        ("=", "invalid connection option at byte 1"),
        ("host=h port=x", "invalid integer value \"x\" for connection option \"port\""),
        ("host=h sslmode=maybe", "invalid sslmode value: \"maybe\""),
        (
            "host=h connect_timeout=soon",
            "invalid integer value \"soon\" for connection option \"connect_timeout\"",
        ),
        ("host=a,b hostaddr=127.0.0.1", "could not match 2 host names to 1 hostaddr values"),
        ("host=a,b port=1,2,3", "could not match 3 port numbers to 2 hosts"),
        ("hostaddr=localhost", "could not parse network address \"localhost\""),
        ("host=h target_session_attrs=best", "invalid target_session_attrs value: \"best\""),
        ("host=h channel_binding=yes", "invalid channel_binding value: \"yes\""),
    ] {
        let message = format!("could not establish connection {what}");
        trial.refused("SELECT dblink_connect($1)", &[&conninfo], "08001", &message);
        trial.refused("SELECT dblink_connect('c', $1)", &[&conninfo], "08001", &message);
        trial.refused("SELECT * FROM dblink($1, 'SELECT 1') AS t(a int)", &[&conninfo], "08001", &message);
        trial.refused("SELECT dblink_exec($1, 'SELECT')", &[&conninfo], "08001", &message);
        if conninfo.contains("password") {
            continue; // No password is allowed among the options: another test.
        }
        let error = db_error(
            trial.client.query("SELECT connect_with_secret($1, options => $2)", &[&secret, &conninfo]),
        );
        assert_eq!((error.code().code(), error.message()), ("22023", what), "{conninfo}: {error:?}");
    }
    let hint = |trial: &mut Trial, conninfo: &str| {
        let error = db_error(trial.client.query("SELECT dblink_connect($1)", &[&conninfo]));
        error.hint().unwrap_or_default().to_owned()
    };
    assert_eq!(hint(&mut trial, "host=h sslmod=x"), "Perhaps you meant the option \"sslmode\".");
    assert_eq!(hint(&mut trial, "host=my host"), "Put a value that contains spaces in single quotes.");
    assert_eq!(hint(&mut trial, "host='h"), "Inside quotes, write ' as \\' and \\ as \\\\.");
    trial.nothing_broke();
}

#[test]
fn a_uri_that_is_none_says_what_is_wrong_and_where() {
    let mut trial = Trial::new();
    for (uri, what) in [
        (
            "postgresql://[::1",
            "end of string reached when looking for matching \"]\" in IPv6 host address in URI, at byte ",
        ),
        ("postgresql://[]/d", "IPv6 host address may not be empty in URI, at byte "),
        ("postgresql://[::1]x/d", "unexpected character in URI (expected \":\" or \"/\"), at byte "),
        ("postgresql://h/%zz", "invalid percent-encoded token in URI, at byte "),
        ("postgresql://h/%00", "forbidden value %00 in percent-encoded value in URI, at byte "),
        ("postgresql://h/d?", ""),
        ("postgresql://h/d?sslmode", "missing key/value separator \"=\" in URI query parameter"),
        ("postgresql://h/d?sslmode=a=b", "extra key/value separator \"=\" in URI query parameter"),
        ("postgresql://h/d?no_such=1", "invalid URI query parameter: \"no_such\""),
        ("postgresql://h/d?sslmode=nope", "invalid sslmode value: \"nope\""),
        ("postgres://u:p@a@h/d", "unexpected \"@\" in URI, at byte "),
        ("postgresql://h:port/d", "invalid port number in URI, at byte "),
        ("postgresql://a%20b/d", "host name number 1 contains a space"),
    ] {
        let error = db_error(trial.client.query("SELECT dblink_connect($1)", &[&uri]));
        assert_eq!(
            (error.code().code(), error.message()),
            ("08001", "could not establish connection"),
            "{uri}"
        );
        assert!(error.detail().unwrap().starts_with(what), "{uri}: {error:?}");
    }
    trial.nothing_broke();
}

#[test]
fn a_very_long_conninfo_is_refused() {
    let mut trial = Trial::new();
    let too_long = "could not establish connection connection info string is too long (maximum 65536 bytes)";
    let megabyte = "x".repeat(1 << 20);
    for conninfo in [
        format!("dbname={megabyte}"),
        format!("{}host=h", " ".repeat(1 << 20)),
        format!("postgresql://h/{megabyte}"),
        "a=1 ".repeat(1 << 18),
    ] {
        trial.refused("SELECT dblink_connect($1)", &[&conninfo], "08001", too_long);
        trial.refused("SELECT dblink_connect('c', $1)", &[&conninfo], "08001", too_long);
    }
    let secret = trial.secret.clone();
    let sql = "SELECT connect_with_secret($1, 'h', options => $2)";
    let message = "connection info string is too long (maximum 65536 bytes)";
    trial.refused(sql, &[&secret, &format!("application_name={megabyte}")], "54000", message);
    trial.refused("SELECT connect_with_secret($1, 'h', $2)", &[&secret, &megabyte], "54000", message);
    let hosts = vec!["127.0.0.1"; 1000].join(",");
    let message = "could not establish connection too many hosts in connection info string (maximum 256)";
    trial.refused("SELECT dblink_connect($1)", &[&format!("host={hosts}")], "08001", message);
    trial.nothing_broke();
}

#[test]
fn a_column_list_that_does_not_fit_is_an_error_and_the_connection_goes_on() {
    let mut trial = Trial::new();
    trial.connect("c");
    let mismatch = "remote query result rowtype does not match the specified FROM clause rowtype";
    for (sql, sqlstate, what) in [
        ("SELECT * FROM dblink('c', 'SELECT 1, 2') AS t(a int)", "42804", mismatch),
        ("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int, b int)", "42804", mismatch),
        ("SELECT * FROM dblink('c', 'SELECT') AS t(a int)", "42804", mismatch),
        (
            "SELECT * FROM dblink('c', 'SELECT * FROM generate_series(1, 100000)') AS t(a int, b int)",
            "42804",
            mismatch,
        ),
        (
            "SELECT * FROM dblink('c', 'SELECT ''x''') AS t(a int)",
            "22P02",
            "invalid input syntax for type integer: \"x\"",
        ),
        (
            "SELECT * FROM dblink('c', 'SELECT repeat(''x'', 10) FROM generate_series(1, 100000)') AS t(a date)",
            "22007",
            "invalid input syntax for type date: \"xxxxxxxxxx\"",
        ),
        (
            "SELECT * FROM dblink('c', 'SELECT 99999999999') AS t(a int)",
            "22003",
            "value \"99999999999\" is out of range for type integer",
        ),
        (
            "SELECT dblink('c', 'SELECT 1')",
            "0A000",
            "function returning record called in context that cannot accept type record",
        ),
    ] {
        trial.refused(sql, &[], sqlstate, what);
        let sql = "SELECT a FROM dblink('c', 'SELECT 1') AS t(a int)";
        assert_eq!(trial.client.query_one(sql, &[]).unwrap().get::<_, i32>(0), 1);
    }
    let error = db_error(trial.client.query("SELECT * FROM dblink('c', 'SELECT 1')", &[]));
    assert_eq!(error.code().code(), "42601", "Postgres asks for a column definition list: {error:?}");
    // A statement without rows gives one row with its command tag.
    let error = db_error(
        trial.client.query("SELECT * FROM dblink('c', 'SET TIME ZONE 0') AS t(a text, b text)", &[]),
    );
    assert_eq!(error.code().code(), "42804", "{error:?}");
    trial.nothing_broke();
}

#[test]
fn any_text_can_name_a_connection() {
    let mut trial = Trial::new();
    let names = [
        "'",
        "\"",
        "\\",
        " ",
        "a b",
        "UPPER",
        "upper",
        "é",
        "🔑",
        "'; DROP TABLE t; --",
        "%s%n",
        "host=h",
        "postgresql://h",
        "$1",
        "{,}",
        "NULL",
    ];
    for name in names {
        trial.connect(name);
        trial.connect(name); // replaces it
        let sql = "SELECT a FROM dblink($1, 'SELECT 1') AS t(a int)";
        assert_eq!(trial.client.query_one(sql, &[&name]).unwrap().get::<_, i32>(0), 1, "{name}");
    }
    let mut open: Vec<String> =
        trial.client.query_one("SELECT dblink_get_connections()", &[]).unwrap().get(0);
    let mut expected = names.map(str::to_owned).to_vec();
    open.sort();
    expected.sort();
    assert_eq!(open, expected);
    for name in names {
        trial.client.query_one("SELECT dblink_disconnect($1)", &[&name]).unwrap();
        // What may be a connection string is not repeated.
        let message = match name {
            "host=h" | "postgresql://h" => "connection not available".to_owned(),
            name => format!("connection \"{name}\" not available"),
        };
        trial.refused("SELECT dblink_disconnect($1)", &[&name], "08003", &message);
    }
    trial.nothing_broke();
}

#[test]
fn a_megabyte_of_sql_goes_through_and_so_does_its_error() {
    let mut trial = Trial::new();
    trial.connect("c");
    let long = format!("SELECT length('{}')", "x".repeat(1 << 20));
    let sql = "SELECT n FROM dblink('c', $1) AS t(n int)";
    assert_eq!(trial.client.query_one(sql, &[&long]).unwrap().get::<_, i32>(0), 1 << 20);
    let exec = format!("DO $x$ BEGIN PERFORM '{}'; END $x$", "y".repeat(1 << 20));
    let tag: String = trial.client.query_one("SELECT dblink_exec('c', $1)", &[&exec]).unwrap().get(0);
    assert_eq!(tag, "DO");
    let garbage = format!("{} FROM", "z ".repeat(1 << 19));
    trial.refused(sql, &[&garbage], "42601", "syntax error at or near \"z\"");
    trial.refused("SELECT dblink_exec('c', $1)", &[&garbage], "42601", "syntax error at or near \"z\"");
    // A message as long as a statement.
    let raise = format!("DO $x$ BEGIN RAISE '%', repeat('m', {}); END $x$", 1 << 20);
    let error = db_error(trial.client.query("SELECT dblink_exec('c', $1)", &[&raise]));
    assert_eq!((error.code().code(), error.message().len()), ("P0001", 1 << 20));
    trial.nothing_broke();
}

#[test]
fn functions_without_a_connection_say_so() {
    let mut trial = Trial::new();
    for (call, what) in [
        ("dblink_disconnect()", "connection not available"),
        ("dblink_disconnect('none')", "connection \"none\" not available"),
        ("dblink_exec('SELECT')", "connection not available"),
        ("dblink_exec('SELECT', true)", "connection not available"),
        ("dblink_exec('SELECT', false)", "connection not available"),
    ] {
        trial.refused(&format!("SELECT {call}"), &[], "08003", what);
    }
    trial.refused("SELECT * FROM dblink('SELECT 1') AS t(a int)", &[], "08003", "connection not available");
    trial.refused(
        "SELECT * FROM dblink('SELECT 1', false) AS t(a int)",
        &[],
        "08003",
        "connection not available",
    );
    trial.nothing_broke();
}

/// Every failed attempt gives back what it took: sockets, and the descriptors Postgres counts.
#[test]
fn failed_attempts_leave_no_descriptor_and_no_remote_session() {
    let mut trial = Trial::new();
    let remote_port = Stage::shared().remote.port();
    let wrong = trial.secret(&json!({ "username": trial.role, "password": "wrong" }).to_string());
    let not_json = trial.secret("{");
    let good = trial.secret.clone();
    let conninfo = trial.conninfo();
    let at_remote = format!("'127.0.0.1', 'testdb', remote_port => {remote_port}");
    let statements = [
        format!("SELECT connect_with_secret('{wrong}', {at_remote})"),
        format!("SELECT connect_with_secret('{wrong}', {at_remote}, fail => false)"),
        format!("SELECT connect_with_secret('{not_json}', {at_remote})"),
        format!("SELECT connect_with_secret('none', {at_remote})"),
        format!("SELECT connect_with_secret('{good}', '127.0.0.1', 'no such', remote_port => {remote_port})"),
        format!("SELECT connect_with_secret('{good}', '127.0.0.1', remote_port => 1)"),
        format!(
            "SELECT connect_with_secret('{good}', {at_remote}, options => 'sslmode=verify-full sslrootcert=/none')"
        ),
        format!(
            "SELECT connect_with_secret('{good}', {at_remote}, options => 'target_session_attrs=standby')"
        ),
        format!("SELECT connect_with_secret('{good}', {at_remote}, options => 'require_auth=md5')"),
        format!("SELECT connect_with_secret('{good}', {at_remote}, options => 'sslmode=disable')"),
        format!("SELECT connect_with_secret('{good}', 'no-such-host.invalid')"),
        "SELECT dblink_connect('host=''')".to_owned(),
        format!("SELECT * FROM dblink('{conninfo}', 'SELECT 1') AS t(a int, b int)"),
        format!("SELECT * FROM dblink('{conninfo}', 'SELECT 1/0') AS t(a int)"),
        format!("SELECT * FROM dblink('{conninfo}', 'SELECT ''x''') AS t(a int)"),
        format!("SELECT dblink_exec('{conninfo}', 'nonsense')"),
        format!("SELECT dblink_exec('{conninfo}', 'SELECT 1')"),
    ];
    let round = |client: &mut Client| {
        for sql in &statements {
            let outcome = client.simple_query(sql);
            assert!(outcome.is_err() || sql.contains("fail => false"), "{sql}");
        }
    };
    // At first something opens that stays: the I/O thread's pipe, Postgres's own files.
    round(&mut trial.client);
    round(&mut trial.client);
    trial.no_remote_session();
    let before = trial.backend.open_files();
    let threads = trial.backend.threads();
    for _ in 0..3 {
        round(&mut trial.client);
    }
    trial.no_remote_session();
    assert_eq!(trial.backend.open_files(), before, "descriptors are left");
    assert!(trial.backend.threads() <= threads, "{} threads, then {}", threads, trial.backend.threads());
    trial.nothing_broke();
}
