//! Objects of an attacker's with the names of what our SQL and our C-level lookups use, found first by
//! way of `search_path`, and a superuser who calls us: nothing of the attacker's is run.

use crate::functions::uses;
use crate::ground::{WHO, api, execute, name, role, secret};
use postgres::Client;
use secretlink_e2e::{Stage, db_error, unique};
use std::collections::BTreeSet;

/// Traps in schema `trap`, which belongs to `attacker`. Each counts in `trap.sprung` who stepped on it.
fn set_traps(client: &mut Client, attacker: &str) {
    client
        .batch_execute(&format!(
            "CREATE SCHEMA trap AUTHORIZATION {attacker}; SET ROLE {attacker};
             CREATE SEQUENCE trap.sprung MINVALUE 0; GRANT ALL ON trap.sprung TO PUBLIC;
             GRANT USAGE, CREATE ON SCHEMA trap TO PUBLIC;
             SELECT nextval('trap.sprung');
             CREATE FUNCTION trap.spring(what text) RETURNS void LANGUAGE plpgsql VOLATILE
                 AS $$ BEGIN PERFORM pg_catalog.nextval('trap.sprung'); END $$"
        ))
        .unwrap();
    let trap = |signature: &str, result: &str, value: &str| {
        format!(
            "CREATE FUNCTION trap.{signature} RETURNS {result} LANGUAGE plpgsql AS
             $f$ BEGIN PERFORM trap.spring($w${signature}$w$); RETURN {value}; END $f$"
        )
    };
    // What is called by name, here and in core.
    for (signature, result, value) in [
        ("remote_connection()", "text", "''"),
        ("role_sync_states()", "text", "''"),
        ("format(text)", "text", "''"),
        ("format(text, text)", "text", "''"),
        ("concat(text, text)", "text", "''"),
        ("quote_ident(text)", "text", "'x'"),
        ("quote_literal(text)", "text", "'x'"),
        ("pg_notify(text, text)", "text", "''"),
        ("pg_notify(name, name)", "text", "''"),
        ("has_server_privilege(text, text)", "bool", "true"),
        ("clock_timestamp()", "timestamptz", "'epoch'"),
        ("now()", "timestamptz", "'epoch'"),
        ("text(int)", "text", "''"),
        ("int4(text)", "int", "1"),
        ("eq_int(int, int)", "bool", "true"),
        ("eq_text(text, text)", "bool", "true"),
        ("eq_name(name, name)", "bool", "true"),
        ("eq_name_text(name, text)", "bool", "true"),
        ("eq_oid(oid, oid)", "bool", "true"),
        ("eq_numeric(numeric, numeric)", "bool", "true"),
        ("eq_date(date, date)", "bool", "true"),
        ("add_text(text, text)", "text", "''"),
        ("is_text(text)", "bool", "true"),
        ("is_int(int)", "bool", "true"),
    ] {
        client.batch_execute(&trap(signature, result, value)).unwrap();
    }
    client
        .batch_execute(
            "CREATE OPERATOR trap.= (LEFTARG = int, RIGHTARG = int, FUNCTION = trap.eq_int);
             CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq_text);
             CREATE OPERATOR trap.= (LEFTARG = name, RIGHTARG = name, FUNCTION = trap.eq_name);
             CREATE OPERATOR trap.= (LEFTARG = name, RIGHTARG = text, FUNCTION = trap.eq_name_text);
             CREATE OPERATOR trap.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = trap.eq_oid);
             CREATE OPERATOR trap.= (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = trap.eq_numeric);
             CREATE OPERATOR trap.= (LEFTARG = date, RIGHTARG = date, FUNCTION = trap.eq_date);
             CREATE OPERATOR trap.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.add_text);
             CREATE DOMAIN trap.text AS pg_catalog.text CHECK (trap.is_text(VALUE));
             CREATE DOMAIN trap.json AS pg_catalog.text CHECK (trap.is_text(VALUE));
             CREATE DOMAIN trap.name AS pg_catalog.text CHECK (trap.is_text(VALUE));
             CREATE DOMAIN trap.int4 AS pg_catalog.int4 CHECK (trap.is_int(VALUE));
             CREATE DOMAIN trap.int2vector AS pg_catalog.text CHECK (trap.is_text(VALUE));
             CREATE TABLE trap.pg_foreign_server AS SELECT * FROM pg_catalog.pg_foreign_server;
             CREATE TABLE trap.pg_class AS SELECT relname FROM pg_catalog.pg_class LIMIT 1;
             CREATE TABLE trap.pg_proc AS SELECT proname FROM pg_catalog.pg_proc LIMIT 1;
             CREATE TABLE trap.pg_shseclabel AS SELECT label FROM pg_catalog.pg_shseclabel;
             CREATE TABLE trap.remote_connections AS SELECT 1 AS a;
             CREATE TABLE trap.role_sync AS SELECT 1 AS a;
             RESET ROLE",
        )
        .unwrap();
}

/// How many have been stepped on. No ROLLBACK takes that back.
fn sprung(client: &mut Client) -> i64 {
    client.query_one("SELECT last_value FROM trap.sprung", &[]).unwrap().get(0)
}

/// A database with the extension in `schema` and traps, a session of the superuser who steps into it,
/// and one that looks.
fn trapped(schema: &str) -> (Client, Client, String) {
    let local = &Stage::shared().local;
    let (attacker, _) = role("attacker");
    let database = name("trapped");
    execute(&format!("CREATE DATABASE {database}"));
    let mut admin = local.connect("postgres", &database);
    admin
        .batch_execute(&format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; CREATE EXTENSION secretlink SCHEMA {schema}"
        ))
        .unwrap();
    set_traps(&mut admin, &attacker);
    let mut victim = local.connect("postgres", &database);
    victim
        .batch_execute("SET search_path = trap, pg_temp, pg_catalog; SET statement_timeout = '60s'")
        .unwrap();
    // They work, if somebody steps on them.
    victim
        .batch_execute("SELECT 1 = 1, 'a'::pg_catalog.text || 'b'::pg_catalog.text, format('x'), 'x'::text")
        .unwrap();
    assert_eq!(sprung(&mut admin), 4);
    admin.batch_execute("SELECT setval('trap.sprung', 0)").unwrap();
    (victim, admin, attacker)
}

/// The extension's functions and views, quoted if need be.
fn names_of(client: &mut Client) -> BTreeSet<String> {
    let call = |sql: &str| sql.split(['.', '(']).nth(1).unwrap_or_default().to_owned();
    uses(client).iter().map(|(_, sql)| call(sql)).collect()
}

#[test]
fn nothing_of_an_attackers_is_run_by_functions_in_public() {
    nothing_is_run("public");
}

#[test]
fn nothing_of_an_attackers_is_run_by_functions_in_a_schema_of_their_own() {
    nothing_is_run("secretlink");
}

fn nothing_is_run(schema: &str) {
    let (mut victim, mut admin, _) = trapped(schema);
    let (secret, new) = (secret(), unique("new"));
    let role = name("made");
    admin
        .batch_execute(&format!(
            "CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{secret}');
             CREATE SCHEMA own; CREATE TYPE own.mood AS ENUM ('good', 'bad'); CREATE DOMAIN own.code AS text;
             CREATE TABLE own.kept (i int, t text, n numeric, d date, v varchar(9), b bpchar, m own.mood, c own.code, a int[], o oid, nm name, u uuid,
                 PRIMARY KEY (i, t));
             INSERT INTO own.kept VALUES (1, 'a', 1.5, '2026-01-01', 'v', 'b', 'good', 'c', '{{1}}', 1, 'n', '00000000-0000-0000-0000-000000000001')"
        ))
        .unwrap();
    let literal = |who: &str| format!("$q${who}$q$::pg_catalog.text");
    let mut statements: Vec<String> = vec![
        format!("SELECT * FROM {schema}.dblink('s', {}) AS t(v pg_catalog.text)", literal(WHO)),
        format!("SELECT {schema}.dblink_exec('s', 'SET work_mem = 64')"),
        format!("SELECT {schema}.dblink_connect('s'), {schema}.dblink_connect('c', 's')"),
        format!("SELECT {schema}.dblink_connect_u('u', 's')"),
        format!(
            "SELECT * FROM {schema}.dblink('c', $$SELECT 1, 'a', 1.5, '2026-01-01'::date, ARRAY['a'], '{{}}'::json, 'n'::name$$)
             AS t(i pg_catalog.int4, t pg_catalog.text, n pg_catalog.numeric, d pg_catalog.date, a pg_catalog.text[], j pg_catalog.json, nm pg_catalog.name)"
        ),
        format!("SELECT {schema}.dblink_open('c', 'cur', 'SELECT 1')"),
        format!("SELECT * FROM {schema}.dblink_fetch('c', 'cur', 1) AS t(i pg_catalog.int4)"),
        format!("SELECT {schema}.dblink_close('c', 'cur')"),
        format!("SELECT {schema}.dblink_exec('c', 'LISTEN x; NOTIFY x')"),
        format!("SELECT * FROM {schema}.dblink_get_notify('c')"),
        format!("SELECT {schema}.dblink_send_query('c', 'SELECT 1')"),
        format!("SELECT {schema}.dblink_is_busy('c'), {schema}.dblink_cancel_query('c')"),
        format!("SELECT * FROM {schema}.dblink_get_result('c', false) AS t(i pg_catalog.int4)"),
        format!("SELECT {schema}.dblink_error_message('c'), {schema}.dblink_get_connections(), {schema}.dblink_current_query()"),
        format!("SELECT * FROM {schema}.remote_connections"),
        format!("SELECT * FROM {schema}.remote_connection()"),
        format!("SELECT * FROM {schema}.role_sync, {schema}.check_all_role_sync()"),
        format!("SELECT * FROM {schema}.role_sync_states()"),
        format!("SELECT * FROM {schema}.rotation_history, {schema}.rotation_run, {schema}.rotation_run_run_seq"),
        format!("SELECT * FROM {schema}.rotation_schedule, {schema}.rotation_plan, {schema}.next_rotations('rate(1 day)')"),
        format!("SELECT * FROM {schema}.check_rotation('{secret}')"),
        format!("SELECT * FROM {schema}.secretlink_stats, {schema}.secretlink_stat_counters()"),
        format!("SELECT * FROM {schema}.secretlink_aws_calls, {schema}.secretlink_stat_aws_calls()"),
        format!("SELECT {schema}.secretlink_stats_reset()"),
        format!("SELECT {schema}.secretlink_fdw_validator('{{host=a}}', 1417), {schema}.dblink_fdw_validator('{{host=a}}', 1417)"),
        format!("SELECT * FROM {schema}.dblink_get_pkey('own.kept')"),
        format!("SELECT {schema}.get_secret_value('{secret}'), {schema}.get_secret_string('{secret}')"),
        format!("SELECT * FROM {schema}.describe_secret('{secret}')"),
        format!("SELECT {schema}.create_secret('{new}', '{{\"a\": 1}}')"),
        format!("SELECT {schema}.put_secret_value('{new}', '{{\"a\": 2}}', '{{AWSCURRENT}}')"),
        format!("SELECT * FROM {schema}.list_secrets('{new}')"),
        format!("SELECT {schema}.put_secret_field('{new}', 'a', '2'), {schema}.get_secret_field('{new}', 'a')"),
        format!("SELECT {schema}.put_secret_string('{new}', 'x', '{{OTHER}}'), {schema}.put_secret_binary('{new}', 'x', '{{OTHER}}')"),
        format!("SELECT {schema}.refresh_secret('{secret}')"),
        format!("SELECT * FROM {schema}.secret_cache, {schema}.secret_cache_entries()"),
        format!("SELECT {schema}.forget_secret('{secret}'), {schema}.forget_all_secrets()"),
        format!("SELECT {schema}.connect_with_secret('{secret}', connection_name => 'w')"),
        format!("SELECT {schema}.iam_auth_token('db.abc.us-east-1.rds.amazonaws.com', 'u')"),
        format!("SELECT * FROM {schema}.try_connect_with_secret('{secret}', connection_name => 'w')"),
        format!("CREATE SERVER another FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{secret}', host 'h', port '1')"),
        "ALTER SERVER another OPTIONS (SET host 'i', region 'us-east-1')".into(),
        "CREATE USER MAPPING FOR PUBLIC SERVER another OPTIONS (user 'x', password 'y')".into(),
        format!("CREATE ROLE {role}"),
        format!("SELECT {schema}.unsync_role('{role}')"),
        format!("SELECT {schema}.secretlink_check(), {schema}.secretlink_check('{secret}')"),
        format!("SELECT {schema}.secretlink_check(host => 'localhost', username => 'u', region => 'us-east-1')"),
        format!("SELECT {schema}.dblink_disconnect(), {schema}.dblink_disconnect('c'), {schema}.dblink_disconnect('u')"),
    ];
    // Each column of each type as the key.
    let values = [
        "1",
        "a",
        "1.5",
        "2026-01-01",
        "v",
        "b",
        "good",
        "c",
        "{1}",
        "1",
        "n",
        "00000000-0000-0000-0000-000000000001",
    ];
    for (n, value) in values.into_iter().enumerate() {
        let key = format!("'{}', 1, '{{\"{value}\"}}', '{{\"{value}\"}}'", n + 1);
        for function in ["insert", "update"] {
            statements.push(format!("SELECT {schema}.dblink_build_sql_{function}('own.kept', {key})"));
        }
        statements.push(format!(
            "SELECT {schema}.dblink_build_sql_delete('own.kept', '{}', 1, '{{\"{value}\"}}')",
            n + 1
        ));
    }
    // What fails says why without stepping on anything, either.
    let failing = [
        (format!("SELECT {schema}.get_secret_value('no such')"), "42704"),
        (format!("SELECT {schema}.connect_with_iam('127.0.0.1', 'd', 'u', 9)"), "08001"),
        (format!("SELECT {schema}.get_secret_binary('{secret}')"), "42809"),
        (format!("SELECT {schema}.dblink_connect('hots=x')"), "08001"),
        (format!("SELECT {schema}.dblink_exec('s', 'SELECT 1/0')"), "22012"),
        (format!("SELECT {schema}.secretlink_fdw_handler()"), "0A000"),
        (format!("SELECT {schema}.sync_role('{role}', 'x')"), "55000"),
        (format!("SELECT {schema}.check_role_sync('{role}')"), "55000"),
        (format!("SELECT {schema}.create_role_with_secret('{role}_2', 'x')"), "55000"),
        (format!("SELECT {schema}.rotate_secret('{secret}')"), "55000"),
        (format!("SELECT {schema}.schedule_rotation('{secret}', 'rate(1 day)')"), "55000"),
        (format!("SELECT {schema}.unschedule_rotation('{secret}')"), "55000"),
        ("ALTER SERVER another OPTIONS (SET port 'x')".into(), "22023"),
    ];
    for function in names_of(&mut admin) {
        let called = |sql: &String| sql.contains(&format!("{schema}.{function}"));
        let failing = failing.iter().map(|(sql, _)| sql);
        assert!(statements.iter().chain(failing).any(called), "add a call of {function}");
    }
    for sql in &statements {
        victim.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!(sprung(&mut admin), 0, "{sql}");
    }
    for (sql, code) in failing {
        let outcome = victim.simple_query(&sql);
        assert!(outcome.is_err(), "it worked: {sql}");
        assert_eq!(db_error(outcome).code().code(), code, "{sql}");
        assert_eq!(sprung(&mut admin), 0, "{sql}");
    }
    assert!(api().get_secret_value(&new).unwrap().contains('2'));

    // The same with traps in a session's own temporary schema, which comes first for tables and types.
    victim
        .batch_execute(
            "CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (trap.is_text(VALUE));
             CREATE DOMAIN pg_temp.int4 AS pg_catalog.int4 CHECK (trap.is_int(VALUE));
             CREATE TEMP TABLE remote_connection (a pg_catalog.int4); CREATE TEMP TABLE pg_user_mapping (a pg_catalog.int4);
             RESET search_path",
        )
        .unwrap();
    for sql in statements.iter().filter(|sql| {
        !sql.contains("create_secret") && !sql.starts_with("CREATE") && !sql.contains("disconnect")
    }) {
        if let Err(error) = victim.batch_execute(sql) {
            let code = error.code().map(|code| code.code().to_owned());
            assert!(
                ["42710", "55006", "HV00J"].contains(&code.as_deref().unwrap_or_default()),
                "{sql}: {error:?}"
            );
        }
        assert_eq!(sprung(&mut admin), 0, "{sql}");
    }
}

/// Types of an attacker's, in a table of his, that a superuser looks at.
#[test]
fn casts_and_operators_of_an_attackers_types_are_not_run() {
    let (mut victim, mut admin, attacker) = trapped("secretlink");
    admin
        .batch_execute(&format!(
            "SET ROLE {attacker};
             CREATE TYPE trap.pair AS (a pg_catalog.text); CREATE TYPE trap.mood AS ENUM ('good');
             CREATE FUNCTION trap.pair_text(trap.pair) RETURNS pg_catalog.text LANGUAGE plpgsql AS
                 $f$ BEGIN PERFORM trap.spring('cast'); RETURN 'x'; END $f$;
             CREATE FUNCTION trap.mood_text(trap.mood) RETURNS pg_catalog.text LANGUAGE plpgsql AS
                 $f$ BEGIN PERFORM trap.spring('cast'); RETURN 'x'; END $f$;
             CREATE FUNCTION trap.pair_eq(trap.pair, trap.pair) RETURNS bool LANGUAGE plpgsql AS
                 $f$ BEGIN PERFORM trap.spring('operator'); RETURN true; END $f$;
             CREATE CAST (trap.pair AS pg_catalog.text) WITH FUNCTION trap.pair_text AS IMPLICIT;
             CREATE CAST (trap.mood AS pg_catalog.text) WITH FUNCTION trap.mood_text AS IMPLICIT;
             CREATE OPERATOR trap.= (LEFTARG = trap.pair, RIGHTARG = trap.pair, FUNCTION = trap.pair_eq);
             CREATE TABLE trap.bait (p trap.pair, m trap.mood);
             INSERT INTO trap.bait VALUES (ROW('a'), 'good'); RESET ROLE"
        ))
        .unwrap();
    for (key, value) in [(1, "(a)"), (2, "good")] {
        for function in ["insert", "update"] {
            let sql = format!(
                "SELECT secretlink.dblink_build_sql_{function}('trap.bait', '{key}', 1, '{{{value}}}', '{{{value}}}')"
            );
            if let Err(error) = victim.batch_execute(&sql) {
                assert_eq!(error.code().unwrap().code(), "42883", "{sql}: {error:?}");
            }
            assert_eq!(sprung(&mut admin), 0, "{sql}");
        }
    }
}

/// A function with its owner's rights is called by somebody whose temporary objects come first.
#[test]
fn a_callers_objects_are_not_run_with_the_owners_rights() {
    let (_, mut admin, attacker) = trapped("secretlink");
    let secret = secret();
    admin
        .batch_execute(&format!(
            "CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{secret}');
             GRANT USAGE ON SCHEMA secretlink TO {attacker};
             GRANT EXECUTE ON FUNCTION secretlink.dblink_connect_u(text, text) TO {attacker}"
        ))
        .unwrap();
    let database: String = admin.query_one("SELECT current_database()::text", &[]).unwrap().get(0);
    let mut client = Stage::shared().local.connect(&attacker, &database);
    client
        .batch_execute(
            "CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (trap.is_text(VALUE));
             CREATE TEMP TABLE pg_foreign_server AS SELECT * FROM pg_catalog.pg_foreign_server;
             SET search_path = pg_temp, trap, pg_catalog;
             SELECT secretlink.dblink_connect_u('u', 's')",
        )
        .unwrap();
    assert_eq!(sprung(&mut admin), 0);
    // The server is the extension owner's to use, which is what the grant says.
    let error = db_error(client.simple_query("SELECT secretlink.dblink_connect('v', 's')"));
    assert_eq!(error.code().code(), "42501");
}

/// Where somebody else may create objects in the extension's schema, before it is there.
#[test]
fn what_lies_in_the_schema_before_is_not_taken_for_ours() {
    let (attacker, _) = role("early");
    let database = name("early");
    execute(&format!("CREATE DATABASE {database}"));
    let mut admin = Stage::shared().local.connect("postgres", &database);
    set_traps(&mut admin, &attacker);
    // Ours beside traps of the names that its SQL uses, and beside overloads of its own functions.
    admin
        .batch_execute(&format!(
            "SET ROLE {attacker};
             DROP FUNCTION trap.remote_connection(), trap.role_sync_states(); DROP TABLE trap.remote_connections, trap.role_sync;
             CREATE FUNCTION trap.remote_connection(pg_catalog.int4) RETURNS void LANGUAGE sql
                 AS $$ SELECT trap.spring('overload') $$;
             CREATE FUNCTION trap.secretlink_fdw_validator(pg_catalog.text[], pg_catalog.int4) RETURNS void LANGUAGE sql
                 AS $$ SELECT trap.spring('validator') $$;
             RESET ROLE; DROP DOMAIN trap.text, trap.json, trap.name, trap.int4, trap.int2vector"
        ))
        .unwrap();
    let mut superuser = Stage::shared().local.connect("postgres", &database);
    // Calls of such names could be ambiguous.
    let error = db_error(superuser.simple_query("CREATE EXTENSION secretlink SCHEMA trap"));
    assert_eq!(error.code().code(), "42710", "{error:?}");
    let detail = error.detail().unwrap_or_default();
    for overload in ["remote_connection(integer)", "secretlink_fdw_validator(text[],integer)"] {
        assert!(detail.contains(overload), "{error:?}");
    }
    assert_eq!(sprung(&mut admin), 0);
    admin
        .batch_execute(
            "DROP FUNCTION trap.remote_connection(pg_catalog.int4),
                           trap.secretlink_fdw_validator(pg_catalog.text[], pg_catalog.int4)",
        )
        .unwrap();
    superuser.batch_execute("CREATE EXTENSION secretlink SCHEMA trap").unwrap();
    assert_eq!(sprung(&mut admin), 0);
    superuser
        .batch_execute(
            "SELECT * FROM trap.remote_connections; SELECT * FROM trap.role_sync;
             CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (host 'a')",
        )
        .unwrap();
    assert_eq!(sprung(&mut admin), 0);
    let theirs: i64 = admin
        .query_one(
            "SELECT count(*) FROM pg_depend WHERE deptype = 'e' AND classid = 'pg_proc'::regclass
               AND objid IN (SELECT oid FROM pg_proc WHERE proowner <> 10)",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(theirs, 0);
    superuser.batch_execute("DROP EXTENSION secretlink CASCADE").unwrap();

    // The very same name is an error, not a replacement.
    for object in [
        "FUNCTION trap.get_secret_value(text, text, text) RETURNS json LANGUAGE sql AS 'SELECT NULL::json'",
        "VIEW trap.remote_connections AS SELECT 1",
        "TYPE trap.dblink_pkey_results AS (a int)",
    ] {
        admin.batch_execute(&format!("SET ROLE {attacker}; CREATE {object}; RESET ROLE")).unwrap();
        let error = db_error(superuser.simple_query("CREATE EXTENSION secretlink SCHEMA trap"));
        assert_eq!(error.code().code(), "42710", "{object}: {error:?}");
        let named: Vec<_> = object.split(['(', ' ']).take(2).collect();
        admin.batch_execute(&format!("DROP {} CASCADE", named.join(" "))).unwrap();
    }
}
