//! Errors raised on this side while a result is read: by types, by their functions, and by what users
//! write in those. They must arrive as they were raised, with every field.

use crate::cluster::cluster;
use crate::outcome::Told;
use crate::pair::{Pair, Side};
use secretlink_e2e::Cluster;

/// Types whose input raises errors of many kinds.
const TYPES: &str = "
    CREATE FUNCTION refuse(n int) RETURNS bool LANGUAGE plpgsql AS $$
    DECLARE state text;
    BEGIN
        CASE n
        WHEN -1 THEN
            RAISE 'caf\u{e9} %', n USING ERRCODE = 'P0042', DETAIL = 'd\u{e9}tail', HINT = '\u{fc}ber',
                SCHEMA = 'sch\u{e9}ma', TABLE = 't\u{e4}ble', COLUMN = 'c\u{f6}lumn', DATATYPE = 'd\u{e4}tatype',
                CONSTRAINT = 'c\u{f4}nstraint';
        WHEN -2 THEN RAISE unique_violation USING CONSTRAINT = 'only_this';
        WHEN -3 THEN PERFORM 1 / 0;
        WHEN -4 THEN
            -- One error is caught and hidden by the next, and thrown again in the end.
            BEGIN
                RAISE 'first' USING ERRCODE = 'AAAA1', COLUMN = 'first';
            EXCEPTION WHEN OTHERS THEN
                BEGIN
                    RAISE 'second' USING ERRCODE = 'BBBB2', COLUMN = 'second', DETAIL = 'of second';
                EXCEPTION WHEN OTHERS THEN
                    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
                    RAISE WARNING 'caught %', state USING TABLE = 'w';
                END;
                RAISE;
            END;
        WHEN -5 THEN
            BEGIN
                RAISE 'inner' USING ERRCODE = 'CCCC3', TABLE = 'inner';
            EXCEPTION WHEN OTHERS THEN
                RAISE 'outer of %', SQLERRM USING ERRCODE = 'DDDD4';
            END;
        WHEN -6 THEN RAISE '';
        WHEN -7 THEN RAISE 'long %', repeat('long \u{e9} ', 20000) USING DETAIL = repeat('x', 100000);
        WHEN -8 THEN RAISE SQLSTATE '00001';
        WHEN -9 THEN EXECUTE 'SELECT nothing FROM nowhere';
        WHEN -10 THEN INSERT INTO guarded VALUES (NULL, -1);
        WHEN -11 THEN INSERT INTO guarded VALUES (1, -1);
        WHEN -12 THEN INSERT INTO guarded VALUES (0, 1);
        WHEN -13 THEN PERFORM refuse(-14);
        WHEN -14 THEN PERFORM 'x'::refused_mood;
        WHEN -15 THEN RAISE 'assertion' USING ERRCODE = 'P0004';
        WHEN -16 THEN
            -- Caught for good: no error.
            BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END;
        ELSE NULL;
        END CASE;
        RETURN true;
    END $$;
    CREATE TABLE guarded (a int CONSTRAINT given NOT NULL UNIQUE, b int CONSTRAINT positive CHECK (b > 0));
    INSERT INTO guarded VALUES (0, 1);
    CREATE TYPE refused_mood AS ENUM ('h\u{e4}ppy');
    CREATE DOMAIN checked AS int CHECK (refuse(VALUE));
    CREATE DOMAIN checked_text AS text CHECK (refuse(VALUE::int));
    CREATE DOMAIN simple AS int CONSTRAINT \"n\u{ef}ce\" CHECK (VALUE > 0);
    CREATE DOMAIN given AS int NOT NULL;
    CREATE DOMAIN short AS varchar(3);
    CREATE TYPE composite AS (a int, d checked);
    CREATE TYPE span AS RANGE (SUBTYPE = checked);
    CREATE DOMAIN of_array AS checked[] CHECK (refuse(coalesce(VALUE[2], 0)));
    CREATE DOMAIN of_composite AS composite CHECK ((VALUE).a > 1);
    CREATE TYPE castable AS (x int);
    CREATE FUNCTION cast_it(int) RETURNS castable LANGUAGE plpgsql AS $$ BEGIN RAISE 'cast' USING ERRCODE = 'P0077'; END $$;
    CREATE CAST (int AS castable) WITH FUNCTION cast_it(int) AS ASSIGNMENT;";

fn errors_cluster() -> Cluster {
    let cluster = cluster();
    cluster
        .connect("postgres", "postgres")
        .batch_execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        .unwrap();
    cluster
        .connect("postgres", "postgres")
        .batch_execute("CREATE DATABASE euc_jp ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0")
        .unwrap();
    for database in ["ascii", "euc_jp"] {
        cluster
            .connect("postgres", database)
            .batch_execute(
                "CREATE SCHEMA contrib; CREATE EXTENSION dblink SCHEMA contrib;
                 CREATE SCHEMA secretlink; CREATE EXTENSION secretlink SCHEMA secretlink;",
            )
            .unwrap();
    }
    for database in ["local", "latin1", "ascii", "euc_jp"] {
        cluster.connect("postgres", database).batch_execute(TYPES).unwrap();
    }
    cluster
}

/// A value as the remote server sends it, and the type it is read as.
fn values() -> Vec<(String, &'static str)> {
    let mut values: Vec<(String, &'static str)> =
        (1..=16).map(|n| (format!("SELECT -{n}"), "checked")).collect();
    for (value, local) in [
        ("SELECT ''-1''", "checked_text"),
        ("SELECT ''{1,-1}''", "checked[]"),
        ("SELECT ''(1,-1)''", "composite"),
        ("SELECT ''[-1,1)''", "span"),
        ("SELECT ''-0''", "simple"),
        ("SELECT 0", "simple"),
        ("SELECT NULL::int", "given"),
        ("SELECT ''four''", "short"),
        ("SELECT ''four''", "varchar(3)"),
        ("SELECT ''s\u{e4}d''", "refused_mood"),
        ("SELECT ''nowh\u{e9}re''", "regclass"),
        ("SELECT ''nowh\u{e9}re''", "regtype"),
        ("SELECT ''nowh\u{e9}re()''", "regprocedure"),
        ("SELECT ''nowh\u{e9}re''", "regrole"),
        ("SELECT ''\u{e9}''", "int"),
        ("SELECT 40000", "smallint"),
        ("SELECT ''{\"a\":''", "json"),
        ("SELECT ''{\"a\": \u{e9}}''", "jsonb"),
        ("SELECT ''{1''", "int[]"),
        ("SELECT ''(1''", "composite"),
        ("SELECT ''[3,1]''", "int4range"),
        ("SELECT ''2026-02-30''", "date"),
        ("SELECT ''1.5''", "numeric(1,1)"),
        ("SELECT 99999999999::numeric", "numeric(3,1)"),
        ("SELECT B''101''", "bit(2)"),
        ("SELECT ''1021''", "varbit"),
        ("SELECT ''10000-01-01 25:00''", "timestamp(3)"),
        ("SELECT ''1 fort\u{ed}n''", "interval"),
        ("SELECT ''1.2.3.400''", "inet"),
        ("SELECT ''1.2.3.4/24''", "cidr"),
        ("SELECT ''08:00:2b:01:02''", "macaddr"),
        ("SELECT ''a & ''", "tsquery"),
        ("SELECT ''<a>\u{e9}''", "xml"),
        ("SELECT ''0000-x''", "uuid"),
        ("SELECT ''$x''", "money"),
        ("SELECT ''(1,2''", "point"),
        ("SELECT ''$.\u{e9}[''", "jsonpath"),
        ("SELECT ''0/0/0''", "pg_lsn"),
        ("SELECT ''{[3,1]}''", "int4multirange"),
        ("SELECT ''9999999999''", "oid"),
        ("SELECT ''1e999''", "float4"),
        ("SELECT ''1e999''", "float8"),
        ("SELECT ''tr\u{fc}e''", "bool"),
        ("SELECT ''\\\\xzz''", "bytea"),
        ("SELECT ''\u{e9}\u{e9}''", "\"char\""),
        ("SELECT ''{{1,2},{3}}''", "int[]"),
        ("SELECT ''{NULL}''", "given[]"),
        ("SELECT ''(,-1)''", "composite"),
        ("SELECT ''{(,-4)}''", "composite[]"),
        ("SELECT ''[1,-10)''", "span"),
        ("SELECT ''-1''", "of_array"),
        ("SELECT ''{1,-3}''", "of_array"),
        ("SELECT ''(1,-1)''", "of_composite"),
        ("SELECT 1", "castable"),
        ("SELECT ''no such dictionary''", "regdictionary"),
        ("SELECT ''nowh\u{e9}re.x''", "regcollation"),
    ] {
        values.push((value.to_owned(), local));
    }
    values
}

#[test]
fn errors_of_types_arrive_as_they_were_raised() {
    let cluster = errors_cluster();
    for database in ["local", "latin1", "ascii", "euc_jp"] {
        let mut pair = Pair::connected(&cluster, database);
        for (remote, local) in values() {
            pair.same(&format!("SELECT * FROM dblink('c', '{remote}') AS t(a {local})"));
            pair.same(&format!("SELECT * FROM dblink('{remote}', false) AS t(a {local})"));
            pair.same(&format!("SELECT dblink_open('c', 'cur', '{remote}')"));
            pair.same(&format!("SELECT * FROM dblink_fetch('c', 'cur', 1) AS t(a {local})"));
            pair.same("SELECT dblink_close('c', 'cur')");
            pair.same(&format!("SELECT dblink_send_query('c', '{remote}')"));
            pair.same(&format!("SELECT * FROM dblink_get_result('c') AS t(a {local})"));
            pair.same("SELECT * FROM dblink_get_result('c') AS t(a text)");
            pair.same("SELECT * FROM dblink_get_result('c') AS t(a text)");
        }
        // An error in the middle of many rows.
        pair.same(
            "SELECT * FROM dblink('c', 'SELECT 5000 - i FROM generate_series(1, 6000) i') AS t(a checked)",
        );
        // Nothing is left of all these errors.
        assert_eq!(pair.same("SELECT * FROM dblink('c', 'SELECT 1') AS t(a checked)").value(), "1");
        pair.same("SELECT 1 / 0");
    }
}

#[test]
fn every_field_can_be_had() {
    let cluster = errors_cluster();
    let mut pair = Pair::connected(&cluster, "latin1");
    let outcome = pair.same("SELECT * FROM dblink('c', 'SELECT -1') AS t(a checked)");
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        outcome.error(),
        &Told {
            severity: "ERROR".into(),
            code: "P0042".into(),
            message: "caf\u{e9} -1".into(),
            detail: some("d\u{e9}tail"),
            hint: some("\u{fc}ber"),
            context: some("PL/pgSQL function refuse(integer) line 6 at RAISE"),
            schema: some("sch\u{e9}ma"),
            table: some("t\u{e4}ble"),
            column: some("c\u{f6}lumn"),
            datatype: some("d\u{e4}tatype"),
            constraint: some("c\u{f4}nstraint"),
        }
    );
}

/// What a handler in PL/pgSQL is told, in a loop and at two levels, so that every error of ours is caught
/// and another follows.
#[test]
fn handlers_see_every_field() {
    let cluster = errors_cluster();
    for database in ["local", "latin1", "ascii"] {
        let mut pair = Pair::connected(&cluster, database);
        let told = pair.same(
            "DO $do$
            DECLARE s text; m text; d text; h text; c text; n text; t text; y text; o text; k text;
            BEGIN
                FOR i IN 1..48 LOOP
                    BEGIN
                        PERFORM * FROM dblink('c', format('SELECT -%s', i % 16 + 1)) AS t(a checked);
                    EXCEPTION WHEN OTHERS OR assert_failure THEN
                        GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT,
                            d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT, c = PG_EXCEPTION_CONTEXT,
                            n = SCHEMA_NAME, t = TABLE_NAME, y = PG_DATATYPE_NAME, o = COLUMN_NAME,
                            k = CONSTRAINT_NAME;
                        RAISE NOTICE '% | % | % | % | % | % | % | % | % | %', s, m, d, h, c, n, t, y, o, k;
                        BEGIN
                            PERFORM * FROM dblink('c', 'SELECT 0') AS t(a simple);
                        EXCEPTION WHEN check_violation THEN
                            GET STACKED DIAGNOSTICS k = CONSTRAINT_NAME, y = PG_DATATYPE_NAME;
                            RAISE NOTICE '% of %', k, y;
                        END;
                        IF i % 5 = 0 THEN
                            BEGIN RAISE; EXCEPTION WHEN SQLSTATE 'P0042' OR OTHERS OR assert_failure THEN
                                RAISE NOTICE 'again: % %', SQLSTATE, SQLERRM;
                            END;
                        END IF;
                    END;
                END LOOP;
            END $do$",
        );
        assert!(told.notices.iter().any(|notice| notice.message.starts_with("P0042 | caf\u{e9} -1 | ")));
        // By its own SQLSTATE.
        pair.same(
            "DO $$ BEGIN
                PERFORM * FROM dblink('c', 'SELECT -1') AS t(a checked);
            EXCEPTION WHEN SQLSTATE 'P0042' THEN RAISE NOTICE 'caught';
            END $$",
        );
    }
}

/// A function of a type that uses dblink itself, and so fails within a call that fails.
#[test]
fn errors_within_errors() {
    let cluster = errors_cluster();
    let mut pair = Pair::connected(&cluster, "latin1");
    for schema in ["contrib", "secretlink"] {
        cluster
            .connect("postgres", "latin1")
            .batch_execute(&format!(
                "CREATE FUNCTION {schema}.deep(n int) RETURNS bool LANGUAGE plpgsql AS $$
                 BEGIN
                     IF n < 5 THEN
                         PERFORM * FROM dblink('c' || n, 'SELECT ' || n + 1) AS t(a deep);
                     ELSE
                         PERFORM * FROM dblink('c' || n, 'SELECT -1') AS t(a checked);
                     END IF;
                     RETURN true;
                 EXCEPTION WHEN SQLSTATE 'P0042' THEN
                     IF n % 2 = 0 THEN
                         PERFORM * FROM dblink('c' || n, 'SELECT 1/0') AS t(a int);
                     END IF;
                     RAISE;
                 WHEN division_by_zero THEN
                     RAISE 'caf\u{e9} at %', n USING ERRCODE = 'P0042', COLUMN = SQLERRM;
                 END $$;
                 CREATE DOMAIN {schema}.deep AS int CHECK ({schema}.deep(VALUE));"
            ))
            .unwrap();
    }
    for n in 0..=5 {
        pair.same(&format!("SELECT dblink_connect('c{n}', '{{conn}}')"));
    }
    for n in 0..=5 {
        let sql = format!("SELECT * FROM dblink('c', 'SELECT {n}') AS t(a deep)");
        let (contrib, ours) = pair.both(&sql);
        assert_eq!(ours, contrib, "{sql}");
        assert!(["P0042", "22012"].contains(&ours.error().code.as_str()), "{ours:?}");
    }
}

/// The functions that look into the catalogs.
#[test]
fn errors_of_catalogs_arrive_as_they_were_raised() {
    let cluster = errors_cluster();
    for database in ["local", "latin1"] {
        let mut pair = Pair::connected(&cluster, database);
        for sql in [
            "SELECT * FROM dblink_get_pkey('nowh\u{e9}re')",
            "SELECT * FROM dblink_get_pkey('\u{e9}.\u{e8}.\u{e7}.\u{e6}')",
            "SELECT * FROM dblink_get_pkey('\"unfinished')",
            "SELECT dblink_build_sql_insert('nowh\u{e9}re', '1', 1, '{0}', '{0}')",
            "SELECT dblink_build_sql_insert('guarded', '1', 1, '{\u{e9}}', '{0}')",
            "SELECT dblink_build_sql_update('guarded', '1', 1, '{x}', '{0}')",
            "SELECT dblink_build_sql_delete('guarded', '9', 1, '{0}')",
            "SELECT dblink_connect(repeat('\u{e9}', 100), '{conn}')",
        ] {
            pair.same(sql);
        }
    }
}

/// What is kept of an error on its way is given back, also if nobody catches it.
#[test]
fn errors_leave_no_memory_behind() {
    let cluster = errors_cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn}')");
    let kept = "SELECT sum(used_bytes) FROM pg_backend_memory_contexts WHERE name = 'secretlink errors'";
    let before = ours.value(kept);
    ours.run(
        "DO $$ BEGIN
            FOR i IN 1..2000 LOOP
                BEGIN
                    PERFORM * FROM dblink('c', 'SELECT -1') AS t(a checked);
                EXCEPTION WHEN SQLSTATE 'P0042' THEN NULL;
                END;
            END LOOP;
        END $$",
    );
    assert_eq!(ours.value(kept), before, "after errors that were caught");
    for value in ["-7", "-1"] {
        assert!(
            ours.run(&format!("SELECT * FROM dblink('c', 'SELECT {value}') AS t(a checked)")).result.is_err()
        );
        assert_eq!(ours.value(kept), before, "after an error that was not");
    }
    // Of ours, and of the remote server's.
    for sql in ["SELECT dblink_connect('sslmod=x')", "SELECT dblink_exec('c', 'SELECT 1/0')"] {
        assert!(ours.run(sql).result.is_err());
        assert_eq!(ours.value(kept), before, "{sql}");
    }
}
