//! Errors of the remote server, and errors made of what it sends.

use crate::cluster::cluster;
use crate::pair::{Pair, Side};
use std::time::{Duration, Instant};

#[test]
fn remote_errors_arrive_with_all_their_fields() {
    let cluster = cluster();
    for database in ["local", "latin1"] {
        let mut pair = Pair::connected(&cluster, database);
        for remote in [
            "SELECT 1/0",
            "SELECT",
            "SELEC 1",
            "SELECT * FROM nothing",
            "SELECT nothing FROM t",
            "SELECT lenght('x')",
            "INSERT INTO t VALUES (-1)",
            "INSERT INTO t VALUES (1), (1)",
            "SELECT complain('SL001', 'd\u{e9}tail', 'hint: \u{fc}ber')",
            "SELECT complain('ZZ9Z9', 'detail only', '')",
            "SELECT complain('01000', '', '')",
            "SELECT plain_complaint()",
            "SELECT 'x'::int",
            "SELECT pg_catalog.set_config('work_mem', 'nonsense', false)",
            "DO $$BEGIN PERFORM plain_complaint(); END$$",
            "DO $$BEGIN RAISE '%', repeat('long ', 5000); END$$",
            "DO $$BEGIN RAISE ''; END$$",
            "DO $$BEGIN RAISE 'percent %% and %s %n'; END$$",
        ] {
            let as_record = pair.same(&format!("SELECT * FROM dblink('c', $q${remote}$q$) AS t(a int)"));
            let as_command = pair.same(&format!("SELECT dblink_exec('c', $q${remote}$q$)"));
            if remote == "SELECT" {
                continue; // no error, but no columns either
            }
            let context = as_record.error().context.clone().unwrap();
            assert!(context.ends_with("while executing query on dblink connection named \"c\""), "{context}");
            let context = as_command.error().context.clone().unwrap();
            assert!(
                context.ends_with("while executing command on dblink connection named \"c\""),
                "{context}"
            );
            // Without a name.
            pair.same(&format!("SELECT * FROM dblink($q${remote}$q$) AS t(a int)"));
            let unnamed = pair.same(&format!("SELECT dblink_exec('{{conn}}', $q${remote}$q$)"));
            let context = unnamed.error().context.clone().unwrap();
            assert!(context.ends_with("while executing command on unnamed dblink connection"), "{context}");
            // And not as an error.
            let rows = pair.same(&format!("SELECT * FROM dblink('c', $q${remote}$q$, false) AS t(a int)"));
            assert_eq!((rows.rows().len(), rows.notices.len()), (0, 1), "{remote}");
            let value = pair.same(&format!("SELECT dblink_exec($q${remote}$q$, false)"));
            assert_eq!((value.value(), value.notices.len()), ("ERROR", 1), "{remote}");
            assert_eq!(value.notices[0].severity, "NOTICE");
        }
        let told = pair
            .same("SELECT dblink_exec('c', $$SELECT complain('SL001', 'd\u{e9}tail', 'hint: \u{fc}ber')$$)");
        let told = told.error();
        assert_eq!((told.code.as_str(), told.message.as_str()), ("SL001", "caf\u{e9} SL001"));
        assert_eq!(
            (told.detail.as_deref(), told.hint.as_deref()),
            (Some("d\u{e9}tail"), Some("hint: \u{fc}ber"))
        );
        assert!(
            told.context
                .as_deref()
                .unwrap()
                .starts_with("PL/pgSQL function complain(text,text,text) line 3 at RAISE\n")
        );
        // The connection is as good as before.
        assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").value(), "1");
    }
}

#[test]
fn copy_is_refused_and_the_connection_goes_on() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn}')");
    ours.run(
        "SELECT dblink_exec('c', 'INSERT INTO t SELECT generate_series(1, 100000), repeat(''x'', 100)')",
    );
    let pid = ours.value("SELECT * FROM dblink('c', 'SELECT pg_backend_pid()') AS t(pid int)");
    for remote in [
        "COPY t TO STDOUT",
        "COPY t FROM STDIN",
        "SELECT 1; COPY t TO STDOUT; SELECT 2",
        "BEGIN; COPY t FROM STDIN",
    ] {
        for sql in [
            format!("SELECT * FROM dblink('c', '{remote}') AS t(a int)"),
            format!("SELECT dblink_exec('c', '{remote}')"),
        ] {
            let began = Instant::now();
            let outcome = ours.run(&sql);
            let error = outcome.error();
            assert_eq!(
                (error.code.as_str(), error.message.as_str()),
                ("0A000", "COPY to or from the client is not supported"),
                "{sql}"
            );
            assert!(
                error.hint.is_some() && error.context.as_deref().unwrap().contains("connection named \"c\"")
            );
            assert!(began.elapsed() < Duration::from_secs(5), "{sql}: {:?}", began.elapsed());
            ours.run("SELECT dblink_exec('c', 'ROLLBACK')");
            assert_eq!(
                ours.value("SELECT * FROM dblink('c', 'SELECT count(*) FROM t') AS t(n int)"),
                "100000"
            );
        }
    }
    let outcome = ours.run("SELECT dblink_exec('c', 'COPY t TO STDOUT', false)");
    assert_eq!((outcome.value(), outcome.notices[0].code.as_str()), ("ERROR", "0A000"));
    assert_eq!(
        ours.value("SELECT * FROM dblink('c', 'SELECT pg_backend_pid()') AS t(pid int)"),
        pid,
        "the same session"
    );
}

#[test]
fn an_empty_query_is_an_error_that_says_so() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    for remote in ["", ";", "-- nothing"] {
        for (sql, doing) in [
            (format!("SELECT * FROM dblink('c', '{remote}') AS t(a int)"), "query"),
            (format!("SELECT dblink_exec('c', '{remote}')"), "command"),
        ] {
            let (contrib, ours) = pair.both(&sql);
            assert!(contrib.result.is_err(), "contrib has no error for {sql}");
            let error = ours.error();
            assert_eq!((error.code.as_str(), error.message.as_str()), ("42601", "query is empty"));
            assert_eq!(error.context, contrib.error().context, "{doing}");
        }
        assert_eq!(pair.ours.value(&format!("SELECT dblink_exec('c', '{remote}', false)")), "ERROR");
    }
}

#[test]
fn with_fail_off_an_error_in_the_middle_leaves_no_rows() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn}')");
    // "The function returns no rows", says the documentation; contrib returns those that came before.
    for remote in [
        "SELECT 10 / (50000 - i) FROM generate_series(1, 60000) AS i",
        "SELECT 1; SELECT 1/0",
        "SELECT 1; SELECT nothing",
    ] {
        let outcome = ours.run(&format!("SELECT * FROM dblink('c', '{remote}', false) AS t(a int)"));
        assert_eq!((outcome.rows().len(), outcome.notices.len()), (0, 1), "{remote}");
    }
    // Local errors are not the remote's: they are raised all the same.
    assert_eq!(
        ours.run("SELECT * FROM dblink('c', 'SELECT ''x''', false) AS t(a int)").error().code,
        "22P02"
    );
    assert_eq!(ours.run("SELECT * FROM dblink('c', 'SELECT 1, 2', false) AS t(a int)").error().code, "42804");
    assert_eq!(ours.run("SELECT dblink_exec('c', 'SELECT 1', false)").error().code, "2F003");
    assert_eq!(
        ours.run("SELECT dblink_exec('host=127.0.0.1 port=1', 'SELECT 1', false)").error().code,
        "08001"
    );
}

#[test]
fn errors_can_be_caught_in_a_loop() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    let block = "DO $do$
        DECLARE
            caught int := 0; total int := 0; n int;
        BEGIN
            FOR i IN 1..200 LOOP
                BEGIN
                    IF i % 2 = 0 THEN
                        SELECT * INTO n FROM dblink('c', format('SELECT 100 / (%s %% 4)', i)) AS t(n int);
                    ELSE
                        PERFORM dblink_exec('c', format('INSERT INTO t VALUES (%s / 3)', i));
                        n := 1;
                    END IF;
                    total := total + n;
                EXCEPTION WHEN division_by_zero OR check_violation OR unique_violation THEN
                    caught := caught + 1;
                END;
            END LOOP;
            RAISE NOTICE '% caught, total %', caught, total;
        END $do$";
    let outcome = pair.same(block);
    assert!(outcome.notices[0].message.starts_with("84 caught"), "{outcome:?}");
    pair.same("SELECT count(*), sum(id) FROM dblink('c', 'SELECT id FROM t') AS t(id int)");
    // What can be known of an error in PL/pgSQL.
    pair.same(
        "DO $do$
        DECLARE s text; m text; d text; h text; c text;
        BEGIN
            PERFORM dblink_exec('c', $$SELECT complain('SL001', 'detail', 'hint')$$);
        EXCEPTION WHEN SQLSTATE 'SL001' THEN
            GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL,
                                    h = PG_EXCEPTION_HINT, c = PG_EXCEPTION_CONTEXT;
            RAISE NOTICE '% | % | % | % | %', s, m, d, h, c;
        END $do$",
    );
}
