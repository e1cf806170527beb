//! Connections: their names, and how long they live.

use crate::cluster::{cluster, no_session_stays};
use crate::pair::{Pair, Side};
use std::time::{Duration, Instant};

#[test]
fn connections_are_named_as_with_contrib() {
    let cluster = cluster();
    let mut pair = Pair::new(&cluster, "local");
    assert_eq!(pair.same("SELECT dblink_get_connections() IS NULL").value(), "t");
    for sql in [
        "SELECT dblink_disconnect()",
        "SELECT dblink_disconnect('c')",
        "SELECT dblink_exec('SELECT 1')",
        "SELECT dblink_exec('SELECT 1', false)",
        "SELECT * FROM dblink('SELECT 1') AS t(a int)",
        "SELECT * FROM dblink('SELECT 1', false) AS t(a int)",
    ] {
        assert_eq!(pair.same(sql).error().code, "08003", "{sql}");
    }
    assert_eq!(pair.same("SELECT dblink_connect('c', '{conn}')").value(), "OK");
    let twice = pair.same("SELECT dblink_connect('c', '{conn}')");
    assert_eq!(
        (twice.error().code.as_str(), twice.error().message.as_str()),
        ("42710", "duplicate connection name")
    );
    for name in ["", " ", "C", "c c", "dbname=x", "\u{e9}\u{20ac}"] {
        pair.same(&format!("SELECT dblink_connect('{name}', '{{conn}}')"));
        pair.same(&format!("SELECT * FROM dblink('{name}', 'SELECT 1') AS t(a int)"));
    }
    let sorted =
        pair.same("SELECT array_agg(n ORDER BY n COLLATE \"C\") FROM unnest(dblink_get_connections()) AS n");
    assert_eq!(sorted.value(), "{\"\",\" \",C,c,\"c c\",dbname=x,\u{e9}\u{20ac}}");

    // A name is cut as any identifier is, at a character, with a word about it when it is given.
    for long in ["n".repeat(70), format!("{}\u{e9}\u{e9}", "n".repeat(62)), "\u{20ac}".repeat(30)] {
        let connected = pair.same(&format!("SELECT dblink_connect('{long}', '{{conn}}')"));
        assert_eq!(
            (connected.notices.len(), connected.notices[0].code.as_str()),
            (1, "42622"),
            "{connected:?}"
        );
        for sql in [
            "SELECT * FROM dblink('{name}', 'SELECT 1') AS t(a int)",
            "SELECT dblink_exec('{name}', 'SELECT 1/0', false)",
            "SELECT dblink_disconnect('{name}')",
        ] {
            let (contrib, ours) = pair.both(&sql.replace("{name}", &long));
            assert_eq!(ours.result, contrib.result, "{sql}");
            // Contrib repeats the name as it was asked for in a CONTEXT line; we call the
            // connection by its name.
            assert_eq!(ours.notices.len(), contrib.notices.len(), "{sql}");
        }
    }
    let cut = format!("SELECT dblink_connect('{}x', '{{conn}}')", "m".repeat(63));
    pair.same(&cut);
    assert_eq!(pair.same(&cut.replace("x'", "y'")).error().code, "42710");

    // The unnamed one is replaced, a named one not.
    let pid = "SELECT * FROM dblink('SELECT pg_backend_pid()') AS t(pid int)";
    pair.same("SELECT dblink_connect('{conn} application_name=first')");
    let first = pair.ours.value(pid);
    pair.same("SELECT dblink_connect('{conn} application_name=second')");
    assert_ne!(pair.ours.value(pid), first);
    no_session_stays(&cluster, "first");
    // A failure leaves the old one alone.
    assert_eq!(pair.ours.run("SELECT dblink_connect('host=127.0.0.1 port=1')").error().code, "08001");
    assert_eq!(pair.same("SELECT count(*) FROM dblink('SELECT 1') AS t(a int)").value(), "1");
    assert_eq!(pair.same("SELECT dblink_disconnect()").value(), "OK");
    assert_eq!(pair.same("SELECT dblink_disconnect()").error().message, "connection not available");
    no_session_stays(&cluster, "second");
}

#[test]
fn what_is_neither_a_connection_nor_a_connection_string_is_an_error() {
    let cluster = cluster();
    let mut pair = Pair::new(&cluster, "local");
    for name in ["nothing", "dbname", "postgresql://", "host=127.0.0.1 port=1 nonsense=1", "port='", ""] {
        for sql in [
            format!("SELECT * FROM dblink($q${name}$q$, 'SELECT 1') AS t(a int)"),
            format!("SELECT dblink_exec($q${name}$q$, 'SELECT 1', false)"),
            format!("SELECT dblink_connect('x', $q${name}$q$)"),
        ] {
            if name == "postgresql://" || name.is_empty() {
                continue; // all defaults: whatever listens on the default socket
            }
            let (contrib, ours) = pair.both(&sql);
            let (contrib, ours) = (contrib.error(), ours.error());
            // contrib takes a name for a connection string that begins badly.
            if !name.contains('=') {
                assert_eq!(contrib.code, "08001", "{sql}");
                assert!(ours.message.starts_with("there is no ") && ours.hint.is_some(), "{sql}: {ours:?}");
                assert_eq!(ours.code, if sql.contains("connect") { "08001" } else { "08003" }, "{sql}");
                continue;
            }
            assert_eq!((&ours.code, &ours.message), (&contrib.code, &contrib.message), "{sql}");
            assert!(ours.detail.is_some() && contrib.detail.is_some(), "{ours:?} {contrib:?}");
        }
    }
    // A name that failed to connect is free.
    assert_eq!(pair.same("SELECT dblink_connect('x', '{conn}')").value(), "OK");
}

/// What is no name of a connection may have a password in it, whatever the function.
#[test]
fn what_is_not_there_is_said_and_not_repeated() {
    let cluster = cluster();
    cluster
        .connect("postgres", "local")
        .batch_execute("CREATE ROLE plain LOGIN; GRANT USAGE ON SCHEMA secretlink TO plain")
        .unwrap();
    for user in ["postgres", "plain"] {
        let mut ours = Side::new(&cluster, user, "local", "secretlink");
        for text in ["hunter2", "remote_conn", "host:5432/hunter2", "hunter2 with spaces"] {
            for (sql, code) in [
                ("dblink('TEXT', 'SELECT 1') AS t(a int)", "08003"),
                ("dblink('TEXT', 'SELECT 1', false) AS t(a int)", "08003"),
                ("dblink_exec('TEXT', 'SELECT 1')", "08003"),
                ("dblink_exec('TEXT', 'SELECT 1', false)", "08003"),
                ("dblink_connect('TEXT')", "08001"),
                ("dblink_connect('c', 'TEXT')", "08001"),
            ] {
                let outcome = ours.run(&format!("SELECT * FROM {}", sql.replace("TEXT", text)));
                let error = outcome.error();
                assert_eq!(error.code, code, "{user}, {sql}: {error:?}");
                assert!(error.message.contains("no foreign server of that name"), "{error:?}");
                assert!(error.hint.is_some(), "{error:?}");
                assert!(!format!("{error:?}").contains(text), "{error:?}");
            }
        }
        for text in ["host=h password=hunter2", "postgresql://u:hunter2@h/d", "postgres://u:hunter2@h/d"] {
            for sql in [
                "dblink_open('TEXT', 'cur', 'SELECT 1')",
                "dblink_fetch('TEXT', 'cur', 1) AS t(a int)",
                "dblink_close('TEXT', 'cur')",
                "dblink_send_query('TEXT', 'SELECT 1')",
                "dblink_get_result('TEXT') AS t(a int)",
                "dblink_is_busy('TEXT')",
                "dblink_cancel_query('TEXT')",
                "dblink_error_message('TEXT')",
                "dblink_get_notify('TEXT')",
                "dblink_disconnect('TEXT')",
            ] {
                let outcome = ours.run(&format!("SELECT * FROM {}", sql.replace("TEXT", text)));
                let error = outcome.error();
                assert_eq!(error.code, "08003", "{user}, {sql}: {error:?}");
                assert!(
                    error.hint.is_some() && !format!("{error:?}").contains("hunter2"),
                    "{sql}: {error:?}"
                );
            }
        }
    }
}

#[test]
fn a_session_made_for_one_call_ends_with_it() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    for (sql, works) in [
        ("SELECT * FROM dblink('{conn} application_name=adhoc', 'SELECT 1') AS t(a int)", true),
        ("SELECT * FROM dblink('{conn} application_name=adhoc', 'SELECT 1/0', false) AS t(a int)", true),
        ("SELECT dblink_exec('{conn} application_name=adhoc', 'BEGIN; CREATE TABLE left_open ()')", true),
        ("SELECT dblink_exec('{conn} application_name=adhoc', 'SELECT 1')", false),
        ("SELECT dblink_exec('{conn} application_name=adhoc', 'SELECT 1/0')", false),
        ("SELECT * FROM dblink('{conn} application_name=adhoc', 'SELECT 1, 2') AS t(a int)", false),
        ("SELECT * FROM dblink('{conn} application_name=adhoc', 'SELECT ''x''') AS t(a int)", false),
        (
            "SELECT * FROM dblink('{conn} application_name=adhoc', 'SELECT generate_series(1, 1000000)') AS t(a int) LIMIT 1",
            true,
        ),
        ("SELECT * FROM dblink('{conn} application_name=adhoc', 'COPY t TO STDOUT') AS t(a int)", false),
    ] {
        assert_eq!(ours.run(sql).result.is_ok(), works, "{sql}");
        no_session_stays(&cluster, "adhoc");
    }
    assert_eq!(ours.value("SELECT dblink_get_connections() IS NULL"), "t");
    assert_eq!(ours.value("SELECT count(*) FROM dblink('{conn}', $$SELECT to_regclass('left_open')$$) AS t(r text) WHERE r IS NULL"), "1");
    // It has really been there.
    let seen = ours.value("SELECT * FROM dblink('{conn} application_name=adhoc', $$SELECT current_setting('application_name')$$) AS t(a text)");
    assert_eq!(seen, "adhoc");
}

#[test]
fn a_connection_is_not_part_of_the_local_transaction() {
    let cluster = cluster();
    let mut pair = Pair::new(&cluster, "local");
    pair.same("BEGIN");
    pair.same("SELECT dblink_connect('c', '{conn}')");
    pair.same("SAVEPOINT s");
    pair.same("SELECT dblink_connect('d', '{conn}')");
    pair.same("SELECT dblink_exec('c', 'INSERT INTO t VALUES (1)')");
    pair.same("SELECT 1/0");
    pair.same("SELECT dblink_exec('c', 'INSERT INTO t VALUES (2)')"); // 25P02
    pair.same("ROLLBACK TO s");
    pair.same("SELECT dblink_exec('d', 'INSERT INTO t VALUES (3)')");
    pair.same("ROLLBACK");
    pair.same("SELECT dblink_exec('c', 'INSERT INTO t VALUES (4)')");
    let kept = pair.same(
        "SELECT string_agg(id::text, ',' ORDER BY id) FROM dblink('d', 'SELECT id FROM t') AS t(id int)",
    );
    assert_eq!(kept.value(), "1,3,4");

    // A transaction over there lasts as long as it takes.
    pair.same("SELECT dblink_exec('c', 'BEGIN')");
    pair.same("SELECT dblink_exec('c', 'INSERT INTO t VALUES (5)')");
    assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT count(*) FROM t') AS t(n int)").value(), "4");
    assert_eq!(pair.same("SELECT * FROM dblink('d', 'SELECT count(*) FROM t') AS t(n int)").value(), "3");
    pair.same("SELECT * FROM dblink('c', 'SELECT 1/0', false) AS t(n int)");
    let aborted = pair.same("SELECT * FROM dblink('c', 'SELECT 1') AS t(n int)");
    assert_eq!(aborted.error().code, "25P02");
    assert_eq!(pair.same("SELECT dblink_exec('c', 'COMMIT')").value(), "ROLLBACK");
    assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT count(*) FROM t') AS t(n int)").value(), "3");
    // Temporary tables and settings live in the session.
    pair.same("SELECT dblink_exec('c', 'CREATE TEMP TABLE tmp AS SELECT 1 AS a')");
    assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT a FROM tmp') AS t(n int)").value(), "1");
    assert_eq!(pair.same("SELECT * FROM dblink('d', 'SELECT a FROM tmp') AS t(n int)").error().code, "42P01");
}

#[test]
fn a_connection_that_is_being_read_refuses_another_query() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn}')");
    ours.run("SELECT dblink_connect('other', '{conn}')");
    // A domain's check runs while a row of the result is being read.
    ours.run("CREATE FUNCTION ask(connection text, n int) RETURNS bool LANGUAGE sql AS $$SELECT a = n FROM secretlink.dblink(connection, 'SELECT ' || n) AS t(a int)$$")
        .result.unwrap();
    ours.run("CREATE DOMAIN asks_same AS int CHECK (ask('c', VALUE)); CREATE DOMAIN asks_other AS int CHECK (ask('other', VALUE))")
        .result.unwrap();
    let began = Instant::now();
    let outcome =
        ours.run("SELECT * FROM dblink('c', 'SELECT generate_series(1, 100000)') AS t(a asks_same)");
    let error = outcome.error();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("55006", "connection is busy with another query")
    );
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(
        ours.value("SELECT sum(a) FROM dblink('c', 'SELECT generate_series(1, 500)') AS t(a asks_other)"),
        "125250"
    );
    assert_eq!(ours.value("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)"), "1");

    // Somebody in there closes the connection, or makes another of that name: the one being read is
    // read to its end.
    for (name, action) in [
        ("closes", "PERFORM secretlink.dblink_disconnect('c')"),
        (
            "replaces",
            "PERFORM secretlink.dblink_disconnect('c'); PERFORM secretlink.dblink_connect('c', '{conn}')",
        ),
    ] {
        let function = format!(
            "CREATE FUNCTION {name}(n int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN IF n = 10 THEN {action}; END IF; RETURN true; END$$"
        );
        ours.run(&function).result.unwrap();
        ours.run(&format!("CREATE DOMAIN d_{name} AS int CHECK ({name}(VALUE))")).result.unwrap();
        assert_eq!(
            ours.value(&format!(
                "SELECT sum(a) FROM dblink('c', 'SELECT generate_series(1, 100000)') AS t(a d_{name})"
            )),
            "5000050000"
        );
        if name == "closes" {
            assert_eq!(ours.run("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").error().code, "08003");
            ours.run("SELECT dblink_connect('c', '{conn}')");
        }
    }
    assert_eq!(ours.value("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)"), "1");
}
