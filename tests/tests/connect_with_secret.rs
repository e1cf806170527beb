//! `connect_with_secret`: what it takes from where, what it refuses, and that a password from a
//! secret leaves over TLS or because somebody asked for `sslmode=disable` by name.

use postgres::Client;
use secretlink_e2e::{Cluster, Moto, SecretsApi, Stage, db_error, eventually, free_port};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const ESTABLISHED: &str = "Connection established successfully";

fn connect(cluster: &Cluster) -> Client {
    let mut client = cluster.connect("postgres", "postgres");
    client.batch_execute("SET statement_timeout = '60s'").unwrap();
    client
}

/// The text that a call returns.
fn call(client: &mut Client, arguments: &str) -> Result<String, postgres::Error> {
    client.query_one(&format!("SELECT connect_with_secret({arguments})"), &[]).map(|row| row.get(0))
}

#[track_caller]
fn works(client: &mut Client, arguments: &str) {
    match call(client, arguments) {
        Ok(text) => assert_eq!(text, ESTABLISHED, "{arguments}"),
        Err(error) => panic!("connect_with_secret({arguments}): {error:?}"),
    }
}

#[track_caller]
fn ask(client: &mut Client, connection: &str, sql: &str) -> String {
    let query = "SELECT v FROM dblink($1, $2) AS t(v text)";
    client.query_one(query, &[&connection, &sql]).unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

const WHERE: &str = "SELECT concat_ws(' ', current_user, current_database(), (SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()))";

/// Everything there is to know of the remote database.
fn full_secret(stage: &Stage) -> Value {
    json!({
        "engine": "postgres",
        "host": "127.0.0.1",
        "port": stage.remote.port(),
        "dbname": "testdb",
        "username": "app",
        "password": stage.remote.app_password(),
    })
}

fn with(mut secret: Value, changes: Value) -> String {
    for (name, value) in changes.as_object().unwrap() {
        secret[name] = value.clone();
    }
    secret.to_string()
}

fn without(mut secret: Value, field: &str) -> String {
    secret.as_object_mut().unwrap().remove(field);
    secret.to_string()
}

#[test]
fn the_call_of_the_old_function_works_as_it_is_written() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    // What the old function's secrets look like: nothing of where the server is. As RDS makes them.
    secrets.create_login_secret("test-db-secret", "app", stage.remote.app_password());
    let mut client = connect(&stage.local);
    let port = stage.remote.port();
    works(&mut client, &format!("'test-db-secret', '127.0.0.1', 'testdb', 'app', {port}"));
    assert_eq!(ask(&mut client, "remote_conn", WHERE), "app testdb true");
    let rows: Vec<String> = client
        .query("SELECT name FROM dblink('remote_conn', 'SELECT name FROM customers ORDER BY id') AS t(name text)", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(rows, ["Ada", "Grace", "Edsger"]);
    let tag: String = client
        .query_one("SELECT dblink_exec('remote_conn', 'UPDATE orders SET amount = amount + 1')", &[])
        .unwrap()
        .get(0);
    assert_eq!(tag, "UPDATE 4");
    let ok: String = client.query_one("SELECT dblink_disconnect('remote_conn')", &[]).unwrap().get(0);
    assert_eq!(ok, "OK");

    // Exactly the four arguments, on the port that goes without saying.
    let local = Cluster::local(&stage.moto).env("PGPORT", &port.to_string()).start();
    let mut other = connect(&local);
    works(&mut other, "'test-db-secret', '127.0.0.1', 'testdb', 'app'");
    assert_eq!(ask(&mut other, "remote_conn", WHERE), "app testdb true");
    works(&mut other, "'test-db-secret', '127.0.0.1', 'testdb'");
    // By name, with any of the arguments.
    works(
        &mut client,
        &format!(
            "secret_name => 'test-db-secret', remote_port => {port}, remote_db => 'testdb', remote_host => 'localhost', connection_name => 'n'"
        ),
    );
    assert_eq!(ask(&mut client, "n", WHERE), "app testdb true");
}

#[test]
fn what_is_not_given_comes_from_the_secret() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    let mut client = connect(&stage.local);
    let full = full_secret(&stage);
    let port = stage.remote.port();
    for (name, value) in [
        ("full", full.to_string()),
        ("text port", with(full.clone(), json!({ "port": port.to_string() }))),
        (
            "more",
            with(
                full.clone(),
                json!({ "masterarn": "arn:x", "ssl": true, "nested": { "password": "no" }, "list": [1], "sslmode": "disable" }),
            ),
        ),
        ("nulls", with(full.clone(), json!({ "engine": null, "dbInstanceIdentifier": null }))),
    ] {
        secrets.create_secret(name, &value);
        works(&mut client, &format!("'{name}'"));
        // Also `sslmode` in a secret: a field that is none of ours.
        assert_eq!(ask(&mut client, "remote_conn", WHERE), "app testdb true", "{name}");
        works(&mut client, &format!("'{name}', NULL, NULL, NULL, NULL, 'given', NULL, NULL"));
        assert_eq!(ask(&mut client, "given", WHERE), "app testdb true", "{name}");
    }

    // What is given counts more.
    let mut superuser = stage.remote.connect("postgres", "postgres");
    superuser.batch_execute("CREATE DATABASE other").unwrap();
    stage.remote.create_login("second", stage.remote.app_password(), "scram-sha-256");
    let wrong =
        json!({ "host": "no.such.host.invalid", "port": 1, "dbname": "nowhere", "username": "nobody" });
    secrets.create_secret("wrong", &with(full.clone(), wrong));
    works(&mut client, &format!("'wrong', '127.0.0.1', 'other', 'second', {port}"));
    assert_eq!(ask(&mut client, "remote_conn", WHERE), "second other true");
    // So do keywords in the options; an argument counts more than those.
    works(&mut client, &format!("'wrong', options => 'host=127.0.0.1 dbname=other user=second port={port}'"));
    assert_eq!(ask(&mut client, "remote_conn", WHERE), "second other true");
    works(
        &mut client,
        &format!("'wrong', '127.0.0.1', 'testdb', 'app', {port}, options => 'dbname=other user=second'"),
    );
    assert_eq!(ask(&mut client, "remote_conn", WHERE), "app testdb true");
    // Without a database, libpq's default: that of the user's name.
    superuser.batch_execute("CREATE DATABASE app").unwrap();
    secrets.create_secret("no database", &without(full.clone(), "dbname"));
    works(&mut client, "'no database'");
    assert_eq!(ask(&mut client, "remote_conn", WHERE), "app app true");

    // What is nowhere is named, with both places where it could be.
    for (field, argument) in [("host", "remote_host"), ("username", "remote_user")] {
        secrets.create_secret(&format!("no {field}"), &without(full.clone(), field));
        let error = db_error(call(&mut client, &format!("'no {field}'")));
        assert_eq!(error.code().code(), "22023", "{error:?}");
        assert_eq!(error.message(), format!("secret \"no {field}\" has no {field} field"));
        assert_eq!(
            error.hint(),
            Some(format!("Add \"{field}\" to the secret, or pass {argument}.").as_str())
        );
    }
}

#[test]
fn of_a_secret_only_what_is_used_need_be_valid() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    let mut client = connect(&stage.local);
    let full = full_secret(&stage).to_string();
    let digits = "9".repeat(400);
    let nested = format!("{}{}", "{\"a\":[".repeat(200), "]}".repeat(200));
    for (number, odd) in
        ["1e999", "-1E+400", &digits, &nested, "\"\\ud800\"", "\"\\udc00\\ud800\""].iter().enumerate()
    {
        let name = format!("odd/{number}");
        secrets.create_secret(&name, &format!(r#"{{"x":{odd},"\ud800":{odd},{}"#, &full[1..]));
        works(&mut client, &format!("'{name}'"));
        // Where it is used, it is named.
        let port = format!(r#"{{"port":{odd},{}"#, full[1..].replace("\"port\"", "\"unused\""));
        secrets.create_secret(&format!("{name}/port"), &port);
        let error = db_error(call(&mut client, &format!("'{name}/port'")));
        assert_eq!(error.code().code(), "22023", "{error:?}");
        assert!(error.message().contains("\"port\""), "{error:?}");
    }
    // Of several members the last one counts, as for jsonb.
    let twice = format!(r#"{{"password":"no","port":1,"username":["no"],{}"#, &full[1..]);
    secrets.create_secret("twice", &twice);
    works(&mut client, "'twice'");
}

#[test]
fn a_refused_password_of_a_secret_for_another_user_says_so() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    stage.remote.create_login("app_clone", "of-the-clone", "scram-sha-256");
    let secret = with(full_secret(&stage), json!({ "username": "app_clone", "password": "of-the-clone" }));
    secrets.create_secret("clone", &secret);
    let mut client = connect(&stage.local);
    works(&mut client, "'clone'");
    assert_eq!(ask(&mut client, "remote_conn", WHERE), "app_clone testdb true");
    let error = db_error(call(&mut client, "'clone', remote_user => 'app'"));
    assert_eq!(error.code().code(), "08001", "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("app_clone")), "{error:?}");
    // Who gives a password of their own is told nothing of the secret's.
    secrets.create_secret("wrong", &with(full_secret(&stage), json!({ "password": "wrong" })));
    let error = db_error(call(&mut client, "'wrong', remote_user => 'app'"));
    assert_eq!((error.code().code(), error.hint()), ("08001", None), "{error:?}");
}

#[test]
fn passwords_of_every_kind_go_through_unharmed() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    let mut client = connect(&stage.local);
    for (index, password) in [
        "quote\"",
        "apostrophe'",
        "back\\slash",
        "dollar $1 $$",
        "sp ace ",
        "new\nline",
        "p\u{e4}ssw\u{f6}rt \u{1F511}",
        "=&?%40",
        "{\"password\": \"x\"}",
        "' host=evil",
    ]
    .iter()
    .enumerate()
    {
        let user = format!("u{index}");
        stage.remote.create_login(&user, password, "scram-sha-256");
        secrets.create_secret(
            &user,
            &with(full_secret(&stage), json!({ "username": user, "password": password })),
        );
        works(&mut client, &format!("'{user}'"));
        assert_eq!(ask(&mut client, "remote_conn", "SELECT current_user"), user, "{password:?}");
    }
}

#[test]
fn a_connection_of_that_name_is_replaced() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    secrets.create_secret("db", &full_secret(&stage).to_string());
    let mut client = connect(&stage.local);
    let mut remote = stage.remote.connect("postgres", "postgres");
    let mut sessions = |expected: i64| {
        eventually("the number of remote sessions", Duration::from_secs(5), || {
            let n: i64 = remote
                .query_one("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'", &[])
                .unwrap()
                .get(0);
            if n == expected { Ok(()) } else { Err(format!("{n} sessions, not {expected}")) }
        });
    };
    works(&mut client, "'db'");
    let first = ask(&mut client, "remote_conn", "SELECT pg_backend_pid()");
    for _ in 0..5 {
        works(&mut client, "'db'");
    }
    assert_ne!(ask(&mut client, "remote_conn", "SELECT pg_backend_pid()"), first);
    sessions(1);
    works(&mut client, "'db', connection_name => 'other'");
    sessions(2);
    let names: Vec<String> = client.query_one("SELECT dblink_get_connections()", &[]).unwrap().get(0);
    assert_eq!(names, ["other", "remote_conn"]);
    // It is one of dblink's connections, and a name is only taken once.
    let conninfo = "host=127.0.0.1 port=1";
    let error = db_error(client.execute("SELECT dblink_connect('other', $1)", &[&conninfo]));
    assert_eq!(error.code().code(), "42710");
    // It also replaces one that dblink_connect made.
    client.batch_execute("SELECT dblink_disconnect('other')").unwrap();
    let conninfo = stage.remote.conninfo("postgres", "testdb");
    client.execute("SELECT dblink_connect('other', $1)", &[&conninfo]).unwrap();
    works(&mut client, "'db', connection_name => 'other'");
    assert_eq!(ask(&mut client, "other", "SELECT current_user"), "app");
    // If the new one cannot be made, for whatever reason, the old one is gone: nobody talks to the old
    // server by mistake. Arguments that cannot be right replace nothing.
    let no_server = format!("'db', remote_port => {}, fail => false", free_port());
    for failure in [no_server.as_str(), "'no-such-secret', fail => false"] {
        works(&mut client, "'db'");
        let text = call(&mut client, "'db', remote_port => 70000, fail => false").unwrap();
        assert!(text.starts_with("Connection failed: port 70000"), "{text}");
        assert_eq!(ask(&mut client, "remote_conn", "SELECT current_user"), "app");
        let text = call(&mut client, failure).unwrap();
        assert!(text.starts_with("Connection failed: "), "{text}");
        let gone = db_error(client.simple_query("SELECT dblink_disconnect('remote_conn')"));
        assert_eq!(gone.code().code(), "08003", "after {failure}");
    }
    sessions(1);
    drop(client);
    sessions(0);
}

#[test]
fn options_are_libpqs_keywords() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    secrets.create_secret("db", &full_secret(&stage).to_string());
    let mut client = connect(&stage.local);
    let ca = stage.remote.tls().ca.display().to_string();
    works(
        &mut client,
        &format!(
            "'db', options => 'sslmode=verify-full sslrootcert={ca} application_name=mine options=''-c work_mem=3MB'' channel_binding=require require_auth=scram-sha-256'"
        ),
    );
    assert_eq!(ask(&mut client, "remote_conn", "SHOW application_name"), "mine");
    assert_eq!(ask(&mut client, "remote_conn", "SHOW work_mem"), "3MB");
    works(
        &mut client,
        &format!(
            "'db', options => 'postgresql://?sslmode=verify-full&sslrootcert={ca}&application_name=uri'"
        ),
    );
    assert_eq!(ask(&mut client, "remote_conn", "SHOW application_name"), "uri");
    works(&mut client, "'db', options => ''");
    assert_eq!(ask(&mut client, "remote_conn", WHERE), "app testdb true");

    for (options, code, said) in [
        // The certificate says localhost and 127.0.0.1.
        (
            format!("sslmode=verify-full sslrootcert={ca} host=example.com hostaddr=127.0.0.1"),
            "08001",
            "does not match host name",
        ),
        ("sslmode=verify-full sslrootcert=/nonexistent".to_owned(), "08001", "does not exist"),
        ("require_auth=md5".to_owned(), "08001", "authentication method requirement failed"),
        ("connect_timeout=soon".to_owned(), "22023", "connect_timeout"),
        ("nonsense=1".to_owned(), "22023", "invalid connection option \"nonsense\""),
        ("sslmode='require".to_owned(), "22023", "unterminated quoted string"),
        ("password=hunter2".to_owned(), "22023", "option \"password\" is not allowed here"),
        ("scram_client_key=x".to_owned(), "22023", "option \"scram_client_key\" is not allowed here"),
        ("scram_server_key=x".to_owned(), "22023", "option \"scram_server_key\" is not allowed here"),
        (
            "postgresql://app:hunter2@127.0.0.1/".to_owned(),
            "22023",
            "option \"password\" is not allowed here",
        ),
    ] {
        let error = db_error(call(&mut client, &format!("'db', options => $q${options}$q$")));
        let text = format!("{}: {}", error.message(), error.detail().unwrap_or_default());
        assert!(text.contains(said), "{options}: {error:?}");
        assert_eq!(error.code().code(), code, "{options}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn with_fail_off_every_failure_is_a_text() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    let full = full_secret(&stage);
    secrets.create_secret("db", &full.to_string());
    secrets.create_secret("not json", "pass'word");
    secrets.create_secret("a list", "[1]");
    secrets.create_secret("no password", &without(full.clone(), "password"));
    secrets.create_secret("no host", &without(full.clone(), "host"));
    secrets.create_secret("bad port", &with(full.clone(), json!({ "port": 70000 })));
    secrets.create_secret("wrong password", &with(full.clone(), json!({ "password": "not-it-hunter2" })));
    let plain = Cluster::plain().tcp().start();
    let nobody = free_port();
    let local = Cluster::local(&stage.moto).start();
    let mut client = connect(&local);
    client.batch_execute("BEGIN").unwrap();
    for (arguments, said) in [
        ("'no such secret'".to_owned(), "no such secret"),
        ("'not json'".to_owned(), "not json"),
        ("'a list'".to_owned(), "a list"),
        ("'no password'".to_owned(), "no password"),
        ("'no host'".to_owned(), "secret \"no host\" has no host field"),
        ("'bad port'".to_owned(), "port"),
        ("'wrong password'".to_owned(), "FATAL:  password authentication failed for user \"app\""),
        (format!("'db', remote_port => {nobody}"), "Connection refused"),
        ("'db', 'no.such.host.invalid'".to_owned(), "could not translate host name"),
        ("'db', remote_db => 'nowhere'".to_owned(), "FATAL:  database \"nowhere\" does not exist"),
        (
            format!("'db', remote_port => {}", plain.port()),
            "server does not support SSL, but SSL was required",
        ),
        (
            format!("'db', remote_port => {}, options => 'connect_timeout=2'", stage.moto.port()),
            "timeout expired",
        ),
        ("'db', remote_port => 70000".to_owned(), "port 70000 is out of range"),
        ("'db', remote_port => 0".to_owned(), "port 0 is out of range"),
        ("'db', options => 'nonsense=1'".to_owned(), "invalid connection option \"nonsense\""),
        ("'db', options => 'password=x'".to_owned(), "not allowed"),
        ("NULL".to_owned(), "argument \"secret_name\" must not be null"),
        ("''".to_owned(), "argument \"secret_name\" must not be empty"),
        ("'db', connection_name => NULL".to_owned(), "argument \"connection_name\" must not be null"),
        ("'db', connection_name => repeat('x', 64)".to_owned(), "connection name is too long"),
    ] {
        let text = call(&mut client, &format!("{arguments}, fail => false"));
        let text = text.unwrap_or_else(|e| panic!("{arguments}: raised {e:?}"));
        assert!(text.starts_with("Connection failed: "), "{arguments}: {text}");
        assert!(text.contains(said), "{arguments}: {text}");
        assert!(
            !text.contains("hunter2") && !text.contains(stage.remote.app_password()),
            "{arguments}: {text}"
        );
        // The same, raised: what was returned is its message and detail.
        client.batch_execute("SAVEPOINT s").unwrap();
        let error = db_error(call(&mut client, &arguments));
        let whole = match error.detail() {
            Some(detail) => format!("Connection failed: {}: {detail}", error.message()),
            None => format!("Connection failed: {}", error.message()),
        };
        assert!(whole.contains(said), "{text}\n{whole}");
        client.batch_execute("ROLLBACK TO s").unwrap();
        let none: Option<Vec<String>> =
            client.query_one("SELECT dblink_get_connections()", &[]).unwrap().get(0);
        assert_eq!(none, None, "{arguments}");
    }
    client.batch_execute("COMMIT").unwrap();
    // Nothing failed: nothing is different.
    works(&mut client, "'db', fail => false");
    works(&mut client, "'db', fail => NULL");
    // Being cancelled is no failure to connect.
    client.batch_execute("SET statement_timeout = '300ms'").unwrap();
    let hole = secretlink_e2e::Proxy::black_hole();
    let error = db_error(call(&mut client, &format!("'db', remote_port => {}, fail => false", hole.port())));
    assert_eq!(error.code().code(), "57014");
}

#[test]
fn errors_have_their_own_sqlstates() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    secrets.create_secret("db", &full_secret(&stage).to_string());
    secrets.create_secret("wrong password", &with(full_secret(&stage), json!({ "password": "hunter2" })));
    let mut client = connect(&stage.local);
    let error = db_error(call(&mut client, "'wrong password'"));
    assert_eq!((error.code().code(), error.message()), ("08001", "could not establish connection"));
    let expected = format!(
        "connection to server at \"127.0.0.1\", port {} failed: FATAL:  password authentication failed for user \"app\"",
        stage.remote.port()
    );
    assert_eq!(error.detail(), Some(expected.as_str()));
    let error = db_error(call(&mut client, "'no such secret'"));
    let text = format!("{} {}", error.message(), error.detail().unwrap_or_default());
    assert!(text.contains("\"no such secret\"") && text.contains("us-east-1"), "{error:?}");
    assert_eq!(db_error(call(&mut client, "'db', remote_port => 70000")).code().code(), "22023");
    assert_eq!(db_error(call(&mut client, "NULL")).code().code(), "22004");
}

#[test]
fn a_password_from_a_secret_is_used_or_there_is_no_connection_for_an_ordinary_role() {
    let remote = Cluster::remote().auth("hostssl", "friend", "trust").start();
    remote.create_login("friend", "x", "scram-sha-256");
    let moto = Moto::start();
    let local = Cluster::local(&moto).start();
    let secret = json!({ "host": "127.0.0.1", "port": remote.port(), "dbname": "testdb", "username": "friend", "password": "x" });
    moto.secrets().create_secret("friend", &secret.to_string());
    let mut superuser = connect(&local);
    superuser
        .batch_execute(
            "CREATE ROLE ordinary LOGIN; GRANT EXECUTE ON FUNCTION connect_with_secret TO ordinary",
        )
        .unwrap();
    works(&mut superuser, "'friend'");
    let mut ordinary = local.connect("ordinary", "postgres");
    let error = db_error(call(&mut ordinary, "'friend'"));
    assert_eq!((error.code().code(), error.message()), ("2F003", "password is required"));
    let app = json!({ "host": "127.0.0.1", "port": remote.port(), "dbname": "testdb", "username": "app", "password": remote.app_password() });
    moto.secrets().create_secret("app", &app.to_string());
    works(&mut ordinary, "'app'");
    assert_eq!(ask(&mut ordinary, "remote_conn", "SELECT current_user"), "app");
}

/// What the fake server asks of a client that has told who it is.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Cleartext,
    Md5,
    Scram,
}

/// A Postgres without TLS that asks for a password and writes down whatever the client says then.
struct Eavesdropper {
    port: u16,
    /// For each connection that came as far as the question, what was said after it.
    answers: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Eavesdropper {
    fn start(asks: Asks) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&answers);
        // Ends with the process of the test.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let collected = Arc::clone(&collected);
                thread::spawn(move || {
                    if let Ok(answer) = Self::serve(stream, asks) {
                        collected.lock().unwrap().push(answer);
                    }
                });
            }
        });
        Self { port, answers }
    }

    fn serve(mut stream: TcpStream, asks: Asks) -> std::io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        // SSLRequest is answered with no, until a startup packet comes.
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut packet = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut packet)?;
            if packet == 80_877_103u32.to_be_bytes() {
                stream.write_all(b"N")?;
            } else {
                break;
            }
        }
        let body: &[u8] = match asks {
            Asks::Cleartext => &[0, 0, 0, 3],
            Asks::Md5 => &[0, 0, 0, 5, 1, 2, 3, 4],
            Asks::Scram => b"\0\0\0\x0aSCRAM-SHA-256\0\0",
        };
        stream.write_all(b"R")?;
        stream.write_all(&(body.len() as u32 + 4).to_be_bytes())?;
        stream.write_all(body)?;
        // The first piece is enough to know. Closing ends the attempt.
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap_or(0);
        Ok(buffer[..length].to_vec())
    }

    /// What the last client said, once it has ended.
    fn answer(&self) -> Vec<u8> {
        eventually("the end of the client", Duration::from_secs(5), || {
            self.answers.lock().unwrap().pop().ok_or_else(|| "nobody was asked".to_owned())
        })
    }
}

fn secret_for(secrets: &SecretsApi, port: u16) -> String {
    let name = format!("for {port}");
    let secret = json!({ "host": "127.0.0.1", "port": port, "dbname": "testdb", "username": "app", "password": "hunter2" });
    secrets.create_secret(&name, &secret.to_string());
    name
}

#[test]
fn the_password_is_never_proved_over_an_unencrypted_connection() {
    let moto = Moto::start();
    let secrets = moto.secrets();
    let spies = [Asks::Cleartext, Asks::Md5, Asks::Scram].map(|asks| {
        let spy = Eavesdropper::start(asks);
        let name = secret_for(&secrets, spy.port);
        (asks, spy, name)
    });
    // Whatever the server's environment says.
    for environment in ["", "disable", "allow", "prefer"] {
        let local = match environment {
            "" => Cluster::local(&moto).start(),
            mode => Cluster::local(&moto).env("PGSSLMODE", mode).start(),
        };
        let mut client = connect(&local);
        for (asks, spy, name) in &spies {
            for options in ["sslmode=allow", "sslmode=prefer", "requiressl=0"] {
                let error = db_error(call(&mut client, &format!("'{name}', options => $q${options}$q$")));
                assert_eq!(error.code().code(), "08001", "{asks:?}, {options}: {error:?}");
                let detail = error.detail().unwrap();
                assert!(
                    detail.ends_with("the server asked for the password over an unencrypted connection"),
                    "{detail}"
                );
                assert!(error.hint().unwrap().contains("sslmode=disable"), "{error:?}");
                let answer = spy.answer();
                assert!(answer.is_empty(), "{asks:?}, {options}, PGSSLMODE={environment}: {answer:?}");
            }
            // With TLS demanded, which is what nothing said means, it does not come that far.
            for options in
                ["", "sslmode=require", "application_name=x", "sslmode=verify-ca sslrootcert=/nonexistent"]
            {
                let error = db_error(call(&mut client, &format!("'{name}', options => '{options}'")));
                assert!(
                    error.detail().unwrap().ends_with("server does not support SSL, but SSL was required"),
                    "{error:?}"
                );
            }
            assert!(spy.answers.lock().unwrap().is_empty(), "{asks:?}");
        }
        // A service file is not a name said aloud either.
        let error = db_error(call(&mut client, &format!("'{}', options => 'service=nothing'", spies[0].2)));
        assert!(
            error.message().contains("service") || error.detail().is_some_and(|d| d.contains("service")),
            "{error:?}"
        );
    }

    // By name it is done: except for cleartext, which stays inside TLS in any case.
    let local = Cluster::local(&moto).start();
    let mut client = connect(&local);
    for (asks, spy, name) in &spies {
        let error = db_error(call(&mut client, &format!("'{name}', options => 'sslmode=disable'")));
        let answer = spy.answer();
        match asks {
            Asks::Cleartext => {
                assert!(answer.is_empty(), "{answer:?}");
                assert!(
                    error.detail().unwrap().contains("in cleartext over an unencrypted connection"),
                    "{error:?}"
                );
            }
            Asks::Md5 | Asks::Scram => assert_eq!(answer.first(), Some(&b'p'), "{asks:?}: {answer:?}"),
        }
        assert!(!answer.windows(7).any(|w| w == b"hunter2"), "{asks:?}");
    }
    // dblink_connect, whose password was typed by the user, keeps libpq's rules: the spies do spy.
    for (asks, spy, _) in &spies[1..] {
        let conninfo = format!("host=127.0.0.1 port={} user=app password=hunter2", spy.port);
        assert!(client.execute("SELECT dblink_connect($1)", &[&conninfo]).is_err());
        assert_eq!(spy.answer().first(), Some(&b'p'), "{asks:?}");
    }
}

#[test]
fn a_real_server_without_tls_gets_the_password_only_by_name() {
    let plain = Cluster::plain()
        .tcp()
        .auth("host", "app", "scram-sha-256")
        .hba("local all app scram-sha-256")
        .start();
    plain.create_login("app", "hunter2", "scram-sha-256");
    let moto = Moto::start();
    let secret = json!({ "host": "127.0.0.1", "port": plain.port(), "dbname": "postgres", "username": "app", "password": "hunter2" });
    moto.secrets().create_secret("db", &secret.to_string());
    let local = Cluster::local(&moto).env("PGSSLMODE", "disable").start();
    let mut client = connect(&local);
    for options in ["", "sslmode=allow", "sslmode=prefer", "sslmode=require"] {
        let error = db_error(call(&mut client, &format!("'db', options => '{options}'")));
        assert_eq!(error.code().code(), "08001", "{options}");
    }
    // A socket is not encrypted: the rule knows no exception.
    let socket = plain.socket_dir().display().to_string();
    let error = db_error(call(&mut client, &format!("'db', '{socket}'")));
    assert!(
        error.detail().unwrap().ends_with("the server asked for the password over an unencrypted connection"),
        "{error:?}"
    );
    works(&mut client, &format!("'db', '{socket}', options => 'sslmode=disable'"));
    works(&mut client, "'db', options => 'sslmode=disable'");
    assert_eq!(ask(&mut client, "remote_conn", WHERE), "app postgres false");
}

#[test]
fn nothing_of_the_servers_own_is_used_in_place_of_what_is_missing() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    secrets.create_secret("no password", &without(full_secret(&stage), "password"));
    secrets.create_secret("no host", &without(full_secret(&stage), "host"));
    secrets.create_secret("wrong password", &with(full_secret(&stage), json!({ "password": "wrong" })));
    let local = Cluster::local(&stage.moto)
        .env("PGPASSWORD", stage.remote.app_password())
        .env("PGHOST", "127.0.0.1")
        .env("PGUSER", "app")
        .start();
    let mut client = connect(&local);
    for (name, code) in [("no password", "2203A"), ("no host", "22023"), ("wrong password", "08001")] {
        let error = db_error(call(&mut client, &format!("'{name}'")));
        assert_eq!(error.code().code(), code, "{name}: {error:?}");
    }
}

#[test]
fn a_failure_as_columns() {
    let stage = Stage::start();
    let secrets = stage.moto.secrets();
    secrets.create_secret("good", &full_secret(&stage).to_string());
    secrets.create_secret("wrong", &with(full_secret(&stage), json!({ "password": "hunter2" })));
    let mut client = connect(&stage.local);
    let mut attempt = |arguments: &str| {
        let sql = format!(
            "SELECT connected, sqlstate, message, detail, hint FROM try_connect_with_secret({arguments})"
        );
        let row = client.query_one(&sql, &[]).unwrap_or_else(|e| panic!("{arguments}: {e:?}"));
        let text = |column: &str| row.get::<_, Option<String>>(column);
        (row.get::<_, bool>("connected"), text("sqlstate"), text("message"), text("detail"), text("hint"))
    };
    assert_eq!(attempt("'good'"), (true, None, None, None, None));
    let (connected, sqlstate, message, detail, _) = attempt("'wrong'");
    assert_eq!((connected, sqlstate.as_deref()), (false, Some("08001")));
    assert_eq!(message.as_deref(), Some("could not establish connection"));
    assert!(
        detail.as_ref().is_some_and(|detail| detail.contains("password authentication failed")),
        "{detail:?}"
    );
    let (connected, sqlstate, message, _, hint) = attempt("'none'");
    assert_eq!((connected, sqlstate.as_deref()), (false, Some("42704")));
    assert_eq!(message.as_deref(), Some("secret \"none\" not found in region us-east-1"));
    assert!(hint.is_some());
    let (connected, sqlstate, ..) = attempt("'good', remote_port => 70000");
    assert_eq!((connected, sqlstate.as_deref()), (false, Some("22023")));
    let open: i64 = client
        .query_one("SELECT count(*) FROM remote_connections WHERE name = 'remote_conn'", &[])
        .unwrap()
        .get(0);
    assert_eq!(open, 0, "the failed attempts closed it");
}
