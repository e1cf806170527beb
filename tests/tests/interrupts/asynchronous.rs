//! A query that was sent and is not read yet, whatever ends meanwhile.

use crate::limits::{PATIENCE, SOON, at_once};
use crate::scene::{Scene, remote_pid};
use crate::waiting::Waiting;
use postgres::Client;
use postgres::error::SqlState;
use secretlink_e2e::{Mode, Proxy, StopMode, backend_pid, db_error, eventually};
use std::time::{Duration, Instant};

const SEND: &str = "SELECT dblink_send_query('c', 'SELECT 1 FROM pg_sleep(60)')";
const READ: &str = "SELECT * FROM dblink_get_result('c') AS t(a int)";

/// A client whose query runs at the remote server, and the process that runs it.
fn sent(scene: &mut Scene) -> (Client, i32) {
    let (mut client, pid) = scene.connected_client();
    client.batch_execute(SEND).unwrap();
    scene.until_remote_runs(pid, "pg_sleep(60)");
    (client, pid)
}

#[test]
fn whoever_waits_for_its_result_can_be_interrupted() {
    let mut scene = Scene::new();
    let (client, pid) = sent(&mut scene);
    let mut client = Some(client);
    at_once("cancel while waiting for a result", || {
        let waiting = Waiting::start(client.take().unwrap(), READ);
        scene.until_waiting(waiting.backend.pid());
        let (same, took) = scene.cancel(waiting);
        client = Some(same);
        took
    });
    // It goes on, and is stopped by who wants it stopped.
    let mut client = client.unwrap();
    assert!(scene.remote_query(pid).is_some());
    let ok: String = client.query_one("SELECT dblink_cancel_query('c')", &[]).unwrap().get(0);
    assert_eq!(ok, "OK");
    let error = db_error(client.simple_query(READ));
    assert_eq!(error.code(), &SqlState::QUERY_CANCELED);
    assert_eq!(error.message(), "canceling statement due to user request");
    assert_eq!(remote_pid(&mut client), pid);
    scene.confirm();
}

/// As with contrib dblink: the query goes on where nobody asks for it any more.
#[test]
fn it_outlives_its_session() {
    let mut scene = Scene::new();
    // While the session does something else, and while it waits for the result.
    for statement in [None, Some(READ)] {
        let (mut client, pid) = sent(&mut scene);
        let backend = backend_pid(&mut client);
        let began = Instant::now();
        match statement {
            None => {
                scene.order("pg_terminate_backend", backend);
                backend.until_gone(SOON);
            }
            Some(statement) => {
                let waiting = Waiting::start(client, statement);
                scene.until_waiting(backend.pid());
                scene.order("pg_terminate_backend", backend);
                let end = waiting.end();
                end.assert_terminated("terminate", backend, &scene.local);
            }
        }
        println!("terminate with a pending query, {statement:?}: {:?}", began.elapsed());
        ends_by_itself(&mut scene, pid);
    }
    // Closed in order; and a client that just leaves.
    for end in ["SELECT dblink_disconnect('c')", ""] {
        let (mut client, pid) = sent(&mut scene);
        let backend = backend_pid(&mut client);
        match end {
            "" => drop(client),
            _ => client.batch_execute(end).unwrap(),
        }
        if end.is_empty() {
            backend.until_gone(SOON);
        }
        ends_by_itself(&mut scene, pid);
    }
    // The server as a whole.
    let (_client, pid) = sent(&mut scene);
    let ordered = Instant::now();
    scene.confirm();
    scene.local.stop(StopMode::Fast);
    assert!(ordered.elapsed() < Duration::from_secs(5), "{:?}", ordered.elapsed());
    ends_by_itself(&mut scene, pid);
}

/// The query still runs; then the remote server's own DBA stops it, and its session with it.
fn ends_by_itself(scene: &mut Scene, pid: i32) {
    assert!(scene.remote_query(pid).is_some_and(|query| query.contains("pg_sleep(60)")), "it was stopped");
    scene.remote_cancel(pid);
    scene.until_no_remote_session(SOON);
}

/// However soon the connection is closed.
#[test]
fn what_was_sent_is_done() {
    let mut scene = Scene::new();
    for round in 0..20 {
        let (mut client, _) = scene.connected_client();
        let end = if round % 2 == 0 { "; SELECT dblink_disconnect('c')" } else { "" };
        client
            .batch_execute(&format!(
                "SELECT dblink_send_query('c', 'CREATE TABLE sent_{round} AS SELECT pg_sleep(0.05)::text AS a'){end}"
            ))
            .unwrap();
        drop(client);
        scene.until_remote_table(&format!("sent_{round}"), SOON);
    }
    scene.confirm();
}

#[test]
fn a_remote_session_that_dies_takes_no_results_along() {
    let mut scene = Scene::new();
    let kill = |scene: &mut Scene, pid: i32| {
        scene.remote_admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    };
    // It was at work.
    let (mut client, pid) = sent(&mut scene);
    kill(&mut scene, pid);
    let error = db_error(client.simple_query(READ));
    assert_eq!((error.severity(), error.code()), ("ERROR", &SqlState::ADMIN_SHUTDOWN), "{error:?}");
    let error = db_error(client.simple_query("SELECT dblink_exec('c', 'SELECT')"));
    assert_eq!(error.code(), &SqlState::CONNECTION_FAILURE, "{error:?}");
    // Its first result had come; a server keeps the end of one back until it has more to say.
    let (mut client, pid) = scene.connected_client();
    let two = "SELECT generate_series(1, 10000); DO 'BEGIN RAISE NOTICE $$more$$; PERFORM pg_sleep(60); END'";
    client.batch_execute(&format!("SELECT dblink_send_query('c', $q${two}$q$)")).unwrap();
    scene.until_remote_runs(pid, "pg_sleep(60)");
    eventually("the result comes", PATIENCE, || {
        match client.query_one("SELECT dblink_is_busy('c')", &[]).unwrap().get::<_, i32>(0) {
            0 => Ok(()),
            busy => Err(format!("busy: {busy}")),
        }
    });
    kill(&mut scene, pid);
    let sum = "SELECT sum(a) FROM dblink_get_result('c') AS t(a int)";
    assert_eq!(client.query_one(sum, &[]).unwrap().get::<_, i64>(0), 50_005_000);
    assert_eq!(db_error(client.simple_query(READ)).code(), &SqlState::ADMIN_SHUTDOWN);
    // It dies among the rows.
    let (mut client, pid) = scene.connected_client();
    client
        .batch_execute(
            "SET work_mem = '64kB'; SELECT dblink_send_query('c', 'SELECT generate_series(1, 10000000)')",
        )
        .unwrap();
    eventually("the room is full", PATIENCE, || {
        match client.query_one("SELECT dblink_is_busy('c')", &[]).unwrap().get::<_, i32>(0) {
            0 => Ok(()),
            busy => Err(format!("busy: {busy}")),
        }
    });
    kill(&mut scene, pid);
    // It is held back and cannot say goodbye.
    let error = db_error(client.simple_query(sum));
    assert!([SqlState::ADMIN_SHUTDOWN, SqlState::CONNECTION_FAILURE].contains(error.code()), "{error:?}");
    scene.until_no_remote_session(SOON);
    scene.confirm();
}

#[test]
fn asking_a_silent_server_to_stop_takes_bounded_time() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    let (mut client, pid) = scene.connected_client_through(proxy.port());
    client.batch_execute(SEND).unwrap();
    scene.until_remote_runs(pid, "pg_sleep(60)");
    proxy.set(Mode::BlackHole);
    let mut client = Some(client);
    at_once("cancel while asking a silent server to stop", || {
        let waiting = Waiting::start(client.take().unwrap(), "SELECT dblink_cancel_query('c')");
        scene.until_waiting(waiting.backend.pid());
        let (same, took) = scene.cancel(waiting);
        client = Some(same);
        took
    });
    let mut client = client.unwrap();
    let began = Instant::now();
    let told: String = client.query_one("SELECT dblink_cancel_query('c')", &[]).unwrap().get(0);
    assert_eq!(told, "cancel request timed out");
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
    let began = Instant::now();
    client.batch_execute("SELECT dblink_disconnect('c')").unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    scene.remote_admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    scene.confirm();
}
