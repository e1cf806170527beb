//! dblink's functions on a connection to the server of the test itself.

#[pgrx::pg_schema]
mod tests {
    use super::super::{as_nobody, connect, failure, loopback, quoted, run, text, texts};
    use pgrx::prelude::*;

    fn exec(sql: &str) -> String {
        text(&format!("SELECT dblink_exec('loop', {})", quoted(sql))).expect("a tag")
    }

    #[pg_test]
    fn rows_arrive_with_their_types() {
        connect("loop");
        let row = texts(
            "SELECT t::text FROM dblink('loop', $$SELECT 1, 'two', NULL, '{3,4}'::int[], true,
                1.50, '2024-02-29'::date, '\\xdeadbeef'::bytea$$)
             AS t(a int, b text, c text, d int[], e bool, f numeric, g date, h bytea)",
        );
        assert_eq!(row, [r#"(1,two,,"{3,4}",t,1.50,2024-02-29,"\\xdeadbeef")"#]);
    }

    #[pg_test]
    fn many_rows_arrive_in_order() {
        connect("loop");
        let sums = texts(
            "SELECT format('%s %s %s', count(*), sum(i), sum(length(x)))
             FROM dblink('loop', $$SELECT i, repeat('x', i % 100) FROM generate_series(1, 100000) i$$)
             AS t(i int, x text)",
        );
        assert_eq!(sums, ["100000 5000050000 4950000"]);
        let late = texts(
            "SELECT i::text
             FROM (SELECT i, row_number() OVER () AS n
                   FROM dblink('loop', 'SELECT generate_series(1, 100000)') AS t(i int)) AS numbered
             WHERE i <> n",
        );
        assert!(late.is_empty());
    }

    #[pg_test]
    fn styles_of_the_remote_session_are_followed_and_left() {
        connect("loop");
        exec("SET DateStyle = 'SQL, DMY'");
        let date = "SELECT d::text FROM dblink('loop', $$SELECT date '2024-02-01'$$) AS t(d date)";
        assert_eq!(text(date).as_deref(), Some("2024-02-01"));
        assert_eq!(text("SHOW DateStyle").as_deref(), Some("ISO, MDY"));
    }

    #[pg_test]
    fn no_columns_and_no_rows() {
        connect("loop");
        assert_eq!(
            text("SELECT count(*)::text FROM dblink('loop', 'SELECT 1 WHERE false') AS t(a int)").as_deref(),
            Some("0")
        );
        // A statement without a result gives its tag.
        assert_eq!(
            text("SELECT s FROM dblink('loop', 'SET work_mem = 1000') AS t(s text)").as_deref(),
            Some("SET")
        );
    }

    #[pg_test]
    fn of_several_statements_the_last_one_counts() {
        connect("loop");
        assert_eq!(texts("SELECT a FROM dblink('loop', 'SELECT 1; SELECT 3; SELECT 4') AS t(a text)"), ["4"]);
    }

    #[pg_test]
    fn command_tags() {
        connect("loop");
        for (sql, tag) in [
            ("CREATE TEMP TABLE t (i int)", "CREATE TABLE"),
            ("INSERT INTO t SELECT generate_series(1, 3)", "INSERT 0 3"),
            ("UPDATE t SET i = i + 1 WHERE i > 1", "UPDATE 2"),
            ("BEGIN", "BEGIN"),
            ("DELETE FROM t", "DELETE 3"),
            ("ROLLBACK", "ROLLBACK"),
            ("TRUNCATE t; SET work_mem = 100", "SET"),
            ("DO 'BEGIN END'", "DO"),
        ] {
            assert_eq!(exec(sql), tag, "{sql}");
        }
        let error = failure("SELECT dblink_exec('loop', 'SELECT 1')");
        assert_eq!(
            (error.sqlstate.as_str(), error.message.as_str()),
            ("2F003", "statement returning results not allowed")
        );
    }

    #[pg_test]
    fn columns_must_fit() {
        connect("loop");
        let error = failure("SELECT * FROM dblink('loop', 'SELECT 1, 2') AS t(a int)");
        assert_eq!(error.sqlstate, "42804");
        let error = failure("SELECT dblink('loop', 'SELECT 1')");
        assert_eq!(error.sqlstate, "0A000");
        let error = failure("SELECT * FROM dblink('loop', $$SELECT 'x'$$) AS t(a int)");
        assert_eq!(error.sqlstate, "22P02");
        assert_still_works();
    }

    #[pg_test]
    fn copy_is_refused_and_the_connection_stays() {
        connect("loop");
        for sql in ["COPY (SELECT 1) TO STDOUT", "CREATE TEMP TABLE c (i int); COPY c FROM STDIN"] {
            let error = failure(&format!("SELECT dblink_exec('loop', {})", quoted(sql)));
            assert_eq!(error.sqlstate, "0A000", "{sql}: {error:?}");
            assert_still_works();
        }
    }

    #[pg_test]
    fn names() {
        assert_eq!(text("SELECT dblink_get_connections()::text"), None);
        connect("b");
        connect("a");
        connect("");
        let unnamed = format!("SELECT dblink_connect({})", quoted(&loopback()));
        assert_eq!(text(&unnamed).as_deref(), Some("OK"));
        assert_eq!(text("SELECT dblink_get_connections()::text").as_deref(), Some("{\"\",a,b}"));
        let error = failure(&format!("SELECT dblink_connect('a', {})", quoted(&loopback())));
        assert_eq!((error.sqlstate.as_str(), error.message.as_str()), ("42710", "duplicate connection name"));
        assert_eq!(texts("SELECT a FROM dblink('SELECT 1') AS t(a text)"), ["1"]);
        for call in [
            "dblink_disconnect('a')",
            "dblink_disconnect('b')",
            "dblink_disconnect('')",
            "dblink_disconnect()",
        ] {
            assert_eq!(text(&format!("SELECT {call}")).as_deref(), Some("OK"));
        }
        assert_eq!(text("SELECT dblink_get_connections()::text"), None);
    }

    #[pg_test]
    fn a_connection_string_in_place_of_a_name() {
        let conninfo = quoted(&loopback());
        assert_eq!(texts(&format!("SELECT a FROM dblink({conninfo}, 'SELECT 1') AS t(a text)")), ["1"]);
        assert_eq!(
            text(&format!("SELECT dblink_exec({conninfo}, 'SET work_mem = 100')")).as_deref(),
            Some("SET")
        );
        assert_eq!(text("SELECT dblink_get_connections()::text"), None);
    }

    #[pg_test]
    fn connections_survive_a_rolled_back_subtransaction() {
        connect("loop");
        exec("CREATE TEMP TABLE kept (i int)");
        assert_eq!(failure("SELECT dblink_exec('loop', 'nonsense')").sqlstate, "42601");
        assert_eq!(exec("INSERT INTO kept VALUES (1)"), "INSERT 0 1");
    }

    #[pg_test]
    fn an_ended_session_is_told_and_can_be_replaced() {
        connect("loop");
        run("SELECT pg_terminate_backend(pid, 5000)
             FROM dblink('loop', 'SELECT pg_backend_pid()') AS t(pid int)");
        let error = failure("SELECT dblink_exec('loop', 'SET work_mem = 100')");
        assert!(matches!(error.sqlstate.as_str(), "57P01" | "08006"), "{error:?}");
        let error = failure("SELECT dblink_exec('loop', 'SET work_mem = 100')");
        assert_eq!(error.sqlstate, "08006", "{error:?}");
        assert_eq!(text("SELECT dblink_disconnect('loop')").as_deref(), Some("OK"));
        connect("loop");
        assert_still_works();
    }

    /// The server of the tests trusts everybody, so the password is not asked for: contrib's rule.
    #[pg_test]
    fn a_password_that_was_not_asked_for_does_not_count() {
        run("GRANT USAGE ON SCHEMA public TO PUBLIC");
        let conninfo = loopback();
        as_nobody(|| {
            let error = failure(&format!("SELECT dblink_connect('x', '{conninfo} password=secret')"));
            assert_eq!((error.sqlstate.as_str(), error.message.as_str()), ("2F003", "password is required"));
            assert_eq!(text("SELECT dblink_get_connections()::text"), None);
        });
    }

    #[pg_test]
    fn a_result_that_asks_the_same_connection_finds_it_busy() {
        connect("loop");
        run("CREATE FUNCTION pg_temp.ask() RETURNS text LANGUAGE sql AS
             $$ SELECT a FROM public.dblink('loop', 'SELECT 1') AS t(a text) $$");
        // Two uses in one query are one after the other.
        assert_eq!(
            texts("SELECT pg_temp.ask() FROM dblink('loop', 'SELECT generate_series(1, 3)') AS t(a int)"),
            ["1", "1", "1"]
        );
    }

    fn assert_still_works() {
        assert_eq!(texts("SELECT a FROM dblink('loop', 'SELECT 1') AS t(a text)"), ["1"]);
    }
}
