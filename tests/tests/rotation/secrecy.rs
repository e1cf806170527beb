//! No password is to be seen anywhere, and none is left in memory when a rotation is over.

use crate::ground::{Ground, PATIENCE, Subject, rotate};
use ring::{hmac, pbkdf2};
use secretlink_e2e::{Fault, Process, backend_pid};
use std::num::NonZeroU32;
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

/// What SCRAM makes of a role's password, as it is stored at the server: SaltedPassword, ClientKey and ServerKey, each
/// of which is as good as the password to one side (RFC 5802, section 3).
fn keys(subject: &Subject<'_>, password: &str) -> Vec<(&'static str, Vec<u8>)> {
    keys_at(&mut subject.server.connect("postgres", "postgres"), &subject.role, password)
}

fn keys_at(server: &mut postgres::Client, role: &str, password: &str) -> Vec<(&'static str, Vec<u8>)> {
    let sql = "SELECT part[1]::int, decode(part[2], 'base64'), decode(part[3], 'base64')
               FROM (SELECT regexp_match(rolpassword, '^SCRAM-SHA-256\\$(\\d+):(.*)\\$.*:(.*)$') AS part
                     FROM pg_authid WHERE rolname = $1) AS stored";
    let row = server.query_one(sql, &[&role]).unwrap();
    let rounds = NonZeroU32::new(row.get::<_, i32>(0).unsigned_abs()).unwrap();
    let mut salted = vec![0; 32];
    let salt: Vec<u8> = row.get(1);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let sign = |name: &[u8]| hmac::sign(&key, name).as_ref().to_vec();
    let (client, server) = (sign(b"Client Key"), sign(b"Server Key"));
    assert_eq!(server, row.get::<_, Vec<u8>>(2), "it is the role's password");
    vec![("SaltedPassword", salted), ("ClientKey", client), ("ServerKey", server)]
}

/// When `AWSCURRENT` moves, the I/O thread has just logged in with the new password, and its stack is as the login left it.
#[test]
fn the_stack_of_a_login_is_wiped() {
    let ground = Ground::start();
    let subject = ground.subject("stack");
    let before = keys(&subject, &subject.password());
    let found: Arc<Mutex<Option<Vec<String>>>> = Arc::default();
    let (role, secret) = (subject.role.clone(), subject.secret.clone());
    let (kept, remote) = (found.clone(), ground.remote.conninfo("postgres", "postgres"));
    let described =
        crate::ground::api().call("DescribeSecret", serde_json::json!({ "SecretId": secret })).unwrap();
    let moves = Mutex::new(0);
    ground.relay.rule(described["ARN"].as_str().unwrap(), move |request| {
        if request.operation != "UpdateSecretVersionStage" {
            return Fault::None;
        }
        *moves.lock().unwrap() += 1;
        if *moves.lock().unwrap() == 2 {
            let pending = crate::ground::api().get_stage(&secret, "AWSPENDING").unwrap();
            let pending: serde_json::Value = serde_json::from_str(&pending).unwrap();
            let mut server = postgres::Client::connect(&remote, postgres::NoTls).unwrap();
            let after = keys_at(&mut server, &role, pending["password"].as_str().unwrap());
            let worker = request.sender().expect("the worker waits for the answer");
            assert_ne!(
                worker.find_in_memory(pending["password"].as_str().unwrap().as_bytes()),
                [],
                "it is needed still"
            );
            let all = before.iter().map(|key| ("old", key)).chain(after.iter().map(|key| ("new", key)));
            let hits = all.flat_map(|(which, (name, key))| {
                worker.find_in_memory(key).into_iter().map(move |hit| format!("{which} {name}: {hit:?}"))
            });
            *kept.lock().unwrap() = Some(hits.collect());
        }
        Fault::None
    });
    subject.rotate().unwrap();
    assert_eq!(found.lock().unwrap().take(), Some(vec![]));
}

/// The worker goes on to the next secret in the same process: what the first left is looked for then.
#[test]
fn nothing_is_left_of_a_password() {
    // Requests are held while the memory of processes is read.
    let ground = Ground::with(|local| {
        local.conf("secretlink.rotation_workers = 1").conf("secretlink.request_timeout = '2min'")
    });
    let (first, second) = (ground.subject("first"), ground.subject("second"));
    let before = first.password();
    let keys_before = keys(&first, &before);
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
        // The I/O thread has computed with them on its stack.
        let keys = keys_before.iter().map(|key| ("old", key)).collect::<Vec<_>>();
        let keys_after = self::keys(&first, &after);
        for (which, (name, key)) in keys.into_iter().chain(keys_after.iter().map(|key| ("new", key))) {
            let hits = worker.find_in_memory(key);
            assert!(hits.is_empty(), "the {which} {name} is in the memory of the worker: {hits:?}");
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
