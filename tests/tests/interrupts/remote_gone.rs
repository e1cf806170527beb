//! A remote server that falls silent, and a remote session that dies.

use crate::limits::{PATIENCE, SOON, at_once};
use crate::scene::{SLEEP, Scene, remote_pid};
use crate::waiting::{End, Waiting};
use postgres::error::SqlState;
use secretlink_e2e::{Mode, Proxy, backend_pid, db_error, eventually};
use std::time::{Duration, Instant};

#[test]
fn a_remote_that_falls_silent_does_not_hold_the_backend() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    let (client, pid) = scene.connected_client_through(proxy.port());
    let waiting = Waiting::start(client, SLEEP);
    scene.until_remote_runs(pid, "pg_sleep(60)");
    proxy.set(Mode::BlackHole);
    let (client, took) = scene.cancel(waiting);
    println!("cancel with a silent remote: {took:?}");
    assert!(took < SOON, "{took:?}");
    let mut client = Some(client);

    // The next query cannot begin, but can be cancelled too, and at once.
    at_once("cancel behind a cancel that gets no answer", || {
        let waiting = Waiting::start(client.take().unwrap(), SLEEP);
        scene.until_waiting(waiting.backend.pid());
        let (same, took) = scene.cancel(waiting);
        client = Some(same);
        took
    });

    // Left alone it ends with an error, not never.
    let mut client = client.unwrap();
    let began = Instant::now();
    for _ in 0..2 {
        let error = db_error(client.simple_query("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)"));
        assert_eq!(error.code(), &SqlState::CONNECTION_FAILURE, "{error:?}");
        assert!(error.message().contains("could not be cancelled in time"), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("connect again")), "{error:?}");
    }
    println!("a silent remote was given up after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    client.batch_execute("SELECT dblink_disconnect('c')").unwrap();
    client.batch_execute(&scene.open_connection(scene.remote.port())).unwrap();
    assert_ne!(remote_pid(&mut client), pid);
    scene.confirm();
}

#[test]
fn leaving_a_silent_remote_is_quick() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    for leave in ["disconnect", "exit"] {
        proxy.set(Mode::Pass);
        let (client, pid) = scene.connected_client_through(proxy.port());
        let waiting = Waiting::start(client, SLEEP);
        scene.until_remote_runs(pid, "pg_sleep(60)");
        proxy.set(Mode::BlackHole);
        let mut client = scene.cancel(waiting).0;
        let backend = backend_pid(&mut client);
        let began = Instant::now();
        if leave == "disconnect" {
            client.batch_execute("SELECT dblink_disconnect('c')").unwrap();
        } else {
            client.close().unwrap();
            backend.until_gone(PATIENCE);
        }
        println!("{leave} with a silent remote: {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(5), "{leave} took {:?}", began.elapsed());
    }
    scene.confirm();
}

fn until_remote_gone(scene: &mut Scene, pid: i32) {
    eventually("the remote session is gone", PATIENCE, || {
        let sql = "SELECT state FROM pg_stat_activity WHERE pid = $1";
        match scene.remote_admin.query_opt(sql, &[&pid]).unwrap() {
            None => Ok(()),
            Some(row) => Err(format!("it is {:?}", row.get::<_, Option<String>>(0))),
        }
    });
}

#[test]
fn a_remote_session_that_dies_gives_clear_errors() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    #[derive(Debug, PartialEq)]
    enum Death {
        Terminated,
        TerminatedWhileIdle,
        Reset,
    }
    for death in [Death::Terminated, Death::TerminatedWhileIdle, Death::Reset] {
        proxy.set(Mode::Pass);
        let (client, pid) = scene.connected_client_through(proxy.port());
        let kill = |scene: &mut Scene| match death {
            Death::Reset => proxy.set(Mode::Refuse),
            _ => scene.remote_admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap(),
        };
        let end = if death == Death::TerminatedWhileIdle {
            kill(&mut scene);
            until_remote_gone(&mut scene, pid);
            Waiting::start(client, SLEEP).end()
        } else {
            let waiting = Waiting::start(client, SLEEP);
            scene.until_remote_runs(pid, "pg_sleep(60)");
            kill(&mut scene);
            waiting.end()
        };
        let End { mut client, result, at: _ } = end;
        let error = result.expect_err("the remote session is dead");
        let error = error.as_db_error().unwrap_or_else(|| panic!("{death:?}: {error:?}"));
        println!("{death:?}: {} {}", error.code().code(), error.message());
        let expected = [SqlState::ADMIN_SHUTDOWN, SqlState::CONNECTION_FAILURE];
        assert!(expected.contains(error.code()), "{death:?}: {error:?}");
        // The local session does not claim to be ended itself.
        assert_eq!(error.severity(), "ERROR", "{death:?}: {error:?}");

        for _ in 0..2 {
            let error = db_error(client.simple_query("SELECT dblink_exec('c', 'SELECT')"));
            assert_eq!(error.code(), &SqlState::CONNECTION_FAILURE, "{death:?}: {error:?}");
        }
        // Unlike with contrib dblink, its name is free, or else the user can let go of it.
        proxy.set(Mode::Pass);
        if death == Death::Reset {
            client.batch_execute("SELECT dblink_disconnect('c')").unwrap();
        }
        client.batch_execute(&scene.open_connection(proxy.port())).unwrap();
        assert_ne!(remote_pid(&mut client), pid);
        let error = db_error(client.simple_query(&scene.open_connection(proxy.port())));
        assert_eq!(error.code(), &SqlState::DUPLICATE_OBJECT, "{death:?}: {error:?}");
        if death == Death::Reset {
            // The server looks at its socket only when its query is over.
            scene.remote_admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
        }
    }
    scene.until_no_remote_session(SOON);
    scene.confirm();
}
