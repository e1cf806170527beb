//! No secret in any output, and none left in memory.
//!
//! The password of each trial is a random marker that is nowhere else. It reaches the servers under
//! test in ways that they do not repeat by themselves: as a secret, or as a bind parameter.
//!
//! The trials share their servers; each has a session, secrets and remote roles of its own.

use postgres::Client;
use postgres::error::DbError;
use postgres::types::ToSql;
use secretlink_e2e::{
    Cluster, MemoryHit, Mode, Moto, NeverAnswers, Process, Proxy, ScriptedEndpoint, SecretsApi, backend_pid,
    db_error, free_port, random_password,
};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The servers, all as talkative as they can be.
struct Ground {
    local: Cluster,
    /// TLS, and for members of the roles `md5` and `cleartext` these ways to log in.
    remote: Cluster,
    /// A remote without TLS.
    plain: Cluster,
    moto: Moto,
}

/// Never dropped: guardians end its servers when the process ends.
fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        let moto = Moto::start();
        let loud = [
            "log_min_messages = debug5",
            "log_error_verbosity = verbose",
            "log_min_error_statement = error",
            "log_connections = on",
            "log_disconnections = on",
        ];
        let local = loud.iter().fold(Cluster::local(&moto), |builder, line| builder.conf(line)).start();
        let remote = Cluster::remote()
            .auth("hostssl", "+md5", "md5")
            .auth("hostssl", "+cleartext", "password")
            .auth("hostssl", "+rejected", "reject")
            .auth("hostnossl", "+unencrypted", "scram-sha-256");
        let remote = loud.iter().fold(remote, |builder, line| builder.conf(line)).start();
        let groups = "CREATE ROLE md5; CREATE ROLE cleartext; CREATE ROLE rejected; CREATE ROLE unencrypted";
        remote.connect("postgres", "postgres").batch_execute(groups).unwrap();
        let plain = Cluster::plain().tcp().auth("host", "all", "scram-sha-256");
        let plain = loud.iter().fold(plain, |builder, line| builder.conf(line)).start();
        Ground { local, remote, plain, moto }
    })
}

fn api() -> SecretsApi {
    ground().moto.secrets()
}

fn unique(name: &str) -> String {
    format!("{name}-{}", random_password().to_lowercase())
}

/// A role of the remote with this password, in `group` if that is not empty.
fn remote_role(password: &str, group: &str) -> String {
    let (remote, role) = (&ground().remote, unique("role"));
    let encryption = if group == "md5" { "md5" } else { "scram-sha-256" };
    remote.create_login(&role, password, encryption);
    if !group.is_empty() {
        let grant = format!("GRANT {group} TO \"{role}\"");
        remote.connect("postgres", "postgres").batch_execute(&grant).unwrap();
    }
    role
}

/// Arguments of `connect_with_secret` after the secret, for the remote.
fn at_remote() -> String {
    at_port(ground().remote.port())
}

fn at_port(port: u16) -> String {
    format!("'127.0.0.1', 'testdb', remote_port => {port}")
}

/// A session that must not show its marker, and everything that is seen of it meanwhile.
struct Trial {
    marker: String,
    client: Client,
    /// What the client was told, errors and notices.
    told: Arc<Mutex<Vec<String>>>,
    /// The messages of the errors: the log has them, or it is not the right log.
    errors: Vec<String>,
    watch: Watch,
}

impl Trial {
    fn new() -> Self {
        Self::with_roles([]).0
    }

    /// With roles of the remote that have the marker as their password, one in each of `groups`.
    /// They come first: who creates a role is seen to do so.
    fn with_roles<const N: usize>(groups: [&str; N]) -> (Self, [String; N]) {
        let ground = ground();
        let (id, marker) = (unique("trial"), random_password());
        let roles = groups.map(|group| remote_role(&marker, group));
        let watch = Watch::start(&marker, &id);
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut config: postgres::Config = ground.local.conninfo("postgres", "postgres").parse().unwrap();
        config.application_name(&id).notice_callback({
            let told = Arc::clone(&told);
            move |notice| told.lock().unwrap().push(format!("{notice:?}"))
        });
        let mut client = config.connect(postgres::NoTls).unwrap();
        client.batch_execute("SET client_min_messages = debug5").unwrap();
        (Self { marker, client, told, errors: Vec::new(), watch }, roles)
    }

    /// A secret with this value, in which `MARKER` stands for the marker.
    fn secret(&self, value: &str) -> String {
        let name = unique("secret");
        api().create_secret(&name, &value.replace("MARKER", &self.marker));
        name
    }

    /// A secret for `role`, with the marker as its password.
    fn login(&self, role: &str) -> String {
        self.secret(&json!({ "username": role, "password": "MARKER" }).to_string())
    }

    /// That a statement fails. What it says is checked by [`Trial::end`].
    #[track_caller]
    fn fails_with(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> DbError {
        assert!(!sql.contains(&self.marker), "the log is right to show this statement");
        let error = db_error(self.client.query(sql, parameters));
        self.told.lock().unwrap().push(format!("{error:?}"));
        self.errors.push(error.message().to_owned());
        error
    }

    /// That a statement without parameters fails so.
    #[track_caller]
    fn fails(&mut self, sql: &str, expected: &str) {
        let error = self.fails_with(sql, &[]);
        let all = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        assert!(all.contains(expected), "{sql}: {error:?}");
    }

    /// That an attempt to connect fails so, and that with `fail => false` it says so.
    #[track_caller]
    fn fails_to_connect(&mut self, secret: &str, arguments: &str, expected: &str) {
        let call = format!("SELECT connect_with_secret('{secret}', {arguments}");
        self.fails(&format!("{call})"), expected);
        let said: String = self.client.query_one(&format!("{call}, fail => false)"), &[]).unwrap().get(0);
        assert!(said.starts_with("Connection failed: ") && said.contains(expected), "{said}");
        self.told.lock().unwrap().push(said);
    }

    /// Where the marker was seen.
    fn seen(self) -> Vec<String> {
        let Self { marker, client, told, errors, watch } = self;
        let ground = ground();
        let mut seen = watch.end();
        drop(client);
        let told = told.lock().unwrap();
        assert!(told.iter().any(|line| line.contains("DEBUG")), "the client is told everything");
        seen.extend(told.iter().filter(|line| line.contains(&marker)).cloned());
        let log = ground.local.log();
        for message in errors {
            let line = message.lines().next().unwrap_or_default();
            assert!(log.contains(line), "the log lacks {line:?}");
        }
        for (server, log) in [("local", log), ("remote", ground.remote.log()), ("plain", ground.plain.log())]
        {
            assert!(log.contains("DEBUG:  00000: "), "the log of {server} has everything");
            let lines = log.lines().filter(|line| line.contains(&marker));
            seen.extend(lines.map(|line| format!("log of {server}: {line}")));
        }
        seen
    }

    /// The marker was seen nowhere.
    #[track_caller]
    fn end(self) {
        let seen = self.seen();
        assert!(seen.is_empty(), "{seen:#?}");
    }
}

/// Looks at `pg_stat_activity` of every server, all the time.
struct Watch {
    stop: Arc<AtomicBool>,
    found: Arc<AtomicBool>,
    watcher: JoinHandle<Vec<String>>,
}

impl Watch {
    fn start(marker: &str, id: &str) -> Self {
        let (stop, found) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let ground = ground();
        let servers = [&ground.local, &ground.remote, &ground.plain];
        let mut clients = servers.map(|server| server.connect("postgres", "postgres"));
        let mut look = {
            let (marker, id, found) = (marker.to_owned(), id.to_owned(), Arc::clone(&found));
            move || {
                let mut seen = Vec::new();
                for client in &mut clients {
                    for row in client.query("SELECT a::text FROM pg_stat_activity a", &[]).unwrap() {
                        let row: String = row.get(0);
                        found.fetch_or(row.contains(&id), Ordering::SeqCst);
                        if row.contains(&marker) {
                            seen.push(format!("pg_stat_activity: {row}"));
                        }
                    }
                }
                thread::sleep(Duration::from_millis(5));
                seen
            }
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while !look().is_empty() {
            assert!(Instant::now() < deadline, "the sessions that create the roles do not end");
        }
        let watcher = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut seen = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    seen.extend(look());
                }
                seen
            }
        });
        Self { stop, found, watcher }
    }

    /// What was seen of the marker, by a watch that was awake.
    fn end(self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.found.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "the trial's own session was not seen in pg_stat_activity");
            thread::sleep(Duration::from_millis(5));
        }
        self.stop.store(true, Ordering::SeqCst);
        self.watcher.join().unwrap()
    }
}

#[test]
fn a_marker_that_does_get_out_is_seen_everywhere() {
    let mut trial = Trial::new();
    let (marker, secret) = (trial.marker.clone(), trial.login("app"));
    trial.fails_with("SELECT $1::text::int", &[&marker]);
    // The name of a database is no secret: the remote logs it.
    let connect = "SELECT connect_with_secret($1, '127.0.0.1', $2, remote_port => $3)";
    trial.fails_with(connect, &[&secret, &marker, &i32::from(ground().remote.port())]);
    let plain =
        "SELECT connect_with_secret($1, '127.0.0.1', $2, remote_port => $3, options => 'sslmode=disable')";
    trial.fails_with(plain, &[&secret, &marker, &i32::from(ground().plain.port())]);
    let show = "SELECT set_config('application_name', $1, false), pg_sleep(0.5)";
    trial.client.query(show, &[&marker]).unwrap();
    let seen = trial.seen();
    for channel in ["DbError", "log of local", "log of remote", "log of plain", "pg_stat_activity"] {
        assert!(seen.iter().any(|line| line.starts_with(channel)), "{channel}: {seen:#?}");
    }
}

#[test]
fn a_refused_login_shows_no_password() {
    let (mut trial, [role]) = Trial::with_roles([""]);
    for group in ["", "md5", "cleartext"] {
        let secret = trial.login(&remote_role("another", group));
        trial.fails_to_connect(&secret, &at_remote(), "password authentication failed");
    }
    let secret = trial.login(&remote_role("another", "unencrypted"));
    let plainly = format!("{}, options => 'sslmode=disable'", at_remote());
    trial.fails_to_connect(&secret, &plainly, "password authentication failed");

    let secret = trial.login("no such role");
    trial.fails_to_connect(&secret, &at_remote(), "password authentication failed");
    let secret = trial.login(&remote_role("another", "rejected"));
    trial.fails_to_connect(&secret, &at_remote(), "pg_hba.conf rejects connection");

    let good = trial.login(&role);
    let port = ground().remote.port();
    for (arguments, expected) in [
        (format!("'127.0.0.1', 'no such', remote_port => {port}"), "database \"no such\" does not exist"),
        (format!("{}, options => 'sslmode=disable'", at_remote()), "no pg_hba.conf entry"),
        (
            format!("{}, options => 'require_auth=md5'", at_remote()),
            "authentication method requirement failed",
        ),
        (format!("{}, options => 'target_session_attrs=standby'", at_remote()), "not in hot standby mode"),
        (format!("{}, options => 'options=-cno_such=1'", at_remote()), "no_such"),
        (format!("{}, options => 'requirepeer=x'", at_remote()), "requirepeer is not supported"),
    ] {
        trial.fails_to_connect(&good, &arguments, expected);
    }
    let nobody_logs_in = format!("ALTER ROLE \"{role}\" NOLOGIN");
    ground().remote.connect("postgres", "postgres").batch_execute(&nobody_logs_in).unwrap();
    trial.fails_to_connect(&good, &at_remote(), "is not permitted to log in");
    trial.end();
}

#[test]
fn a_refused_connection_shows_no_password() {
    let mut trial = Trial::new();
    let secret = trial.login("app");
    let plain = ground().plain.port();
    let ca = ground().remote.tls().ca.display();
    let port = ground().remote.port();
    for (arguments, expected) in [
        (at_port(plain), "server does not support SSL, but SSL was required"),
        (format!("{}, options => 'sslmode=prefer'", at_port(plain)), "unencrypted connection"),
        (format!("{}, options => 'sslmode=allow'", at_port(plain)), "unencrypted connection"),
        (format!("{}, options => 'sslmode=disable'", at_port(plain)), "password authentication failed"),
        (
            format!("{}, options => 'sslmode=disable channel_binding=require'", at_port(plain)),
            "channel binding required",
        ),
        (at_port(free_port()), "Connection refused"),
        ("'no-such-host.invalid'".to_owned(), "could not translate host name"),
        (format!("'127.0.0.1,no-such-host.invalid', remote_port => {}", free_port()), "no-such-host.invalid"),
        ("'/nonexistent'".to_owned(), "No such file"),
        (format!("{}, options => 'sslmode=verify-full sslrootcert=/none'", at_remote()), "does not exist"),
        (format!("{}, options => 'sslmode=verify-full sslrootcert=system'", at_remote()), ""),
        (format!("{}, options => 'sslcert=/none sslkey=/none'", at_remote()), "/none"),
        (
            format!(
                "'other.example', remote_port => {port}, options => 'hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={ca}'"
            ),
            "SSL error",
        ),
    ] {
        trial.fails_to_connect(&secret, &arguments, expected);
    }
    trial.end();
}

#[test]
fn a_secret_that_is_no_login_shows_nothing_of_itself() {
    let mut trial = Trial::new();
    for (value, expected) in [
        (r#"{"password": "MARKER"#, "is not valid JSON"),
        (r#"{"password": "MARKER""#, "is not valid JSON"),
        (r#"{"password": MARKER}"#, "is not valid JSON"),
        (r#"{"password": "MARKER\q"}"#, "is not valid JSON"),
        (r#"{"password": "MARKER"} MARKER"#, "is not valid JSON"),
        ("MARKER", "is not valid JSON"),
        (r#"["MARKER"]"#, "is not a JSON object"),
        (r#"{"username": "u", "host": "h", "password": ["MARKER"]}"#, "field \"password\""),
        (r#"{"username": "u", "host": "h", "password": {"MARKER": 1}}"#, "field \"password\""),
        (r#"{"username": "u", "host": "h", "password": "MARKER\u0000"}"#, "field \"password\""),
        (r#"{"username": "u", "host": "h", "password": "MARKER", "port": "MARKER"}"#, "field \"port\""),
        (r#"{"username": ["MARKER"], "host": "h", "password": "MARKER"}"#, "field \"username\""),
        (r#"{"username": "u", "host": "h", "pasword": "MARKER"}"#, "has no password field"),
        (r#"{"username": "u", "password": "MARKER"}"#, "has no host field"),
        (r#"{"host": "h", "password": "MARKER"}"#, "has no username field"),
        // A password in the place of something else, but still to be seen as one.
        (
            r#"{"username": "u", "host": "h password=MARKER", "password": "x"}"#,
            "contains a connection string",
        ),
        (r#"{"username": "u", "host": "u:MARKER@h", "password": "x"}"#, "host name number 1"),
        (
            r#"{"username": "u", "dbname": "postgres://u:MARKER@h", "host": "h", "password": "x"}"#,
            "contains a connection string",
        ),
    ] {
        let secret = trial.secret(value);
        trial.fails(&format!("SELECT connect_with_secret('{secret}')"), expected);
        if expected == "is not valid JSON" {
            trial.fails(&format!("SELECT get_secret_value('{secret}')"), expected);
        }
    }
    let input = json!({ "Name": unique("binary"), "SecretBinary": "AAAA" });
    let binary = api().call("CreateSecret", input).unwrap()["Name"].as_str().unwrap().to_owned();
    trial.fails(&format!("SELECT get_secret_string('{binary}')"), "is binary");
    let text = trial.secret("MARKER");
    trial.fails(&format!("SELECT get_secret_binary('{text}')"), "is not binary");
    trial.end();
}

#[test]
fn a_connection_string_that_is_none_shows_no_password() {
    let mut trial = Trial::new();
    let marker = trial.marker.clone();
    for conninfo in [
        "host=h password='MARKER",
        "password='MARKER",
        "host=h password=it's MARKER",
        "host=h password MARKER",
        "MARKER",
        "host=h MARKER",
        "host=h password=two MARKER=x",
        "password=MARKER host=h nosuch=1",
        "password=MARKER host=h port=0",
        "password=MARKER host=h sslmode=MARKERpassword=x",
        "password=MARKER host='a b'",
        "password=MARKER host=a,b port=1,2,3",
        "user='a password=MARKER' host=h",
        "host=h port=password=MARKER",
        "host='h password=MARKER'",
        "dbname='postgres://u:MARKER@h/d' host=h",
        "password=MARKER service=no_such",
        "password=MARKER sslkey=/none sslcert=/none host=127.0.0.1 port=PORT sslmode=require",
        "sslpassword=MARKER host='",
        "postgresql://u:MARKER",
        "postgresql://u:MARKER@[::1",
        "postgresql://u:MARKER@h:port",
        "postgresql://u:MARKER@a@h",
        "postgresql://u:MARKER/x@h",
        "postgresql://u:MARKER%zz@h",
        "postgresql://h?password=MARKER&x=1",
        "postgresql://h?password=MARKER&password",
        "postgresql://h?password=MARKER=MARKER",
        "postgresql://h?MARKER",
        "postgresql://h/?passwort=MARKER",
        // Right, but for the password.
        "host=127.0.0.1 port=PORT user=app dbname=testdb password=MARKER sslmode=require",
        "postgresql://app:MARKER@127.0.0.1:PORT/testdb?sslmode=require",
        "host=127.0.0.1 port=PORT user=app dbname=no_such password=MARKER sslmode=verify-full sslrootcert=/none",
        "host=127.0.0.1 port=PLAIN user=app password=MARKER sslmode=require",
        "host=127.0.0.1 port=1 user=app password=MARKER",
    ] {
        let conninfo = conninfo
            .replace("MARKER", &marker)
            .replace("PORT", &ground().remote.port().to_string())
            .replace("PLAIN", &ground().plain.port().to_string());
        for sql in [
            "SELECT dblink_connect($1)",
            "SELECT dblink_connect('c', $1)",
            "SELECT * FROM dblink($1, 'SELECT 1') AS t(a int)",
            "SELECT dblink_exec($1, 'SELECT', false)",
        ] {
            let error = trial.fails_with(sql, &[&conninfo]);
            assert_eq!(error.code().code(), "08001", "{conninfo}: {error:?}");
        }
    }
    trial.end();
}

#[test]
fn a_password_among_the_options_is_refused_and_not_shown() {
    let mut trial = Trial::new();
    let marker = trial.marker.clone();
    let secret = trial.login("app");
    let call = format!("SELECT connect_with_secret('{secret}', {}, options => $1)", at_remote());
    for (options, message) in [
        ("password=MARKER", "option \"password\" is not allowed here"),
        ("sslmode=require password=MARKER", "option \"password\" is not allowed here"),
        ("postgresql://u:MARKER@h", "option \"password\" is not allowed here"),
        ("password='MARKER", "unterminated quoted string in connection info string"),
        ("application_name='x password=MARKER'", "contains a connection string with a password"),
        ("password MARKER", "missing \"=\""),
    ] {
        let error = trial.fails_with(&call, &[&options.replace("MARKER", &marker)]);
        assert!(error.message().contains(message), "{options}: {error:?}");
    }
    // And whoever puts a conninfo where a host, a database or a user should be.
    for argument in ["remote_host", "remote_db", "remote_user"] {
        let call = format!("SELECT connect_with_secret('{secret}', {argument} => $1)");
        trial.fails_with(&call, &[&format!("h password={marker}")]);
        trial.fails_with(&call, &[&format!("postgres://u:{marker}@h")]);
    }
    trial.end();
}

#[test]
fn errors_on_an_open_connection_show_no_password() {
    let (mut trial, [role]) = Trial::with_roles([""]);
    let secret = trial.login(&role);
    let proxy = Proxy::to(ground().remote.port());
    let connect = format!("SELECT connect_with_secret('{secret}', {})", at_port(proxy.port()));
    trial.client.query_one(&connect, &[]).unwrap();
    for (sql, expected) in [
        ("SELECT * FROM dblink('remote_conn', 'SELECT 1/0') AS t(a int)", "division by zero"),
        ("SELECT * FROM dblink('remote_conn', 'SELECT 1') AS t(a int, b int)", "rowtype does not match"),
        ("SELECT * FROM dblink('remote_conn', 'SELECT ''x''') AS t(a int)", "invalid input syntax"),
        ("SELECT dblink_exec('remote_conn', 'nonsense')", "syntax error"),
        ("SELECT dblink_exec('remote_conn', 'SELECT 1')", "statement returning results not allowed"),
        ("SELECT dblink_exec('remote_conn', 'COPY pg_class TO STDOUT')", "COPY"),
        ("SELECT dblink_connect('remote_conn', 'host=h')", "duplicate connection name"),
        ("SELECT dblink_exec('remote_conn', 'SELECT pg_terminate_backend(pg_backend_pid())')", ""),
        ("SELECT dblink_exec('remote_conn', 'SELECT')", ""),
    ] {
        trial.fails(sql, expected);
    }
    trial.client.query_one(&connect, &[]).unwrap();
    proxy.set(Mode::Refuse);
    trial.fails("SELECT dblink_exec('remote_conn', 'SELECT')", "");
    trial.end();
}

/// Refusals that quote what they refuse, as validation does, and answers that break off in the
/// middle of the secret.
#[test]
fn an_answer_of_aws_that_repeats_the_secret_is_not_repeated() {
    let mut trial = Trial::new();
    let marker = trial.marker.clone();
    let endpoint = ScriptedEndpoint::start();
    let set = format!("SET secretlink.endpoint_url = '{}'; SET secretlink.max_attempts = 1", endpoint.url());
    trial.client.batch_execute(&set).unwrap();

    let value = format!(r#"{{"password": "{marker}"}}"#);
    let quoted = format!(
        "1 validation error detected: Value '{value}' at 'secretString' failed to satisfy constraint"
    );
    for code in [
        "ValidationException",
        "InvalidParameterException",
        "InternalServiceError",
        "SomethingNew",
        "InvalidSignatureException",
        "ResourceExistsException",
    ] {
        endpoint.refuse(code, &quoted);
        trial.fails_with("SELECT create_secret('x', $1::text::json)", &[&value]);
        trial.fails_with("SELECT put_secret_value('x', $1::text::json)", &[&value]);
    }
    assert!(endpoint.requests().iter().all(|request| request.contains(&marker)), "it was sent");

    let answer = json!({ "ARN": "a", "Name": "x", "VersionId": "v", "SecretString": value }).to_string();
    for body in [
        &answer[..answer.len() - 1],
        &answer[..answer.find(&marker).unwrap() + marker.len() + 2],
        &answer.replace("\"Name\":\"x\",", ""),
        &answer.replace("\"VersionId\":\"v\"", &format!("\"VersionId\":\"{marker}")),
        &answer.replace("SecretString", "SecretStrings"),
        &answer.replace("\"a\"", &format!("[\"{marker}\"]")),
        &format!("<html>{marker}</html>"),
    ] {
        for status in [200, 400, 500] {
            endpoint.answer(status, body);
            trial.fails_with("SELECT get_secret_value('x')", &[]);
            trial.fails_with("SELECT connect_with_secret('x', 'h')", &[]);
        }
    }
    endpoint.answer_raw(format!("HTTP/1.1 200 OK\r\nx: {marker}\0\r\n\r\n").as_bytes());
    trial.fails_with("SELECT get_secret_value('x')", &[]);
    endpoint.answer_raw(marker.as_bytes());
    trial.fails_with("SELECT get_secret_value('x')", &[]);
    trial.end();
}

#[test]
fn a_secret_that_cannot_be_stored_is_not_shown() {
    let mut trial = Trial::new();
    let marker = trial.marker.clone();
    let value = format!(r#"{{"password": "{marker}"}}"#);
    let there = trial.secret("MARKER");
    trial.fails_with("SELECT create_secret($1, $2::text::json)", &[&there, &value]);
    trial.fails_with("SELECT create_secret('not a name', $1::text::json)", &[&value]);
    trial.fails_with("SELECT put_secret_value('no-such', $1::text::json)", &[&value]);
    trial.fails_with("SELECT put_secret_value('no-such', $1::text::json, '{}')", &[&value]);
    let long = json!(marker.repeat(3000)).to_string();
    trial.fails_with("SELECT put_secret_value('no-such', $1::text::json)", &[&long]);
    trial.client.batch_execute("SET secretlink.endpoint_url = 'http://127.0.0.1:1'").unwrap();
    trial.fails_with("SELECT create_secret('x', $1::text::json)", &[&value]);
    trial.end();
}

#[test]
fn an_answer_of_aws_cut_at_any_byte_shows_nothing() {
    let mut trial = Trial::new();
    let secret = trial.login("app");
    let proxy = Proxy::to(ground().moto.port());
    let set =
        format!("SET secretlink.endpoint_url = '{}'; SET secretlink.max_attempts = 1", proxy.endpoint());
    trial.client.batch_execute(&set).unwrap();
    let get = format!("SELECT get_secret_string('{secret}')");
    let connect = format!("SELECT connect_with_secret('{secret}', '127.0.0.1', remote_port => 1)");
    let mut cut = 0;
    for length in (1..1000).step_by(37) {
        proxy.set(Mode::CutAfter(length));
        // The answer is somewhat longer than 400 bytes: beyond, the secret itself may arrive.
        if trial.client.query_one(&get, &[]).is_err() {
            cut += 1;
        }
        trial.fails_with(&connect, &[]);
    }
    assert!((8..25).contains(&cut), "{cut}: some answers are cut and some are not");
    trial.end();
}

#[test]
fn a_login_cut_at_any_byte_shows_nothing() {
    let (mut trial, roles) = Trial::with_roles(["", "md5", "cleartext"]);
    for role in &roles {
        let secret = trial.login(role);
        let proxy = Proxy::to(ground().remote.port());
        let connect = format!("SELECT connect_with_secret('{secret}', {})", at_port(proxy.port()));
        let mut cut = 0;
        for length in (0..4000).step_by(111) {
            proxy.set(Mode::CutAfter(length));
            match trial.client.query_one(&connect, &[]) {
                Ok(_) => continue,
                Err(_) => trial.fails_with(&connect, &[]),
            };
            cut += 1;
        }
        assert!((8..36).contains(&cut), "{cut}: some logins are cut and some are not");
    }
    trial.end();
}

#[test]
fn an_interrupt_at_any_stage_shows_nothing() {
    let (mut trial, [role]) = Trial::with_roles([""]);
    let secret = trial.login(&role);
    let (aws, hole, nowhere) = (Proxy::to(ground().moto.port()), Proxy::black_hole(), NeverAnswers::new());
    let slow = Proxy::to(ground().remote.port());
    let set = format!("SET statement_timeout = 300; SET secretlink.endpoint_url = '{}'", aws.endpoint());
    trial.client.batch_execute(&set).unwrap();
    let timed_out = "canceling statement due to statement timeout";
    let connect_at = |port: u16| format!("SELECT connect_with_secret('{secret}', {})", at_port(port));

    for mode in [Mode::BlackHole, Mode::Delay(Duration::from_millis(200))] {
        aws.set(mode);
        trial.fails(&connect_at(slow.port()), timed_out);
    }
    aws.set(Mode::Pass);
    trial.fails(&connect_at(nowhere.port()), timed_out);
    trial.fails(&connect_at(hole.port()), timed_out);
    // TLS and SCRAM take some exchanges: each pause ends in another one.
    for pause in [40, 60, 90, 130, 200] {
        slow.set(Mode::Delay(Duration::from_millis(pause)));
        trial.fails(&connect_at(slow.port()), timed_out);
    }
    slow.set(Mode::Pass);
    trial.client.query_one(&connect_at(slow.port()), &[]).unwrap();
    trial.fails("SELECT dblink_exec('remote_conn', 'DO $$BEGIN PERFORM pg_sleep(9); END$$')", timed_out);

    trial.client.batch_execute("SET statement_timeout = 0; SET secretlink.request_timeout = 300").unwrap();
    aws.set(Mode::BlackHole);
    trial.fails(&connect_at(slow.port()), "request to Secrets Manager timed out");
    aws.set(Mode::Pass);
    let options = format!("{}, options => 'connect_timeout=2'", at_port(hole.port()));
    trial.fails(&format!("SELECT connect_with_secret('{secret}', {options})"), "timeout expired");

    // Ended from outside, in the middle of it.
    let pid = backend_pid(&mut trial.client).pid().cast_signed();
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        let mut client = ground().local.connect("postgres", "postgres");
        client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    });
    let error = trial.client.simple_query(&connect_at(hole.port())).unwrap_err();
    // The client library may notice the end of the connection before it hands out the server's last
    // word: that is in the log in any case.
    trial.told.lock().unwrap().push(format!("{error:?}"));
    trial.errors.push("57P01: terminating connection due to administrator command".into());
    killer.join().unwrap();
    trial.end();
}

/// A session whose memory is searched for a marker that only Secrets Manager and the remote know.
struct Searched {
    marker: String,
    client: Client,
    backend: Process,
}

impl Searched {
    fn new() -> Self {
        let mut client = ground().local.connect("postgres", "postgres");
        let backend = backend_pid(&mut client);
        Self { marker: random_password(), client, backend }
    }

    /// A secret for `role`, with the marker as its password, and so much air in its value.
    fn login(&self, role: &str, air: usize) -> String {
        let name = unique("searched");
        let value = json!({ "username": role, "password": self.marker }).to_string();
        api().create_secret(&name, &format!("{value}{}", " ".repeat(air)));
        name
    }

    fn hits(&self) -> Vec<MemoryHit> {
        self.backend.find_in_memory(self.marker.as_bytes())
    }

    /// The marker is nowhere in the backend's memory. The I/O thread may still be closing what the
    /// statement has left to it, for a moment.
    #[track_caller]
    fn clean(&self, after: &str) {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let hits = self.hits();
            if hits.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{after}: {hits:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// One statement that must fail.
    #[track_caller]
    fn fails(&mut self, sql: &str) -> DbError {
        assert!(!sql.contains(&self.marker));
        db_error(self.client.simple_query(sql))
    }
}

#[test]
fn a_marker_that_is_in_memory_is_found() {
    let mut searched = Searched::new();
    let secret = searched.login("app", 0);
    searched.clean("before");
    let hold = format!("SELECT set_config('my.held', get_secret_value('{secret}') ->> 'password', false)");
    searched.client.simple_query(&hold).unwrap();
    assert!(!searched.hits().is_empty(), "a SQL value holds it");

    // While a login waits for its server, the password waits with it.
    let searched = Searched::new();
    let secret = searched.login("app", 0);
    let hole = Proxy::black_hole();
    let connect = format!("SELECT connect_with_secret('{secret}', {})", at_port(hole.port()));
    let backend = searched.backend;
    let marker = searched.marker.clone();
    let mut client = searched.client;
    let cancel = client.cancel_token();
    let waiting = thread::spawn(move || client.simple_query(&connect).map(|_| ()));
    let deadline = Instant::now() + Duration::from_secs(5);
    while backend.find_in_memory(marker.as_bytes()).is_empty() {
        assert!(Instant::now() < deadline, "the search does not find what must be there");
    }
    cancel.cancel_query(postgres::NoTls).unwrap();
    assert_eq!(db_error(waiting.join().unwrap()).code().code(), "57014");
}

#[test]
fn memory_is_clean_after_connect_query_and_disconnect() {
    for group in ["", "md5", "cleartext", "unencrypted"] {
        let mut searched = Searched::new();
        let role = remote_role(&searched.marker, group);
        let mode = if group == "unencrypted" { "disable" } else { "require" };
        // Which buffers the answer of AWS passes through depends on its length.
        for air in [0, 3_000, 9_000, 30_000, 60_000] {
            let secret = searched.login(&role, air);
            for round in 1..=3 {
                let connect = format!(
                    "SELECT connect_with_secret('{secret}', {}, options => 'sslmode={mode}')",
                    at_remote()
                );
                searched.client.simple_query(&connect).unwrap();
                searched.clean(&format!("{group} {air} {round}: connected"));
                let query = "SELECT * FROM dblink('remote_conn', 'SELECT g FROM generate_series(1, 1000) g') AS t(g int)";
                assert_eq!(searched.client.query(query, &[]).unwrap().len(), 1000);
                searched.client.simple_query("SELECT dblink_disconnect('remote_conn')").unwrap();
                searched.clean(&format!("{group} {air} {round}: disconnected"));
            }
        }
    }
}

#[test]
fn memory_is_clean_after_failed_attempts() {
    for group in ["", "md5", "cleartext"] {
        let mut searched = Searched::new();
        let secret = searched.login(&remote_role("another", group), 0);
        for round in 1..=5 {
            let connect = format!("SELECT connect_with_secret('{secret}', {})", at_remote());
            let error = searched.fails(&connect);
            assert!(error.detail().unwrap().contains("password authentication failed"), "{error:?}");
            searched.clean(&format!("{group} {round}: wrong password"));
        }
    }
    let mut searched = Searched::new();
    let secret = searched.login(&remote_role(&searched.marker, ""), 0);
    let plain = ground().plain.port();
    for arguments in [
        at_port(plain),
        format!("{}, options => 'sslmode=prefer'", at_port(plain)),
        format!("{}, options => 'sslmode=verify-full sslrootcert=/none'", at_remote()),
        format!("{}, options => 'target_session_attrs=standby'", at_remote()),
        format!("'127.0.0.1', 'no such', remote_port => {}", ground().remote.port()),
        format!("'127.0.0.1,localhost,127.0.0.1', remote_port => {}", free_port()),
        "'no such host'".to_owned(),
        "'127.0.0.1', remote_port => 1".to_owned(),
    ] {
        searched.fails(&format!("SELECT connect_with_secret('{secret}', {arguments})"));
        searched.clean(&arguments);
    }
}

#[test]
fn memory_is_clean_after_a_secret_that_is_no_login() {
    let mut searched = Searched::new();
    for value in [
        r#"{"password": "MARKER"#,
        r#"["MARKER"]"#,
        r#"{"username": "u", "host": "h", "password": ["MARKER"]}"#,
        r#"{"username": "u", "host": "h", "password": "MARKER\u0000"}"#,
        r#"{"username": "u", "host": "h", "password": "MARKER", "port": "MARKER"}"#,
        r#"{"password": "MARKER", "more": {"MARKER": ["MARKER"]}}"#,
        r#"{"username": "u", "host": "h password=MARKER", "password": "MARKER"}"#,
    ] {
        let name = unique("searched");
        api().create_secret(&name, &value.replace("MARKER", &searched.marker));
        searched.fails(&format!("SELECT connect_with_secret('{name}')"));
        searched.clean(value);
    }
}

#[test]
fn memory_is_clean_after_interrupts_and_cuts() {
    let mut searched = Searched::new();
    let secret = searched.login(&remote_role(&searched.marker, ""), 20_000);
    let (aws, hole) = (Proxy::to(ground().moto.port()), Proxy::black_hole());
    let slow = Proxy::to(ground().remote.port());
    let set = format!(
        "SET statement_timeout = 300; SET secretlink.max_attempts = 1; SET secretlink.endpoint_url = '{}'",
        aws.endpoint()
    );
    searched.client.batch_execute(&set).unwrap();
    let connect_at = |port: u16| format!("SELECT connect_with_secret('{secret}', {})", at_port(port));

    for round in 1..=3 {
        let error = searched.fails(&connect_at(hole.port()));
        assert_eq!(error.code().code(), "57014", "{error:?}");
        searched.clean(&format!("{round}: cancelled while the server kept silent"));
    }
    for pause in [40, 60, 90, 130, 200] {
        slow.set(Mode::Delay(Duration::from_millis(pause)));
        searched.fails(&connect_at(slow.port()));
        searched.clean(&format!("cancelled during the login, {pause} ms a message"));
    }
    for length in [0, 7, 200, 1000, 1500, 2000, 2500] {
        slow.set(Mode::CutAfter(length));
        let _ = searched.client.simple_query(&connect_at(slow.port()));
        searched.clean(&format!("the login was cut after {length} bytes"));
    }
    slow.set(Mode::Pass);
    for length in [300, 500, 1_000, 5_000, 15_000] {
        aws.set(Mode::CutAfter(length));
        searched.fails(&connect_at(slow.port()));
        searched.clean(&format!("the answer of AWS was cut after {length} bytes"));
    }
    aws.set(Mode::Pass);
    searched.client.simple_query(&connect_at(slow.port())).unwrap();
    searched.fails("SELECT * FROM dblink('remote_conn', 'SELECT pg_sleep(9)') AS t(a text)");
    searched.client.simple_query("SELECT dblink_disconnect('remote_conn')").unwrap();
    searched.clean("a query was cancelled");
}
