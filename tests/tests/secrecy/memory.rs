//! The memory of a backend.

use crate::ground::{api, at_port, at_remote, ground, remote_role};
use postgres::Client;
use postgres::error::DbError;
use secretlink_e2e::{
    MemoryHit, Mode, Process, Proxy, backend_pid, db_error, eventually, free_port, random_password, unique,
};
use serde_json::json;
use std::thread::{self};
use std::time::Duration;

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
        eventually(&format!("clean memory: {after}"), Duration::from_secs(1), || {
            let hits = self.hits();
            if hits.is_empty() { Ok(()) } else { Err(format!("{hits:?}")) }
        });
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
    eventually("the search finds what must be there", Duration::from_secs(5), || {
        let found = !backend.find_in_memory(marker.as_bytes()).is_empty();
        found.then_some(()).ok_or("nothing".to_owned())
    });
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
        searched.client.query_one(&format!("SELECT forget_secret('{secret}')"), &[]).unwrap();
        aws.set(Mode::CutAfter(length));
        searched.fails(&connect_at(slow.port()));
        searched.clean(&format!("the answer of AWS was cut after {length} bytes"));
    }
    aws.set(Mode::Pass);
    // This one is to succeed, however busy the machine is.
    searched.client.batch_execute("RESET statement_timeout").unwrap();
    searched.client.simple_query(&connect_at(slow.port())).unwrap();
    searched.client.batch_execute("SET statement_timeout = 300").unwrap();
    searched.fails("SELECT * FROM dblink('remote_conn', 'SELECT pg_sleep(9)') AS t(a text)");
    searched.client.simple_query("SELECT dblink_disconnect('remote_conn')").unwrap();
    searched.clean("a query was cancelled");
}

#[test]
fn memory_is_clean_after_a_foreign_server() {
    let mut searched = Searched::new();
    let secret = searched.login(&remote_role(&searched.marker, ""), 0);
    for (options, works) in [
        (String::new(), true),
        (", sslmode 'prefer', sslcert '/none', sslkey '/none'".to_owned(), false),
        (format!(", port '{}'", ground().plain.port()), false),
        (", dbname 'no such'".to_owned(), false),
    ] {
        let server = unique("server");
        let port = if options.contains("port") {
            String::new()
        } else {
            format!(", port '{}'", ground().remote.port())
        };
        let dbname = if options.contains("dbname") { "" } else { ", dbname 'testdb'" };
        searched
            .client
            .batch_execute(&format!(
                "CREATE SERVER \"{server}\" FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (secret_id '{secret}', host '127.0.0.1'{port}{dbname}{options})"
            ))
            .unwrap();
        for sql in [
            format!("SELECT dblink_connect('c', '{server}')"),
            format!("SELECT * FROM dblink('{server}', 'SELECT 1') AS t(a int)"),
            format!("SELECT dblink_exec('{server}', 'SET work_mem = 64')"),
        ] {
            assert_eq!(searched.client.simple_query(&sql).is_ok(), works, "{options}: {sql}");
            searched.clean(&sql);
        }
    }
    searched.client.simple_query("SELECT dblink_disconnect('c')").unwrap();
    searched.clean("disconnected");
}
