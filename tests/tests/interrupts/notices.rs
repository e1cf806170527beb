//! A cancel, a timeout or the order to end that comes in the middle of a message below ERROR: it is what
//! it is, and leaves nothing of that message and no work behind.

use crate::scene::{Scene, remote_pid};
use crate::waiting::Waiting;
use postgres::Client;
use postgres::error::SqlState;
use secretlink_e2e::{HostileServer, db_error, server_messages as says};
use std::thread::sleep;
use std::time::Duration;

/// A remote query that tells without end, at this level.
fn telling(level: &str) -> String {
    format!(
        "DO $d$BEGIN FOR i IN 1..100000000 LOOP RAISE {level} ''hello'' USING DETAIL = ''d'', HINT = ''h''; END LOOP; END$d$"
    )
}

/// Every way to listen to it.
fn listeners(level: &str) -> [(String, String); 4] {
    let telling = telling(level);
    [
        (String::new(), format!("SELECT dblink_exec('c', '{telling}')")),
        (String::new(), format!("SELECT * FROM dblink('c', '{telling}') AS t(a text)")),
        (
            format!("SELECT dblink_send_query('c', '{telling}')"),
            "SELECT * FROM dblink_get_result('c') AS t(a text)".into(),
        ),
        (String::new(), format!("SELECT dblink_exec('c', 'SELECT 1; {telling}', false)")),
    ]
}

fn listening(scene: &Scene, preparation: &str) -> (Client, i32) {
    let (mut client, pid) = scene.connected_client();
    client
        .batch_execute(
            "SELECT dblink_exec('c', 'SET client_min_messages = debug1'); SET client_min_messages = debug1",
        )
        .unwrap();
    if !preparation.is_empty() {
        client.batch_execute(preparation).unwrap();
    }
    (client, pid)
}

/// The connection takes the next query, and the remote server does no more for the one before.
fn goes_on(scene: &mut Scene, client: &mut Client, pid: i32) {
    client.batch_execute("RESET statement_timeout; SET client_min_messages = notice").unwrap();
    // A query that was only sent goes on until somebody cancels it.
    client.batch_execute("SELECT dblink_cancel_query('c')").unwrap();
    scene.until_remote_stopped(pid, Duration::from_secs(2));
    assert_eq!(remote_pid(client), pid);
}

#[test]
fn a_timeout_in_the_middle_of_a_remote_message_is_a_timeout() {
    let mut scene = Scene::new();
    for level in ["NOTICE", "WARNING", "INFO", "LOG", "DEBUG"] {
        for (preparation, statement) in listeners(level) {
            let (mut client, pid) = listening(&scene, &preparation);
            client.batch_execute("SET statement_timeout = '200ms'").unwrap();
            let error = db_error(client.simple_query(&statement));
            assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{statement}: {error:?}");
            assert_eq!(error.message(), "canceling statement due to statement timeout");
            assert_eq!((error.detail(), error.hint()), (None, None), "{statement}");
            goes_on(&mut scene, &mut client, pid);
        }
    }
    scene.confirm();
}

#[test]
fn a_cancel_in_the_middle_of_a_remote_message_is_a_cancel() {
    let mut scene = Scene::new();
    for (preparation, statement) in listeners("NOTICE") {
        let (client, pid) = listening(&scene, &preparation);
        // What WHEN OTHERS does not catch.
        let block = format!(
            "DO $block$ BEGIN PERFORM * FROM ({statement}) AS q; EXCEPTION WHEN OTHERS THEN RAISE INFO 'caught'; END $block$"
        );
        let waiting = Waiting::start(client, &block);
        sleep(Duration::from_millis(200));
        scene.order("pg_cancel_backend", waiting.backend);
        let end = waiting.end();
        let error = db_error(end.result);
        assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{statement}: {error:?}");
        assert_eq!(error.message(), "canceling statement due to user request");
        let mut client = end.client;
        goes_on(&mut scene, &mut client, pid);
    }
    scene.confirm();
}

#[test]
fn the_end_of_a_backend_in_the_middle_of_a_remote_message_is_told_as_it_is() {
    let mut scene = Scene::new();
    for (preparation, statement) in listeners("WARNING") {
        let (client, pid) = listening(&scene, &preparation);
        let waiting = Waiting::start(client, &statement);
        sleep(Duration::from_millis(200));
        let backend = waiting.backend;
        scene.order("pg_terminate_backend", backend);
        waiting.end().assert_terminated(&statement, backend, &scene.local);
        if preparation.is_empty() {
            scene.until_remote_stopped(pid, Duration::from_secs(3));
        } else {
            scene.remote_cancel(pid);
        }
    }
    assert!(!scene.local.log().contains("FATAL:  hello"), "{}", scene.local.log());
    scene.confirm();
}

/// Messages of our own, told by a loop.
#[test]
fn a_timeout_in_the_middle_of_a_message_of_ours_is_a_timeout() {
    let mut scene = Scene::new();
    let long = "x".repeat(100);
    let telling = [
        // A remote error that is only told.
        "PERFORM dblink_exec('c', 'SELECT 1/0', false)".to_owned(),
        // A query that cannot be sent.
        "PERFORM dblink_send_query('busy', 'SELECT 1')".into(),
        // A name that is cut.
        format!("PERFORM dblink_connect('{long}', 'host=/nowhere user=u')"),
        // A lost connection that is looked at.
        "PERFORM * FROM dblink('c', 'SELECT nonsense', false) AS t(a int)".into(),
    ];
    for statement in telling {
        for round in 0..10 {
            let (mut client, pid) = scene.connected_client();
            client
                .batch_execute(&format!(
                    "{}; SELECT dblink_send_query('busy', 'SELECT pg_sleep(600)')",
                    scene.open_connection(scene.remote.port()).replace("'c'", "'busy'")
                ))
                .unwrap();
            // At another moment each time.
            client.batch_execute(&format!("SET statement_timeout = {}", 60 + round)).unwrap();
            let sql = format!(
                "DO $$ BEGIN LOOP BEGIN {statement}; EXCEPTION WHEN sqlclient_unable_to_establish_sqlconnection THEN NULL; END; END LOOP; END $$"
            );
            let error = db_error(client.simple_query(&sql));
            assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{statement}: {error:?}");
            assert_eq!(error.message(), "canceling statement due to statement timeout");
            goes_on(&mut scene, &mut client, pid);
        }
    }
    scene.confirm();
}

/// A server that says nothing else: whatever moment the timeout comes, it is in a message.
#[test]
fn a_message_says_what_it_says_until_the_last_one() {
    let mut scene = Scene::new();
    for (severity, code) in
        [("NOTICE", "00000"), ("WARNING", "01000"), ("WARNING", "57014"), ("NOTICE", "XX000")]
    {
        let said = says::notice("hello").escape_ascii().to_string();
        assert!(said.contains("00000"), "the message has a code to be replaced");
        let body = String::from_utf8_lossy(&says::notice("hello"))
            .replace("NOTICE", severity)
            .replace("00000", code);
        let mut message = body.into_bytes();
        let length = u32::try_from(message.len() - 1).unwrap().to_be_bytes();
        message[1..5].copy_from_slice(&length);
        let server = HostileServer::start(move |session| {
            session.log_in()?;
            session.hear_query()?;
            session.say_for_ever(&message)
        });
        for round in 0..10 {
            let mut client = scene.client();
            client
                .batch_execute(&format!(
                    "SELECT dblink_connect('c', '{}'); SET statement_timeout = {}",
                    server.conninfo(),
                    100 + round
                ))
                .unwrap();
            let error = db_error(client.simple_query("SELECT dblink_exec('c', 'DO 1')"));
            assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{error:?}");
            assert_eq!(error.message(), "canceling statement due to statement timeout");
            // It is not busy: what it does is drain, and that ends when the connection is closed.
            let error = db_error(client.simple_query("SELECT dblink_exec('c', 'DO 1')"));
            assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{error:?}");
        }
    }
    scene.confirm();
}
