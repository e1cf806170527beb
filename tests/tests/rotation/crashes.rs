//! A worker, a caller, or the whole server ends at the worst moments; requests are lost, or late.

use crate::ground::{Ground, PATIENCE, Subject, api, major, master_of, rotate};
use secretlink_e2e::{Fault, Process, SecretsRequest, StopMode, eventually};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A moment of a rotation: the n-th request for an operation arrives, or has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The request has arrived; Secrets Manager does not see it.
    Arrives(&'static str, usize),
    /// Secrets Manager has done it; the worker does not know yet.
    Done(&'static str, usize),
}

use Moment::{Arrives, Done};

/// The moments of a rotation that nothing disturbs, in their order.
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

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// The worker is killed, and with it the server starts anew.
    WorkerKilled,
    /// The worker is told to end.
    WorkerTerminated,
    /// The server is stopped as in a crash.
    ServerStopped,
    /// The connection is reset.
    Cut,
    /// The request arrives when its sender has long gone.
    Late,
    /// AWS says no.
    Refused,
    /// AWS is not there.
    Away,
}

/// All of them.
pub const BLOWS: [Blow; 7] = [
    Blow::WorkerKilled,
    Blow::WorkerTerminated,
    Blow::ServerStopped,
    Blow::Cut,
    Blow::Late,
    Blow::Refused,
    Blow::Away,
];

/// Deals a blow at a moment, once. The secret is named as it was given, or by its ARN; requests count
/// together. Returns whether it has fallen.
pub fn strike(ground: &Ground, secret: &str, moment: Moment, blow: Blow) -> Arc<AtomicBool> {
    let arn = api().call("DescribeSecret", json!({ "SecretId": secret })).unwrap();
    let arn = arn["ARN"].as_str().unwrap().to_owned();
    let fallen = Arc::new(AtomicBool::new(false));
    let counts: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let postmaster = ground.local.postmaster_pid();
    for name in [secret.to_owned(), arn] {
        let (fallen, counts) = (fallen.clone(), counts.clone());
        ground.relay.rule(&name, move |request: &SecretsRequest| {
            let nth = {
                let mut counts = counts.lock().unwrap();
                let count = counts.entry(request.operation.clone()).or_default();
                *count += 1;
                *count
            };
            let (Arrives(operation, at) | Done(operation, at)) = moment;
            if request.operation != operation || nth != at || fallen.swap(true, Ordering::SeqCst) {
                return Fault::None;
            }
            let sender = request.sender();
            let end = move || {
                let Some(worker) = sender else { return };
                match blow {
                    Blow::WorkerKilled => worker.kill(),
                    Blow::WorkerTerminated => worker.terminate(),
                    Blow::ServerStopped => Process::new(postmaster).quit(),
                    _ => return,
                }
                worker.until_gone(PATIENCE);
            };
            match (blow, moment) {
                (Blow::Cut, Arrives(..)) => Fault::Cut,
                (Blow::Cut, Done(..)) => Fault::CutAnswer,
                (Blow::Late, _) => Fault::Delay(Duration::from_millis(1_500)),
                (Blow::Refused, _) => Fault::Refuse(400, "AccessDeniedException"),
                (Blow::Away, _) => Fault::Refuse(503, "ServiceUnavailable"),
                (_, Arrives(..)) => {
                    end();
                    Fault::Cut
                }
                (_, Done(..)) => Fault::BeforeAnswer(Box::new(end)),
            }
        });
    }
    fallen
}

/// The server answers again.
pub fn until_recovered(ground: &mut Ground, blow: Blow) {
    if blow == Blow::ServerStopped {
        ground.local.restart(StopMode::Immediate);
    }
    eventually("the server has recovered", PATIENCE, || {
        let mut client = ground.local.try_connect("postgres", "postgres").map_err(|e| e.to_string())?;
        client.batch_execute("SELECT pg_sleep(0.2)").map_err(|e| e.to_string())
    });
}

/// All is as it should be: the secret logs in, nothing is left over, each run has an end, and the next
/// rotation goes through.
#[track_caller]
pub fn assert_settled(subject: &Subject<'_>, what: &str) {
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

fn at_each_moment(blows: &[Blow], prepare: impl for<'a> Fn(&'a Ground) -> Subject<'a>) {
    let mut ground = Ground::with(|local| local.conf("secretlink.request_timeout = '1s'"));
    let mut fell = BTreeMap::<(Moment, Blow), usize>::new();
    for moment in MOMENTS {
        for &blow in blows {
            let what = format!("{blow:?} at {moment:?}");
            let (secret, role, fallen) = {
                let subject = prepare(&ground);
                let fallen = strike(&ground, &subject.secret, moment, blow);
                let mut session = ground.session();
                // It may well fail; what matters is what is left.
                let _ = rotate(&mut session, &subject.secret, None);
                (subject.secret.clone(), subject.role.clone(), fallen)
            };
            until_recovered(&mut ground, blow);
            if fallen.load(Ordering::SeqCst) {
                *fell.entry((moment, blow)).or_default() += 1;
            }
            let subject = Subject { ground: &ground, server: &ground.remote, secret, role };
            eventually("late requests have arrived", PATIENCE, || match ground.relay.open() {
                0 => Ok(()),
                open => Err(format!("{open}")),
            });
            ground.relay.pass_all();
            assert_settled(&subject, &what);
            subject.rotate().unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert_settled(&subject, &what);
        }
    }
    println!("fell: {fell:?}");
    assert_eq!(fell.len(), MOMENTS.len() * blows.len(), "each blow has fallen: {fell:?}");
    assert!(!ground.local.log().contains("PANIC:"));
}

#[test]
fn a_worker_killed_at_any_moment() {
    at_each_moment(&[Blow::WorkerKilled], |ground| ground.subject("killed"));
}

#[test]
fn a_worker_terminated_at_any_moment() {
    at_each_moment(&[Blow::WorkerTerminated], |ground| ground.subject("terminated"));
}

#[test]
fn a_server_stopped_at_any_moment() {
    at_each_moment(&[Blow::ServerStopped], |ground| ground.subject("stopped"));
}

#[test]
fn requests_cut_and_late_at_any_moment() {
    at_each_moment(&[Blow::Cut, Blow::Late], |ground| ground.subject("cut"));
}

#[test]
fn an_aws_that_refuses_or_is_away_at_any_moment() {
    at_each_moment(&[Blow::Refused, Blow::Away], |ground| ground.subject("refused"));
}

#[test]
fn a_pair_killed_at_any_moment() {
    at_each_moment(&[Blow::WorkerKilled], |ground| {
        let subject = ground.subject("pair");
        let master = master_of(&ground.remote, (major() >= 16).then_some(&subject.role));
        let mut value = subject.at("AWSCURRENT");
        value["masterarn"] = json!(master);
        api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
        subject
    });
}
