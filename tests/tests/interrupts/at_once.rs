//! Wherever a backend waits, it obeys at once.

use crate::limits::{SOON, at_once};
use crate::scene::{PLACES, Place, Scene, remote_pid};
use crate::waiting::Waiting;
use postgres::error::SqlState;
use secretlink_e2e::{PostgresBin, db_error};
use std::time::{Duration, Instant};

#[test]
fn statement_timeout_acts_at_once_everywhere() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let mut scene = Scene::new();
    for place in PLACES {
        let mut client = scene.client();
        client.batch_execute(&scene.preparation(place)).unwrap();
        let statement = scene.statement(place);
        at_once(&format!("statement_timeout in {place:?}"), || {
            client.batch_execute("SET statement_timeout = '300ms'").unwrap();
            let began = Instant::now();
            let error = db_error(client.simple_query(&statement));
            let took = began.elapsed();
            assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{place:?}: {error:?}");
            assert!(error.message().contains("statement timeout"), "{place:?}: {error:?}");
            assert!(took >= TIMEOUT, "{place:?}: the timeout came after {took:?}");
            client.batch_execute("RESET statement_timeout").unwrap();
            took - TIMEOUT
        });
    }
    scene.confirm();
}

#[test]
fn cancel_acts_at_once_everywhere() {
    let mut scene = Scene::new();
    for place in PLACES {
        let mut client = Some(scene.wait_in(place)).map(|waiting| scene.cancel(waiting).0);
        at_once(&format!("cancel in {place:?}"), || {
            let waiting = Waiting::start(client.take().unwrap(), &scene.statement(place));
            scene.until_waiting(waiting.backend.pid());
            let (same, took) = scene.cancel(waiting);
            client = Some(same);
            took
        });
        // The backend goes on as if nothing had been.
        let mut client = client.unwrap();
        client.batch_execute("SELECT 1").unwrap();
        if place != Place::Query {
            client.batch_execute(&scene.open_connection(scene.remote.port())).unwrap();
        }
        remote_pid(&mut client);
    }
    scene.confirm();
}

#[test]
fn terminate_acts_at_once_everywhere() {
    let mut scene = Scene::new();
    for place in PLACES {
        at_once(&format!("terminate in {place:?}"), || {
            let waiting = scene.wait_in(place);
            let backend = waiting.backend;
            let ordered = Instant::now();
            scene.order("pg_terminate_backend", backend);
            backend.until_gone(SOON);
            let took = ordered.elapsed();
            let end = waiting.end();
            end.assert_terminated(&format!("terminate in {place:?}"), backend, &scene.local);
            // The remote session does not outlive the local one.
            scene.until_no_remote_session(Duration::from_secs(1));
            took.max(end.at.saturating_duration_since(ordered))
        });
    }
    scene.confirm();
}

#[test]
fn waits_are_seen() {
    let mut scene = Scene::new();
    for place in PLACES {
        let waiting = scene.wait_in(place);
        let sql = "SELECT wait_event_type, wait_event FROM pg_stat_activity WHERE pid = $1";
        let row = scene.witness.client.query_one(sql, &[&waiting.backend.pid().cast_signed()]).unwrap();
        let seen: (String, String) = (row.get(0), row.get(1));
        let name = match place {
            _ if PostgresBin::get().major() < 17 => "Extension",
            Place::SecretsManager => "SecretlinkSecretsManager",
            Place::Connect => "SecretlinkConnect",
            Place::Query => "SecretlinkQuery",
        };
        assert_eq!((seen.0.as_str(), seen.1.as_str()), ("Extension", name), "{place:?}");
        scene.cancel(waiting);
    }
    scene.confirm();
}
