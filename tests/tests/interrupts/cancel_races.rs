//! A cancel at an awkward moment.

use crate::limits::SOON;
use crate::scene::{SLEEP, Scene, remote_pid};
use crate::waiting::Waiting;
use postgres::error::SqlState;
use secretlink_e2e::{Mode, Proxy, db_error};
use std::time::{Duration, Instant};

/// Far longer than a cancel takes on a busy machine, and shorter than the query that is cancelled.
const LOST: Duration = Duration::from_secs(40);

/// The cancel may overtake the query: the remote server, idle as far as it knows, then ignores it.
#[test]
fn a_cancel_that_overtakes_its_query_is_not_lost() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    let (mut client, pid) = scene.connected_client_through(proxy.port());
    // Slow enough that the query, a long one, arrives after the request to cancel it.
    proxy.set(Mode::Delay(Duration::from_millis(40)));
    let sql = "SELECT * FROM dblink('c', 'SELECT pg_sleep(60) --' || repeat('x', 2000000)) AS t(x text)";
    let waiting = Waiting::start(client, sql);
    scene.until_waiting(waiting.backend.pid());
    let took;
    (client, took) = scene.cancel(waiting);
    assert!(took < SOON, "{took:?}");
    let began = Instant::now();
    assert_eq!(remote_pid(&mut client), pid);
    println!("the query after a cancel that overtook its own had to wait {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    scene.confirm();
}

#[test]
fn a_cancel_at_the_very_beginning_is_not_lost() {
    let mut scene = Scene::new();
    let (mut client, pid) = scene.connected_client();
    let mut slowest = Duration::ZERO;
    for round in 0..200 {
        client.batch_execute(&format!("SET statement_timeout = {}", 1 + round % 4)).unwrap();
        let began = Instant::now();
        let error = db_error(client.simple_query(SLEEP));
        assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{error:?}");
        // On a busy machine this may itself take longer than the timeout.
        while client.batch_execute("RESET statement_timeout").is_err() {}
        let next = loop {
            match client.query_one("SELECT p FROM dblink('c', 'SELECT pg_backend_pid()') AS t(p int)", &[]) {
                Ok(row) => break row.get::<_, i32>(0),
                // The timer that RESET took back may have rung just before: Postgres then cancels the
                // statement after it. A cancel of ours that came too late would be the remote server's.
                Err(error) => {
                    let error = error.as_db_error().unwrap_or_else(|| panic!("round {round}: {error:?}"));
                    let message = "canceling statement due to statement timeout";
                    assert_eq!((error.message(), error.where_()), (message, None), "round {round}");
                }
            }
        };
        assert_eq!(next, pid, "round {round}");
        slowest = slowest.max(began.elapsed());
        // A cancel that is lost leaves the next query to wait for the minute of the first.
        assert!(slowest < LOST, "round {round}: the next query had to wait {:?}", began.elapsed());
    }
    println!("200 early cancels; the slowest, with the query after it, took {slowest:?}");
    scene.confirm();
}

#[test]
fn a_cancel_while_the_previous_one_still_drains() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    let (mut client, pid) = scene.connected_client_through(proxy.port());
    for _ in 0..3 {
        let waiting = Waiting::start(client, SLEEP);
        scene.until_remote_runs(pid, "pg_sleep(60)");
        // From here on the answer to a cancel takes its time, TLS handshake included.
        proxy.set(Mode::Delay(Duration::from_millis(150)));
        client = scene.cancel(waiting).0;
        for _ in 0..3 {
            let waiting = Waiting::start(client, SLEEP);
            scene.until_waiting(waiting.backend.pid());
            let took;
            (client, took) = scene.cancel(waiting);
            assert!(took < SOON, "a cancel while draining took {took:?}");
        }
        proxy.set(Mode::Pass);
        assert_eq!(remote_pid(&mut client), pid);
        assert_eq!(scene.remote_query(pid), None);
    }
    scene.confirm();
}
