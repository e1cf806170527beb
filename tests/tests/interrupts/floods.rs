//! Servers that never stop talking. Whatever they say and whichever thread listens, a backend obeys at once, holds
//! next to nothing, and the server that it belongs to stops when told so.

use crate::limits::{PATIENCE, SOON, at_once};
use crate::scene::Scene;
use crate::waiting::Waiting;
use postgres::Client;
use postgres::error::SqlState;
use secretlink_e2e::{HostileServer, HostileSession, backend_pid, db_error, server_messages as says};
use std::io::Result;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// More than what is on its way, and far less than what a server says in a second.
const HELD: u64 = 24 << 20;

/// What a server says once and what it then says without end.
struct Flood {
    name: &'static str,
    first: Vec<u8>,
    then: Vec<u8>,
}

fn floods() -> Vec<Flood> {
    let flood = |name, first: &[Vec<u8>], then: &[Vec<u8>]| Flood {
        name,
        first: first.concat(),
        then: then.concat(),
    };
    let result = [says::columns(&["a"]), says::row(&[Some(b"1")]), says::complete("SELECT 1")];
    let none = [says::columns(&["a"]), says::complete("SELECT 0")];
    vec![
        flood("parameters", &[], &[says::parameter("application_name", "x")]),
        flood("a parameter that is kept", &[], &[says::parameter("DateStyle", "ISO, DMY")]),
        flood("notifications", &[], &[says::notification()]),
        flood("notices", &[], &[says::notice("hello")]),
        flood("empty queries", &[], &[says::empty()]),
        flood("ends of commands", &[], &[says::complete("DO")]),
        flood("results", &[], &result),
        flood("results without rows", &[], &none),
        flood("rows and parameters", &none[..1], &[says::row(&[None]), says::parameter("a", "b")]),
    ]
}

/// One that lets everybody in and answers the first query with a flood.
fn answering(flood: Flood) -> HostileServer {
    HostileServer::start(move |session| {
        session.log_in()?;
        session.hear_query()?;
        session.say(&flood.first)?;
        session.say_for_ever(&flood.then)
    })
}

/// All that waits for an answer: what is to be done before, and the statement.
fn listeners() -> Vec<(&'static str, &'static str)> {
    vec![
        ("", "SELECT dblink_exec('c', 'DO 1')"),
        ("", "SELECT * FROM dblink('c', 'SELECT 1') AS t(a text)"),
        // Asks what the columns are first.
        ("", "SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)"),
        ("", "SELECT dblink_open('c', 'cursor', 'SELECT 1')"),
        ("", "SELECT * FROM dblink_fetch('c', 'cursor', 1) AS t(a text)"),
        ("", "SELECT dblink_close('c', 'cursor')"),
        (
            "SELECT dblink_send_query('c', 'SELECT 1')",
            "DO $$ BEGIN LOOP PERFORM * FROM dblink_get_result('c', false) AS t(a text); END LOOP; END $$",
        ),
    ]
}

fn connected(scene: &Scene, server: &HostileServer, preparation: &str) -> Client {
    let mut client = scene.client();
    // Who reads notices is not what is tried here.
    client.batch_execute("SET client_min_messages = error").unwrap();
    client.batch_execute(&format!("SELECT dblink_connect('c', '{}')", server.conninfo())).unwrap();
    if !preparation.is_empty() {
        client.batch_execute(preparation).unwrap();
    }
    client
}

#[test]
fn an_answer_without_end_does_not_keep_a_backend() {
    let mut scene = Scene::new();
    for (preparation, statement) in listeners() {
        for flood in floods() {
            let name = flood.name;
            let server = answering(flood);
            let what = format!("statement_timeout among {name}, {statement}");
            at_once(&what, || {
                let mut client = connected(&scene, &server, preparation);
                client.batch_execute("SET statement_timeout = '200ms'").unwrap();
                let began = Instant::now();
                let ended = client.simple_query(statement);
                let took = began.elapsed();
                // What comes out of order ends the connection, and the wait with it.
                if let Err(error) = &ended
                    && error.code() == Some(&SqlState::QUERY_CANCELED)
                {
                    assert!(took >= Duration::from_millis(200), "{what}: after {took:?}");
                    return took.saturating_sub(Duration::from_millis(200));
                }
                assert!(took < SOON, "{what}: {ended:?} after {took:?}");
                Duration::ZERO
            });
        }
    }
    scene.confirm();
}

#[test]
fn cancel_and_terminate_reach_a_backend_in_a_flood() {
    let mut scene = Scene::new();
    for flood in floods() {
        let name = flood.name;
        let server = answering(flood);
        for (preparation, statement) in [listeners()[0], listeners()[1], listeners()[6]] {
            at_once(&format!("cancel among {name}, {statement}"), || {
                let client = connected(&scene, &server, preparation);
                let waiting = Waiting::start(client, statement);
                sleep(Duration::from_millis(100));
                let began = Instant::now();
                scene.order("pg_cancel_backend", waiting.backend);
                let end = waiting.end();
                // One that ended by itself has nothing to be cancelled.
                end.at.saturating_duration_since(began)
            });
            at_once(&format!("terminate among {name}, {statement}"), || {
                let client = connected(&scene, &server, preparation);
                let waiting = Waiting::start(client, statement);
                let backend = waiting.backend;
                sleep(Duration::from_millis(100));
                let began = Instant::now();
                scene.order("pg_terminate_backend", backend);
                let told = waiting.end().at.saturating_duration_since(began);
                // It gives a server a second to hear that it is to stop.
                backend.until_gone(SOON);
                told
            });
        }
    }
    scene.confirm();
}

#[test]
fn a_flood_is_not_kept() {
    let mut scene = Scene::new();
    for (preparation, statement) in [listeners()[0], listeners()[1], listeners()[2], listeners()[6]] {
        for flood in floods() {
            let name = flood.name;
            // Rows are kept, in files: they are the result.
            if name.starts_with("rows") {
                continue;
            }
            let server = answering(flood);
            let mut client = connected(&scene, &server, preparation);
            client.batch_execute("SET statement_timeout = '1s'").unwrap();
            let backend = backend_pid(&mut client);
            let before = backend.anonymous_bytes();
            let waiting = Waiting::start(client, statement);
            let mut most = 0;
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(900) {
                most = most.max(backend.anonymous_bytes().saturating_sub(before));
                sleep(Duration::from_millis(5));
            }
            assert!(most < HELD, "{most} bytes are held of {name}, {statement}");
            waiting.end();
        }
    }
    scene.confirm();
}

#[test]
fn a_server_stops_with_all_its_backends_in_floods() {
    let mut scene = Scene::new();
    let mut servers = Vec::new();
    let mut waiting = Vec::new();
    for flood in floods() {
        let server = answering(flood);
        waiting.push(Waiting::start(connected(&scene, &server, ""), listeners()[0].1));
        servers.push(server);
    }
    let login = HostileServer::start(|session| {
        session.hear_startup()?;
        session.say(&says::authentication(0, b""))?;
        session.say_for_ever(&says::parameter("a", "b"))
    });
    let connect = format!("SELECT dblink_connect('{}')", login.conninfo());
    waiting.push(Waiting::start(scene.client(), &connect));
    // And one whose session is not doing anything.
    let idle = HostileServer::start(|session| {
        session.log_in()?;
        session.say_for_ever(&says::notification())
    });
    let _idle = connected(&scene, &idle, "");
    sleep(Duration::from_millis(300));
    scene.can_be_stopped();
    drop(waiting);
}

/// A server that wants to copy, which is not to be had, and then says nothing more.
#[test]
fn a_copy_that_falls_silent_does_not_keep_a_backend() {
    let mut scene = Scene::new();
    for copy in [says::copy_in(), says::copy_out()] {
        let server = HostileServer::start(move |session| {
            session.log_in()?;
            session.hear_query()?;
            session.say(&copy)?;
            session.be_silent()
        });
        for (preparation, statement) in [listeners()[0], listeners()[1], listeners()[6]] {
            at_once(&format!("statement_timeout in a silent COPY, {statement}"), || {
                let mut client = connected(&scene, &server, preparation);
                client.batch_execute("SET statement_timeout = '200ms'").unwrap();
                let began = Instant::now();
                let error = db_error(client.simple_query(statement));
                assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{error:?}");
                let late = began.elapsed().saturating_sub(Duration::from_millis(200));
                // Closing it takes no longer than with any server that falls silent.
                let began = Instant::now();
                client.batch_execute("RESET statement_timeout; SELECT dblink_disconnect('c')").unwrap();
                assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
                late
            });
            at_once(&format!("cancel in a silent COPY, {statement}"), || {
                let waiting = Waiting::start(connected(&scene, &server, preparation), statement);
                scene.until_waiting(waiting.backend.pid());
                scene.cancel(waiting).1
            });
        }
    }
    scene.confirm();
}

/// What is said until a session stands, by servers that never come to the end of it.
#[test]
fn a_login_without_end_does_not_keep_a_backend() {
    type Script = fn(&mut HostileSession) -> Result<()>;
    let logins: [(&str, Script); 8] = [
        ("parameters", |s| {
            s.say(&says::authentication(0, b""))?;
            s.say_for_ever(&says::parameter("server_version", "15"))
        }),
        ("notices", |s| {
            s.say(&says::authentication(0, b""))?;
            s.say_for_ever(&says::notice("hello"))
        }),
        ("notices before a password is asked for", |s| s.say_for_ever(&says::notice("hello"))),
        ("keys", |s| {
            s.say(&says::authentication(0, b""))?;
            s.say_for_ever(&says::key())
        }),
        ("requests for passwords", |s| s.say_for_ever(&says::authentication(5, b"salt"))),
        // NegotiateProtocolVersion.
        ("other versions", |s| s.say_for_ever(b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0")),
        ("challenges", |s| {
            s.say(&says::sasl(&["SCRAM-SHA-256"]))?;
            s.say_for_ever(&says::authentication(11, b"r=x"))
        }),
        ("silence", HostileSession::be_silent),
    ];
    let mut scene = Scene::new();
    for (name, script) in logins {
        let server = HostileServer::start(move |session| {
            session.hear_startup()?;
            script(session)
        });
        at_once(&format!("statement_timeout in a login with {name}"), || {
            let mut client = scene.client();
            client.batch_execute("SET statement_timeout = '200ms'").unwrap();
            let backend = backend_pid(&mut client);
            let before = backend.anonymous_bytes();
            let began = Instant::now();
            let error = db_error(
                client.simple_query(&format!("SELECT dblink_connect('{} password=x')", server.conninfo())),
            );
            let took = began.elapsed();
            assert!(["57014", "08001"].contains(&error.code().code()), "{name}: {error:?}");
            let held = backend.anonymous_bytes().saturating_sub(before);
            assert!(held < HELD, "{held} bytes are held of {name}");
            took.saturating_sub(Duration::from_millis(200))
        });
        // What is asked instead of a server that tells too little of itself.
        let conninfo = format!("{} target_session_attrs=standby password=x", server.conninfo());
        let mut client = scene.client();
        client.batch_execute("SET statement_timeout = '200ms'").unwrap();
        db_error(client.simple_query(&format!("SELECT dblink_connect('{conninfo}')")));
    }
    scene.confirm();
}

/// A server may name any number of iterations. One that is too high is work without end.
#[test]
fn a_password_that_takes_years_to_prove_does_not_keep_a_backend() {
    let mut scene = Scene::new();
    let server = HostileServer::start(|session| {
        session.hear_startup()?;
        session.say(&says::sasl(&["SCRAM-SHA-256"]))?;
        let (_, said) = session.hear()?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let nonce = said.split_once("r=").map_or("", |(_, nonce)| nonce);
        session.say(&says::authentication(11, format!("r={nonce}x,s=AAAA,i=4294967295").as_bytes()))?;
        session.be_silent()
    });
    let connect = format!("SELECT dblink_connect('{} password=x')", server.conninfo());
    at_once("statement_timeout in a proof", || {
        let mut client = scene.client();
        client.batch_execute("SET statement_timeout = '200ms'").unwrap();
        let began = Instant::now();
        let error = db_error(client.simple_query(&connect));
        assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{error:?}");
        let late = began.elapsed().saturating_sub(Duration::from_millis(200));
        // The thread does no more for it.
        client.batch_execute("RESET statement_timeout").unwrap();
        client.batch_execute(&scene.open_connection(scene.remote.port())).unwrap();
        late
    });
    let waiting = Waiting::start(scene.client(), &connect);
    scene.until_waiting(waiting.backend.pid());
    let backend = waiting.backend;
    scene.order("pg_terminate_backend", backend);
    backend.until_gone(SOON);
    // connect_timeout counts, too.
    let mut client = scene.client();
    let error = db_error(client.simple_query(&connect.replace(" password", " connect_timeout=2 password")));
    assert!(error.detail().is_some_and(|detail| detail.contains("timeout expired")), "{error:?}");
    scene.confirm();
}

/// Everything that looks at a session that is idle, while its server talks.
#[test]
fn a_flood_between_queries_does_not_keep_a_backend() {
    let mut scene = Scene::new();
    for said in [says::notification(), says::parameter("a", "b"), says::notice("hello")] {
        let server = HostileServer::start(move |session| {
            session.log_in()?;
            session.say_for_ever(&said)
        });
        let mut client = connected(&scene, &server, "");
        let backend = backend_pid(&mut client);
        let before = backend.anonymous_bytes();
        let began = Instant::now();
        for look in [
            "SELECT * FROM remote_connections",
            "SELECT dblink_is_busy('c')",
            "SELECT count(*) FROM dblink_get_notify('c')",
            "SELECT dblink_get_connections()",
            "SELECT dblink_error_message('c')",
        ] {
            for _ in 0..20 {
                client.batch_execute(look).unwrap_or_else(|e| panic!("{look}: {e:?}"));
            }
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        client.batch_execute("SET statement_timeout = '200ms'").unwrap();
        let error = db_error(client.simple_query("SELECT dblink_exec('c', 'DO 1')"));
        assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{error:?}");
        client.batch_execute("RESET statement_timeout").unwrap();
        // It looks again, after the backend has had the session in its own hands.
        client.batch_execute("SELECT * FROM remote_connections").unwrap();
        let held = backend.anonymous_bytes().saturating_sub(before);
        assert!(held < HELD, "{held} bytes");
        let began = Instant::now();
        client.batch_execute("SELECT dblink_disconnect('c')").unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    scene.confirm();
}
