//! No password is to be seen anywhere, and none is left in memory when a rotation is over.

use crate::ground::{Ground, PATIENCE, Subject, rotate};
use secretlink_e2e::{Fault, Process, backend_pid};
use std::sync::{Arc, Mutex};

/// What all sessions of a server are doing.
fn activity(subject: &Subject<'_>) -> String {
    let sql = "SELECT coalesce(string_agg(query, ' '), '') FROM pg_stat_activity";
    let servers = [subject.server, &subject.ground.local];
    servers
        .map(|server| -> String {
            server.connect("postgres", "postgres").query_one(sql, &[]).unwrap().get(0)
        })
        .join(" ")
}

/// The worker goes on to the next secret in the same process: what the first left is looked for then.
#[test]
fn nothing_is_left_of_a_password() {
    let ground = Ground::with(|local| local.conf("secretlink.rotation_workers = 1"));
    let (first, second) = (ground.subject("first"), ground.subject("second"));
    let before = first.password();
    let worker: Arc<Mutex<Option<Process>>> = Arc::default();
    // The first is held until the second is in the queue, and the second until the worker was looked at.
    let (queued, is_queued) = std::sync::mpsc::channel();
    let is_queued = Mutex::new(is_queued);
    let (looked, is_looked) = std::sync::mpsc::channel();
    let is_looked = Mutex::new(is_looked);
    let (begun, has_begun) = std::sync::mpsc::channel();
    ground.relay.rule(&first.secret, move |request| {
        if request.operation == "DescribeSecret" {
            is_queued.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        Fault::None
    });
    let found = worker.clone();
    ground.relay.rule(&second.secret, move |request| {
        if request.operation == "DescribeSecret" {
            *found.lock().unwrap() = request.sender();
            let _ = begun.send(());
            let () = is_looked.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        Fault::None
    });
    let (mut one, mut other) = (ground.session(), ground.session());
    let caller = backend_pid(&mut one);
    std::thread::scope(|scope| {
        let rotating = scope.spawn(|| rotate(&mut one, &first.secret, None).unwrap());
        // Its request is the first one.
        secretlink_e2e::eventually("the first has begun", PATIENCE, || {
            match ground.relay.count(&first.secret, "DescribeSecret") {
                0 => Err("not asked".to_owned()),
                _ => Ok(()),
            }
        });
        let next = scope.spawn(|| rotate(&mut other, &second.secret, None).unwrap());
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT rotate_secret%' AND state = 'active' AND pid <> pg_backend_pid()";
        let mut witness = ground.session();
        secretlink_e2e::eventually("both are asked for", PATIENCE, || {
            let active: i64 = witness.query_one(sql, &[]).unwrap().get(0);
            if active == 2 { Ok(()) } else { Err(active.to_string()) }
        });
        queued.send(()).unwrap();
        has_begun.recv_timeout(PATIENCE).unwrap();
        rotating.join().unwrap();
        let worker = worker.lock().unwrap().take().expect("the worker waits for the answer");
        assert!(worker.title().contains("rotation worker"), "{}", worker.title());
        let after = first.password();
        assert_ne!(after, before);
        let postmaster = Process::new(ground.local.postmaster_pid());
        for (process, what) in [(worker, "worker"), (caller, "caller"), (postmaster, "postmaster")] {
            for (password, which) in [(&after, "new"), (&before, "old")] {
                let hits = process.find_in_memory(password.as_bytes());
                assert!(hits.is_empty(), "the {which} password is in the memory of the {what}: {hits:?}");
            }
        }
        let shown = activity(&first);
        assert!(!shown.contains(&after) && !shown.contains(&before), "{shown}");
        looked.send(()).unwrap();
        next.join().unwrap();
        for log in [ground.local.log(), ground.remote.log()] {
            assert!(!log.contains(&after));
        }
        // A verifier is in that server's own log, as of any ALTER ROLE, and in nobody else's.
        assert!(!ground.local.log().contains("SCRAM-SHA-256"));
        let sql = "SELECT count(*) FROM rotation_history h WHERE h::text ~ 'SCRAM|md5' OR h::text LIKE '%' || $1 || '%'";
        assert_eq!(witness.query_one(sql, &[&after]).unwrap().get::<_, i64>(0), 0);
    });
}
