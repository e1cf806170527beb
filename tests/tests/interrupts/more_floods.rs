//! Servers that never stop talking, in places and in kinds of which nobody would think: what cannot come
//! there ends the connection, what can come there is read away, and the backend obeys.

use crate::limits::{PATIENCE, SOON, at_once};
use crate::scene::Scene;
use crate::waiting::Waiting;
use postgres::Client;
use secretlink_e2e::{HostileServer, HostileSession, backend_pid, server_messages as says};
use std::io::Result;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// More than what is on its way, and far less than what a server says in a second.
const HELD: u64 = 24 << 20;

const TIMEOUT: Duration = Duration::from_millis(200);

/// A message of any type.
fn raw(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// One message of each kind, and of some that there are not.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("rows without columns", says::row(&[])),
        ("rows", says::row(&[Some(b"1")])),
        ("descriptions of columns", says::columns(&["a"])),
        ("descriptions of no columns", says::columns(&[])),
        ("descriptions of parameters", raw(b't', &[0, 1, 0, 0, 0, 23])),
        ("no data", raw(b'n', b"")),
        ("ends of parsing", raw(b'1', b"")),
        ("ends of binding", raw(b'2', b"")),
        ("ends of closing", raw(b'3', b"")),
        ("suspended portals", says::portal_suspended()),
        ("copies out", says::copy_out()),
        ("copies in", says::copy_in()),
        ("copies both ways", raw(b'W', &[0, 0, 0])),
        ("copied data", raw(b'd', b"1\n")),
        ("ends of copies", raw(b'c', b"")),
        ("errors", says::error("ERROR", "22012", "division by zero")),
        ("notices", says::notice("hello")),
        ("empty notices", raw(b'N', b"\0")),
        ("notifications", says::notification()),
        ("parameters", says::parameter("a", "b")),
        ("other versions", raw(b'v', &[0, 3, 0, 0, 0, 0, 0, 0])),
        ("logins", says::authentication(0, b"")),
        ("requests for passwords", says::authentication(3, b"")),
        ("keys", says::key()),
        ("function results", raw(b'V', &[0xff; 4])),
        ("ends of answers", says::ready()),
        ("empty queries", says::empty()),
        ("ends of commands", says::complete("DO")),
        ("messages of no known type", raw(b'q', b"what")),
        ("zeros", vec![0]),
        ("ones", vec![0xff]),
    ]
}

/// What comes once before.
fn beginnings() -> [Vec<u8>; 5] {
    [
        Vec::new(),
        says::columns(&["a"]),
        says::copy_out(),
        says::error("ERROR", "22012", "division by zero"),
        says::parsed(&[], &[("a", 23)]),
    ]
}

fn connected(scene: &Scene, conninfo: &str) -> Client {
    let mut client = scene.client();
    client.batch_execute("SET client_min_messages = error").unwrap();
    client.batch_execute(&format!("SELECT dblink_connect('c', '{conninfo}')")).unwrap();
    client
}

/// The statement ends, by its timeout or an error before, and is held by nothing. Returns how late it was.
fn ends_in_time(client: &mut Client, statement: &str, what: &str) -> Duration {
    client.batch_execute(&format!("SET statement_timeout = {}", TIMEOUT.as_millis())).unwrap();
    let began = Instant::now();
    let ended = client.simple_query(statement);
    let took = began.elapsed();
    client.batch_execute("RESET statement_timeout").unwrap();
    assert!(took < TIMEOUT + SOON, "{what}: {ended:?} after {took:?}");
    if let Err(error) = ended {
        assert!(error.as_db_error().is_some(), "{what}: {error:?}");
    }
    took.saturating_sub(TIMEOUT)
}

/// Closing takes no longer than with any server that falls silent.
fn closes(client: &mut Client, what: &str) {
    let began = Instant::now();
    client.batch_execute("SELECT dblink_disconnect('c')").unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
}

/// The backend holds no more memory after the work than before. Returns what the work returns: how late it was.
fn without_growing(client: &mut Client, what: &str, work: impl FnOnce(&mut Client) -> Duration) -> Duration {
    let backend = backend_pid(client);
    let before = backend.anonymous_bytes();
    let late = work(client);
    let held = backend.anonymous_bytes().saturating_sub(before);
    assert!(held < HELD, "{what}: {held} bytes are held");
    late
}

/// A backend that has waited in the statement for so long can be terminated.
fn can_be_terminated(scene: &mut Scene, client: Client, statement: &str, waited: Duration) {
    let waiting = Waiting::start(client, statement);
    let backend = waiting.backend;
    sleep(waited);
    scene.order("pg_terminate_backend", backend);
    backend.until_gone(SOON);
}

/// `c` asks in each of these ways.
const STATEMENTS: [&str; 4] = [
    "SELECT dblink_exec('c', 'DO 1')",
    "SELECT * FROM dblink('c', 'SELECT 1') AS t(a text)",
    // Asks what the columns are first.
    "SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)",
    "SELECT dblink_send_query('c', 'SELECT 1'); SELECT * FROM dblink_get_result('c') AS t(a text)",
];

#[test]
fn whatever_is_said_in_place_of_an_answer_does_not_keep_a_backend() {
    let mut scene = Scene::new();
    for (kind, (name, message)) in messages().into_iter().enumerate() {
        for (number, first) in beginnings().into_iter().enumerate() {
            let said = (first.clone(), message.clone());
            let server = HostileServer::start(move |session| {
                session.log_in()?;
                session.hear_query()?;
                session.say(&said.0)?;
                session.say_for_ever(&said.1)
            });
            // Each statement meets each kind and each beginning.
            let statement = STATEMENTS[(kind + number) % STATEMENTS.len()];
            let what = format!("{name} after beginning {number}, {statement}");
            at_once(&what, || {
                let mut client = connected(&scene, &server.conninfo());
                let late =
                    without_growing(&mut client, &what, |client| ends_in_time(client, statement, &what));
                closes(&mut client, &what);
                late
            });
        }
    }
    scene.confirm();
}

/// A server that is told to stop and goes on, and one that is told goodbye.
#[test]
fn what_is_said_to_a_backend_that_has_turned_away_is_not_kept() {
    let mut scene = Scene::new();
    let mut waiting = Vec::new();
    let mut servers = Vec::new();
    // Each takes a second or two.
    for (name, message) in messages().into_iter().step_by(3) {
        let said = message.clone();
        let server = HostileServer::start(move |session| {
            session.log_in()?;
            session.hear_query()?;
            sleep(2 * TIMEOUT);
            session.say_for_ever(&said)
        });
        let mut client = connected(&scene, &server.conninfo());
        let backend = backend_pid(&mut client);
        let what = format!("{name} after a cancel");
        at_once(&what, || ends_in_time(&mut client, STATEMENTS[0], &what));
        without_growing(&mut client, &what, |client| {
            sleep(2 * TIMEOUT);
            // The next query waits for the end of the last one, or is told that the connection is lost.
            ends_in_time(client, STATEMENTS[0], &what)
        });
        if waiting.len() % 2 == 0 {
            closes(&mut client, &what);
        } else {
            scene.order("pg_terminate_backend", backend);
            backend.until_gone(SOON);
        }
        waiting.push(Waiting::start(connected(&scene, &server.conninfo()), STATEMENTS[0]));
        servers.push(server);
    }
    scene.can_be_stopped();
    drop(waiting);
}

#[test]
fn floods_through_tls_and_at_commit_do_not_keep_a_backend() {
    let mut scene = Scene::new();
    scene
        .client()
        .batch_execute(
            "CREATE TABLE t (a int);
             CREATE FUNCTION ask() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM dblink_exec('c', 'DO 1'); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER ask AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION ask()",
        )
        .unwrap();
    for (kind, (name, message)) in messages().into_iter().enumerate() {
        let script = |message: Vec<u8>| {
            move |session: &mut HostileSession| {
                session.log_in()?;
                session.hear_query()?;
                session.say_for_ever(&message)
            }
        };
        let plain = HostileServer::start(script(message.clone()));
        let tls = HostileServer::start_behind_tls(script(message));
        for conninfo in [plain.conninfo(), tls.conninfo_with_tls()] {
            let statement = ["INSERT INTO t VALUES (1)", STATEMENTS[0], STATEMENTS[2]][kind % 3];
            let what = format!("{name}, {statement}, {conninfo}");
            at_once(&what, || {
                let mut client = connected(&scene, &conninfo);
                let late = ends_in_time(&mut client, statement, &what);
                closes(&mut client, &what);
                late
            });
            let client = connected(&scene, &conninfo);
            can_be_terminated(&mut scene, client, "INSERT INTO t VALUES (1)", TIMEOUT / 4);
        }
    }
    scene.confirm();
}

/// A server that does not read what it is sent.
#[test]
fn a_query_that_nobody_reads_does_not_keep_a_backend() {
    let mut scene = Scene::new();
    let deaf = |session: &mut HostileSession| {
        session.log_in()?;
        sleep(PATIENCE);
        Ok(())
    };
    let (plain, tls) = (HostileServer::start(deaf), HostileServer::start_behind_tls(deaf));
    for conninfo in [plain.conninfo(), tls.conninfo_with_tls()] {
        for statement in [
            "SELECT dblink_exec('c', repeat('x', 20000000))",
            "SELECT dblink_send_query('c', repeat('x', 20000000)); SELECT * FROM dblink_get_result('c') AS t(a text)",
        ] {
            let mut client = connected(&scene, &conninfo);
            // Sending has its time, in which the text is made.
            ends_in_time(&mut client, statement, statement);
            closes(&mut client, statement);
            let client = connected(&scene, &conninfo);
            can_be_terminated(&mut scene, client, statement, TIMEOUT);
        }
    }
    scene.confirm();
}

/// What is said until a session stands.
#[test]
fn whatever_is_said_in_a_login_does_not_keep_a_backend() {
    let mut scene = Scene::new();
    let ok = says::authentication(0, b"");
    let beginnings =
        [Vec::new(), ok.clone(), says::sasl(&["SCRAM-SHA-256"]), says::authentication(5, b"salt")];
    for (name, message) in messages() {
        for (number, first) in beginnings.iter().enumerate() {
            let script = |first: Vec<u8>, message: Vec<u8>| {
                move |session: &mut HostileSession| {
                    session.hear_startup()?;
                    session.say(&first)?;
                    session.say_for_ever(&message)
                }
            };
            let plain = HostileServer::start(script(first.clone(), message.clone()));
            let tls = HostileServer::start_behind_tls(script(first.clone(), message.clone()));
            for conninfo in [plain.conninfo(), tls.conninfo_with_tls()] {
                let what = format!("{name} after beginning {number} of a login, {conninfo}");
                at_once(&what, || {
                    let connect = format!("SELECT dblink_connect('c', '{conninfo} password=x')");
                    without_growing(&mut scene.client(), &what, |client| {
                        ends_in_time(client, &connect, &what)
                    })
                });
            }
        }
    }
    scene.confirm();
}

/// What is said to a request for TLS.
#[test]
fn whatever_is_said_to_a_request_for_tls_does_not_keep_a_backend() {
    type Answer = fn(&mut HostileSession) -> Result<()>;
    let answers: [(&str, Answer); 9] = [
        ("silence", HostileSession::be_silent),
        ("yes, and silence", |s| {
            s.say(b"S")?;
            s.be_silent()
        }),
        ("yes without end", |s| s.say_for_ever(b"S")),
        ("no without end", |s| s.say_for_ever(b"N")),
        ("errors without end", |s| s.say_for_ever(&says::error("FATAL", "08P01", "no"))),
        ("an error that has no end", |s| s.say_long(b'E', b"SFATAL\0M", b'x', 1 << 29, b"\0\0")),
        ("nonsense without end", |s| {
            s.say(b"S")?;
            s.say_for_ever(b"nonsense")
        }),
        ("records without end", |s| {
            s.say(b"S")?;
            s.say_for_ever(b"\x16\x03\x03\x00\x00")
        }),
        ("a record in drips", |s| {
            s.say(b"S\x16\x03\x03\x3f\xff")?;
            loop {
                s.say(b"\x00")?;
                sleep(Duration::from_millis(20));
            }
        }),
    ];
    let mut scene = Scene::new();
    for (name, answer) in answers {
        let server = HostileServer::start(move |session| {
            session.hear_startup()?;
            answer(session)
        });
        for sslmode in ["prefer", "require"] {
            let conninfo = server.conninfo().replace("sslmode=disable", &format!("sslmode={sslmode}"));
            let connect = format!("SELECT dblink_connect('c', '{conninfo} password=x')");
            let what = format!("{name}, {connect}");
            at_once(&what, || {
                without_growing(&mut scene.client(), &what, |client| ends_in_time(client, &connect, &what))
            });
            let client = scene.client();
            can_be_terminated(&mut scene, client, &connect, TIMEOUT / 4);
        }
    }
    scene.confirm();
}

/// Where in the life of a cursor, or of a query that is read later, a server begins to say the same for ever: at the
/// statement with this word in it. Then what opens the cursor or sends the query, and what meets the flood.
const WORDS: [(&str, &str, &str); 5] = [
    (
        "FETCH",
        "SELECT dblink_open('c', 'x', 'SELECT 1')",
        "SELECT * FROM dblink_fetch('c', 'x', 10) AS t(a text)",
    ),
    // Asks what the columns are first.
    (
        "FETCH",
        "SELECT dblink_open('c', 'x', 'SELECT 1')",
        "SELECT * FROM dblink_fetch('c', 'x', 10) AS t(a int)",
    ),
    ("CLOSE", "SELECT dblink_open('c', 'x', 'SELECT 1')", "SELECT dblink_close('c', 'x')"),
    ("COMMIT", "SELECT dblink_open('c', 'x', 'SELECT 1')", "SELECT dblink_close('c', 'x', false)"),
    // Behind its first result.
    (
        "SELECT 1",
        "SELECT dblink_send_query('c', 'SELECT 1')",
        "SELECT * FROM dblink_get_result('c') AS t(a text); SELECT * FROM dblink_get_result('c') AS t(a text); SELECT * FROM dblink_get_result('c') AS t(a text)",
    ),
];

/// A server that does as it is told until it meets this word.
fn floods_at(word: &'static str, message: Vec<u8>, tls: bool) -> (HostileServer, String) {
    let script = move |session: &mut HostileSession| {
        session.log_in()?;
        let mut met = false;
        loop {
            let (tag, body) = session.hear()?;
            met |= body.windows(word.len()).any(|part| part == word.as_bytes());
            match tag {
                b'Q' | b'H' | b'S' if met => {
                    if word == "SELECT 1" {
                        session.say(&[says::columns(&["a"]), says::row(&[Some(b"1")])].concat())?;
                        session.say(&says::complete("SELECT 1"))?;
                    }
                    session.say_for_ever(&message)?;
                }
                b'Q' => session.say(&[says::complete("BEGIN"), raw(b'Z', b"T")].concat())?,
                b'X' => return Ok(()),
                _ => {}
            }
        }
    };
    if tls {
        let server = HostileServer::start_behind_tls(script);
        let conninfo = server.conninfo_with_tls();
        (server, conninfo)
    } else {
        let server = HostileServer::start(script);
        let conninfo = server.conninfo();
        (server, conninfo)
    }
}

#[test]
fn floods_at_cursors_and_later_results_do_not_keep_a_backend() {
    let mut scene = Scene::new();
    for (kind, (name, message)) in messages().into_iter().enumerate() {
        for (number, (word, before, statement)) in WORDS.into_iter().enumerate() {
            let tls = (kind + number) % 2 == 0;
            let (_server, conninfo) = floods_at(word, message.clone(), tls);
            let what = format!("{name} at {word}, {statement}, TLS: {tls}");
            at_once(&what, || {
                let mut client = connected(&scene, &conninfo);
                // What was sent may be answered before it is read.
                client.batch_execute(before).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                let late =
                    without_growing(&mut client, &what, |client| ends_in_time(client, statement, &what));
                closes(&mut client, &what);
                late
            });
        }
    }
    scene.confirm();
}

#[test]
fn a_server_with_floods_behind_tls_can_be_stopped() {
    let mut scene = Scene::new();
    let mut waiting = Vec::new();
    let mut servers = Vec::new();
    for (kind, (_, message)) in messages().into_iter().enumerate().step_by(3) {
        let (word, before, statement) = WORDS[kind / 3 % WORDS.len()];
        let (server, conninfo) = floods_at(word, message, true);
        let mut client = connected(&scene, &conninfo);
        client.batch_execute(before).unwrap();
        waiting.push(Waiting::start(client, statement));
        servers.push(server);
    }
    sleep(TIMEOUT);
    scene.can_be_stopped();
    drop(waiting);
}
