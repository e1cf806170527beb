//! Queries that are sent now and read later.

use crate::cluster::{cluster, no_session_stays};
use crate::pair::{Pair, Side};
use secretlink_e2e::eventually;
use std::time::{Duration, Instant};

/// Waits until the next result can be read.
const UNTIL_READY: &str =
    "DO $$BEGIN WHILE dblink_is_busy('c') = 1 LOOP PERFORM pg_sleep(0.001); END LOOP; END$$";

fn send(remote: &str) -> String {
    format!("SELECT dblink_send_query('c', $q${remote}$q$)")
}

fn result(columns: &str) -> String {
    format!("SELECT * FROM dblink_get_result('c') AS t({columns})")
}

#[test]
fn results_come_one_by_one_until_there_are_none() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    for (remote, results) in [
        ("SELECT 1, 'a' UNION ALL SELECT 2, NULL", &["a int, b text"][..]),
        ("SELECT 1 WHERE false", &["a int"]),
        ("INSERT INTO t VALUES (1)", &["status text"]),
        (
            "SELECT 1; SELECT 'x', 2; INSERT INTO t VALUES (2); SELECT 3 WHERE false; SELECT 4",
            &["a int", "a text, b int", "status text", "a int", "a int"],
        ),
        ("BEGIN; SELECT 1; ROLLBACK", &["status text", "a int", "status text"]),
        ("CALL double(21)", &["n int"]),
        (
            "SET datestyle = German; SELECT '2024-03-04'::date; SET datestyle = ISO; SELECT '2024-03-04'::date",
            &["status text", "d date", "status text", "d date"],
        ),
        ("SELECT repeat('x', i), i FROM generate_series(1, 2000) AS i", &["x text, i int"]),
    ] {
        for fail in ["", ", true", ", false"] {
            assert_eq!(pair.same(&send(remote)).value(), "1", "{remote}");
            for columns in results {
                pair.same(UNTIL_READY);
                assert_eq!(pair.same("SELECT dblink_is_busy('c')").value(), "0");
                let read = format!("SELECT * FROM dblink_get_result('c'{fail}) AS t({columns})");
                pair.same(&read);
            }
            for _ in 0..2 {
                assert_eq!(pair.same(&result("a int")).rows().len(), 0, "{remote}");
            }
            pair.same("SELECT dblink_exec('c', 'DELETE FROM t')");
        }
    }
    // Also without asking whether it has come.
    pair.same(&send("SELECT pg_sleep(1)::text; SELECT 1"));
    assert_eq!(pair.same("SELECT dblink_is_busy('c')").value(), "1");
    pair.same(&result("a text"));
    assert_eq!(pair.same(&result("a int")).value(), "1");
    assert_eq!(pair.same(&result("a int")).rows().len(), 0);
    // Nothing was ever sent.
    assert_eq!(pair.same("SELECT dblink_is_busy('c')").value(), "0");
    assert_eq!(pair.same(&result("a int")).rows().len(), 0);
    // A loop as people write it.
    let block = "DO $do$
        DECLARE n int; total int := 0;
        BEGIN
            PERFORM dblink_send_query('c', 'SELECT generate_series(1, 10); SELECT generate_series(1, 20)');
            LOOP
                SELECT sum(a) INTO n FROM dblink_get_result('c') AS t(a int);
                EXIT WHEN n IS NULL;
                total := total + n;
            END LOOP;
            RAISE NOTICE 'total %', total;
        END $do$";
    assert_eq!(pair.same(block).notices[0].message, "total 265");
}

#[test]
fn what_goes_wrong_is_told_when_the_result_is_read() {
    let cluster = cluster();
    for database in ["local", "latin1"] {
        let mut pair = Pair::connected(&cluster, database);
        for remote in [
            "SELECT 1/0",
            "SELEC 1",
            "SELECT complain('SL001', 'd\u{e9}tail', 'hint')",
            "INSERT INTO t VALUES (-1)",
        ] {
            pair.same(&send(remote));
            let told = pair.same(&result("a int"));
            let context = told.error().context.clone().unwrap();
            assert!(context.ends_with("while executing query on dblink connection named \"c\""), "{context}");
            assert_eq!(pair.same(&result("a int")).rows().len(), 0);
            // As a notice.
            pair.same(&send(remote));
            let told = pair.same("SELECT * FROM dblink_get_result('c', false) AS t(a int)");
            assert_eq!((told.rows().len(), told.notices.len()), (0, 1));
            assert_eq!(pair.same(&result("a int")).rows().len(), 0);
        }
        // In the middle: what came before counts, what would have come after is not there.
        pair.same(&send("SELECT 1; SELECT 1/0; SELECT 2"));
        assert_eq!(pair.same(&result("a int")).value(), "1");
        assert_eq!(pair.same(&result("a int")).error().code, "22012");
        assert_eq!(pair.same(&result("a int")).rows().len(), 0);
        // A local error: that result is gone, the next one is not.
        for (columns, code) in [("a int, b int", "42804"), ("a int", "22P02")] {
            pair.same(&send("SELECT 'x' FROM generate_series(1, 3); SELECT 2"));
            assert_eq!(pair.same(&result(columns)).error().code, code);
            assert_eq!(pair.same(&result("a int")).value(), "2");
            assert_eq!(pair.same(&result("a int")).rows().len(), 0);
        }
        assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").value(), "1");
    }
    let mut pair = Pair::new(&cluster, "local");
    for sql in [
        "SELECT dblink_send_query('none', 'SELECT 1')",
        "SELECT dblink_is_busy('none')",
        "SELECT dblink_cancel_query('none')",
        "SELECT dblink_error_message('none')",
        "SELECT * FROM dblink_get_result('none') AS t(a int)",
        "SELECT * FROM dblink_get_result('none', false) AS t(a int)",
        "SELECT * FROM dblink_get_notify('none')",
    ] {
        let told = pair.same(sql);
        assert_eq!(
            (told.error().code.as_str(), told.error().message.as_str()),
            ("08003", "connection \"none\" not available"),
            "{sql}"
        );
    }
    for sql in [
        "SELECT dblink_send_query(NULL, 'SELECT 1')",
        "SELECT dblink_send_query('c', NULL)",
        "SELECT dblink_is_busy(NULL)",
        "SELECT dblink_cancel_query(NULL)",
        "SELECT dblink_error_message(NULL)",
        "SELECT * FROM dblink_get_result(NULL) AS t(a int)",
        "SELECT * FROM dblink_get_notify(NULL)",
    ] {
        pair.same(sql);
    }
}

#[test]
fn a_second_query_waits_its_turn() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    pair.same(&send("SELECT pg_sleep(0.2)::text"));
    let told = pair.same(&send("SELECT 2"));
    assert_eq!(told.value(), "0");
    assert_eq!(told.notices[0].message, "could not send query: another command is already in progress");
    assert_eq!(
        pair.same("SELECT dblink_error_message('c')").value(),
        "another command is already in progress"
    );
    assert_eq!(pair.same(&result("a text")).rows().len(), 1);
    assert_eq!(pair.same(&result("a text")).rows().len(), 0);
    assert_eq!(pair.same(&send("SELECT 2")).value(), "1");
    assert_eq!(pair.same(&result("a int")).value(), "2");
    assert_eq!(pair.same(&result("a int")).rows().len(), 0);

    // Contrib wants the empty result to be read, too. There is nothing to lose, so it need not be.
    let ours = &mut pair.ours;
    for _ in 0..50 {
        assert_eq!(ours.value(&send("SELECT 3")), "1");
        assert_eq!(ours.value(&result("a int")), "3");
        assert_eq!(ours.value(&send("SELECT 4")), "1");
        assert_eq!(ours.value(&result("a int")), "4");
        assert_eq!(ours.value("SELECT * FROM dblink('c', 'SELECT 5') AS t(a int)"), "5");
    }
}

#[test]
fn a_query_that_was_sent_is_not_lost() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn}')");
    for remote in ["SELECT 42", "SELECT 42 FROM pg_sleep(0.2)", "SELECT 42; SELECT 43 FROM pg_sleep(0.2)"] {
        assert_eq!(ours.value(&send(remote)), "1");
        for sql in [
            "SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)",
            "SELECT * FROM dblink('c', 'SELECT 1', false) AS t(a int)",
            "SELECT dblink_exec('c', 'SET work_mem = 64')",
            "SELECT dblink_exec('c', 'SET work_mem = 64', false)",
            "SELECT dblink_open('c', 'cur', 'SELECT 1')",
            "SELECT * FROM dblink_fetch('c', 'cur', 1) AS t(a int)",
            "SELECT dblink_close('c', 'cur')",
        ] {
            let told = ours.run(sql);
            let error = told.error();
            assert_eq!(
                (error.code.as_str(), error.message.as_str()),
                ("55006", "connection has an asynchronous query whose results have not been read"),
                "{sql}"
            );
            let hint = error.hint.as_deref().unwrap();
            assert!(hint.contains("dblink_get_result") && hint.contains("dblink_cancel_query"), "{hint}");
        }
        assert_eq!(ours.value(&result("a int")), "42");
        if remote.contains("43") {
            let error = ours.run("SELECT dblink_exec('c', 'SET work_mem = 64')");
            assert_eq!(error.error().code, "55006", "there is one more");
            assert_eq!(ours.value(&result("a int")), "43");
        }
        assert_eq!(ours.value("SELECT dblink_exec('c', 'SET work_mem = 64')"), "SET");
    }
    // What was not counted need not be closed: the transaction of a cursor ends with it.
    ours.value("SELECT dblink_open('c', 'one', 'SELECT 1')");
    ours.value(&send("SELECT 1"));
    assert_eq!(ours.run("SELECT dblink_open('c', 'two', 'SELECT 1')").error().code, "55006");
    ours.value(&result("a int"));
    ours.value("SELECT dblink_close('c', 'one')");
    let status = "SELECT dblink_exec('c', 'VACUUM t')"; // not inside a transaction
    assert_eq!(ours.value(status), "VACUUM");
}

#[test]
fn cancelling_stops_the_query_and_frees_the_connection() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    assert_eq!(pair.same("SELECT dblink_cancel_query('c')").value(), "OK", "nothing runs");
    pair.same(&send("SELECT pg_sleep(60)::text"));
    assert_eq!(pair.same("SELECT dblink_is_busy('c')").value(), "1");
    // The server may take the request for one that came too early; ours is repeated.
    pair.same("SELECT pg_sleep(0.2)");
    assert_eq!(pair.same("SELECT dblink_cancel_query('c')").value(), "OK");
    let told = pair.same(&result("a text"));
    assert_eq!(
        (told.error().code.as_str(), told.error().message.as_str()),
        ("57014", "canceling statement due to user request")
    );
    assert_eq!(pair.same(&result("a text")).rows().len(), 0);
    assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").value(), "1");
    // At once, and in the middle of a result that nobody reads. A client that has cancelled a query need not
    // read what is left of it.
    let ours = &mut pair.ours;
    for remote in ["SELECT pg_sleep(60)::text", "SELECT repeat('x', 1000) FROM generate_series(1, 100000000)"]
    {
        for wait in ["", "SELECT pg_sleep(0.3)"] {
            let began = Instant::now();
            assert_eq!(ours.value(&send(remote)), "1");
            ours.run(wait);
            assert_eq!(ours.value("SELECT dblink_cancel_query('c')"), "OK");
            if remote.contains("generate_series") {
                assert_eq!(ours.value("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)"), "1");
            } else {
                assert_eq!(ours.run(&result("a text")).error().code, "57014", "{remote}");
                assert_eq!(ours.run(&result("a text")).rows().len(), 0);
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{remote}: {:?}", began.elapsed());
        }
    }
}

#[test]
fn what_went_wrong_last_is_remembered() {
    let cluster = cluster();
    for database in ["local", "latin1"] {
        let mut pair = Pair::connected(&cluster, database);
        let message = "SELECT dblink_error_message('c')";
        assert_eq!(pair.same(message).value(), "OK");
        let long = "x, ".repeat(40);
        for remote in [
            "SELECT 1/0",
            "SELEC 1",
            "SELECT\n\t nothing\n FROM t",
            "SELECT 1;\r\nSELECT 2;\r\n\r\nSELECT '\u{e9}\u{e9}', nothing, 1",
            "SELECT nothing",
            "SELECT 1 +",
            &format!("SELECT {long} 1"),
            &format!("SELECT 1, nothing, {}", "1, ".repeat(40)),
            &format!("SELECT {} nothing, {} 2", "1, ".repeat(40), "3, ".repeat(40)),
            &format!("SELECT {} nothing", "'\u{e9}', ".repeat(40)),
            &format!("SELECT 1;\nSELECT {} nothing, {} 2", "1, ".repeat(2000), "3, ".repeat(2000)),
            &format!("SELECT 1\nFROM t WHERE {} nothing = 1 OR id = 2\nORDER BY 1", "id = 1 OR ".repeat(7)),
            "SELECT complain('SL001', 'd\u{e9}tail', 'hint: \u{fc}ber')",
            "DO $$BEGIN EXECUTE 'SELECT 1 FROM nowhere'; END$$",
            "DO $$BEGIN RAISE ''; END$$",
            "INSERT INTO t VALUES (-1)",
            "SELECT 1; SELECT 1/0; SELECT 2",
        ] {
            pair.same(&format!("SELECT dblink_exec('c', $q${remote}$q$, false)"));
            let told = pair.same(message);
            assert!(told.value().starts_with("ERROR:  "), "{told:?}");
            pair.same("SELECT dblink_exec('c', 'SET work_mem = 64')");
            assert_eq!(pair.same(message).value(), "OK");
            pair.same(&send(remote));
            assert_eq!(pair.same(message).value(), "OK");
            while pair.same("SELECT * FROM dblink_get_result('c') AS t(a int)").result.is_ok() {}
            assert!(pair.same(message).value().starts_with("ERROR:  "), "{remote}");
            pair.same("SELECT * FROM dblink_get_result('c') AS t(a int)");
            assert!(pair.same(message).value().starts_with("ERROR:  "), "{remote}");
        }
    }
    // Characters that take two columns.
    let mut pair = Pair::connected(&cluster, "local");
    for remote in [
        "SELECT '\u{65e5}\u{672c}\u{8a9e}', nothing",
        &format!("SELECT {} nothing, 1", "'\u{65e5}\u{672c}', ".repeat(30)),
    ] {
        pair.same(&format!("SELECT dblink_exec('c', $q${remote}$q$, false)"));
        assert!(pair.same("SELECT dblink_error_message('c')").value().contains("LINE 1: "));
    }
}

#[test]
fn several_connections_work_at_once() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    let began = Instant::now();
    for name in ["c1", "c2", "c3", "c4"] {
        ours.run(&format!("SELECT dblink_connect('{name}', '{{conn}} application_name=at_once')"));
        let sql = "SELECT i FROM generate_series(1, 20000) AS i; SELECT 1 FROM pg_sleep(1)";
        assert_eq!(ours.value(&format!("SELECT dblink_send_query('{name}', '{sql}')")), "1");
    }
    // The results arrive while the session does something else: the servers are done before anybody
    // reads. What can wait here is more than these results.
    let done = "SELECT count(*) FROM pg_sleep(0.05), pg_stat_activity WHERE application_name = 'at_once' AND state = 'idle'";
    while ours.run(done).result.unwrap()[0][0].as_deref() != Some("4") {
        assert!(began.elapsed() < Duration::from_secs(20), "the servers do not get rid of their results");
    }
    for name in ["c1", "c2", "c3", "c4"] {
        assert_eq!(ours.value(&format!("SELECT dblink_is_busy('{name}')")), "0");
        assert_eq!(
            ours.value(&format!("SELECT sum(a) FROM dblink_get_result('{name}') AS t(a int)")),
            "200010000"
        );
        assert_eq!(ours.value(&format!("SELECT a FROM dblink_get_result('{name}') AS t(a int)")), "1");
        assert_eq!(
            ours.run(&format!("SELECT a FROM dblink_get_result('{name}') AS t(a int)")).rows().len(),
            0
        );
    }
}

#[test]
fn a_result_that_nobody_reads_holds_back_its_server() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn} application_name=held_back')");
    ours.run("SET work_mem = '1MB'");
    ours.value(&send("SELECT repeat('x', 1000), i FROM generate_series(1, 300000) AS i"));
    // 300 MB do not come here: the server waits for its client, and we can tell that there is a result.
    ours.run(UNTIL_READY).result.unwrap();
    let waits = "SELECT wait_event FROM pg_stat_activity WHERE application_name = 'held_back'";
    let began = Instant::now();
    while ours.run(waits).result.unwrap()[0][0].as_deref() != Some("ClientWrite") {
        assert!(began.elapsed() < Duration::from_secs(20), "the server is not held back");
    }
    let used = "SELECT pg_read_file('/proc/' || pg_backend_pid() || '/status')";
    let status = ours.value(used);
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 50 << 10, "{kilobytes} kB");
    assert_eq!(
        ours.value("SELECT count(*) || ' ' || sum(i) FROM dblink_get_result('c') AS t(x text, i int)"),
        "300000 45000150000"
    );
    assert_eq!(ours.run(&result("a int")).rows().len(), 0);
}

#[test]
fn reading_a_result_may_be_interrupted() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn}')");
    // While it has not come: nothing is lost.
    ours.value(&send("SELECT 42 FROM pg_sleep(3)"));
    ours.run("SET statement_timeout = '100ms'");
    assert_eq!(ours.run(&result("a int")).error().code, "57014");
    assert_eq!(ours.run(&result("a int")).error().code, "57014");
    ours.run("SET statement_timeout = '60s'");
    assert_eq!(ours.value(&result("a int")), "42");
    assert_eq!(ours.run(&result("a int")).rows().len(), 0);
    // In the middle of its rows, of which there are more than have room before it is read: those are
    // gone, which is said; what comes after is there.
    ours.run("SET work_mem = '64kB'");
    ours.value(&send("SELECT i FROM generate_series(1, 100000) AS i, LATERAL (SELECT pg_sleep(CASE WHEN i = 90000 THEN 4 ELSE 0 END)) AS s; SELECT 43"));
    ours.run(UNTIL_READY).result.unwrap();
    ours.run("SET statement_timeout = '1s'");
    assert_eq!(ours.run(&result("a int")).error().code, "57014");
    ours.run("SET statement_timeout = '60s'");
    let told = ours.run(&result("a int"));
    assert_eq!(
        (told.error().code.as_str(), told.error().message.as_str()),
        ("55000", "the result of the asynchronous query was read only in part")
    );
    assert_eq!(ours.value(&result("a int")), "43");
    assert_eq!(ours.run(&result("a int")).rows().len(), 0);
    assert_eq!(ours.value("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)"), "1");
}

#[test]
fn while_a_result_is_read_its_connection_does_nothing_else() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    // A domain's check runs while a row of the result is being read.
    pair.ours.run("CREATE FUNCTION meddle(sql text) RETURNS bool LANGUAGE plpgsql AS $$BEGIN EXECUTE sql; RETURN true; EXCEPTION WHEN object_in_use THEN RETURN false; END$$").result.unwrap();
    for (name, sql, allowed) in [
        ("asks", "SELECT * FROM secretlink.dblink('c', 'SELECT 1') AS t(a int)", false),
        ("reads", "SELECT * FROM secretlink.dblink_get_result('c') AS t(a int)", false),
        ("sends", "SELECT 1/secretlink.dblink_send_query('c', 'SELECT 1')", true),
        ("looks", "SELECT secretlink.dblink_is_busy('c'), secretlink.dblink_error_message('c')", true),
    ] {
        pair.ours
            .run(&format!("CREATE DOMAIN d_{name} AS int CHECK ((CASE WHEN VALUE = 5 THEN meddle($m${sql}$m$) ELSE true END) = {allowed} OR VALUE <> 5)"))
            .result
            .unwrap();
        pair.ours.value(&send("SELECT generate_series(1, 10)"));
        let outcome = pair.ours.run(&format!("SELECT sum(a) FROM dblink_get_result('c') AS t(a d_{name})"));
        match name {
            // It returns 0.
            "sends" => assert_eq!(outcome.error().code, "22012"),
            _ => assert_eq!(outcome.value(), "55", "{name}"),
        }
        assert_eq!(pair.ours.run(&result("a int")).rows().len(), 0);
    }
    // Its end from inside: it is read to its end all the same.
    pair.ours.run("CREATE DOMAIN d_leaves AS int CHECK (CASE WHEN VALUE = 5 THEN meddle('SELECT secretlink.dblink_disconnect(''c'')') ELSE true END)").result.unwrap();
    pair.ours.value(&send("SELECT generate_series(1, 100000)"));
    assert_eq!(pair.ours.value("SELECT sum(a) FROM dblink_get_result('c') AS t(a d_leaves)"), "5000050000");
    assert_eq!(pair.ours.run(&result("a int")).error().code, "08003");
}

#[test]
fn a_query_that_was_sent_outlives_its_connection() {
    let cluster = cluster();
    let mut admin = cluster.connect("postgres", "postgres");
    for schema in ["contrib", "secretlink"] {
        for leave in ["SELECT dblink_disconnect('c')", "SELECT pg_terminate_backend(pg_backend_pid())", ""] {
            let mut side = Side::new(&cluster, "postgres", "local", schema);
            side.run("SELECT dblink_connect('c', '{conn} application_name=leaves')");
            side.value(&send("SELECT pg_sleep(60)::text"));
            match leave {
                "" => drop(side),
                "SELECT dblink_disconnect('c')" => assert_eq!(side.value(leave), "OK"),
                _ => side.end(leave),
            }
            eventually("the query goes on, and can be stopped", Duration::from_secs(5), || {
                let stopped = admin.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                     WHERE application_name = 'leaves' AND state = 'active' AND query LIKE '%pg_sleep(60)%'",
                    &[],
                );
                if stopped.unwrap() == 1 { Ok(()) } else { Err(format!("{schema}: {leave}")) }
            });
            no_session_stays(&cluster, "leaves");
        }
    }
}
