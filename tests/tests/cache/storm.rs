//! Many new sessions at once that need the same secret.

use crate::ground::{Ground, connect, login, moto, remote, secret, text};
use secretlink_e2e::{Fault, random_password};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

const SESSIONS: usize = 500;

#[test]
fn five_hundred_new_sessions_ask_once() {
    moto();
    let ground =
        Ground::with(|local| local.conf("max_connections = 520").conf("secretlink.request_timeout = '60s'"));
    let remote = remote(|remote| remote.conf("max_connections = 520"));
    let password = random_password();
    remote.create_login("app", &password, "scram-sha-256");
    let name = secret(&login("app", &password));
    // All are to wait for one answer, also those that a slow machine starts late.
    ground.relay.rule(&name, |_| Fault::Delay(Duration::from_secs(3)));
    let connect = connect(&name, remote.port());
    let together = Barrier::new(SESSIONS);
    let began = Instant::now();
    thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|_| {
                let run = || {
                    let session = ground.local.try_connect("postgres", "postgres");
                    together.wait();
                    let mut session = session.map_err(|e| e.to_string())?;
                    session.batch_execute(&connect).map_err(|e| format!("{e:?}"))?;
                    session.batch_execute("SELECT dblink_disconnect('c')").map_err(|e| format!("{e:?}"))
                };
                thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, run).unwrap()
            })
            .collect();
        for session in sessions {
            session.join().unwrap().unwrap();
        }
    });
    println!("{SESSIONS} sessions took {:?}", began.elapsed());
    assert_eq!(ground.relay.operations(&name), ["GetSecretValue"]);
    let mut session = ground.session();
    let counted = "SELECT concat_ws(' ', cache_misses, connections_opened, connections_failed, aws_calls) FROM secretlink_stats";
    assert_eq!(text(&mut session, counted), format!("1 {SESSIONS} 0 1"));
}
