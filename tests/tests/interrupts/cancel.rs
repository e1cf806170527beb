//! A cancelled query, and the connection that goes on after it.

use crate::limits::{PATIENCE, at_once};
use crate::scene::{SLEEP, Scene, remote_pid};
use crate::waiting::{End, Waiting};
use postgres::Client;
use postgres::error::SqlState;
use secretlink_e2e::{db_error, eventually};
use std::time::{Duration, Instant};

#[test]
fn a_connection_survives_cancel() {
    let mut scene = Scene::new();
    let (mut client, pid) = scene.connected_client();

    // Again and again, the remote query stops and the same session takes the next one.
    for _ in 0..5 {
        let waiting = Waiting::start(client, SLEEP);
        scene.until_remote_runs(pid, "pg_sleep(60)");
        client = scene.cancel(waiting).0;
        scene.until_remote_stopped(pid, Duration::from_secs(1));
        assert_eq!(remote_pid(&mut client), pid);
    }

    // Inside a remote transaction: it has failed, as after any error, and ends with ROLLBACK.
    client.batch_execute("SELECT dblink_exec('c', 'CREATE TABLE kept(a int)')").unwrap();
    client
        .batch_execute("SELECT dblink_exec('c', 'BEGIN'), dblink_exec('c', 'INSERT INTO kept VALUES (1)')")
        .unwrap();
    let waiting = Waiting::start(client, "SELECT dblink_exec('c', 'DO $$BEGIN PERFORM pg_sleep(60); END$$')");
    scene.until_remote_runs(pid, "pg_sleep(60)");
    client = scene.cancel(waiting).0;
    scene.until_remote_stopped(pid, Duration::from_secs(1));
    let error = db_error(client.simple_query("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)"));
    assert_eq!(error.code(), &SqlState::IN_FAILED_SQL_TRANSACTION, "{error:?}");
    client.batch_execute("SELECT dblink_exec('c', 'ROLLBACK')").unwrap();
    let kept = client.query_one("SELECT n FROM dblink('c', 'SELECT count(*) FROM kept') AS t(n int)", &[]);
    assert_eq!(kept.unwrap().get::<_, i32>(0), 0);
    assert_eq!(remote_pid(&mut client), pid);

    // Inside a local transaction with a savepoint.
    client.batch_execute("BEGIN; SAVEPOINT s").unwrap();
    let waiting = Waiting::start(client, SLEEP);
    scene.until_remote_runs(pid, "pg_sleep(60)");
    client = scene.cancel(waiting).0;
    client.batch_execute("ROLLBACK TO s").unwrap();
    assert_eq!(remote_pid(&mut client), pid);
    client.batch_execute("COMMIT").unwrap();
    scene.confirm();
}

#[test]
fn an_exception_block_may_catch_the_cancel() {
    let mut scene = Scene::new();
    let (client, pid) = scene.connected_client();
    let sql = "DO $do$
        DECLARE answer int;
        BEGIN
            PERFORM * FROM dblink('c', 'SELECT pg_sleep(60)') AS t(x text);
        EXCEPTION WHEN query_canceled THEN
            SELECT a INTO answer FROM dblink('c', 'SELECT 42') AS t(a int);
            PERFORM set_config('my.answer', answer::text, false);
        END $do$";
    let waiting = Waiting::start(client, sql);
    scene.until_remote_runs(pid, "pg_sleep(60)");
    scene.order("pg_cancel_backend", waiting.backend);
    let End { mut client, result, .. } = waiting.end();
    result.unwrap_or_else(|e| panic!("the block did not catch the cancel: {e:?}"));
    let answer: String = client.query_one("SHOW my.answer", &[]).unwrap().get(0);
    assert_eq!(answer, "42");

    // The same with a timeout, which dblink's caller may set for the statement as a whole.
    client.batch_execute("SET statement_timeout = '100ms'").unwrap();
    client.batch_execute(sql).unwrap_or_else(|e| panic!("the block did not catch the timeout: {e:?}"));
    client.batch_execute("RESET statement_timeout").unwrap();
    assert_eq!(remote_pid(&mut client), pid);
    scene.confirm();
}

#[test]
fn a_large_result_can_be_cancelled_in_the_middle() {
    let mut scene = Scene::new();
    let (client, pid) = scene.connected_client();
    let mut client = Some(client);
    for work_mem in ["64kB", "1GB"] {
        at_once(&format!("cancel of a large result with work_mem = {work_mem}"), || {
            let mut asking = client.take().unwrap();
            asking.batch_execute(&format!("SET work_mem = '{work_mem}'")).unwrap();
            let waiting = Waiting::start(
                asking,
                "SELECT count(*) FROM dblink('c', 'SELECT generate_series(1, 100000000), 1') AS t(a int, b text)",
            );
            // In the middle: rows have arrived, and the server has more than it can send.
            scene.until_remote_runs(pid, "generate_series");
            let backend = waiting.backend;
            eventually("rows arrive", PATIENCE, || match backend.resident_bytes() >> 20 {
                megabytes if megabytes > 60 => Ok(()),
                _ if work_mem == "64kB" && temp_bytes(&mut scene.witness.client) > 1 << 20 => Ok(()),
                megabytes => Err(format!("{megabytes} MB resident")),
            });
            let (same, took) = scene.cancel(waiting);
            scene.until_remote_stopped(pid, Duration::from_secs(1));
            client = Some(same);
            took
        });
        assert_eq!(remote_pid(client.as_mut().unwrap()), pid);
    }
    assert_eq!(temp_bytes(&mut scene.witness.client), 0, "temporary files stay behind");
    scene.confirm();
}

fn temp_bytes(client: &mut Client) -> i64 {
    client.query_one("SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_tmpdir()", &[]).unwrap().get(0)
}

#[test]
fn a_local_error_in_the_middle_of_a_result_stops_the_remote_query() {
    let mut scene = Scene::new();
    let (mut client, pid) = scene.connected_client();
    for (query, sqlstate) in [
        ("SELECT ''x'', 1", SqlState::INVALID_TEXT_REPRESENTATION),
        ("SELECT ''x'', generate_series(1, 100000000)", SqlState::INVALID_TEXT_REPRESENTATION),
        (
            "SELECT CASE WHEN a < 100000 THEN a::text ELSE ''x'' END, a FROM (SELECT generate_series(1, 100000000) a) s",
            SqlState::INVALID_TEXT_REPRESENTATION,
        ),
        ("SELECT 1, 2, generate_series(1, 100000000)", SqlState::DATATYPE_MISMATCH),
        (
            "SELECT 1 / (a - 100000), a FROM (SELECT generate_series(1, 100000000) a) s",
            SqlState::DIVISION_BY_ZERO,
        ),
    ] {
        for _ in 0..3 {
            let began = Instant::now();
            let error = db_error(
                client.simple_query(&format!("SELECT * FROM dblink('c', '{query}') AS t(a int, b int)")),
            );
            assert_eq!(error.code(), &sqlstate, "{query}: {error:?}");
            scene.until_remote_stopped(pid, Duration::from_secs(1));
            assert_eq!(remote_pid(&mut client), pid, "{query}");
            assert!(began.elapsed() < PATIENCE, "{query} took {:?}", began.elapsed());
        }
    }
    scene.confirm();
}
