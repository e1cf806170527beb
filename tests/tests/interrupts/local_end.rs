//! The end of the client, of the server, of the postmaster.

use crate::limits::{PATIENCE, SOON};
use crate::scene::{PLACES, SLEEP, Scene};
use crate::waiting::Waiting;
use secretlink_e2e::{Mode, Process, Proxy, StopMode, eventually};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_client_that_leaves_ends_the_wait() {
    let mut scene = Scene::new();
    for place in PLACES {
        let conninfo = format!(
            "{} application_name=leaver options='-c client_connection_check_interval=100ms'",
            scene.local.conninfo("postgres", "postgres")
        );
        let mut psql = scene
            .local
            .psql_command(&conninfo)
            .args(["-c", &scene.preparation(place), "-c", &scene.statement(place)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let backend = eventually("psql waits", PATIENCE, || {
            let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'leaver'
                       AND state = 'active' AND wait_event_type = 'Extension' AND query = $1";
            let row = scene.witness.client.query_opt(sql, &[&scene.statement(place)]).unwrap();
            row.map(|row| Process::new(row.get::<_, i32>(0).cast_unsigned())).ok_or("no such backend".into())
        });
        // No goodbye: the socket just closes.
        psql.kill().unwrap();
        psql.wait().unwrap();
        let left = Instant::now();
        backend.until_gone(SOON);
        println!("the backend of a client that left {place:?} was gone after {:?}", left.elapsed());
        scene.until_no_remote_session(SOON);
    }
    scene.confirm();
}

#[test]
fn fast_shutdown_does_not_wait_for_others() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.remote.port());
    // One that has nobody to say goodbye to, either.
    let (client, pid) = scene.connected_client_through(proxy.port());
    let silent = Waiting::start(client, SLEEP);
    scene.until_remote_runs(pid, "pg_sleep(60)");
    proxy.set(Mode::BlackHole);
    let mut waiting: Vec<Waiting> = PLACES.map(|place| scene.wait_in(place)).into();
    waiting.push(silent);

    let ordered = Instant::now();
    scene.local.stop(StopMode::Fast);
    let took = ordered.elapsed();
    println!("fast shutdown with backends that wait everywhere: {took:?}");
    assert!(took < Duration::from_secs(5), "fast shutdown took {took:?}");
    for one in waiting {
        let backend = one.backend;
        one.end().assert_terminated("fast shutdown", backend, &scene.local);
    }
    let log = scene.local.log();
    assert!(log.contains("database system is shut down") && !log.contains("terminated by signal"), "{log}");
    // The silent one could not be told.
    scene.remote_admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    scene.until_no_remote_session(SOON);
}

#[test]
fn backends_do_not_outlive_the_postmaster() {
    let mut scene = Scene::new();
    let waiting: Vec<Waiting> = PLACES.map(|place| scene.wait_in(place)).into();
    let postmaster = scene.local.postmaster_pid().cast_signed();
    // SAFETY: kill only sends a signal, to a child of ours that nobody has waited for yet.
    unsafe { libc::kill(postmaster, libc::SIGKILL) };
    let killed = Instant::now();
    for one in &waiting {
        one.backend.until_gone(Duration::from_secs(5));
    }
    println!("the backends followed their postmaster after {:?}", killed.elapsed());
    for one in waiting {
        assert!(one.end().result.is_err());
    }
    scene.until_no_remote_session(SOON);
    // Nobody holds the shared memory: the server comes up again, and removes what was left of it.
    scene.local.restart(StopMode::Immediate);
    scene.client().batch_execute("SELECT 1").unwrap();
}
