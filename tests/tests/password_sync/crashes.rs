//! A process, or the whole server, ends at the worst moments.

use crate::ground::{Ground, SETTLED};
use crate::session::Session;
use crate::synced_role::SyncedRole;
use secretlink_e2e::{Fault, Process, SecretsRelay, StopMode, eventually};
use std::sync::Mutex;
use std::time::Duration;

/// A moment of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The request has arrived; Secrets Manager does not see it.
    Arrives(&'static str),
    /// Secrets Manager has done it; the backend does not know yet.
    Done(&'static str),
}

use Moment::{Arrives, Done};

/// Each moment, and whether the change has been committed by then.
const MOMENTS: [(Moment, bool); 7] = [
    (Arrives("DescribeSecret"), false),
    (Arrives("GetSecretValue"), false),
    (Done("GetSecretValue"), false),
    (Arrives("PutSecretValue"), false),
    (Done("PutSecretValue"), false),
    (Arrives("UpdateSecretVersionStage"), true),
    (Done("UpdateSecretVersionStage"), true),
];

/// Run `crash` at the first such moment of the secret, once.
pub fn at(relay: &SecretsRelay, secret: &str, moment: Moment, crash: impl FnOnce(Process) + Send + 'static) {
    let crash = Mutex::new(Some(crash));
    relay.rule(secret, move |request| {
        let (Arrives(operation) | Done(operation)) = moment;
        if request.operation != operation {
            return Fault::None;
        }
        let Some(crash) = crash.lock().unwrap().take() else { return Fault::None };
        let backend = request.sender().expect("somebody has sent the request");
        match moment {
            Arrives(_) => {
                crash(backend);
                Fault::Cut
            }
            Done(_) => Fault::BeforeAnswer(Box::new(move || crash(backend))),
        }
    });
}

/// The server answers again. For a moment after the process has gone it still takes new sessions, and
/// ends them, too: one that lasts shows that this is over.
fn until_recovered(ground: &Ground) -> Session {
    eventually("the server has recovered", SETTLED, || {
        let mut client = ground.cluster.try_connect("postgres", "postgres").map_err(|e| e.to_string())?;
        client.batch_execute("SELECT pg_sleep(0.3)").map_err(|e| e.to_string())
    });
    ground.session()
}

#[track_caller]
fn settled(role: &SyncedRole<'_>, old: &str, new: &str, committed: bool, what: &str) {
    role.until_in_sync();
    assert_eq!(role.password(), if committed { new } else { old }, "{what}");
    eventually(&format!("{what}: nothing is left over"), SETTLED, || role.left_over().map_or(Ok(()), Err));
    role.assert_in_sync();
    let (sql, password) = role.alter();
    role.ground.session().run_quietly(&sql);
    role.assert_password(&password);
}

#[test]
fn a_backend_killed_at_any_moment_leaves_no_doubt() {
    let ground = Ground::start();
    for (moment, committed) in MOMENTS {
        let role = ground.synced_role("killed");
        let old = role.password();
        let (sql, new) = role.alter();
        at(&ground.relay, &role.secret, moment, |backend| {
            assert!(backend.title().contains("ALTER ROLE"), "{}", backend.title());
            backend.kill();
            backend.until_gone(SETTLED);
        });
        ground.session().client.batch_execute(&sql).unwrap_err();
        until_recovered(&ground);
        settled(&role, &old, &new, committed, &format!("{moment:?}"));
    }
    assert!(!ground.cluster.log().contains("PANIC:"), "an error after the commit has become a PANIC");
}

#[test]
fn a_server_stopped_at_any_moment_leaves_no_doubt() {
    let mut ground = Ground::start();
    for (moment, committed) in MOMENTS {
        let role = ground.synced_role("stopped");
        let (name, secret, old) = (role.name.clone(), role.secret.clone(), role.password());
        let (sql, new) = role.alter();
        let postmaster = Process::new(ground.cluster.postmaster_pid());
        at(&ground.relay, &secret, moment, move |backend| {
            postmaster.quit();
            backend.until_gone(SETTLED);
        });
        ground.session().client.batch_execute(&sql).unwrap_err();
        ground.cluster.restart(StopMode::Immediate);
        let role = SyncedRole { ground: &ground, name, secret };
        settled(&role, &old, &new, committed, &format!("{moment:?}"));
    }
    assert!(!ground.cluster.log().contains("PANIC:"), "an error after the commit has become a PANIC");
}

#[test]
fn synchronous_commit_off_is_no_hole() {
    let mut ground = Ground::with(|cluster| {
        cluster
            .conf("synchronous_commit = off")
            .conf("wal_writer_delay = 10s")
            .conf("wal_writer_flush_after = 0")
    });
    assert_eq!(ground.session().text("SHOW synchronous_commit").as_deref(), Some("off"));
    let (name, secret) = {
        let role = ground.synced_role("asynchronous");
        // The role itself and its label must survive what follows.
        ground.session().run("SET synchronous_commit = on; CREATE TABLE flushed ()");
        (role.name.clone(), role.secret.clone())
    };
    for _ in 0..3 {
        let role = SyncedRole { ground: &ground, name: name.clone(), secret: secret.clone() };
        let (sql, password) = role.alter();
        let mut session = ground.session();
        session.run_quietly(&sql);
        assert_eq!(role.password(), password);
        // The promotion has been seen; had the commit only been in memory, it would now be gone.
        ground.cluster.restart(StopMode::Immediate);
        let role = SyncedRole { ground: &ground, name: name.clone(), secret: secret.clone() };
        assert_eq!(ground.log_in(&name, &password).as_ref(), Ok(&name));
        role.assert_password(&password);
    }
}

#[test]
fn a_renamed_role_is_settled_with_its_name() {
    let mut ground = Ground::start();
    for (moment, committed) in [(Done("PutSecretValue"), false), (Arrives("UpdateSecretVersionStage"), true)]
    {
        let role = ground.synced_role("renamed");
        let (name, secret, password) = (role.name.clone(), role.secret.clone(), role.password());
        let new = format!("{name}_2");
        let postmaster = Process::new(ground.cluster.postmaster_pid());
        at(&ground.relay, &secret, moment, move |backend| {
            postmaster.quit();
            backend.until_gone(SETTLED);
        });
        ground.session().client.batch_execute(&format!("ALTER ROLE {name} RENAME TO {new}")).unwrap_err();
        ground.cluster.restart(StopMode::Immediate);
        // Both versions hold the right password; only one holds the right name.
        let role = SyncedRole { ground: &ground, name: if committed { new } else { name }, secret };
        role.until_in_sync();
        eventually("nothing is left over", SETTLED, || role.left_over().map_or(Ok(()), Err));
        role.assert_password(&password);
    }
}

#[test]
fn the_server_stops_in_order_while_a_change_waits() {
    let mut ground = Ground::with(|cluster| cluster.conf("secretlink.request_timeout = '5min'"));
    let role = ground.synced_role("ordered");
    let (name, secret, old) = (role.name.clone(), role.secret.clone(), role.password());
    let (sql, _) = role.alter();
    let (sender, arrived) = std::sync::mpsc::channel();
    ground.relay.rule(&secret, move |request| {
        if request.operation != "PutSecretValue" {
            return Fault::None;
        }
        let _ = sender.send(());
        Fault::Delay(Duration::from_secs(60))
    });
    let mut session = ground.session();
    let waiting = std::thread::spawn(move || session.client.batch_execute(&sql).unwrap_err());
    arrived.recv_timeout(SETTLED).unwrap();
    let began = std::time::Instant::now();
    ground.cluster.stop(StopMode::Fast);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    waiting.join().unwrap();
    ground.relay.pass_all();
    ground.cluster.start();
    let role = SyncedRole { ground: &ground, name, secret };
    role.until_in_sync();
    assert_eq!(role.password(), old);
}
