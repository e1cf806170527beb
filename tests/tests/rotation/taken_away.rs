//! What a run needs is taken away while it is under way.

use crate::crashes::{Moment, assert_in_order};
use crate::ground::{Ground, PATIENCE, Subject, api, ground, major, master_of, rotate};
use postgres::{Client, NoTls};
use secretlink_e2e::{Fault, SecretsRequest, db_error, eventually};
use serde_json::json;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// Runs `work` at a moment of the subject's next rotation, once.
fn at(subject: &Subject<'_>, moment: Moment, work: impl FnOnce(&SecretsRequest) + Send + 'static) {
    let (seen, work) = (Mutex::new(0), Mutex::new(Some(work)));
    let rule = Arc::new(move |request: &SecretsRequest| {
        let (Moment::Arrives(operation, nth) | Moment::Done(operation, nth)) = moment;
        if request.operation != operation {
            return Fault::None;
        }
        let is_it = {
            let mut seen = seen.lock().unwrap();
            *seen += 1;
            *seen == nth
        };
        let Some(work) = is_it.then(|| work.lock().unwrap().take()).flatten() else { return Fault::None };
        let request = request.clone();
        match moment {
            Moment::Arrives(..) => {
                work(&request);
                Fault::None
            }
            Moment::Done(..) => Fault::BeforeAnswer(Box::new(move || work(&request))),
        }
    });
    // It is named as the caller names it, and then by its ARN.
    let described = api().call("DescribeSecret", json!({ "SecretId": subject.secret })).unwrap();
    for name in [&subject.secret, described["ARN"].as_str().unwrap()] {
        let rule = Arc::clone(&rule);
        subject.ground.relay.rule(name, move |request| rule(request));
    }
}

/// Of a rotation: before AWSPENDING is taken; before the password is changed; when it has been; when AWSCURRENT has moved.
const MOMENTS: [Moment; 4] = [
    Moment::Done("PutSecretValue", 1),
    Moment::Arrives("DescribeSecret", 2),
    Moment::Arrives("UpdateSecretVersionStage", 2),
    Moment::Done("UpdateSecretVersionStage", 2),
];

fn admin(conninfo: &str, sql: &str) {
    Client::connect(conninfo, NoTls).unwrap().batch_execute(sql).unwrap();
}

#[test]
fn a_worker_that_is_terminated_between_two_transactions_keeps_no_lock() {
    let ground = ground();
    let subject = ground.subject("terminated");
    at(&subject, Moment::Arrives("PutSecretValue", 1), move |request| {
        let worker = request.sender().expect("the worker waits for the answer");
        assert!(worker.title().contains("rotation worker"), "{}", worker.title());
        let mut session = ground.session();
        let state = "SELECT xact_start IS NULL, (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'object' AND mode = 'ExclusiveLock')
                     FROM pg_stat_activity a WHERE pid = $1";
        let row = session.query_one(state, &[&worker.pid().cast_signed()]).unwrap();
        assert_eq!((row.get(0), row.get(1)), (true, 1_i64), "it has the secret's lock, and no transaction");
        worker.terminate();
        worker.until_gone(PATIENCE);
        let left =
            "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND mode = 'ExclusiveLock' AND pid = $1";
        let left: i64 = session.query_one(left, &[&worker.pid().cast_signed()]).unwrap().get(0);
        assert_eq!(left, 0);
    });
    // The next worker takes the run up.
    subject.rotate().unwrap();
    assert_in_order(&subject, "terminated");
    assert_eq!(subject.history().len(), 1);
}

#[test]
fn the_extension_is_dropped() {
    let ground = Ground::start();
    let conninfo = ground.local.conninfo("postgres", "postgres");
    for (place, moment) in MOMENTS.into_iter().enumerate() {
        let subject = ground.subject("dropped");
        let before = subject.at("AWSCURRENT");
        let told = conninfo.clone();
        at(&subject, moment, move |_| admin(&told, "DROP EXTENSION secretlink"));
        let rotated = subject.rotate();
        // Before the password is changed, the run cannot go on without being written down.
        let is_set = place >= 2;
        assert_eq!(rotated.is_ok(), is_set, "{moment:?}: {rotated:?}");
        let at_rest = || match api().version_at(&subject.secret, "AWSPENDING") {
            None => Ok(()),
            pending if pending == api().version_at(&subject.secret, "AWSCURRENT") => Ok(()),
            pending => Err(format!("{pending:?}")),
        };
        eventually(&format!("{moment:?}: nothing is left"), PATIENCE, at_rest);
        assert_eq!(subject.at("AWSCURRENT") == before, !is_set, "{moment:?}");
        assert!(subject.current_logs_in(), "{moment:?}");
        admin(&conninfo, "CREATE EXTENSION secretlink");
        subject.rotate().unwrap();
        assert_in_order(&subject, &format!("{moment:?}"));
    }
}

/// The runs are lost with it. What is in force is found out by the next rotation.
#[test]
fn the_database_is_dropped() {
    let ground = Ground::with(|local| local.conf("secretlink.database = 'schedules'"));
    let conninfo = ground.local.conninfo("postgres", "postgres");
    let make = || {
        admin(&conninfo, "CREATE DATABASE schedules");
        admin(&ground.local.conninfo("postgres", "schedules"), "CREATE EXTENSION secretlink");
    };
    make();
    for moment in MOMENTS {
        let subject = ground.subject("database");
        let told = conninfo.clone();
        at(&subject, moment, move |request| {
            let worker = request.sender();
            // Without FORCE, it is refused as long as a worker is in it.
            let mut session = Client::connect(&told, NoTls).unwrap();
            let refused = db_error(session.simple_query("DROP DATABASE schedules"));
            assert_eq!(refused.code().code(), "55006", "{refused:?}");
            session.batch_execute("DROP DATABASE schedules WITH (FORCE)").unwrap();
            if let Some(worker) = worker {
                worker.until_gone(PATIENCE);
            }
        });
        let error = db_error(subject.rotate());
        assert_eq!(error.code().code(), "55000", "{moment:?}: {error:?}");
        make();
        subject.rotate().unwrap();
        let mut session = ground.local.connect("postgres", "schedules");
        eventually(&format!("{moment:?}: every run has an end"), PATIENCE, || {
            let sql = "SELECT count(*) FROM rotation_history WHERE finished_at IS NULL";
            match session.query_one(sql, &[]).unwrap().get::<_, i64>(0) {
                0 => Ok(()),
                open => Err(format!("{open}")),
            }
        });
        drop(session);
        let pending = api().version_at(&subject.secret, "AWSPENDING");
        assert!(
            pending.is_none() || pending == api().version_at(&subject.secret, "AWSCURRENT"),
            "{moment:?}"
        );
        assert!(subject.current_logs_in(), "{moment:?}");
    }
    // Nobody stays in it.
    eventually("the database can be dropped", PATIENCE, || {
        let mut session = ground.session();
        session.simple_query("DROP DATABASE schedules").map(drop).map_err(|e| format!("{e:?}"))
    });
}

/// The clone was made when the base role's password was valid without end.
#[test]
fn the_base_role_of_a_pair_expires() {
    let ground = ground();
    let subject = ground.subject("expires");
    let mut value = subject.at("AWSCURRENT");
    value["masterarn"] = json!(master_of(subject.server, (major() >= 16).then_some(&subject.role)));
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    let until = |when: &str| {
        let sql = format!("ALTER ROLE {} VALID UNTIL '{when}'", subject.role);
        assert!(subject.server.psql(&sql).success);
    };
    // Its own login is refused like any with a wrong password.
    let base = subject.at("AWSCURRENT");
    until("2000-01-01");
    assert_eq!(subject.refused().0, "28P01");
    subject.assert_unmoved(&base);
    until("infinity");
    subject.rotate().unwrap();
    // Its clone's is not.
    let clone = subject.at("AWSCURRENT");
    until("2000-01-01");
    let error = db_error(rotate(&mut ground.session(), &subject.secret, None));
    assert_eq!(error.code().code(), "55000", "{error:?}");
    assert_eq!(error.message(), format!("the password of role \"{}\" is valid no more", subject.role));
    assert_eq!(error.hint(), Some("Use ALTER ROLE ... VALID UNTIL."));
    subject.assert_unmoved(&clone);
    assert!(subject.logs_in(&clone), "the clone was not touched");
    let sql = "SELECT detail, hint FROM check_rotation($1) WHERE NOT ok";
    let found = ground.session().query(sql, &[&subject.secret]).unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].get::<_, String>(0).contains("is valid no more"), "{found:?}");
    // A time that is still to come is the clone's, too.
    until("2100-01-01");
    for _ in 0..2 {
        subject.rotate().unwrap();
        assert_in_order(&subject, "valid again");
    }
    let sql =
        format!("SELECT rolvaliduntil = '2100-01-01' FROM pg_roles WHERE rolname = '{}_clone'", subject.role);
    let is_same: bool = subject.server.connect("postgres", "postgres").query_one(&sql, &[]).unwrap().get(0);
    assert!(is_same);
}

impl Subject<'_> {
    /// The same value is current, and nobody has AWSPENDING.
    #[track_caller]
    fn assert_unmoved(&self, before: &serde_json::Value) {
        assert_eq!(&self.at("AWSCURRENT"), before);
        eventually("AWSPENDING is nowhere", PATIENCE, || {
            let pending = api().version_at(&self.secret, "AWSPENDING");
            match pending.is_none() || pending == api().version_at(&self.secret, "AWSCURRENT") {
                true => Ok(()),
                false => Err(format!("{pending:?}")),
            }
        });
    }
}

/// A secret that could not be rotated in its window is in the check until it could.
#[test]
fn a_secret_is_overdue() {
    let ground = Ground::start();
    let subject = ground.subject("overdue");
    let mut session = ground.session();
    let mut row = || {
        let sql = "SELECT ok, detail, hint FROM secretlink_check() WHERE item = 'rotation schedules'";
        let row = session.query_one(sql, &[]).unwrap();
        (row.get::<_, Option<bool>>(0), row.get::<_, String>(1), row.get::<_, Option<String>>(2))
    };
    let mut other = ground.session();
    other.query_one("SELECT schedule_rotation($1, 'cron(0 0 * * ? *)')", &[&subject.secret]).unwrap();
    assert_eq!(row(), (Some(true), "No secret is overdue, of 1.".into(), None));
    let good = subject.at("AWSCURRENT");
    api().put_secret_value(&subject.secret, "{}", &["AWSCURRENT"]);
    let due =
        "UPDATE rotation_plan SET next_from = now() - interval '1 min', next_to = now() + interval '1 hour'";
    other.execute(due, &[]).unwrap();
    let look =
        |session: &mut Client| session.simple_query("SELECT rotate_secret('no/such/secret')").unwrap_err();
    look(&mut other);
    let bad = || "Of 1 secrets 1 were not rotated in their last window, or are overdue.".to_owned();
    let hint = || Some("See last_error in rotation_schedule, and rotation_history.".to_owned());
    eventually("it is told", PATIENCE, || match row() {
        told if told == (Some(false), bad(), hint()) => Ok(()),
        told => Err(format!("{told:?}")),
    });
    // The window ends, and nobody may rotate.
    let over = "UPDATE rotation_plan SET next_from = now() - interval '2 hours', next_to = now() - interval '1 hour', last_error = NULL,
                    retry_at = now() + interval '1 hour'";
    other.execute(over, &[]).unwrap();
    assert_eq!(row(), (Some(false), bad(), hint()));
    api().put_secret_value(&subject.secret, &good.to_string(), &["AWSCURRENT"]);
    other
        .execute("UPDATE rotation_plan SET retry_at = NULL, next_to = now() + interval '1 hour'", &[])
        .unwrap();
    look(&mut other);
    eventually("it was rotated", PATIENCE, || match subject.history().pop() {
        Some((_, Some(outcome), _)) if outcome == "succeeded" => Ok(()),
        last => Err(format!("{last:?}")),
    });
    eventually("it is not overdue any more", PATIENCE, || match row() {
        told if told.0 == Some(true) => Ok(()),
        told => Err(format!("{told:?}")),
    });
    subject.assert_at_rest();
}

/// What comes after a run whose outcome has been told, while `AWSPENDING` could not be taken away, is another run.
#[test]
fn aws_is_away_when_a_run_ends() {
    let ground = Ground::start();
    // The answer to the request that takes AWSPENDING is lost; or AWSCURRENT has moved.
    for (last, outcome) in [(1, "failed"), (2, "succeeded")] {
        let subject = ground.subject("ends");
        let seen = Mutex::new(0);
        let rule = Arc::new(move |request: &SecretsRequest| {
            if request.operation != "UpdateSecretVersionStage" {
                return Fault::None;
            }
            let mut seen = seen.lock().unwrap();
            *seen += 1;
            match *seen {
                nth if nth > last => Fault::Refuse(503, "ServiceUnavailable"),
                1 if last == 1 => Fault::CutAnswer,
                _ => Fault::None,
            }
        });
        let described = api().call("DescribeSecret", json!({ "SecretId": subject.secret })).unwrap();
        for name in [&subject.secret, described["ARN"].as_str().unwrap()] {
            let rule = Arc::clone(&rule);
            ground.relay.rule(name, move |request| rule(request));
        }
        let first = subject.rotate();
        assert_eq!(first.is_ok(), outcome == "succeeded", "{first:?}");
        let told = subject.history();
        assert_eq!(told[0].1.as_deref(), Some(outcome));
        assert_eq!(told[0].2.is_none(), outcome == "succeeded", "the reason is the outcome's: {told:?}");
        // No worker takes it up by itself before the next call.
        let mut session = ground.session();
        eventually("nobody is at it", PATIENCE, || {
            let later = "UPDATE rotation_run SET retry_at = now() + interval '1 hour' WHERE secret_id = $1";
            session.execute(later, &[&subject.secret]).unwrap();
            let sql = "SELECT retry_at > now() + interval '30 min' AND finished_at IS NULL
                           AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'secretlink rotation worker')
                       FROM rotation_run WHERE secret_id = $1";
            match session.query_one(sql, &[&subject.secret]).unwrap().get::<_, bool>(0) {
                true => Ok(()),
                false => Err(format!("{:?}", subject.history())),
            }
        });
        let before = subject.at("AWSCURRENT");
        ground.relay.pass_all();
        let version = subject.rotate().unwrap();
        assert_eq!(api().version_at(&subject.secret, "AWSCURRENT"), Some(version), "{outcome}");
        assert_ne!(subject.at("AWSCURRENT"), before, "{outcome}");
        let history = subject.history();
        assert_eq!(history.len(), 2, "{history:?}");
        assert_eq!((&history[0].1, &history[0].2), (&told[0].1, &told[0].2));
        assert_eq!(history[1].1.as_deref(), Some("succeeded"));
        assert_in_order(&subject, outcome);
    }
}

/// How long the test below counts the workers that are started.
const WATCH: Duration = Duration::from_secs(5);

/// There is a pause before somebody looks again.
#[test]
fn what_a_schedule_is_kept_in_is_dropped_while_it_is_carried_out() {
    let ground = Ground::with(|local| {
        local.conf("secretlink.database = 'schedules'").conf("log_min_messages = debug1")
    });
    let (postgres, schedules) =
        (ground.local.conninfo("postgres", "postgres"), ground.local.conninfo("postgres", "schedules"));
    let starts = || {
        let log = ground.local.log();
        log.matches("starting background worker process \"secretlink rotation worker\"").count()
    };
    for (from, drop) in
        [(&postgres, "DROP DATABASE schedules WITH (FORCE)"), (&schedules, "DROP EXTENSION secretlink")]
    {
        admin(&postgres, "CREATE DATABASE schedules");
        admin(&schedules, "CREATE EXTENSION secretlink");
        let subject = ground.subject("dropped_under");
        let (told, dropped) = mpsc::channel();
        let from = from.clone();
        at(&subject, Moment::Done("PutSecretValue", 1), move |_| {
            admin(&from, drop);
            told.send(()).unwrap();
        });
        let due = format!(
            "SELECT schedule_rotation('{}', 'rate(4 hours)');
             UPDATE rotation_plan SET next_from = now() - interval '1 min', next_to = now() + interval '1 hour'",
            subject.secret
        );
        admin(&schedules, &due);
        ground.session().simple_query("SELECT rotate_secret('no/such/secret')").unwrap_err();
        dropped.recv_timeout(PATIENCE).unwrap();
        let before = starts();
        assert!(before > 0, "the log names those that are started");
        std::thread::sleep(WATCH);
        let more = starts() - before;
        assert!(more <= 3, "{drop}: {more}");
    }
}
