//! Schedules, and whose turn it is.

use crate::ground::{Ground, PATIENCE, Subject, api, ground, moto};
use secretlink_e2e::{Cluster, Fault, Process, SecretsRelay, StopMode, db_error, eventually};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

impl Subject<'_> {
    fn schedule(&self, schedule: &str) {
        self.ground
            .session()
            .query_one("SELECT schedule_rotation($1, $2)", &[&self.secret, &schedule])
            .unwrap();
    }

    /// Its window is now, as far as the table says.
    fn shift(&self, from: &str, to: &str) {
        self.shift_to(&format!("now() + interval '{from}'"), &format!("now() + interval '{to}'"));
    }

    /// Its window is as given, in SQL.
    fn shift_to(&self, from: &str, to: &str) {
        let sql = format!("UPDATE rotation_plan SET next_from = {from}, next_to = {to} WHERE secret_id = $1");
        assert_eq!(self.ground.session().execute(&sql, &[&self.secret]).unwrap(), 1);
    }

    fn state(&self) -> String {
        let sql = "SELECT state FROM rotation_schedule WHERE secret_id = $1";
        self.ground.session().query_one(sql, &[&self.secret]).unwrap().get(0)
    }

    /// Cause, outcome and error of each run.
    fn causes(&self) -> Vec<(String, Option<String>)> {
        let sql = "SELECT cause, outcome FROM rotation_history WHERE secret_id = $1 ORDER BY run";
        let rows = self.ground.session().query(sql, &[&self.secret]).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

/// Has a worker look at what there is.
fn look(ground: &Ground) {
    ground.session().simple_query("SELECT rotate_secret('no/such/secret')").unwrap_err();
}

fn done(cause: &str, outcome: &str) -> (String, Option<String>) {
    (cause.to_owned(), Some(outcome.to_owned()))
}

#[test]
fn a_secret_is_rotated_in_its_window() {
    let subject = ground().subject("scheduled");
    let before = subject.at("AWSCURRENT");
    subject.schedule("cron(0 0 * * ? *)");
    assert_eq!(subject.state(), "waiting");
    subject.shift("-1 min", "1 hour");
    look(subject.ground);
    eventually("it was rotated", PATIENCE, || match subject.causes() {
        causes if causes == [done("schedule", "succeeded")] => Ok(()),
        causes => Err(format!("{causes:?}")),
    });
    subject.assert_at_rest();
    assert!(!subject.logs_in(&before));
    // Once, and then in the next window.
    eventually("it waits again", PATIENCE, || match subject.state().as_str() {
        "waiting" => Ok(()),
        other => Err(other.to_owned()),
    });
    look(subject.ground);
    assert_eq!(subject.causes().len(), 1);
    let mut session = subject.ground.session();
    let unschedule = |session: &mut postgres::Client| -> bool {
        session.query_one("SELECT unschedule_rotation($1)", &[&subject.secret]).unwrap().get(0)
    };
    assert!(unschedule(&mut session));
    assert!(!unschedule(&mut session));
}

/// A row may have any times, as after a restore, or by hand.
#[test]
fn windows_of_any_times() {
    let ground = ground();
    let times = [
        ("date_trunc('second', now()) - interval '0.000001 s'", "now() + interval '1 hour 0.5 s'"),
        ("now() - interval '0.999999 s'", "'infinity'"),
        ("'-infinity'", "now() + interval '1 hour'"),
        ("'-infinity'", "'infinity'"),
        ("'4713-01-01 00:00:00.5 BC'", "'294276-12-31 23:59:59.999999'"),
    ];
    for (from, to) in times {
        let subject = ground.subject("times");
        subject.schedule("rate(4 hours)");
        subject.shift_to(from, to);
        assert_eq!(subject.state(), "due");
        look(ground);
        eventually(&format!("{from} to {to}: it was rotated once"), PATIENCE, || {
            match (subject.causes(), subject.state().as_str()) {
                (causes, "waiting") if causes == [done("schedule", "succeeded")] => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        subject.assert_at_rest();
        look(ground);
        assert_eq!(subject.causes().len(), 1, "{from} to {to}");
    }
    // A time that never comes; one that was over long ago; a schedule that nobody understands.
    let (never, empty, strange) =
        (ground.subject("never"), ground.subject("empty"), ground.subject("strange"));
    for subject in [&never, &empty, &strange] {
        subject.schedule("rate(4 hours)");
    }
    never.shift_to("'infinity'", "'infinity'");
    empty.shift_to("'2000-01-01 00:00:00.25'", "'2000-01-01 00:00:00.25'");
    let sql = "UPDATE rotation_plan SET schedule = 'never' WHERE secret_id = $1";
    ground.session().execute(sql, &[&strange.secret]).unwrap();
    strange.shift("-1 min", "1 hour");
    look(ground);
    eventually("both were looked at", PATIENCE, || {
        let seen = (empty.causes(), empty.state(), strange.causes(), strange.state());
        let expected = (
            vec![done("missed_schedule", "succeeded")],
            "waiting".to_owned(),
            vec![done("schedule", "succeeded")],
            "waiting".to_owned(),
        );
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    assert_eq!((never.causes(), never.state()), (vec![], "waiting".to_owned()));
    let backwards = "UPDATE rotation_plan SET next_to = next_from - interval '1 s' WHERE secret_id = $1";
    let refused = db_error(ground.session().execute(backwards, &[&empty.secret]));
    assert_eq!(refused.code().code(), "23514");
}

/// Nothing can be written down, and it is due: nobody looks in a circle.
#[test]
fn a_schedule_that_cannot_be_noted() {
    let ground = Ground::start();
    let subject = ground.subject("unnoted");
    let before = subject.at("AWSCURRENT");
    subject.schedule("rate(4 hours)");
    let mut session = ground.session();
    session
        .batch_execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
             CREATE TRIGGER no BEFORE INSERT ON rotation_run EXECUTE FUNCTION no()",
        )
        .unwrap();
    subject.shift("-1 min", "1 hour");
    // That, too.
    session.batch_execute("CREATE TRIGGER no BEFORE UPDATE ON rotation_plan EXECUTE FUNCTION no()").unwrap();
    type Look = (Option<Process>, Instant);
    let lookers: Arc<Mutex<Vec<Look>>> = Arc::default();
    let seen = Arc::clone(&lookers);
    ground.relay.rule(&subject.secret, move |request| {
        if request.operation == "DescribeSecret" {
            seen.lock().unwrap().push((request.sender(), Instant::now()));
        }
        Fault::None
    });
    look(&ground);
    eventually("it was looked at several times", PATIENCE, || match lookers.lock().unwrap().len() {
        looks if looks >= 3 => Ok(()),
        looks => Err(format!("{looks}")),
    });
    // Each time by another worker, which begins after a pause.
    let seen = lookers.lock().unwrap().clone();
    assert!(seen[0].0 != seen[1].0 && seen[1].0 != seen[2].0, "{seen:?}");
    assert!(seen[2].1 - seen[0].1 >= Duration::from_millis(1_900), "{seen:?}");
    session.batch_execute("DROP FUNCTION no CASCADE").unwrap();
    eventually("it was rotated", PATIENCE, || match subject.causes().pop() {
        Some(last) if last == done("schedule", "succeeded") => Ok(()),
        last => Err(format!("{last:?}")),
    });
    subject.assert_at_rest();
    assert!(!subject.logs_in(&before));
}

#[test]
fn a_missed_window() {
    let ground = ground();
    let (cron, rate) = (ground.subject("cron"), ground.subject("rate"));
    let before = cron.at("AWSCURRENT");
    cron.schedule("cron(0 0 * * ? *)");
    rate.schedule("rate(4 hours)");
    cron.shift("-2 hours", "-1 hour");
    rate.shift("-2 hours", "-1 hour");
    look(ground);
    eventually("both were looked at", PATIENCE, || {
        let seen = (cron.causes(), rate.causes());
        let expected = (vec![done("missed_schedule", "failed")], vec![done("missed_schedule", "succeeded")]);
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    cron.assert_untouched(&before);
    rate.assert_at_rest();
}

#[test]
fn a_rotation_that_fails_is_tried_again_in_its_window() {
    let subject = ground().subject("again");
    let good = subject.at("AWSCURRENT");
    api().put_secret_value(&subject.secret, "{}", &["AWSCURRENT"]);
    subject.schedule("cron(0 0 * * ? *)");
    subject.shift("-1 min", "1 hour");
    look(subject.ground);
    eventually("it has failed", PATIENCE, || match subject.causes() {
        causes if causes == [done("schedule", "failed")] => Ok(()),
        causes => Err(format!("{causes:?}")),
    });
    let sql = "SELECT attempts, last_error FROM rotation_schedule WHERE secret_id = $1";
    eventually("it is to be tried again", PATIENCE, || {
        let row = subject.ground.session().query_one(sql, &[&subject.secret]).unwrap();
        let seen = (row.get::<_, i32>(0), row.get::<_, Option<String>>(1).unwrap_or_default());
        if seen.0 == 1 && seen.1.contains("has no password field") {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    api().put_secret_value(&subject.secret, &good.to_string(), &["AWSCURRENT"]);
    let now = "UPDATE rotation_plan SET retry_at = now() WHERE secret_id = $1";
    subject.ground.session().execute(now, &[&subject.secret]).unwrap();
    look(subject.ground);
    eventually("it was rotated", PATIENCE, || match subject.causes().pop() {
        Some(last) if last == done("schedule", "succeeded") => Ok(()),
        last => Err(format!("{last:?}")),
    });
    subject.assert_at_rest();
}

/// It has the same system identifier as the original, and the same tables.
#[test]
fn schedules_of_a_backup_are_inert() {
    let ground = Ground::start();
    let subject = ground.subject("backup");
    let before = subject.at("AWSCURRENT");
    subject.schedule("rate(4 hours)");
    // The original rotates nothing before the copy has been looked at.
    look(&ground);
    let workers = |workers: usize| [format!("secretlink.rotation_workers = {workers}")];
    ground.local.append_conf(&workers(0));
    ground.session().batch_execute("SELECT pg_reload_conf()").unwrap();
    eventually("no worker is left", PATIENCE, || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'secretlink rotation worker'";
        match ground.session().query_one(sql, &[]).unwrap().get::<_, i64>(0) {
            0 => Ok(()),
            left => Err(format!("{left}")),
        }
    });
    subject.shift("-1 min", "1 hour");
    let mut local = ground.local.base_backup();
    local.append_conf(&workers(2));
    local.start();
    let copy = Ground { local, remote: Cluster::plain().start(), relay: SecretsRelay::to(moto()) };
    let (secret, role) = (subject.secret.clone(), subject.role.clone());
    let copied = Subject { ground: &copy, server: subject.server, secret, role };
    eventually("the schedule is inert", PATIENCE, || match copied.state().as_str() {
        "inert" => Ok(()),
        other => Err(other.to_owned()),
    });
    let hint: Option<String> = copy
        .session()
        .query_one("SELECT hint FROM secretlink_check() WHERE item = 'rotation schedules'", &[])
        .unwrap()
        .get(0);
    assert!(hint.unwrap().contains("schedule_rotation"));
    assert_eq!(copied.causes(), []);
    // The original goes on.
    ground.local.append_conf(&workers(2));
    ground.session().batch_execute("SELECT pg_reload_conf()").unwrap();
    look(&ground);
    eventually("it was rotated", PATIENCE, || match subject.causes() {
        causes if causes == [done("schedule", "succeeded")] => Ok(()),
        causes => Err(format!("{causes:?}")),
    });
    assert!(!subject.logs_in(&before));
    // What the copy takes over is its own, after a crash, too.
    copied.schedule("rate(4 hours)");
    assert_eq!(copied.state(), "waiting");
    look(&copy);
    assert_eq!(copied.state(), "waiting");
}

#[test]
fn schedules_of_another_cluster_are_inert() {
    let subject = ground().subject("inert");
    let before = subject.at("AWSCURRENT");
    subject.schedule("rate(4 hours)");
    // Before its time has come: any worker of the server may look then.
    let copied = "UPDATE rotation_plan SET system_identifier = '1' WHERE secret_id = $1";
    subject.ground.session().execute(copied, &[&subject.secret]).unwrap();
    subject.shift("-2 hours", "-1 hour");
    assert_eq!(subject.state(), "inert");
    look(subject.ground);
    look(subject.ground);
    assert_eq!(subject.causes(), []);
    subject.assert_untouched(&before);
    // Taken over.
    subject.schedule("rate(4 hours)");
    assert_eq!(subject.state(), "waiting");
}

/// So many secrets are due in one window in an ordinary run of the tests; `SECRETS` says otherwise.
const SECRETS: usize = 40;
/// A worker needs no more memory of its own for many secrets than for a few.
const MOST_MEMORY: u64 = 64 << 20;

#[test]
fn no_more_workers_than_there_may_be() {
    let secrets = std::env::var("SECRETS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECRETS);
    let ground = Ground::with(|local| local.conf("secretlink.rotation_workers = 2"));
    let subjects: Vec<_> = (0..secrets).map(|_| ground.subject("many")).collect();
    for subject in &subjects {
        subject.schedule("rate(4 hours)");
    }
    let mut session = ground.session();
    let due =
        "UPDATE rotation_plan SET next_from = now() - interval '1 min', next_to = now() + interval '3 hours'";
    assert_eq!(session.execute(due, &[]).unwrap(), secrets as u64);
    let began = Instant::now();
    look(&ground);
    let (mut most, mut memory, mut logins) = (0, 0, 0);
    let mut remote = ground.remote.connect("postgres", "postgres");
    eventually("all are rotated", PATIENCE + Duration::from_secs(2) * secrets as u32, || {
        let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'secretlink rotation worker'";
        let workers = session.query(sql, &[]).unwrap();
        most = most.max(workers.len());
        for worker in workers {
            let worker = Process::new(worker.get::<_, i32>(0).unsigned_abs());
            // It may have ended.
            if worker.is_alive() {
                memory = memory.max(worker.peak_resident_bytes());
            }
        }
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'secretlink rotation'";
        logins = logins.max(remote.query_one(sql, &[]).unwrap().get::<_, i64>(0));
        let sql = "SELECT count(*) FROM rotation_history WHERE outcome = 'succeeded'";
        let done: i64 = session.query_one(sql, &[]).unwrap().get(0);
        if done == secrets as i64 { Ok(()) } else { Err(format!("{done}")) }
    });
    println!(
        "{secrets} secrets in {:?}: {most} workers at most, each of {} MB at most, {logins} sessions at the server",
        began.elapsed(),
        memory >> 20
    );
    assert_eq!(most, 2);
    // Each has the session that changes the password, and the one that tries it.
    assert!(logins <= 4, "{logins}");
    assert!(memory < MOST_MEMORY, "{memory}");
    for subject in &subjects {
        subject.assert_at_rest();
    }
    eventually("nobody stays connected", PATIENCE, || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'secretlink rotation worker'";
        let workers: i64 = session.query_one(sql, &[]).unwrap().get(0);
        if workers == 0 { Ok(()) } else { Err(format!("{workers}")) }
    });
}

#[test]
fn windows_that_open_while_the_server_is_down() {
    let mut ground = Ground::start();
    let (secret, role) = {
        let subject = ground.subject("down");
        subject.schedule("rate(4 hours)");
        subject.shift("-1 min", "1 hour");
        (subject.secret.clone(), subject.role.clone())
    };
    ground.local.restart(StopMode::Fast);
    let subject = Subject { ground: &ground, server: &ground.remote, secret, role };
    eventually("it was rotated", PATIENCE, || match subject.causes() {
        causes if causes == [done("schedule", "succeeded")] => Ok(()),
        causes => Err(format!("{causes:?}")),
    });
    subject.assert_at_rest();
}

#[test]
fn what_is_wrong_with_a_schedule() {
    let subject = ground().subject("wrong");
    let mut session = subject.ground.session();
    let mut error = |sql: &str| {
        let error = db_error(session.simple_query(&sql.replace("$1", &format!("'{}'", subject.secret))));
        (error.code().code().to_owned(), error.message().to_owned())
    };
    for (schedule, message) in [
        ("rate(3 hours)", "invalid rate of a schedule: \"3 hours\""),
        ("cron(0 8 * * ?)", "invalid cron expression of a schedule: \"0 8 * * ?\""),
        ("cron(0 25 * * ? *)", "invalid hours field of a schedule: \"25\""),
        ("cron(0 /2 * * ? *)", "invalid hours field of a schedule: \"/2\""),
        ("cron(0 8 31 FEB ? *)", "schedule \"cron(0 8 31 FEB ? *)\" has no window"),
    ] {
        let found = error(&format!("SELECT schedule_rotation($1, '{schedule}')"));
        assert_eq!(found, ("22023".into(), message.into()), "{schedule}");
    }
    assert_eq!(error("SELECT schedule_rotation($1, 'rate(4 hours)', '5h')").0, "22023");
    assert_eq!(error("SELECT schedule_rotation('no/such/secret', 'rate(4 hours)')").0, "42704");
    assert_eq!(error("SELECT schedule_rotation($1, 'rate(4 hours)', strategy => 'managed')").0, "55000");
    assert_eq!(error("SELECT next_rotations('rate(4 hours)', count => -1)").0, "22023");
    session.batch_execute("CREATE DATABASE another").unwrap();
    let mut another = subject.ground.local.connect("postgres", "another");
    another.batch_execute("CREATE EXTENSION secretlink").unwrap();
    let refused = db_error(
        another.simple_query(&format!("SELECT schedule_rotation('{}', 'rate(1 day)')", subject.secret)),
    );
    assert_eq!(refused.message(), "schedules of rotations are kept in database \"postgres\"");
}

#[test]
fn the_next_windows() {
    let mut session = ground().session();
    let sql = "SELECT array_agg(w::text) FROM next_rotations('cron(0 8 1 * ? *)', '3h', '2026-11-30 10:00+00', 2) w";
    let windows: Vec<String> = session.query_one(sql, &[]).unwrap().get(0);
    assert_eq!(
        windows,
        [
            "[\"2026-12-01 08:00:00+00\",\"2026-12-01 11:00:00+00\")",
            "[\"2027-01-01 08:00:00+00\",\"2027-01-01 11:00:00+00\")"
        ]
    );
    let sql = "SELECT count(*) FROM next_rotations('rate(10 days)')";
    assert_eq!(session.query_one(sql, &[]).unwrap().get::<_, i64>(0), 5);
}
