//! Connections made with a secret that are lost: which are made again by themselves, which are not, and
//! what is said.

use crate::session::{PATIENCE, PID, Session, connected, kill, put};
use secretlink_e2e::{Cluster, Mode, Proxy, Stage, StopMode, eventually};
use serde_json::json;

#[test]
fn an_idle_connection_made_with_a_secret_is_made_again() {
    let mut stage = Stage::start();
    let mut session = connected(&stage, "idle");
    // Whatever asks for something, the first to ask is served.
    for sql in [
        "SELECT v FROM dblink('c', 'SELECT 1') AS t(v int)",
        "SELECT dblink_exec('c', 'SET work_mem = 64')",
        "SELECT dblink_open('c', 'cur', 'SELECT 1')",
        "SELECT dblink_send_query('c', 'SELECT 1')",
    ] {
        let pid = session.ask("c", PID);
        session.ask("c", "SELECT set_config('search_path', 'pg_temp', false)");
        kill(&stage, &pid);
        session.until_lost("c");
        session.told();
        session.value(sql);
        session.told_of("c");
        match sql {
            _ if sql.contains("dblink_open") => session.run("SELECT dblink_close('c', 'cur')"),
            _ if sql.contains("send_query") => {
                session.run("SELECT * FROM dblink_get_result('c') AS t(a int)");
            }
            _ => {}
        }
        assert_ne!(session.ask("c", PID), pid);
        assert_eq!(session.ask("c", "SHOW search_path"), "\"$user\", public", "a new session");
        assert!(session.told().is_empty(), "once");
        assert_eq!(session.state("c"), "idle");
    }
    // What asks for nothing does not connect.
    let pid = session.ask("c", PID);
    kill(&stage, &pid);
    session.until_lost("c");
    for sql in [
        "SELECT dblink_is_busy('c')",
        "SELECT dblink_error_message('c')",
        "SELECT dblink_cancel_query('c')",
        "SELECT array_length(dblink_get_connections(), 1)",
    ] {
        session.value(sql);
    }
    assert_eq!(session.state("c"), "lost");

    // The server starts anew, in order and after a crash; meanwhile that is an error.
    for mode in [StopMode::Fast, StopMode::Immediate] {
        session.ask("c", PID);
        stage.remote.stop(mode);
        session.until_lost("c");
        assert_eq!(session.fails("SELECT dblink_exec('c', 'SET work_mem = 64')").0, "08001");
        assert_eq!(session.fails("SELECT dblink_exec('c', 'SET work_mem = 64', false)").0, "08001");
        assert_eq!(session.state("c"), "lost");
        stage.remote.start();
        session.told();
        assert_eq!(session.ask("c", "SELECT 42"), "42");
        session.told_of("c");
    }
}

#[test]
fn the_secret_is_read_again() {
    let stage = Stage::start();
    let mut session = connected(&stage, "rotated");
    let lose = |session: &mut Session| {
        let pid = session.ask("c", PID);
        kill(&stage, &pid);
        session.until_lost("c");
    };
    let mut admin = stage.remote.connect("postgres", "postgres");
    for password in ["second", "third"] {
        admin.batch_execute(&format!("ALTER ROLE app PASSWORD '{password}'")).unwrap();
        put(&stage, "rotated", "app", password, stage.remote.port(), false);
        lose(&mut session);
        assert_eq!(session.ask("c", "SELECT 42"), "42");
    }
    // It does not fit: an error, each time, until it does.
    admin.batch_execute("ALTER ROLE app PASSWORD 'fourth'").unwrap();
    lose(&mut session);
    for _ in 0..2 {
        assert_eq!(session.fails("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").0, "08001");
    }
    put(&stage, "rotated", "app", "fourth", stage.remote.port(), false);
    assert_eq!(session.ask("c", "SELECT 42"), "42");
    // Elsewhere, when the secret says so, and that is known.
    let proxy = Proxy::to(stage.remote.port());
    put(&stage, "rotated", "app", "fourth", proxy.port(), false);
    session.run("SELECT refresh_secret('rotated')");
    lose(&mut session);
    assert_eq!(session.ask("c", "SELECT 42"), "42");
    assert_eq!(proxy.open(), 1);
    // The network, not the server.
    proxy.set(Mode::Refuse);
    session.until_lost("c");
    assert_eq!(session.fails("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").0, "08001");
    proxy.set(Mode::Pass);
    assert_eq!(session.ask("c", "SELECT 42"), "42");
    // It is gone.
    stage
        .moto
        .secrets()
        .call("DeleteSecret", json!({ "SecretId": "rotated", "ForceDeleteWithoutRecovery": true }))
        .unwrap();
    session.run("SELECT forget_secret('rotated')");
    lose(&mut session);
    assert_eq!(session.fails("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").0, "42704");
}

#[test]
fn nothing_is_made_again_where_more_than_the_session_is_lost() {
    let stage = Stage::start();
    let mut session = connected(&stage, "in use");
    let again = "SELECT connect_with_secret('in use', connection_name => 'c')";
    let mut admin = stage.remote.connect("postgres", "testdb");
    admin.batch_execute("CREATE TABLE done (a int); GRANT ALL ON done TO app").unwrap();

    // In a transaction, of one's own or of a cursor, also a failed one.
    for begin in [
        "SELECT dblink_exec('c', 'BEGIN'), dblink_exec('c', 'INSERT INTO done VALUES (1)')",
        "SELECT dblink_open('c', 'cur', 'SELECT 1')",
        "SELECT dblink_exec('c', 'BEGIN'), dblink_exec('c', 'SELECT 1/0', false)",
    ] {
        let pid = session.ask("c", PID);
        session.run(begin);
        kill(&stage, &pid);
        session.until_lost("c");
        session.stays_lost("c");
        assert_eq!(session.value("SELECT in_transaction FROM remote_connections"), "true");
        session.run(again);
        assert_eq!(session.ask("c", "SELECT count(*) FROM done"), "0");
    }

    // While a query runs, which is not run again.
    for query in [
        "INSERT INTO done VALUES (1); COMMIT; SELECT pg_terminate_backend(pg_backend_pid())",
        "DO $$BEGIN INSERT INTO done VALUES (1); COMMIT; PERFORM pg_terminate_backend(pg_backend_pid()); END$$",
    ] {
        let query = format!("SELECT dblink_exec('c', $q${query}$q$)");
        assert_eq!(session.fails(&query).0, "57P01");
        session.stays_lost("c");
        session.run(again);
        assert_eq!(session.ask("c", "SELECT count(*) FROM done"), "1");
        session.ask("c", "WITH d AS (DELETE FROM done RETURNING a) SELECT count(*) FROM d");
    }

    // While a query that was sent runs.
    let pid = session.ask("c", PID);
    session.value("SELECT dblink_send_query('c', 'SELECT pg_sleep(60)::text')");
    kill(&stage, &pid);
    session.until_lost("c");
    assert_eq!(session.fails("SELECT dblink_exec('c', 'SET work_mem = 64')").0, "55006");
    assert_eq!(session.fails("SELECT * FROM dblink_get_result('c') AS t(a text)").0, "57P01");
    session.run("SELECT * FROM dblink_get_result('c', false) AS t(a text)");
    session.stays_lost("c");

    // After it has ended: first its result is read.
    session.run(again);
    let pid = session.ask("c", PID);
    session.value("SELECT dblink_send_query('c', 'SELECT 42')");
    session.run("DO $$BEGIN WHILE dblink_is_busy('c') = 1 LOOP PERFORM pg_sleep(0.001); END LOOP; END$$");
    kill(&stage, &pid);
    session.until_lost("c");
    assert_eq!(session.fails("SELECT dblink_exec('c', 'SET work_mem = 64')").0, "55006");
    assert_eq!(session.value("SELECT a FROM dblink_get_result('c') AS t(a int)"), "42");
    session.told();
    assert_eq!(session.ask("c", "SELECT 43"), "43");
    session.told_of("c");

    // What is kept of the request has no password.
    session.run("SELECT connect_with_secret('in use', connection_name => 'c', options => 'sslpassword=x')");
    let pid = session.ask("c", PID);
    kill(&stage, &pid);
    session.until_lost("c");
    session.stays_lost("c");
}

#[test]
fn a_lost_connection_gives_its_name_to_a_new_one() {
    let stage = Stage::start();
    let mut session = Session::new(&stage.local);
    let conninfo = format!(
        "host=127.0.0.1 port={} dbname=testdb user=app password={}",
        stage.remote.port(),
        stage.remote.app_password()
    );
    let connect = format!("SELECT dblink_connect('c', '{conninfo}')");
    session.run(&connect);
    assert_eq!(session.fails(&connect), ("42710".into(), "duplicate connection name".into()));
    let pid = session.ask("c", PID);
    kill(&stage, &pid);
    session.until_lost("c");
    // It is not made again by itself: nobody has kept its password.
    session.stays_lost("c");
    // What cannot take its place leaves it as it is.
    assert_eq!(
        session.fails("SELECT dblink_connect('c', 'host=127.0.0.1 port=1 user=x password=x')").0,
        "08001"
    );
    session.stays_lost("c");
    assert_eq!(session.value("SELECT dblink_get_connections()"), "{c}");
    session.told();
    session.run(&connect);
    assert_ne!(session.ask("c", PID), pid);
    assert_eq!(session.fails(&connect).0, "42710");
    assert!(session.told().is_empty());

    // Lost while a query ran, and with something to be read.
    for query in [
        "SELECT * FROM dblink('c', 'SELECT pg_terminate_backend(pg_backend_pid())') AS t(a bool)",
        "SELECT dblink_send_query('c', 'SELECT 1; SELECT pg_terminate_backend(pg_backend_pid())')",
    ] {
        let _ = session.client.simple_query(query);
        session.until_lost("c");
        session.run(&connect);
        assert_eq!(session.ask("c", "SELECT 42"), "42");
    }

    // The one without a name can be replaced at any time.
    session.run(&format!("SELECT dblink_connect('{conninfo}')"));
    let pid = session.value("SELECT v FROM dblink('SELECT pg_backend_pid()') AS t(v int)");
    kill(&stage, &pid);
    eventually("the loss is noticed", PATIENCE, || {
        match session.value("SELECT state FROM remote_connections WHERE name IS NULL") {
            state if state == "lost" => Ok(()),
            state => Err(state),
        }
    });
    let (code, message) = session.fails("SELECT * FROM dblink('SELECT 1') AS t(a int)");
    assert_eq!(code, "08006");
    assert!(message.contains("terminating connection due to administrator command"), "{message}");
    session.run(&format!("SELECT dblink_connect('{conninfo}')"));
    assert_eq!(session.value("SELECT v FROM dblink('SELECT 42') AS t(v int)"), "42");
}

#[test]
fn who_asks_decides_whether_a_password_must_be_used() {
    let stage = Stage::start();
    let trusting = Cluster::remote().auth("host", "app", "trust").start();
    let mut session = connected(&stage, "scram");
    put(&stage, "trust", "app", "is not asked for", trusting.port(), true);
    session.run("SELECT connect_with_secret('trust', remote_db => 'postgres', connection_name => 'trusted')");
    session.run("CREATE ROLE plain");
    let kill_both = |session: &mut Session| {
        for (connection, remote) in [("c", &stage.remote), ("trusted", &trusting)] {
            let pid = session.ask(connection, PID);
            remote
                .connect("postgres", "postgres")
                .batch_execute(&format!("SELECT pg_terminate_backend({pid})"))
                .unwrap();
            session.until_lost(connection);
        }
    };
    kill_both(&mut session);
    session.run("SET ROLE plain");
    assert_eq!(session.ask("c", "SELECT 42"), "42");
    assert_eq!(
        session.fails("SELECT * FROM dblink('trusted', 'SELECT 1') AS t(a int)"),
        ("2F003".into(), "password is required".into())
    );
    session.run("RESET ROLE");
    assert_eq!(session.ask("trusted", "SELECT 42"), "42");
}

#[test]
fn making_it_again_can_be_interrupted() {
    let mut stage = Stage::start();
    let mut session = connected(&stage, "slow");
    let proxy = Proxy::to(stage.remote.port());
    put(&stage, "slow", "app", stage.remote.app_password(), proxy.port(), false);
    session.run("SELECT forget_secret('slow')");
    stage.remote.restart(StopMode::Fast);
    session.until_lost("c");
    proxy.set(Mode::BlackHole);
    session.run("SET statement_timeout = '200ms'");
    assert_eq!(session.fails("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").0, "57014");
    assert_eq!(session.state("c"), "lost");
    proxy.set(Mode::Pass);
    session.run("SET statement_timeout = '60s'");
    assert_eq!(session.ask("c", "SELECT 42"), "42");
}
