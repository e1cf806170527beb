//! The dblink functions next to those of contrib dblink: the same statements run with both, each in
//! a session and against a remote database of its own, and what they say must be the same.

use postgres::error::DbError;
use postgres::{Client, NoTls, SimpleQueryMessage};
use secretlink_e2e::{Cluster, db_error};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a client is told: everything of a report but where in the source it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    severity: String,
    code: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    context: Option<String>,
}

impl Told {
    fn from(error: &DbError) -> Self {
        let optional = |field: Option<&str>| field.map(str::to_owned);
        Self {
            severity: error.severity().to_owned(),
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: optional(error.detail()),
            hint: optional(error.hint()),
            context: optional(error.where_()),
        }
    }
}

/// What came of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    notices: Vec<Told>,
    columns: Vec<String>,
    result: Result<Vec<Vec<Option<String>>>, Told>,
}

impl Outcome {
    #[track_caller]
    fn rows(&self) -> Vec<Vec<Option<&str>>> {
        match &self.result {
            Ok(rows) => rows.iter().map(|row| row.iter().map(Option::as_deref).collect()).collect(),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// The one value.
    #[track_caller]
    fn value(&self) -> &str {
        match self.rows()[..] {
            [ref row] if row.len() == 1 => row[0].expect("a value, not NULL"),
            ref rows => panic!("not one value: {rows:?}"),
        }
    }

    #[track_caller]
    fn error(&self) -> &Told {
        self.result.as_ref().expect_err("the statement was expected to fail")
    }
}

/// A session in which the dblink functions are those of one of the two extensions.
struct Side {
    client: Client,
    notices: Arc<Mutex<Vec<Told>>>,
    conninfo: String,
}

impl Side {
    fn new(cluster: &Cluster, user: &str, database: &str, schema: &str) -> Self {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&notices);
        let mut config = postgres::Config::new();
        config
            .host_path(cluster.socket_dir())
            .port(cluster.port())
            .user(user)
            .dbname(database)
            .options(&format!("-c search_path={schema},public -c statement_timeout=60s"))
            .notice_callback(move |notice| collected.lock().unwrap().push(Told::from(&notice)));
        let client = config.connect(NoTls).unwrap();
        Self { client, notices, conninfo: cluster.conninfo("postgres", &format!("remote_{schema}")) }
    }

    /// Runs a statement, in which `{conn}` stands for how to connect to the remote database.
    fn run(&mut self, sql: &str) -> Outcome {
        let sql = sql.replace("{conn}", &self.conninfo);
        self.notices.lock().unwrap().clear();
        let answer = self.client.simple_query(&sql);
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        let result = match answer {
            Ok(messages) => {
                for message in messages {
                    match message {
                        SimpleQueryMessage::RowDescription(description) => {
                            columns = description.iter().map(|c| c.name().to_owned()).collect();
                        }
                        SimpleQueryMessage::Row(row) => {
                            rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
                        }
                        _ => {}
                    }
                }
                Ok(rows)
            }
            Err(error) => Err(Told::from(error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}")))),
        };
        let notices = self.notices.lock().unwrap().clone();
        Outcome { notices, columns, result }
    }

    /// What a statement that must work gives.
    #[track_caller]
    fn value(&mut self, sql: &str) -> String {
        self.run(sql).value().to_owned()
    }
}

/// The two of them, in one local database.
struct Pair {
    contrib: Side,
    ours: Side,
}

impl Pair {
    fn new(cluster: &Cluster, database: &str) -> Self {
        let side = |schema| Side::new(cluster, "postgres", database, schema);
        Self { contrib: side("contrib"), ours: side("secretlink") }
    }

    /// With a connection `c` and the unnamed one.
    fn connected(cluster: &Cluster, database: &str) -> Self {
        let mut pair = Self::new(cluster, database);
        pair.same("SELECT dblink_connect('c', '{conn}')");
        pair.same("SELECT dblink_connect('{conn}')");
        pair
    }

    /// What both say.
    #[track_caller]
    fn same(&mut self, sql: &str) -> Outcome {
        let (theirs, ours) = self.both(sql);
        assert_eq!(ours, theirs, "ours (left) differs from contrib's (right) for: {sql}");
        ours
    }

    /// What contrib says, and what we say.
    fn both(&mut self, sql: &str) -> (Outcome, Outcome) {
        (self.contrib.run(sql), self.ours.run(sql))
    }
}

/// One Postgres with both extensions in the database `local` (and in `latin1`, of that encoding),
/// and a remote database for each of them.
fn cluster() -> Cluster {
    let cluster = Cluster::plain().start();
    let mut client = cluster.connect("postgres", "postgres");
    for sql in [
        "CREATE DATABASE local",
        "CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
        "CREATE DATABASE remote_contrib",
    ] {
        client.batch_execute(sql).unwrap();
    }
    cluster
        .connect("postgres", "remote_contrib")
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
             CREATE TYPE pair AS (a int, b text);
             CREATE TABLE t (id int PRIMARY KEY CONSTRAINT positive CHECK (id > 0), v text);
             CREATE FUNCTION complain(code text, detail text, hint text) RETURNS int LANGUAGE plpgsql AS $$
             BEGIN
                 RAISE 'caf\u{e9} %', code USING ERRCODE = code, DETAIL = detail, HINT = hint;
             END $$;
             CREATE FUNCTION plain_complaint() RETURNS int LANGUAGE plpgsql AS $$
             BEGIN RAISE 'just this'; END $$;
             CREATE PROCEDURE double(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN n := n * 2; END $$;",
        )
        .unwrap();
    client.batch_execute("CREATE DATABASE remote_secretlink TEMPLATE remote_contrib").unwrap();
    for database in ["local", "latin1"] {
        cluster
            .connect("postgres", database)
            .batch_execute(
                "CREATE SCHEMA contrib; CREATE EXTENSION dblink SCHEMA contrib;
                 CREATE SCHEMA secretlink; CREATE EXTENSION secretlink SCHEMA secretlink;
                 CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
                 CREATE TYPE pair AS (a int, b text);",
            )
            .unwrap();
    }
    cluster
}

/// Remote sessions, as the server sees them. `application_name` is of the statement's own choosing.
fn sessions(cluster: &Cluster, like: &str) -> i64 {
    cluster
        .connect("postgres", "postgres")
        .query_one("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE $1", &[&like])
        .unwrap()
        .get(0)
}

/// A session ends a moment after its client has gone.
#[track_caller]
fn no_session_stays(cluster: &Cluster, like: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while sessions(cluster, like) > 0 {
        assert!(Instant::now() < deadline, "a session of {like} stays");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn values_of_every_kind_arrive_as_with_contrib() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    for (expression, kind) in [
        ("true", "bool"),
        ("-32768::int2", "int2"),
        ("9223372036854775807", "int8"),
        ("'NaN'::numeric", "numeric"),
        ("1e-20::numeric", "numeric(30,25)"),
        ("'-Infinity'::float8", "float8"),
        ("0.1::float8 + 0.2", "float8"),
        ("'text with ''quotes'', \"more\" and \\ and é €'", "text"),
        ("E'line\\nbreak\\ttab'", "text"),
        ("''", "text"),
        ("'  '", "char(5)"),
        ("'cut'::varchar", "varchar(10)"),
        ("'\\x00ff'::bytea", "bytea"),
        ("''::bytea", "bytea"),
        ("'2024-02-29'::date", "date"),
        ("'infinity'::timestamp", "timestamp"),
        ("'2024-02-29 12:34:56.789+02'::timestamptz", "timestamptz"),
        ("'24:00:00'::time", "time"),
        ("'1 year -2 mons 3 days 04:05:06.789'::interval", "interval"),
        ("'{\"a\": [1, null]}'::json", "json"),
        ("'{\"b\": 1, \"a\": 2}'::jsonb", "jsonb"),
        ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "uuid"),
        ("'10.0.0.0/8'::cidr", "cidr"),
        ("'[1,5)'::int4range", "int4range"),
        ("'{[1,2],[4,5]}'::int4multirange", "int4multirange"),
        ("B'1010'", "bit(4)"),
        ("'a fat cat'::tsvector", "tsvector"),
        ("'(1,2)'::point", "point"),
        ("'ok'::mood", "mood"),
        ("ROW(7, 'x,\"y')::pair", "pair"),
        ("ROW(NULL, '')::pair", "pair"),
        ("ARRAY[1, NULL, 3]", "int[]"),
        ("'[0:1][2:3]={{1,2},{3,4}}'::int[]", "int[]"),
        ("ARRAY['', NULL, 'NULL', 'a\"b', 'c,d', 'e\\f', '{}']", "text[]"),
        ("'{}'::text[]", "text[]"),
        ("ARRAY['sad', 'happy']::mood[]", "mood[]"),
        ("'12.34'::money", "money"),
        ("'x'::\"char\"", "\"char\""),
        ("'now'::name", "name"),
        ("4294967295::oid", "oid"),
        ("'pg_catalog.pg_class'::regclass", "regclass"),
        ("'0/16B3748'::pg_lsn", "pg_lsn"),
        ("NULL", "text"),
        ("NULL", "int[]"),
        // What the local type makes of it.
        ("42", "text"),
        ("'42'", "int"),
        ("1.5", "int"),
        ("'abc'", "int"),
        ("'toolong'", "varchar(3)"),
        ("'{1,2'", "int[]"),
    ] {
        let remote = format!("SELECT {expression}").replace('\'', "''");
        let remote = if remote.contains("\\") {
            format!("E'{}'", remote.replace('\\', "\\\\"))
        } else {
            format!("'{remote}'")
        };
        pair.same(&format!("SELECT v FROM dblink('c', {remote}) AS t(v {kind})"));
    }
    let row = pair.same("SELECT * FROM dblink('c', 'SELECT 1, NULL, '''', NULL, 5') AS t(a int, b text, c text, d int, e int)");
    assert_eq!(row.rows(), [[Some("1"), None, Some(""), None, Some("5")]]);
    assert_eq!(row.columns, ["a", "b", "c", "d", "e"]);
}

#[test]
fn each_overload_of_dblink_and_dblink_exec_does_what_contribs_does() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    for sql in [
        "SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)",
        "SELECT * FROM dblink('c', 'SELECT 1', true) AS t(a int)",
        "SELECT * FROM dblink('c', 'SELECT 1', false) AS t(a int)",
        "SELECT * FROM dblink('SELECT 1') AS t(a int)",
        "SELECT * FROM dblink('SELECT 1', true) AS t(a int)",
        "SELECT * FROM dblink('SELECT 1', false) AS t(a int)",
        "SELECT * FROM dblink('{conn}', 'SELECT 1') AS t(a int)",
        "SELECT * FROM dblink('{conn}', 'SELECT 1', false) AS t(a int)",
        "SELECT dblink_exec('c', 'INSERT INTO t VALUES (1)')",
        "SELECT dblink_exec('c', 'INSERT INTO t VALUES (2)', true)",
        "SELECT dblink_exec('c', 'INSERT INTO t VALUES (3)', false)",
        "SELECT dblink_exec('INSERT INTO t VALUES (4)')",
        "SELECT dblink_exec('INSERT INTO t VALUES (5)', true)",
        "SELECT dblink_exec('INSERT INTO t VALUES (6)', false)",
        "SELECT dblink_exec('{conn}', 'INSERT INTO t VALUES (7)')",
        "SELECT dblink_exec('{conn}', 'INSERT INTO t VALUES (8)', false)",
    ] {
        assert_eq!(pair.same(sql).rows().len(), 1, "{sql}");
    }
    let kept = pair
        .same("SELECT string_agg(id::text, ',' ORDER BY id) FROM dblink('SELECT id FROM t') AS t(id int)");
    assert_eq!(kept.value(), "1,2,3,4,5,6,7,8");
    // STRICT: no argument, no call.
    for sql in [
        "SELECT * FROM dblink(NULL, 'SELECT 1') AS t(a int)",
        "SELECT * FROM dblink('c', NULL::text) AS t(a int)",
        "SELECT * FROM dblink('c', 'SELECT 1', NULL) AS t(a int)",
        "SELECT dblink_exec(NULL::text)",
        "SELECT dblink_connect(NULL, NULL)",
        "SELECT dblink_disconnect(NULL)",
    ] {
        pair.same(sql);
    }
}

#[test]
fn command_tags_are_exact() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    for (command, tag) in [
        ("CREATE TABLE k (id int)", "CREATE TABLE"),
        ("INSERT INTO k VALUES (1)", "INSERT 0 1"),
        ("INSERT INTO k SELECT * FROM generate_series(2, 1000)", "INSERT 0 999"),
        ("INSERT INTO k SELECT 1 WHERE false", "INSERT 0 0"),
        ("UPDATE k SET id = id WHERE id <= 10", "UPDATE 10"),
        ("DELETE FROM k WHERE id > 10", "DELETE 990"),
        ("MERGE INTO k USING (VALUES (1)) AS s(id) ON k.id = s.id WHEN MATCHED THEN DELETE", "MERGE 1"),
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
fn text_is_converted_between_databases_of_different_encodings() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "latin1");
    let encoding = pair.same("SELECT * FROM dblink('c', 'SHOW client_encoding') AS t(e text)");
    assert_eq!(encoding.value(), "LATIN1");
    let there_and_back =
        pair.same("SELECT v, length(v) FROM dblink('c', $$SELECT 'caf\u{e9} \u{fc}'$$) AS t(v text)");
    assert_eq!(there_and_back.rows(), [[Some("caf\u{e9} \u{fc}"), Some("6")]]);
    // The remote server cannot say it in our encoding.
    assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT chr(8364)') AS t(v text)").error().code, "22P05");
    // Whatever the conninfo says, the session speaks the encoding of the database it is used from.
    pair.same("SELECT dblink_connect('u', '{conn} client_encoding=UTF8')");
    let encoding = pair.same("SELECT * FROM dblink('u', $$SELECT 'caf\u{e9}'$$) AS t(e text)");
    assert_eq!(encoding.value(), "caf\u{e9}");
    // Names in that encoding, too.
    pair.same("SELECT dblink_connect('caf\u{e9}', '{conn}')");
    pair.same("SELECT * FROM dblink('caf\u{e9}', 'SELECT 1/0') AS t(a int)");
    pair.same("SELECT dblink_disconnect('caf\u{e9}')");
    let gone = pair.same("SELECT dblink_disconnect('caf\u{e9}')");
    assert_eq!(gone.error().message, "connection \"caf\u{e9}\" not available");
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
            assert_eq!((&ours.code, &ours.message), (&contrib.code, &contrib.message), "{sql}");
            assert!(ours.detail.is_some() && contrib.detail.is_some(), "{ours:?} {contrib:?}");
        }
    }
    // A name that failed to connect is free.
    assert_eq!(pair.same("SELECT dblink_connect('x', '{conn}')").value(), "OK");
}

#[test]
fn large_values_and_many_rows_arrive_whole() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    let million = pair.same(
        "SELECT length(v), md5(v), n FROM dblink('c', $$SELECT string_agg(md5(i::text), ''), 7 FROM generate_series(1, 32768) AS i$$) AS t(v text, n int)",
    );
    assert_eq!(million.rows()[0][0], Some("1048576"));
    pair.same("SELECT length(v), get_byte(v, 70000000) FROM dblink('c', $$SELECT decode(repeat('ab', 70000001), 'hex')$$) AS t(v bytea)");
    let rows = pair.same(
        "SELECT count(*), sum(i), count(v), min(length(v)), max(length(v)), md5(string_agg(v, ',' ORDER BY i))
         FROM dblink('c', $$SELECT i, CASE WHEN i % 7 > 0 THEN repeat('x', i % 100) END FROM generate_series(1, 100000) AS i$$) AS t(i int, v text)",
    );
    assert_eq!(rows.rows()[0][..3], [Some("100000"), Some("5000050000"), Some("85715")]);
    // In the order in which they came, also when they do not fit into memory.
    pair.same("SET work_mem = '64kB'");
    let unordered = pair.same("SELECT count(*) FROM (SELECT i, row_number() OVER () AS n FROM dblink('c', 'SELECT generate_series(1, 100000)') AS t(i int)) AS x WHERE i <> n");
    assert_eq!(unordered.value(), "0");
    let wide: Vec<String> = (1..=1600).map(|n| format!("c{n} int")).collect();
    pair.same(&format!(
        "SELECT c1 + c800 + c1600 FROM dblink('c', 'SELECT ' || (SELECT string_agg(i::text, ',') FROM generate_series(1, 1600) AS i)) AS t({})",
        wide.join(",")
    ));
    let long = pair
        .same("SELECT * FROM dblink('c', 'SELECT length(''' || repeat('q', 5000000) || ''')') AS t(n int)");
    assert_eq!(long.value(), "5000000");
}

#[test]
fn dates_and_intervals_are_read_in_the_remote_sessions_style() {
    let cluster = cluster();
    let mut client = cluster.connect("postgres", "postgres");
    client.batch_execute("CREATE ROLE german SUPERUSER LOGIN; ALTER ROLE german SET datestyle = 'German, DMY'; ALTER ROLE german SET intervalstyle = 'sql_standard'").unwrap();
    let query = "SELECT *, current_setting('datestyle') AS ds, current_setting('intervalstyle') AS ist FROM dblink('g', $$SELECT '2024-03-04'::date, '2024-03-04 05:06:07+00'::timestamptz, '-1 year 2 days -03:04:05'::interval, ARRAY['2024-01-02'::date], current_setting('datestyle')$$) AS t(d date, ts timestamptz, i interval, a date[], s text)";
    for (datestyle, intervalstyle) in
        [("ISO, MDY", "postgres"), ("SQL, DMY", "iso_8601"), ("German, DMY", "sql_standard")]
    {
        let mut pair = Pair::new(&cluster, "local");
        pair.same(&format!("SET datestyle = '{datestyle}'; SET intervalstyle = '{intervalstyle}'"));
        pair.contrib.conninfo = cluster.conninfo("german", "remote_contrib");
        pair.ours.conninfo = cluster.conninfo("german", "remote_secretlink");
        pair.same("SELECT dblink_connect('g', '{conn}')");
        let row = pair.same(query);
        let row = &row.rows()[0];
        assert_eq!((row[4], row[5], row[6]), (Some("German, DMY"), Some(datestyle), Some(intervalstyle)));
        pair.same(
            "SELECT EXTRACT(month FROM d) FROM dblink('g', $$SELECT '2024-03-04'::date$$) AS t(d date)",
        );
        // It changes while the connection lives, and locally.
        pair.same("SELECT dblink_exec('g', $$SET datestyle = 'SQL, MDY'$$)");
        pair.same(query);
        pair.same("SET datestyle = 'Postgres, DMY'");
        pair.same(query);
        // In the middle of a query string neither side hears of it in time.
        pair.same(
            "SELECT d FROM dblink('g', $$SET datestyle = 'ISO'; SELECT '2024-03-04'::date$$) AS t(d date)",
        );
        pair.same(query);
        // An error while reading leaves the local settings as they were.
        pair.same("SELECT * FROM dblink('g', $$SELECT 'x'$$) AS t(d date)");
        pair.same("SELECT current_setting('datestyle'), current_setting('intervalstyle')");
        pair.same("DO $$ BEGIN PERFORM * FROM dblink('g', 'SELECT 1, 2') AS t(d date); EXCEPTION WHEN others THEN RAISE NOTICE '% %', SQLSTATE, current_setting('datestyle'); END $$");
        pair.same("SELECT current_setting('datestyle'), current_setting('intervalstyle')");
    }
}

#[test]
fn a_type_need_exist_on_one_side_only() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    pair.same("SELECT dblink_exec('c', $$CREATE TYPE colour AS ENUM ('red'); CREATE DOMAIN odd AS int CHECK (VALUE % 2 = 1)$$)");
    assert_eq!(pair.same("SELECT v FROM dblink('c', $$SELECT 'red'::colour$$) AS t(v text)").value(), "red");
    assert_eq!(pair.same("SELECT v FROM dblink('c', 'SELECT 3::odd') AS t(v int)").value(), "3");
    let mut client = cluster.connect("postgres", "local");
    client
        .batch_execute("CREATE TYPE size AS ENUM ('s', 'm'); CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0)")
        .unwrap();
    assert_eq!(pair.same("SELECT v FROM dblink('c', $$SELECT 'm'$$) AS t(v size)").value(), "m");
    assert_eq!(pair.same("SELECT v FROM dblink('c', $$SELECT 'xl'$$) AS t(v size)").error().code, "22P02");
    assert_eq!(pair.same("SELECT v FROM dblink('c', 'SELECT 3') AS t(v even)").error().code, "23514");
    pair.same("SELECT v FROM dblink('c', 'SELECT NULL') AS t(v even)");
}

#[test]
fn remote_notices_reach_the_client_and_name_their_connection() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn}')");
    let notice = |ours: &mut Side, level: &str, sql: &str| {
        let outcome = ours.run(&sql.replace("{do}", &format!("DO $d$BEGIN RAISE {level} USING MESSAGE = 'caf\u{e9} 100%', DETAIL = 'd', HINT = 'h', ERRCODE = 'SL002'; END$d$")));
        assert!(outcome.result.is_ok(), "{outcome:?}");
        outcome.notices
    };
    for level in ["NOTICE", "WARNING", "INFO"] {
        let told = notice(&mut ours, level, "SELECT dblink_exec('c', $q${do}$q$)");
        let [told] = &told[..] else { panic!("{told:?}") };
        assert_eq!(
            (told.severity.as_str(), told.code.as_str(), told.message.as_str()),
            (level, "SL002", "caf\u{e9} 100%")
        );
        assert_eq!((told.detail.as_deref(), told.hint.as_deref()), (Some("d"), Some("h")));
        let context = told.context.as_deref().unwrap();
        assert!(context.ends_with("received on dblink connection named \"c\""), "{context}");
    }
    let told =
        notice(&mut ours, "WARNING", "SELECT * FROM dblink('{conn}', $q${do}; SELECT 1$q$) AS t(a int)");
    assert!(told[0].context.as_deref().unwrap().ends_with("received on unnamed dblink connection"));
    // The levels of both sides count.
    assert_eq!(notice(&mut ours, "DEBUG", "SELECT dblink_exec('c', $q${do}$q$)"), []);
    ours.run("SET client_min_messages = error");
    assert_eq!(notice(&mut ours, "WARNING", "SELECT dblink_exec('c', $q${do}$q$)"), []);
    ours.run("SET client_min_messages = warning; SELECT dblink_exec('c', 'SET client_min_messages = error')");
    assert_eq!(notice(&mut ours, "WARNING", "SELECT dblink_exec('c', $q${do}$q$)"), []);
    // Many of them, among rows, in order.
    ours.run("RESET client_min_messages; SELECT dblink_exec('c', 'RESET client_min_messages')");
    ours.run("SELECT dblink_exec('c', $q$CREATE FUNCTION chatty(i int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', i; RETURN i; END'$q$)");
    let outcome = ours.run(
        "SELECT sum(i) FROM dblink('c', 'SELECT chatty(i) FROM generate_series(1, 2000) AS i') AS t(i int)",
    );
    assert_eq!(outcome.value(), "2001000");
    let numbers: Vec<String> = outcome.notices.iter().map(|n| n.message.clone()).collect();
    assert_eq!(numbers, (1..=2000).map(|n| n.to_string()).collect::<Vec<_>>());
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
            assert_eq!(ours.run("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").error().code, "08001");
            ours.run("SELECT dblink_connect('c', '{conn}')");
        }
    }
    assert_eq!(ours.value("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)"), "1");
}

#[test]
fn in_a_parallel_query_the_leader_asks() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    let mut client = cluster.connect("postgres", "local");
    client.batch_execute("CREATE TABLE big AS SELECT i FROM generate_series(1, 100000) AS i; ALTER TABLE big SET (parallel_workers = 2); ANALYZE big").unwrap();
    pair.same("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2");
    pair.same("SET datestyle = 'German'"); // to be changed in the middle of a parallel query
    for sql in [
        "SELECT n, d FROM (SELECT count(*) AS n FROM big WHERE i % 7 = 0) AS b, dblink('c', $$SELECT '2024-03-04'::date$$) AS t(d date)",
        "SELECT count(*) FROM big, dblink('c', 'SELECT generate_series(1, 10)') AS t(a int) WHERE i = a",
        "SELECT sum(i), (SELECT dblink_exec('c', 'SET work_mem = ''1MB''')) FROM big",
    ] {
        pair.same(sql);
        let plan = pair.same(&format!("EXPLAIN (COSTS off) {sql}"));
        assert!(format!("{plan:?}").contains("Gather"), "{plan:?}");
    }
    // Not in a worker, even where one is forced.
    pair.same("SET force_parallel_mode = on");
    assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)").value(), "1");
    let declared = pair.same("SELECT string_agg(DISTINCT proparallel::text || provolatile::text, ',') FROM pg_proc WHERE proname IN ('dblink', 'dblink_exec', 'dblink_connect', 'dblink_disconnect', 'dblink_get_connections') AND pronamespace = current_schema()::regnamespace");
    assert_eq!(declared.value(), "rv");
}

#[test]
fn the_functions_are_declared_as_contribs() {
    let cluster = cluster();
    let mut pair = Pair::new(&cluster, "local");
    let signature = "SELECT p.proname, p.proargtypes::regtype[], pg_get_function_result(p.oid), proisstrict AND pronargs > 0, proretset, provolatile, proparallel
         FROM pg_proc AS p WHERE pronamespace = current_schema()::regnamespace
         AND proname IN ('dblink', 'dblink_exec', 'dblink_connect', 'dblink_disconnect', 'dblink_get_connections') ORDER BY 1, 2";
    assert_eq!(pair.same(signature).rows().len(), 13);
    assert_eq!(
        db_error(
            cluster.connect("postgres", "local").batch_execute("CREATE EXTENSION dblink SCHEMA secretlink")
        )
        .code()
        .code(),
        "42710"
    );
}
