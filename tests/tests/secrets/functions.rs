//! The functions as SQL sees them: rights, comments, declarations.

use crate::session::{api, plain_role, refused, session, text};
use secretlink_e2e::{Stage, db_error, unique};

#[test]
fn secrets_are_for_those_to_whom_they_are_given() {
    let name = unique("given");
    let remote = &Stage::shared().remote;
    api().create_login_secret(&name, "app", remote.app_password());
    let role = plain_role();
    let mut client = Stage::shared().local.connect(&role, "postgres");
    let calls = [
        ("get_secret_value", format!("get_secret_value('{name}')")),
        ("get_secret_string", format!("get_secret_string('{name}')")),
        ("get_secret_binary", format!("get_secret_binary('{name}')")),
        ("describe_secret", format!("describe_secret('{name}')")),
        ("create_secret", format!("create_secret('{name}-2', '{{}}')")),
        ("put_secret_value", format!("put_secret_value('{name}-2', '{{}}')")),
        (
            "connect_with_secret",
            format!("connect_with_secret('{name}', '127.0.0.1', 'testdb', 'app', {})", remote.port()),
        ),
    ];
    for (function, call) in &calls {
        let message = format!("permission denied for function {function}");
        refused(&mut client, &format!("SELECT {call}"), "42501", &message, "");
    }
    for (function, call) in &calls {
        session().batch_execute(&format!("GRANT EXECUTE ON FUNCTION {function} TO {role}")).unwrap();
        let outcome = client.simple_query(&format!("SELECT {call}"));
        if *function == "get_secret_binary" {
            assert_eq!(db_error(outcome).code().code(), "42809", "it gets as far as the secret");
        } else {
            outcome.unwrap_or_else(|e| panic!("{call}: {e:?}"));
        }
    }
    let user =
        text(&mut client, "SELECT u FROM dblink('remote_conn', 'SELECT current_user') AS t(u text)", &[]);
    assert_eq!(user, "app");
}

#[test]
fn every_function_says_what_it_is_for() {
    let silent: Vec<String> = session()
        .query(
            "SELECT p.oid::regprocedure::text FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
             WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
               AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')
               AND obj_description(p.oid, 'pg_proc') IS NULL",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn what_talks_to_the_world_is_volatile_and_not_parallel_safe() {
    let rows = session()
        .query(
            "SELECT p.oid::regprocedure::text, p.provolatile = 'v'
                    AND (p.proparallel = 's') = (p.proname ~ 'fdw_(validator|handler)$')
                    AND p.prosecdef = (p.proname ~ '^(dblink_connect_u|(un)?schedule_rotation)$')
             FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
             WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
               AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')
               AND p.proname <> 'next_rotations'", // which only reckons
            &[],
        )
        .unwrap();
    assert!(rows.len() >= 20, "{}", rows.len());
    for row in rows {
        assert!(row.get::<_, bool>(1), "{}", row.get::<_, String>(0));
    }
}

#[test]
fn dblink_functions_are_declared_as_in_contrib() {
    let database = unique("both").replace('-', "_");
    session().batch_execute(&format!("CREATE DATABASE {database}")).unwrap();
    let mut client = Stage::shared().local.connect("postgres", &database);
    client
        .batch_execute(
            "CREATE SCHEMA contrib; CREATE EXTENSION dblink SCHEMA contrib;
             CREATE SCHEMA ours; CREATE EXTENSION secretlink SCHEMA ours",
        )
        .unwrap();
    let mut declared = |schema: &str| -> Vec<String> {
        client
            .query(
                "SELECT format('%s(%s) returns %s%s strict=%s volatile=%s parallel=%s definer=%s acl=%s',
                               proname, oidvectortypes(proargtypes), CASE WHEN proretset THEN 'setof ' END,
                               typname, proisstrict AND pronargs > 0, provolatile, proparallel, prosecdef, proacl)
                 FROM pg_proc JOIN pg_type ON pg_type.oid = prorettype WHERE pronamespace = $1::text::regnamespace AND proname LIKE 'dblink%' ORDER BY 1",
                &[&schema],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    let (contrib, ours) = (declared("contrib"), declared("ours"));
    for function in &ours {
        assert!(contrib.contains(function), "{function} is not in {contrib:#?}");
    }
    // What is not there yet.
    for function in &contrib {
        assert!(ours.contains(function), "{function} is missing");
    }
}
