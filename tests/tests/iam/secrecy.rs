//! No token in any output, and none left in memory.
//!
//! The signature makes a token: what stands before it is known to anybody.

use crate::ground::{Ground, HOST, refusal, text};
use postgres::Client;
use secretlink_e2e::{
    ClusterBuilder, Mode, Moto, Process, Proxy, TempDir, backend_pid, db_error, eventually, unique,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What every token has before its signature, and nothing else has.
const MARKER: &str = "X-Amz-Signature=";

/// A server that logs all that it can.
fn loud(cluster: ClusterBuilder) -> ClusterBuilder {
    let lines = [
        "log_min_messages = debug5",
        "log_error_verbosity = verbose",
        "log_min_error_statement = debug5",
        "log_statement = all",
        "log_duration = on",
        "log_parameter_max_length = -1",
        "log_parameter_max_length_on_error = -1",
        "debug_print_plan = on",
        "log_connections = on",
    ];
    lines.iter().fold(cluster, |cluster, line| cluster.conf(line))
}

/// Users for each way to be let in or not: `trusted`, `scrammer`, `nobody`, `rejected`, and `app`.
fn users(ground: &Ground) {
    for user in ["trusted", "nobody", "rejected"] {
        ground.role(user);
    }
    ground.remote.create_login("scrammer", "x", "scram-sha-256");
    ground.verifier.forbid("nobody");
}

fn start() -> Ground {
    let ground = Ground::with(loud, |remote| {
        loud(remote).auth("hostssl", "trusted", "trust").auth("hostssl", "rejected", "reject").auth(
            "hostssl",
            "scrammer",
            "scram-sha-256",
        )
    });
    users(&ground);
    ground
}

/// Statements that make a token and use it, or come to nothing, each in its own way.
fn uses(ground: &Ground) -> Vec<String> {
    let ca = ground.remote.tls().ca.display();
    let port = ground.remote.port();
    let other = format!(
        "SELECT connect_with_iam('x{HOST}', 'testdb', 'app', {port}, options => '{}')",
        ground.options()
    );
    vec![
        ground.connect("app"),
        ground.connect_with("app", &format!("{} sslmode=verify-ca", ground.options())),
        ground.connect_with("app", "hostaddr=127.0.0.1 sslmode=require"),
        "SELECT * FROM dblink('remote_conn', 'SELECT g FROM generate_series(1, 1000) g') AS t(g int)".into(),
        "SELECT dblink_exec('remote_conn', 'nonsense')".into(),
        "SELECT dblink_disconnect('remote_conn')".into(),
        ground.connect("nobody"),
        ground.connect("trusted"),
        ground.connect("scrammer"),
        ground.connect("rejected"),
        ground.connect("no such role"),
        ground.connect("nobody").replace("options =>", "fail => false, options =>"),
        ground.connect("app").replace("'testdb'", "'no such'"),
        ground.connect_with("app", "hostaddr=127.0.0.1"),
        ground.connect_with("app", &format!("{} target_session_attrs=standby", ground.options())),
        ground.connect_with("app", "hostaddr=127.0.0.1 sslmode=prefer"),
        other,
        format!(
            "SELECT count(*) FROM secretlink_check('{HOST}', 'app', {port}, options => '{}')",
            ground.options()
        ),
        format!(
            "DROP SERVER IF EXISTS s CASCADE; CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (iam_auth 'on', host '{HOST}', hostaddr '127.0.0.1', port '{port}', dbname 'testdb', sslrootcert '{ca}');
             CREATE USER MAPPING FOR postgres SERVER s OPTIONS (user 'app')"
        ),
        "SELECT * FROM dblink('s', 'SELECT 1') AS t(a int)".into(),
        "SELECT dblink_connect('c', 's')".into(),
        "SELECT dblink_disconnect('c')".into(),
    ]
}

/// Neither a token nor the signature of one is in the memory of a process. The I/O thread may still be closing what
/// the statement has left to it, for a moment.
#[track_caller]
fn clean(process: Process, signatures: &[String], after: &str) {
    eventually(&format!("clean memory: {after}"), Duration::from_secs(2), || {
        let markers = std::iter::once(MARKER).chain(signatures.iter().map(String::as_str));
        let hits: Vec<_> = markers.flat_map(|marker| process.find_in_memory(marker.as_bytes())).collect();
        if hits.is_empty() { Ok(()) } else { Err(format!("{hits:?}")) }
    });
}

/// The signatures of all tokens that came to the database.
fn signatures(ground: &Ground) -> Vec<String> {
    let verdicts = ground.verifier.verdicts();
    let mut signatures: Vec<_> =
        verdicts.iter().filter_map(|verdict| Some(verdict.token.split_once(MARKER)?.1.to_owned())).collect();
    signatures.sort_unstable();
    signatures.dedup();
    assert!(signatures.iter().all(|signature| signature.len() == 64), "{signatures:?}");
    signatures
}

#[test]
fn none_is_left_in_memory() {
    let ground = start();
    let mut client = ground.session();
    let backend = backend_pid(&mut client);
    for round in 1..=2 {
        for sql in uses(&ground) {
            let _ = client.simple_query(&sql);
            clean(backend, &signatures(&ground), &format!("{round}: {sql}"));
        }
    }
    assert!(signatures(&ground).len() >= 2, "tokens were sent");
    // One that is held is found.
    let hold = format!("SELECT set_config('my.held', iam_auth_token('{HOST}', 'app'), false)");
    text(&mut client, &hold);
    assert!(!backend.find_in_memory(MARKER.as_bytes()).is_empty());
}

#[test]
fn none_is_left_in_memory_of_a_long_one() {
    let session = "s+/=".repeat(1_000);
    let ground = Ground::with(|local| local.env("AWS_SESSION_TOKEN", &session), |remote| remote);
    ground.verifier.trust("test", "test", Some(&session));
    let mut client = ground.session();
    let backend = backend_pid(&mut client);
    for user in ["app", "no such role"] {
        let _ = client.simple_query(&ground.connect(user));
        clean(backend, &signatures(&ground), user);
    }
    assert_eq!(signatures(&ground).len(), 2);
}

#[test]
fn none_is_left_in_memory_after_interrupts_and_cuts() {
    let ground = Ground::start();
    let mut client = ground.session();
    let backend = backend_pid(&mut client);
    let (proxy, hole) = (Proxy::to(ground.remote.port()), Proxy::black_hole());
    let connect_at = |port: u16| {
        let of = format!("'app', {}", ground.remote.port());
        ground.connect("app").replace(&of, &format!("'app', {port}"))
    };
    ground.verifier.expect(HOST, proxy.port());
    client.batch_execute("SET statement_timeout = 300").unwrap();
    for pause in [40, 90, 200] {
        proxy.set(Mode::Delay(Duration::from_millis(pause)));
        let _ = client.simple_query(&connect_at(proxy.port()));
        clean(backend, &signatures(&ground), &format!("cancelled, {pause} ms a message"));
    }
    client.batch_execute("SET statement_timeout = 0").unwrap();
    for length in (0..4_000).step_by(250) {
        proxy.set(Mode::CutAfter(length));
        let _ = client.simple_query(&connect_at(proxy.port()));
        clean(backend, &signatures(&ground), &format!("cut after {length} bytes"));
    }
    proxy.set(Mode::Pass);
    text(&mut client, &connect_at(proxy.port()));
    assert!(ground.verifier.verdicts().iter().all(|verdict| verdict.refusal.is_none()));

    // While a login waits for its server, the token waits with it.
    let (connect, cancel) = (connect_at(hole.port()), client.cancel_token());
    let waiting = thread::spawn(move || {
        let error = db_error(client.simple_query(&connect));
        (client, error)
    });
    eventually("the search finds what must be there", Duration::from_secs(20), || {
        let found = !backend.find_in_memory(MARKER.as_bytes()).is_empty();
        found.then_some(()).ok_or("nothing".to_owned())
    });
    cancel.cancel_query(postgres::NoTls).unwrap();
    let (_client, error) = waiting.join().unwrap();
    assert_eq!(error.code().code(), "57014");
    clean(backend, &signatures(&ground), "cancelled while the server kept silent");
}

/// The worker signs tokens anew. Nobody asks it for them.
#[test]
fn none_is_left_in_memory_of_the_worker() {
    let directory = TempDir::new();
    let ground = Ground::with_credentials_that_end_early(&directory);
    let mut client = ground.session();
    text(&mut client, &ground.connect("app"));
    eventually("the worker signs one", Duration::from_secs(60), || {
        text(&mut client, &ground.connect("app"));
        let signed = text(&mut client, "SELECT iam_tokens_signed FROM secretlink_stats");
        if signed == "1" { Err("not yet".to_owned()) } else { Ok(()) }
    });
    text(&mut client, &ground.connect("app"));
    let pid = text(&mut client, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'secretlink cache'");
    let worker = Process::new(pid.parse().unwrap());
    clean(worker, &signatures(&ground), "the worker");
    clean(Process::new(ground.local.postmaster_pid()), &signatures(&ground), "the postmaster");
}

#[test]
fn none_is_told() {
    let ground = start();
    let mut client = ground.session();
    let mut told = Vec::new();
    let done = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut watcher = ground.session();
            let mut at_database = ground.remote.connect("postgres", "postgres");
            let mut seen = String::new();
            while !done.load(Ordering::SeqCst) {
                for client in [&mut watcher, &mut at_database] {
                    seen += &text(client, "SELECT string_agg(a::text, ' ') FROM pg_stat_activity a");
                }
            }
            seen
        });
        for sql in uses(&ground) {
            if let Err(error) = client.simple_query(&sql) {
                told.push(format!("{error:?}"));
            }
            told.push(views(&mut client));
        }
        done.store(true, Ordering::SeqCst);
        watcher.join().unwrap()
    });
    told.push(seen);
    // A function that returns one is asked for: the log has the call and not the result.
    let token =
        text(&mut client, &format!("SELECT iam_auth_token('{HOST}', 'app', {})", ground.remote.port()));
    assert!(token.contains(MARKER));
    let mut signatures = signatures(&ground);
    signatures.push(token.split_once(MARKER).unwrap().1.to_owned());
    for (name, log) in [("local", ground.local.log()), ("remote", ground.remote.log())] {
        assert!(log.contains("DEBUG:  00000: "), "the log of {name} has everything");
        assert!(name == "remote" || log.contains("could not establish connection"), "the log of {name}");
        told.push(log);
    }
    let told = told.join("\n");
    for marker in signatures.iter().map(String::as_str).chain([MARKER, "X-Amz-Credential"]) {
        let line = told.lines().find(|line| line.contains(marker));
        assert!(line.is_none(), "{marker}: {line:?}");
    }
}

/// Everything that the views show.
fn views(client: &mut Client) -> String {
    [
        "secret_cache",
        "remote_connections",
        "secretlink_stats",
        "secretlink_aws_calls",
        "pg_stat_activity",
        "pg_settings",
    ]
    .map(|view| text(client, &format!("SELECT string_agg(v::text, ' ') FROM {view} v")))
    .concat()
}

/// A secret that asks for a token is on its way to one, and so is a server with that secret.
#[test]
fn none_is_left_of_a_secret_that_asks_for_it() {
    let moto = Moto::start();
    let ground = Ground::with(
        |local| loud(local.conf(&format!("secretlink.endpoint_url = '{}'", moto.endpoint()))),
        |remote| remote,
    );
    ground.verifier.forbid("nobody");
    ground.role("nobody");
    let mut client = ground.session();
    let backend = backend_pid(&mut client);
    for user in ["app", "nobody"] {
        let name = unique("iam");
        let value = serde_json::json!({
            "host": HOST, "port": ground.remote.port(), "username": user, "dbname": "testdb", "iam_auth": true,
        });
        moto.secrets().create_secret(&name, &value.to_string());
        let connect = format!("SELECT connect_with_secret('{name}', options => '{}')", ground.options());
        match user {
            "app" => assert_eq!(text(&mut client, &connect), "Connection established successfully"),
            _ => assert!(refusal(&mut client, &connect).hint().unwrap().contains("rds-db:connect")),
        }
        clean(backend, &signatures(&ground), user);
    }
    let signatures = signatures(&ground);
    assert_eq!(signatures.len(), 2);
    let log = ground.local.log();
    assert!(!log.contains(MARKER) && signatures.iter().all(|signature| !log.contains(signature)));
}
