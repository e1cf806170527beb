//! What a query string gives: rows, tags, or the last of several.

use crate::cluster::cluster;
use crate::pair::Pair;

#[test]
fn command_tags_are_exact() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    // Since PostgreSQL 15.
    let merges = pair.same("SELECT current_setting('server_version_num')::int >= 150000").value() == "t";
    for (command, tag) in [
        ("CREATE TABLE k (id int)", "CREATE TABLE"),
        ("INSERT INTO k VALUES (1)", "INSERT 0 1"),
        ("INSERT INTO k SELECT * FROM generate_series(2, 1000)", "INSERT 0 999"),
        ("INSERT INTO k SELECT 1 WHERE false", "INSERT 0 0"),
        ("UPDATE k SET id = id WHERE id <= 10", "UPDATE 10"),
        ("DELETE FROM k WHERE id > 10", "DELETE 990"),
        (
            "MERGE INTO k USING (VALUES (1)) AS s(id) ON k.id = s.id WHEN MATCHED THEN DELETE",
            if merges { "MERGE 1" } else { "SYNTAX" },
        ),
        ("DELETE FROM k WHERE id = 1", if merges { "DELETE 0" } else { "DELETE 1" }),
        ("CREATE TABLE l AS SELECT * FROM k", "SELECT 9"),
        ("SELECT * INTO m FROM k", "SELECT 9"),
        ("DO $$BEGIN END$$", "DO"),
        ("BEGIN", "BEGIN"),
        ("DECLARE cur CURSOR FOR SELECT * FROM k", "DECLARE CURSOR"),
        ("MOVE 3 FROM cur", "MOVE 3"),
        ("SAVEPOINT s", "SAVEPOINT"),
        ("COMMIT", "COMMIT"),
        ("BEGIN; SELECT 1/1", "ROWS"),
        ("ROLLBACK", "ROLLBACK"),
        ("SET work_mem = '1MB'", "SET"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("DEALLOCATE p", "DEALLOCATE"),
        ("COPY k TO '/dev/null'", "COPY 9"),
        ("VACUUM k", "VACUUM"),
        ("CREATE INDEX CONCURRENTLY ON k (id)", "CREATE INDEX"),
        ("REFRESH MATERIALIZED VIEW nothing", "FAILS"),
        ("CALL double(4)", "ROWS"),
        ("EXPLAIN (COSTS off) SELECT 1", "ROWS"),
        ("SHOW work_mem", "ROWS"),
        ("INSERT INTO k VALUES (2000) RETURNING id", "ROWS"),
        ("TRUNCATE k", "TRUNCATE TABLE"),
        ("DROP TABLE k, l, m", "DROP TABLE"),
        ("COMMENT ON TABLE t IS 'x'", "COMMENT"),
        ("LISTEN x", "LISTEN"),
        ("NOTIFY x", "NOTIFY"),
    ] {
        let outcome = pair.same(&format!("SELECT dblink_exec('c', $q${command}$q$)"));
        match tag {
            "ROWS" => {
                let error = outcome.error();
                assert_eq!(
                    (error.code.as_str(), error.message.as_str()),
                    ("2F003", "statement returning results not allowed"),
                    "{command}"
                );
            }
            "FAILS" => assert_eq!(outcome.error().code, "42P01"),
            "SYNTAX" => assert_eq!(outcome.error().code, "42601"),
            tag => assert_eq!(outcome.value(), tag, "{command}"),
        }
    }
    // dblink gives the tag as a row, however the caller calls the column; if there is to be one.
    let row = pair.same("SELECT * FROM dblink('c', 'CREATE TABLE n ()') AS t(what text)");
    assert_eq!((row.value(), &row.columns[..]), ("CREATE TABLE", &["what".to_owned()][..]));
    pair.same("SELECT * FROM dblink('c', 'DROP TABLE n') AS t(a text, b text)");
    pair.same("SELECT * FROM dblink('c', 'CREATE TABLE n ()') AS t(a int)");
    pair.same("SELECT dblink('c', 'DROP TABLE IF EXISTS n')");
}

#[test]
fn of_several_statements_the_last_one_counts() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    for remote in [
        "SELECT 1; SELECT 2 UNION ALL SELECT 3",
        "SELECT 1; SET work_mem = '1MB'",
        "SET work_mem = '1MB'; SELECT 1",
        "SELECT 1; SELECT 2 WHERE false",
        "SELECT 2 WHERE false; SELECT 1",
        "INSERT INTO t VALUES (1) RETURNING id; INSERT INTO t VALUES (2)",
        "INSERT INTO t VALUES (3); INSERT INTO t VALUES (4) RETURNING id",
        "SELECT 1; ; SELECT 2;;",
        "SELECT 1, 2; SELECT 1",
        "SELECT 1; SELECT 1, 2",
        "SELECT 1; SELECT 1/0",
        "BEGIN; INSERT INTO t VALUES (5); COMMIT",
        "/* only */ SELECT 1 -- this",
    ] {
        pair.same(&format!("SELECT * FROM dblink('c', $q${remote}$q$) AS t(a int)"));
        pair.same("SELECT dblink_exec('c', 'DELETE FROM t')");
        pair.same(&format!("SELECT * FROM dblink('c', $q${remote}$q$) AS t(a text)"));
        pair.same("SELECT dblink_exec('c', 'DELETE FROM t')");
        pair.same(&format!("SELECT dblink_exec('c', $q${remote}$q$)"));
        pair.same("SELECT dblink_exec('c', 'DELETE FROM t')");
    }
    assert_eq!(
        pair.same("SELECT dblink_exec('c', 'SELECT 1; INSERT INTO t VALUES (9)')").value(),
        "INSERT 0 1"
    );
    assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT 1; SELECT 7') AS t(a int)").value(), "7");
}

#[test]
fn what_the_caller_expects_must_fit() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    for (sql, code, message) in [
        (
            "SELECT * FROM dblink('c', 'SELECT 1, 2') AS t(a int)",
            "42804",
            "remote query result rowtype does not match the specified FROM clause rowtype",
        ),
        (
            "SELECT * FROM dblink('c', 'SELECT 1') AS t(a int, b int)",
            "42804",
            "remote query result rowtype does not match the specified FROM clause rowtype",
        ),
        (
            "SELECT * FROM dblink('c', 'SELECT 1 WHERE false') AS t(a int, b int)",
            "42804",
            "remote query result rowtype does not match the specified FROM clause rowtype",
        ),
        (
            "SELECT dblink('c', 'SELECT 1')",
            "0A000",
            "function returning record called in context that cannot accept type record",
        ),
        (
            "SELECT * FROM dblink('c', 'SELECT 1')",
            "42601",
            "a column definition list is required for functions returning \"record\"",
        ),
        (
            "SELECT coalesce(dblink('c', 'SELECT 1'), NULL)",
            "0A000",
            "set-returning functions are not allowed in COALESCE",
        ),
    ] {
        let outcome = pair.same(sql);
        let error = outcome.error();
        assert_eq!((error.code.as_str(), error.message.as_str()), (code, message), "{sql}");
        assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").value(), "1");
    }
    // In a select list, in a join, in a view, with ordinality, twice, not read to the end.
    for sql in [
        "SELECT x FROM generate_series(1, 3) AS g(i), LATERAL dblink('c', 'SELECT ' || i) AS t(x int)",
        "SELECT * FROM dblink('c', 'SELECT 5 UNION SELECT 6') WITH ORDINALITY AS t(a, o)",
        "SELECT * FROM ROWS FROM (dblink('c', 'SELECT 5') AS (a int), dblink('c', 'SELECT 6') AS (b int))",
        "SELECT * FROM dblink('c', 'SELECT generate_series(1, 10)') AS t(a int) LIMIT 2",
        "SELECT (SELECT a FROM dblink('c', 'SELECT 1 UNION SELECT 2') AS t(a int))",
    ] {
        pair.same(sql);
    }
    pair.same("BEGIN");
    pair.same("DECLARE cur SCROLL CURSOR FOR SELECT * FROM dblink('c', 'SELECT generate_series(1, 10)') AS t(a int)");
    pair.same("FETCH LAST FROM cur");
    pair.same("FETCH BACKWARD 3 FROM cur");
    pair.same("COMMIT");
}
