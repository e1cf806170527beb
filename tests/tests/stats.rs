//! The views `secretlink_stats` and `secretlink_aws_calls`.

use postgres::Client;
use secretlink_e2e::{
    Cluster, ClusterBuilder, Fault, Moto, SecretsRelay, StopMode, backend_pid, db_error, eventually, unique,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// By when what happens on its own has happened, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(40);

/// The Secrets Manager of all tests.
fn moto() -> &'static Moto {
    Moto::shared()
}

/// A server that counts for all its processes, and its way to Secrets Manager.
struct Ground {
    local: Cluster,
    relay: SecretsRelay,
}

impl Ground {
    fn start() -> Self {
        Self::with(|local| local)
    }

    fn with(adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let relay = SecretsRelay::to(moto());
        let local = Cluster::local_with_endpoint(&relay.endpoint())
            .preload(true)
            // The extension is to survive a crash right after it was made.
            .conf("synchronous_commit = on")
            .conf("secretlink.max_attempts = 1");
        Self { local: adjust(local).start(), relay }
    }

    fn session(&self) -> Client {
        self.local.connect("postgres", "postgres")
    }
}

/// A secret that nobody has read yet, not even a cache.
fn new_secret() -> String {
    let name = unique("stats");
    moto().secrets().create_secret(&name, "what it holds");
    name
}

fn get(client: &mut Client, secret: &str) -> Result<(), postgres::Error> {
    client.query_one("SELECT get_secret_string($1)", &[&secret]).map(drop)
}

/// A column of `secretlink_stats`.
fn stat(client: &mut Client, column: &str) -> i64 {
    client.query_one(&format!("SELECT {column} FROM secretlink_stats"), &[]).unwrap().get(0)
}

/// How many calls there were, by operation and outcome.
fn calls(client: &mut Client) -> BTreeMap<String, i64> {
    let rows = client.query("SELECT operation || ' ' || outcome, calls FROM secretlink_aws_calls", &[]);
    rows.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn counts<const N: usize>(expected: [(&str, i64); N]) -> BTreeMap<String, i64> {
    expected.map(|(what, calls)| (what.to_owned(), calls)).into()
}

#[test]
fn calls_count_by_operation_and_outcome_whoever_made_them() {
    let ground = Ground::start();
    let mut session = ground.session();
    assert_eq!(calls(&mut session), counts([]));
    assert_eq!(stat(&mut session, "aws_calls"), 0);

    get(&mut session, &new_secret()).unwrap();
    let mut other = ground.session();
    get(&mut other, &new_secret()).unwrap();
    db_error(get(&mut other, &unique("missing")));
    let secret = new_secret();
    session.query("SELECT * FROM describe_secret($1)", &[&secret]).unwrap();
    session.query("SELECT put_secret_value($1, '{}')", &[&secret]).unwrap();
    session.query("SELECT create_secret($1, '{}')", &[&unique("stats")]).unwrap();
    // Nothing is asked for, so nothing is counted.
    db_error(session.query("SELECT create_secret('no good', '{}')", &[]));
    drop(other);
    assert_eq!(
        calls(&mut session),
        counts([
            ("GetSecretValue success", 2),
            ("GetSecretValue not_found", 1),
            ("DescribeSecret success", 1),
            ("ListSecretVersionIds success", 1),
            ("PutSecretValue success", 1),
            ("CreateSecret success", 1),
        ])
    );
    assert_eq!((stat(&mut session, "aws_calls"), stat(&mut session, "aws_failures")), (7, 1));
}

#[test]
fn every_outcome_has_its_name() {
    let ground = Ground::start();
    let mut session = ground.session();
    for (fault, outcome) in [
        ((|| Fault::Refuse(400, "ThrottlingException")) as fn() -> Fault, "throttled"),
        (|| Fault::Refuse(429, "TooManyRequestsException"), "throttled"),
        (|| Fault::Refuse(400, "AccessDeniedException"), "denied"),
        (|| Fault::Refuse(400, "DecryptionFailure"), "denied"),
        (|| Fault::Refuse(400, "ResourceNotFoundException"), "not_found"),
        (|| Fault::Cut, "unreachable"),
        (|| Fault::CutAnswer, "unreachable"),
        (|| Fault::Delay(PATIENCE), "timed_out"),
        (|| Fault::Refuse(500, "InternalServiceError"), "server_fault"),
        (|| Fault::Refuse(400, "ExpiredTokenException"), "credentials"),
        (|| Fault::Refuse(400, "InvalidParameterException"), "error"),
    ] {
        session
            .batch_execute("SELECT secretlink_stats_reset(); SET secretlink.request_timeout = '200ms'")
            .unwrap();
        if outcome != "timed_out" {
            session.batch_execute("RESET secretlink.request_timeout").unwrap();
        }
        let secret = new_secret();
        ground.relay.rule(&secret, move |_| fault());
        db_error(get(&mut session, &secret));
        assert_eq!(calls(&mut session), counts([(&*format!("GetSecretValue {outcome}"), 1)]));
        assert_eq!((stat(&mut session, "aws_calls"), stat(&mut session, "aws_failures")), (1, 1));
    }
}

#[test]
fn a_call_that_nobody_waits_for_any_more_is_cancelled_and_no_failure() {
    let ground = Ground::start();
    let mut session = ground.session();
    let late = || {
        let secret = new_secret();
        ground.relay.rule(&secret, |_| Fault::Delay(PATIENCE));
        secret
    };
    session.batch_execute("SET statement_timeout = '200ms'").unwrap();
    assert_eq!(db_error(get(&mut session, &late())).code().code(), "57014");
    session.batch_execute("RESET statement_timeout").unwrap();
    let cancelled = |session: &mut Client, expected: i64| {
        eventually("the call is counted as cancelled", PATIENCE, || {
            let seen = calls(session);
            if seen == counts([("GetSecretValue cancelled", expected)]) {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        });
    };
    cancelled(&mut session, 1);
    // Also when the whole session ends: its shared memory is still there when its I/O thread is stopped.
    let mut other = ground.session();
    let pid = backend_pid(&mut other);
    let secret = late();
    let asked = secret.clone();
    let waiting = std::thread::spawn(move || get(&mut other, &asked));
    eventually("the other session waits", PATIENCE, || {
        let asked = ground.relay.count(&secret, "GetSecretValue");
        if asked == 1 { Ok(()) } else { Err(asked.to_string()) }
    });
    let pid = i32::try_from(pid.pid()).unwrap();
    session.query_one("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    waiting.join().unwrap().unwrap_err();
    cancelled(&mut session, 2);
    assert_eq!((stat(&mut session, "aws_calls"), stat(&mut session, "aws_failures")), (2, 0));
}

#[test]
fn attempts_of_a_call_count_as_one_and_so_does_their_time() {
    let ground = Ground::with(|local| local.conf("secretlink.max_attempts = 3"));
    let mut session = ground.session();
    let secret = new_secret();
    let asked = AtomicUsize::new(0);
    ground.relay.rule(&secret, move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Fault::Cut,
        _ => Fault::Delay(Duration::from_millis(120)),
    });
    get(&mut session, &secret).unwrap();
    assert_eq!(ground.relay.count(&secret, "GetSecretValue"), 2);
    let row = session.query_one("SELECT * FROM secretlink_aws_calls", &[]).unwrap();
    assert_eq!(
        (row.get("operation"), row.get("outcome"), row.get("calls")),
        ("GetSecretValue", "success", 1i64)
    );
    let (total, max): (f64, f64) = (row.get("total_ms"), row.get("max_ms"));
    assert!(total >= 120.0, "{total}");
    assert_eq!(total, max);
    let limits: Vec<f64> = row.get("latency_ms_le");
    assert_eq!(limits, [1., 2., 5., 10., 20., 50., 100., 200., 500., 1000., 2000., 5000., f64::INFINITY]);
    // As Prometheus has it: each bucket has those before it in it.
    let within: Vec<i64> = row.get("latency_ms_bucket");
    let expected: Vec<i64> = limits.iter().map(|limit| i64::from(*limit >= total)).collect();
    assert_eq!(within, expected);
}

#[test]
fn connections_and_what_comes_over_them_count_for_all_sessions() {
    let ground = Ground::start();
    let remote = Cluster::remote().start();
    let mut watching = ground.session();
    let stats = |watching: &mut Client| {
        ["connections_opened", "connections_failed", "connections_retried", "rows_received", "bytes_received"]
            .map(|column| stat(watching, column))
    };
    assert_eq!(stats(&mut watching), [0; 5]);

    let mut session = ground.session();
    let app = |password| {
        format!("host=127.0.0.1 port={} dbname=testdb user=app password={password}", remote.port())
    };
    let connect = |session: &mut Client, name: &str, conninfo: String| {
        session.query_one("SELECT dblink_connect($1, $2)", &[&name, &conninfo]).map(drop)
    };
    connect(&mut session, "c", app(remote.app_password())).unwrap();
    db_error(connect(&mut session, "d", app("wrong")));
    db_error(connect(&mut session, "d", "host=/nowhere".to_owned()));
    assert_eq!(stats(&mut watching), [1, 2, 0, 0, 0]);

    session
        .batch_execute(
            "SELECT count(*) FROM dblink('c', 'SELECT generate_series(1, 100000)') AS t(a int);
             SELECT dblink_exec('c', 'CREATE TEMP TABLE x AS SELECT 1');
             SELECT dblink_send_query('c', 'SELECT generate_series(1, 20000)');
             SELECT count(*) FROM dblink_get_result('c') AS t(a int);
             SELECT count(*) FROM dblink_get_result('c') AS t(a int)",
        )
        .unwrap();
    let row = session.query_one("SELECT rows, bytes FROM remote_connections", &[]).unwrap();
    let (rows, bytes): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!(rows, 120_000);
    assert_eq!(stats(&mut watching), [1, 2, 0, rows, bytes]);

    // What a session has done stays counted when it has gone.
    let other = backend_pid(&mut session);
    drop(session);
    other.until_gone(PATIENCE);
    let conninfo = app(remote.app_password());
    let sql = "SELECT * FROM dblink($1, 'SELECT 7') AS t(a int)";
    watching.query_one(sql, &[&conninfo]).unwrap();
    let [opened, failed, _, now, _] = stats(&mut watching);
    assert_eq!((opened, failed, now), (2, 2, rows + 1));
}

#[test]
fn what_the_worker_asks_for_counts() {
    let mut ground = Ground::start();
    let secret = unique("stats");
    moto().secrets().create_secret(&secret, r#"{"username":"synced","password":"Wrong"}"#);
    ground
        .session()
        .batch_execute(&format!(
            "CREATE ROLE synced PASSWORD 'Right'; SECURITY LABEL FOR secretlink ON ROLE synced IS '{secret}'"
        ))
        .unwrap();
    ground.local.restart(StopMode::Fast);
    let mut session = ground.session();
    eventually("the worker's calls are seen", PATIENCE, || {
        let seen = calls(&mut session);
        let read = seen.get("GetSecretValue success").copied().unwrap_or_default();
        if read > 0 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

#[test]
fn counting_begins_anew_at_a_reset_and_after_a_crash() {
    let ground = Ground::start();
    let mut session = ground.session();
    let since = |session: &mut Client| -> (bool, String) {
        let sql = "SELECT stats_reset > pg_postmaster_start_time() - interval '1 min', stats_reset::text FROM secretlink_stats";
        let row = session.query_one(sql, &[]).unwrap();
        (row.get(0), row.get(1))
    };
    let start = since(&mut session);
    assert!(start.0, "{start:?}");
    get(&mut session, &new_secret()).unwrap();
    db_error(session.query("SELECT dblink_connect('host=/nowhere')", &[]));
    assert_eq!((stat(&mut session, "aws_calls"), stat(&mut session, "connections_failed")), (1, 1));
    assert_eq!(since(&mut session), start);

    ground.session().batch_execute("SELECT secretlink_stats_reset()").unwrap();
    assert_eq!(calls(&mut session), counts([]));
    assert_eq!((stat(&mut session, "aws_calls"), stat(&mut session, "connections_failed")), (0, 0));
    let reset = since(&mut session);
    assert!(reset.0 && reset.1 > start.1, "{reset:?} after {start:?}");

    get(&mut session, &new_secret()).unwrap();
    backend_pid(&mut session).kill();
    let mut session = eventually("the server has recovered", PATIENCE, || {
        let mut client = ground.local.try_connect("postgres", "postgres").map_err(|e| e.to_string())?;
        client.batch_execute("SELECT pg_sleep(0.3)").map_err(|e| e.to_string())?;
        Ok(client)
    });
    assert_eq!(stat(&mut session, "aws_calls"), 0);
    let crash = since(&mut session);
    assert!(crash.0 && crash.1 > reset.1, "{crash:?} after {reset:?}");
    get(&mut session, &new_secret()).unwrap();
    assert_eq!(stat(&mut session, "aws_calls"), 1);
}

#[test]
fn without_preloading_each_session_has_its_own() {
    let ground = Ground::with(|local| local.preload(false));
    let (mut session, mut other) = (ground.session(), ground.session());
    get(&mut session, &new_secret()).unwrap();
    assert_eq!((stat(&mut session, "aws_calls"), stat(&mut other, "aws_calls")), (1, 0));
    other.batch_execute("SELECT secretlink_stats_reset()").unwrap();
    assert_eq!(stat(&mut session, "aws_calls"), 1);
    let sql = "SELECT stats_reset BETWEEN now() - interval '10 min' AND now() FROM secretlink_stats";
    assert!(session.query_one(sql, &[]).unwrap().get::<_, bool>(0));
}

#[test]
fn pg_monitor_reads_and_only_superusers_reset() {
    let ground = Ground::start();
    ground
        .session()
        .batch_execute(
            "CREATE ROLE plain LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE resetter LOGIN;
             GRANT EXECUTE ON FUNCTION secretlink_stats_reset() TO resetter",
        )
        .unwrap();
    let reads = [
        "SELECT * FROM secretlink_stats",
        "SELECT * FROM secretlink_aws_calls",
        "SELECT * FROM secretlink_stat_counters()",
        "SELECT * FROM secretlink_stat_aws_calls()",
    ];
    let reset = "SELECT secretlink_stats_reset()";
    let as_role = |role: &str, sql: &str| ground.local.connect(role, "postgres").batch_execute(sql);
    for sql in reads {
        as_role("watcher", sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!(db_error(as_role("plain", sql)).code().code(), "42501", "{sql}");
    }
    for role in ["plain", "watcher"] {
        assert_eq!(db_error(as_role(role, reset)).code().code(), "42501", "{role}");
    }
    as_role("resetter", reset).unwrap();
}
