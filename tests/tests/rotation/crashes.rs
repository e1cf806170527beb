//! A worker, a caller, or the whole server ends at the worst moments; requests are lost, or late.

use crate::ground::{Ground, PATIENCE, Subject, api, major, master_of, rotate};
use postgres::error::SqlState;
use secretlink_e2e::{Fault, Process, Said, SecretsRequest, ServerRelay, StopMode, backend_pid, eventually};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How much later a request arrives than its sender waits for the answer.
const LATE: Duration = Duration::from_millis(1_500);

/// A moment of a rotation: the n-th request for an operation arrives, or has been answered, at Secrets Manager
/// or, by the names that [`said`] gives, at the server whose role gets a new password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The request has arrived; who is to carry it out does not see it.
    Arrives(&'static str, usize),
    /// It is done; the worker does not know yet.
    Done(&'static str, usize),
}

use Moment::{Arrives, Done};

/// The moments of a rotation that nothing disturbs, at Secrets Manager, in their order.
pub const MOMENTS: [Moment; 14] = [
    Arrives("DescribeSecret", 1),
    Done("DescribeSecret", 1),
    Arrives("GetSecretValue", 1),
    Done("GetSecretValue", 1),
    Arrives("PutSecretValue", 1),
    Done("PutSecretValue", 1),
    // AWSPENDING is taken.
    Arrives("UpdateSecretVersionStage", 1),
    Done("UpdateSecretVersionStage", 1),
    // Under the lock, before the password is changed.
    Arrives("DescribeSecret", 2),
    Done("DescribeSecret", 2),
    // The password has been changed, and tried: AWSCURRENT moves.
    Arrives("UpdateSecretVersionStage", 2),
    Done("UpdateSecretVersionStage", 2),
    // AWSPENDING goes.
    Arrives("UpdateSecretVersionStage", 3),
    Done("UpdateSecretVersionStage", 3),
];

/// The moments at the server, in their order.
pub const SERVER_MOMENTS: [Moment; 10] = [
    // With the current password.
    Arrives("login", 1),
    Done("login", 1),
    Arrives("prepare", 1),
    Done("prepare", 1),
    Arrives("lock", 1),
    Done("lock", 1),
    Arrives("ALTER ROLE", 1),
    Done("ALTER ROLE", 1),
    // With the new password; of a pair, the master's.
    Arrives("login", 2),
    Done("login", 2),
];

/// What a client says to the server, in a word.
fn said(said: &Said) -> &'static str {
    match &said.query {
        None => "login",
        Some(sql) if sql.contains("PASSWORD 'SCRAM") => "ALTER ROLE",
        Some(sql) if sql.contains("pg_try_advisory_lock") => "lock",
        Some(sql) if sql.contains("SET search_path") => "prepare",
        Some(_) => "look",
    }
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// The worker is killed, and with it the server starts anew.
    WorkerKilled,
    /// The worker is told to end.
    WorkerTerminated,
    /// The session that has asked for the rotation is killed, and with it the server starts anew.
    CallerKilled,
    /// The server is stopped as in a crash.
    ServerStopped,
    /// All its processes are killed.
    ServerKilled,
    /// The connection is reset.
    Cut,
    /// The request arrives when its sender has long gone.
    Late,
    /// The same, and its sender is killed.
    LateKilled,
    /// AWS, or the server, says no.
    Refused,
    /// AWS is not there.
    Away,
}

/// All of them.
pub const BLOWS: [Blow; 10] = [
    Blow::WorkerKilled,
    Blow::WorkerTerminated,
    Blow::CallerKilled,
    Blow::ServerStopped,
    Blow::ServerKilled,
    Blow::Cut,
    Blow::Late,
    Blow::LateKilled,
    Blow::Refused,
    Blow::Away,
];

/// Those that a server deals, too.
pub const SERVER_BLOWS: &[Blow] = &[
    Blow::WorkerKilled,
    Blow::WorkerTerminated,
    Blow::CallerKilled,
    Blow::ServerStopped,
    Blow::ServerKilled,
    Blow::Cut,
    Blow::Late,
    Blow::LateKilled,
    Blow::Refused,
];

/// Where a blow may fall.
pub struct Target<'a> {
    pub ground: &'a Ground,
    /// The secret.
    pub secret: &'a str,
    /// What stands before the server.
    pub relay: Option<&'a ServerRelay>,
    /// The session that asks for the rotation.
    pub caller: Process,
}

/// Deals a blow at a moment, once. The secret is named as it was given, or by its ARN; requests count
/// together. Returns whether it has fallen.
pub fn strike(target: &Target<'_>, moment: Moment, blow: Blow) -> Arc<AtomicBool> {
    let &Target { ground, secret, relay, caller } = target;
    let arn = api().call("DescribeSecret", json!({ "SecretId": secret })).unwrap();
    let arn = arn["ARN"].as_str().unwrap().to_owned();
    let fallen = Arc::new(AtomicBool::new(false));
    let counts: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let at_server = SERVER_MOMENTS.contains(&moment);
    let fault = {
        let fallen = fallen.clone();
        Arc::new(move |done: &str, sender: &dyn Fn() -> Option<Process>| {
            let nth = {
                let mut counts = counts.lock().unwrap();
                let count = counts.entry(done.to_owned()).or_default();
                *count += 1;
                *count
            };
            let (Arrives(operation, at) | Done(operation, at)) = moment;
            if done != operation || nth != at || fallen.swap(true, Ordering::SeqCst) {
                return Fault::None;
            }
            let sender = sender();
            let end = move || {
                let Some((worker, postmaster)) = sender.and_then(|worker| Some((worker, worker.parent()?)))
                else {
                    return;
                };
                match blow {
                    Blow::WorkerKilled | Blow::LateKilled => worker.kill(),
                    Blow::WorkerTerminated => worker.terminate(),
                    Blow::CallerKilled if caller.is_alive() => caller.kill(),
                    Blow::ServerStopped => postmaster.quit(),
                    Blow::ServerKilled => postmaster.kill_with_children(),
                    _ => return,
                }
                worker.until_gone(PATIENCE);
            };
            match (blow, moment) {
                (Blow::Cut, Arrives(..)) => Fault::Cut,
                (Blow::Cut, Done(..)) => Fault::CutAnswer,
                (Blow::Late, _) => Fault::Delay(LATE),
                (Blow::LateKilled, _) => {
                    end();
                    Fault::Delay(LATE)
                }
                (Blow::Refused, _) if at_server => Fault::Refuse(0, "42501"),
                (Blow::Refused, _) => Fault::Refuse(400, "AccessDeniedException"),
                (Blow::Away, _) => Fault::Refuse(503, "ServiceUnavailable"),
                (_, Arrives(..)) => {
                    end();
                    Fault::Cut
                }
                (_, Done(..)) => Fault::BeforeAnswer(Box::new(end)),
            }
        })
    };
    for name in [secret.to_owned(), arn] {
        let fault = Arc::clone(&fault);
        ground
            .relay
            .rule(&name, move |request: &SecretsRequest| fault(&request.operation, &|| request.sender()));
    }
    if let Some(relay) = relay {
        relay.rule(move |statement| fault(said(statement), &|| statement.sender()));
    }
    fallen
}

/// The server answers again; one that was ended is started.
fn until_recovered(ground: &mut Ground) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if !Process::new(ground.local.postmaster_pid()).is_alive() {
            ground.local.restart(StopMode::Immediate);
        }
        let answer = ground
            .local
            .try_connect("postgres", "postgres")
            .and_then(|mut client| client.batch_execute("SELECT pg_sleep(0.2)"));
        match answer {
            Ok(()) => return,
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All is as it should be: the secret logs in, nothing is left over, each run has an end, and the next
/// rotation goes through.
#[track_caller]
pub fn assert_in_order(subject: &Subject<'_>, what: &str) {
    eventually(&format!("{what}: every run has an end"), PATIENCE, || {
        let sql = "SELECT count(*) FROM rotation_history WHERE secret_id = $1 AND (finished_at IS NULL OR outcome IS NULL)";
        let row = subject.ground.session().query_one(sql, &[&subject.secret]).map_err(|e| e.to_string())?;
        match row.get::<_, i64>(0) {
            0 => Ok(()),
            _ => Err(format!("{:?}", subject.history())),
        }
    });
    subject.assert_at_rest();
}

fn at_each_moment(
    moments: &[Moment],
    blows: &[Blow],
    prepare: impl for<'a> Fn(&'a Ground) -> (Subject<'a>, Option<ServerRelay>),
) {
    let mut ground = storm_ground();
    let mut fell = BTreeMap::<(Moment, Blow), usize>::new();
    for &moment in moments {
        for &blow in blows {
            let what = format!("{blow:?} at {moment:?}");
            let (secret, role, relay, fallen) = {
                let (subject, relay) = prepare(&ground);
                let mut session = ground.session();
                let caller = backend_pid(&mut session);
                let target =
                    Target { ground: &ground, secret: &subject.secret, relay: relay.as_ref(), caller };
                let fallen = strike(&target, moment, blow);
                // It may well fail; what matters is what is left.
                let _ = rotate(&mut session, &subject.secret, None);
                (subject.secret.clone(), subject.role.clone(), relay, fallen)
            };
            faults_end(&mut ground, relay.iter());
            if fallen.load(Ordering::SeqCst) {
                *fell.entry((moment, blow)).or_default() += 1;
            }
            let subject = Subject { ground: &ground, server: &ground.remote, secret, role };
            assert_in_order(&subject, &what);
            // A second is little for a request on a busy machine; nothing else may be in the way any more.
            eventually(&format!("{what}: it can be rotated"), PATIENCE, || match subject.rotate() {
                Err(late) if late.code() == Some(&SqlState::SYSTEM_ERROR) => Err(format!("{late:?}")),
                rotated => Ok(rotated.unwrap_or_else(|e| panic!("{what}: {e:?}"))),
            });
            assert_in_order(&subject, &what);
        }
    }
    println!("fell: {fell:?}");
    assert_eq!(fell.len(), moments.len() * blows.len(), "each blow has fallen: {fell:?}");
    assert!(!ground.local.log().contains("PANIC:"));
}

/// Servers that take blows.
pub fn storm_ground() -> Ground {
    Ground::with_both(
        |local| local.conf("secretlink.request_timeout = '1s'").conf("secretlink.rotation_workers = 4"),
        // A relay does not understand TLS.
        |remote| remote.auth("hostnossl", "all", "scram-sha-256"),
    )
}

/// From here on nothing goes wrong any more.
pub fn faults_end<'a>(ground: &mut Ground, relays: impl Iterator<Item = &'a ServerRelay> + Clone) {
    until_recovered(ground);
    eventually("late requests have arrived", PATIENCE, || {
        let at_servers: usize = relays.clone().map(ServerRelay::open).sum();
        match ground.relay.open() + at_servers {
            0 => Ok(()),
            open => Err(format!("{open}")),
        }
    });
    ground.relay.pass_all();
    for relay in relays {
        relay.pass();
    }
    // The last blow may have fallen just now.
    until_recovered(ground);
}

/// A role of the other server behind a relay.
pub fn behind_a_relay<'a>(ground: &'a Ground, name: &str) -> (Subject<'a>, Option<ServerRelay>) {
    let (subject, relay) = (ground.subject(name), ServerRelay::to(ground.remote.port()));
    let mut value = subject.at("AWSCURRENT");
    value["port"] = json!(relay.port());
    value["ssl"] = json!(false);
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    (subject, Some(relay))
}

#[test]
fn a_worker_killed_at_any_moment() {
    at_each_moment(&MOMENTS, &[Blow::WorkerKilled], |ground| (ground.subject("killed"), None));
}

#[test]
fn a_worker_terminated_at_any_moment() {
    at_each_moment(&MOMENTS, &[Blow::WorkerTerminated], |ground| (ground.subject("terminated"), None));
}

#[test]
fn a_server_stopped_at_any_moment() {
    at_each_moment(&MOMENTS, &[Blow::ServerStopped], |ground| (ground.subject("stopped"), None));
}

#[test]
fn requests_cut_and_late_at_any_moment() {
    at_each_moment(&MOMENTS, &[Blow::Cut, Blow::Late], |ground| (ground.subject("cut"), None));
}

#[test]
fn an_aws_that_refuses_or_is_away_at_any_moment() {
    at_each_moment(&MOMENTS, &[Blow::Refused, Blow::Away], |ground| (ground.subject("refused"), None));
}

#[test]
fn a_pair_killed_at_any_moment() {
    at_each_moment(&MOMENTS, &[Blow::WorkerKilled], |ground| {
        let subject = ground.subject("pair");
        let master = master_of(&ground.remote, (major() >= 16).then_some(&subject.role));
        let mut value = subject.at("AWSCURRENT");
        value["masterarn"] = json!(master);
        api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
        (subject, None)
    });
}

#[test]
fn a_server_cut_off_at_any_moment() {
    at_each_moment(&SERVER_MOMENTS, &[Blow::Cut, Blow::Refused], |ground| behind_a_relay(ground, "cut_off"));
}

/// The statement arrives when a new worker has taken up the run.
#[test]
fn a_new_password_that_arrives_late() {
    at_each_moment(
        &[Arrives("ALTER ROLE", 1)],
        &[Blow::Late, Blow::LateKilled, Blow::CallerKilled],
        |ground| behind_a_relay(ground, "late"),
    );
}
