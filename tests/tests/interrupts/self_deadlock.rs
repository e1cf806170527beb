//! A session that waits, by way of a connection to its own server, for itself. Nobody can see that it is a
//! deadlock, but whatever ends a wait ends this one, also in a deferred trigger at COMMIT.

use crate::limits::{PATIENCE, SOON, at_once};
use crate::scene::Scene;
use crate::waiting::Waiting;
use postgres::Client;
use postgres::error::SqlState;
use secretlink_e2e::{Process, db_error, eventually};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A table whose rows, once changed, are changed again at COMMIT, by another session of the same server.
const TABLE: &str = "
    CREATE TABLE t (a int);
    INSERT INTO t VALUES (0);
    CREATE FUNCTION change_again() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM dblink_exec('me', 'UPDATE t SET a = 2');
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER again AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.a = 1) EXECUTE FUNCTION change_again();
    CREATE FUNCTION change_again_later() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_sleep(0.5);
        PERFORM dblink_exec('me', 'UPDATE t SET a = 2');
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER again_later AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.a = 3) EXECUTE FUNCTION change_again_later();
    CREATE FUNCTION change_again_in_a_loop() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE changed record;
    BEGIN
        FOR changed IN SELECT * FROM dblink('me', 'UPDATE t SET a = 2 RETURNING a') AS t(a int) LOOP END LOOP;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER again_in_a_loop AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.a = 4) EXECUTE FUNCTION change_again_in_a_loop();
    CREATE FUNCTION change_again_twice() RETURNS trigger LANGUAGE plpgsql AS $f$
    BEGIN
        PERFORM dblink_exec('me', 'UPDATE t SET a = 2');
        RETURN NULL;
    EXCEPTION WHEN query_canceled THEN
        PERFORM dblink_exec('me', 'DO $d$ BEGIN PERFORM pg_sleep(1); END $d$');
        RETURN NULL;
    END $f$;
    CREATE CONSTRAINT TRIGGER again_twice AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.a = 5) EXECUTE FUNCTION change_again_twice()";

/// A table whose rows are followed, at COMMIT, by a loop of questions without end, after a pause in which nobody is
/// asked. Each question is answered at once.
const QUESTIONS: &str = "
    CREATE TABLE questions (a int);
    CREATE FUNCTION ask_for_ever() RETURNS trigger LANGUAGE plpgsql AS $f$
    DECLARE answer record; began timestamptz := clock_timestamp();
    BEGIN
        WHILE clock_timestamp() < began + interval '400ms' LOOP END LOOP;
        IF NEW.a = 1 THEN
            PERFORM dblink_open('me', 'c', 'SELECT generate_series(1, 1000000000)');
        END IF;
        LOOP
            CASE NEW.a
            WHEN 1 THEN PERFORM * FROM dblink_fetch('me', 'c', 1) AS t(a int);
            WHEN 2 THEN PERFORM dblink_exec('me', 'SET a.b = 1');
            WHEN 3 THEN PERFORM * FROM dblink('me', 'SELECT 1') AS t(a int);
            WHEN 4 THEN
                FOR answer IN SELECT * FROM dblink('me', 'SELECT 1') AS t(a int) LOOP END LOOP;
            WHEN 5 THEN
                PERFORM dblink_send_query('me', 'SELECT 1');
                PERFORM * FROM dblink_get_result('me') AS t(a int);
                PERFORM * FROM dblink_get_result('me') AS t(a int);
            WHEN 6 THEN
                FOR answer IN SELECT t.a FROM generate_series(1, 3),
                    LATERAL dblink('me', 'SELECT 1') AS t(a int) LOOP END LOOP;
            END CASE;
        END LOOP;
    END $f$;
    CREATE CONSTRAINT TRIGGER ask_for_ever AFTER INSERT ON questions DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION ask_for_ever()";

fn connect_to_itself(scene: &Scene) -> String {
    format!("SELECT dblink_connect('me', '{}')", scene.local.conninfo("postgres", "postgres"))
}

fn scene() -> Scene {
    let scene = Scene::new();
    scene.client().batch_execute(TABLE).unwrap();
    scene.client().batch_execute("CREATE ROLE somebody").unwrap();
    scene
}

fn client(scene: &Scene) -> Client {
    let mut client = scene.client();
    client.batch_execute(&connect_to_itself(scene)).unwrap();
    client
}

const TIMEOUT: Duration = Duration::from_millis(300);

/// Asserts that this was the timeout, and gives how late it came.
fn timed_out<T>(what: &str, began: Instant, ended: Result<T, postgres::Error>) -> Duration {
    let took = began.elapsed();
    let error = db_error(ended);
    assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{what}: {error:?}");
    assert!(error.message().contains("statement timeout"), "{what}: {error:?}");
    took.saturating_sub(TIMEOUT)
}

#[test]
fn statement_timeout_ends_it() {
    let mut scene = scene();
    for (what, begin, end) in [
        (
            "in a statement",
            "BEGIN; ALTER ROLE somebody CONNECTION LIMIT 1",
            "SELECT dblink_exec('me', 'ALTER ROLE somebody CONNECTION LIMIT 2')",
        ),
        ("at COMMIT", "BEGIN; UPDATE t SET a = 1", "COMMIT"),
        ("at the end of a statement", "", "UPDATE t SET a = 1"),
        ("in PREPARE TRANSACTION", "BEGIN; UPDATE t SET a = 1", "PREPARE TRANSACTION 'p'"),
        ("in a block", "", "DO $$ BEGIN UPDATE t SET a = 1; COMMIT; END $$"),
        ("at SET CONSTRAINTS", "BEGIN; UPDATE t SET a = 1", "SET CONSTRAINTS ALL IMMEDIATE"),
    ] {
        at_once(&format!("statement_timeout {what}"), || {
            let mut client = client(&scene);
            client.batch_execute("SET statement_timeout = '300ms'").unwrap();
            client.batch_execute(begin).unwrap();
            let began = Instant::now();
            let late = timed_out(what, began, client.batch_execute(end));
            // It can go on, and so can its connection.
            client.batch_execute("ROLLBACK").unwrap();
            client.batch_execute("SELECT dblink_exec('me', 'UPDATE t SET a = 0')").unwrap();
            late
        });
    }
    // By the extended protocol, where the commit comes with Sync.
    at_once("statement_timeout at Sync", || {
        let mut client = client(&scene);
        client.batch_execute("SET statement_timeout = '300ms'").unwrap();
        let began = Instant::now();
        let late = timed_out("at Sync", began, client.execute("UPDATE t SET a = $1", &[&1]));
        client.batch_execute("SELECT dblink_exec('me', 'UPDATE t SET a = 0')").unwrap();
        late
    });
    // What waits in a loop over a cursor, or has slept for longer than the limit before, which Postgres allows
    // at that time.
    for (value, slept) in [(3, Duration::from_millis(200)), (4, Duration::ZERO)] {
        let commit = format!("BEGIN; UPDATE t SET a = {value}; COMMIT");
        let statement = format!("UPDATE t SET a = {value}");
        for statement in [&commit, &statement] {
            at_once(&format!("statement_timeout of {statement}"), || {
                let mut client = client(&scene);
                client.batch_execute("SET statement_timeout = '300ms'").unwrap();
                let began = Instant::now();
                let late = timed_out(statement, began, client.batch_execute(statement));
                client.batch_execute("SELECT dblink_exec('me', 'UPDATE t SET a = 0')").unwrap();
                late.saturating_sub(slept)
            });
        }
        at_once(&format!("statement_timeout at Sync of {value}"), || {
            let mut client = client(&scene);
            client.batch_execute("SET statement_timeout = '300ms'").unwrap();
            let began = Instant::now();
            let late = timed_out("at Sync", began, client.execute("UPDATE t SET a = $1", &[&value]));
            client.batch_execute("BEGIN; SET LOCAL statement_timeout = 0").unwrap();
            client.execute(&statement, &[]).unwrap();
            client.batch_execute("SET statement_timeout = '300ms'").unwrap();
            let began = Instant::now();
            let at_commit = timed_out("COMMIT", began, client.execute("COMMIT", &[]));
            client.batch_execute("SELECT dblink_exec('me', 'UPDATE t SET a = 0')").unwrap();
            late.max(at_commit).saturating_sub(slept)
        });
    }
    // It fires once: who catches it may go on.
    let mut catching = client(&scene);
    catching.batch_execute("SET statement_timeout = '300ms'").unwrap();
    let began = Instant::now();
    catching.batch_execute("BEGIN; UPDATE t SET a = 5; COMMIT").unwrap();
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    catching.batch_execute("UPDATE t SET a = 0").unwrap();
    // Without a limit there is none, whatever was set before.
    let mut unlimited = client(&scene);
    unlimited.batch_execute("SET statement_timeout = '300ms'; SET statement_timeout = 0").unwrap();
    let waiting = Waiting::start(unlimited, "UPDATE t SET a = 1");
    std::thread::sleep(2 * TIMEOUT);
    scene.until_waiting(waiting.backend.pid());
    scene.cancel(waiting);
    scene.confirm();
}

/// No single wait is long, and Postgres has ended its own timer before.
#[test]
fn statement_timeout_ends_a_loop_of_short_waits_at_commit() {
    let mut scene = scene();
    scene.client().batch_execute(QUESTIONS).unwrap();
    let computed = Duration::from_millis(100);
    for how in 1..=6 {
        let insert = format!("INSERT INTO questions VALUES ({how})");
        for statement in
            [&insert, &format!("BEGIN; {insert}; COMMIT"), &format!("DO $d$ BEGIN {insert}; COMMIT; END $d$")]
        {
            at_once(&format!("statement_timeout of {statement}"), || {
                let mut client = client(&scene);
                client.batch_execute("SET statement_timeout = '300ms'").unwrap();
                let began = Instant::now();
                timed_out(statement, began, client.batch_execute(statement)).saturating_sub(computed)
            });
        }
        at_once(&format!("statement_timeout at Sync of {insert}"), || {
            let mut client = client(&scene);
            client.batch_execute("SET statement_timeout = '300ms'").unwrap();
            let began = Instant::now();
            timed_out("at Sync", began, client.execute(&insert, &[])).saturating_sub(computed)
        });
        let waiting = Waiting::start(client(&scene), &insert);
        std::thread::sleep(2 * TIMEOUT);
        scene.cancel(waiting);
    }
    scene.confirm();
}

/// A timeout that was caught does not come again, by whatever protocol the statement was sent.
#[test]
fn a_timeout_that_was_caught_does_not_come_again() {
    let mut scene = scene();
    scene
        .client()
        .batch_execute(
            "CREATE FUNCTION catch() RETURNS int LANGUAGE plpgsql AS $f$
             BEGIN
                 PERFORM dblink_exec('me', 'DO $d$ BEGIN PERFORM pg_sleep(60); END $d$');
                 RETURN 0;
             EXCEPTION WHEN query_canceled THEN
                 PERFORM dblink_exec('me', 'DO $d$ BEGIN PERFORM pg_sleep(0.5); END $d$');
                 RETURN 1;
             END $f$",
        )
        .unwrap();
    let mut client = client(&scene);
    client.batch_execute("SET statement_timeout = '300ms'").unwrap();
    let mut transaction = client.transaction().unwrap();
    for _ in 0..2 {
        // In a portal that has a name.
        let portal = transaction.bind("SELECT catch()", &[]).unwrap();
        let row = transaction.query_portal(&portal, 1).unwrap();
        assert_eq!(row[0].get::<_, i32>(0), 1);
    }
    let row = transaction.query_one("SELECT catch()", &[]).unwrap();
    assert_eq!(row.get::<_, i32>(0), 1);
    transaction.commit().unwrap();
    scene.confirm();
}

#[test]
fn cancel_and_terminate_end_it() {
    let mut scene = scene();
    for statement in ["UPDATE t SET a = 1", "BEGIN; UPDATE t SET a = 1; COMMIT"] {
        at_once(&format!("cancel of {statement}"), || {
            let waiting = Waiting::start(client(&scene), statement);
            scene.until_waiting(waiting.backend.pid());
            scene.cancel(waiting).1
        });
        at_once(&format!("terminate of {statement}"), || {
            let waiting = Waiting::start(client(&scene), statement);
            let backend = waiting.backend;
            scene.until_waiting(backend.pid());
            let began = Instant::now();
            scene.order("pg_terminate_backend", backend);
            backend.until_gone(SOON);
            let took = began.elapsed();
            waiting.end().assert_terminated(statement, backend, &scene.local);
            took
        });
    }
    scene.confirm();
}

#[test]
fn the_end_of_its_client_ends_it() {
    let mut scene = scene();
    scene.client().batch_execute(QUESTIONS).unwrap();
    for statement in [
        "UPDATE t SET a = 1",
        "BEGIN; UPDATE t SET a = 1; COMMIT",
        "INSERT INTO questions VALUES (1)",
        "BEGIN; INSERT INTO questions VALUES (4); COMMIT",
    ] {
        let conninfo = format!(
            "{} application_name=leaver options='-c client_connection_check_interval=100ms'",
            scene.local.conninfo("postgres", "postgres")
        );
        let mut psql = scene
            .local
            .psql_command(&conninfo)
            .args(["-c", &connect_to_itself(&scene), "-c", statement])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let backend = eventually("psql waits", PATIENCE, || {
            let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'leaver'
                       AND state = 'active' AND wait_event_type = 'Extension'";
            let row = scene.witness.client.query_opt(sql, &[]).unwrap();
            row.map(|row| Process::new(row.get::<_, i32>(0).cast_unsigned())).ok_or("no such backend".into())
        });
        psql.kill().unwrap();
        psql.wait().unwrap();
        backend.until_gone(SOON);
        // And with it the other session, and what both of them held.
        let mut other = scene.client();
        other.batch_execute("SET lock_timeout = '5s'; UPDATE t SET a = 0").unwrap();
    }
    scene.confirm();
}
