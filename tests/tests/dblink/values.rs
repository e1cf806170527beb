//! Values, on their way from one database to the other.

use crate::cluster::cluster;
use crate::pair::Pair;

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
