//! Where others have objects of the names that the extension gives, it is not made.

use crate::ground::{execute, name};
use postgres::Client;
use secretlink_e2e::{Stage, db_error};
use std::collections::BTreeSet;

/// The script's own list.
const FIRST: &str = include_str!("../../../sql/first.sql");

fn database() -> Client {
    let database = name("names");
    execute(&format!("CREATE DATABASE {database}"));
    Stage::shared().local.connect("postgres", &database)
}

#[test]
fn the_script_knows_every_name() {
    let mut client = database();
    client.batch_execute("CREATE EXTENSION secretlink").unwrap();
    let mut names = |sql: &str| -> BTreeSet<String> {
        let sql = format!(
            "{sql} AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
             AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')"
        );
        client.query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let functions = names(
        "SELECT proname::text FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid WHERE d.classid = 'pg_proc'::regclass",
    );
    let mut relations = names(
        "SELECT relname::text FROM pg_depend d JOIN pg_class c ON c.oid = d.objid WHERE d.classid = 'pg_class'::regclass",
    );
    relations.extend(names("SELECT typname::text FROM pg_depend d JOIN pg_type t ON t.oid = d.objid WHERE typrelid <> 0 AND d.classid = 'pg_type'::regclass"));
    let listed: Vec<BTreeSet<String>> = FIRST
        .split("ARRAY[")
        .skip(1)
        .map(|list| {
            list.split(']').next().unwrap().split('\'').skip(1).step_by(2).map(str::to_owned).collect()
        })
        .collect();
    assert_eq!(listed, [functions, relations], "what is listed in sql/first.sql, and what there is");
}

#[test]
fn what_is_in_the_way_is_named_and_a_way_out() {
    let mut client = database();
    let refused = |client: &mut Client, sql: &str| {
        let error = db_error(client.simple_query(sql));
        assert_eq!(error.code().code(), "42710", "{error:?}");
        let hint = error.hint().unwrap_or_default().to_owned();
        assert!(hint.contains("CREATE EXTENSION secretlink SCHEMA"), "{error:?}");
        (error.detail().unwrap_or_default().to_owned(), hint)
    };
    // The other dblink.
    client.batch_execute("CREATE EXTENSION dblink").unwrap();
    let (detail, hint) = refused(&mut client, "CREATE EXTENSION secretlink");
    assert_eq!(detail, "In the way: extension dblink.");
    client.batch_execute(hint["Choose a schema of its own: ".len()..].trim_end_matches('.')).unwrap();
    client.batch_execute("DROP EXTENSION secretlink; DROP EXTENSION dblink; DROP SCHEMA secretlink").unwrap();

    // Somebody's glue: the very same function, others of its name, views.
    for (object, told) in [
        (
            "FUNCTION get_secret_value(text, text, text) RETURNS json LANGUAGE sql AS 'SELECT NULL::json'",
            "function get_secret_value(text,text,text)",
        ),
        (
            "FUNCTION get_secret_value(text) RETURNS json LANGUAGE sql AS 'SELECT NULL::json'",
            "function get_secret_value(text)",
        ),
        ("FUNCTION dblink_exec(int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "function dblink_exec(integer)"),
        ("PROCEDURE sync_role(name) LANGUAGE sql AS ''", "function sync_role(name)"),
        ("TABLE secret_cache (a int)", "relation secret_cache"),
        ("TYPE dblink_pkey_results AS (a int)", "type dblink_pkey_results"),
    ] {
        client.batch_execute(&format!("CREATE {object}")).unwrap();
        assert_eq!(refused(&mut client, "CREATE EXTENSION secretlink").0, format!("In the way: {told}."));
        let named = object.split(" RETURNS").next().unwrap().split(" LANGUAGE").next().unwrap();
        let named =
            if named.starts_with("T") { named.rsplit_once(" (").map_or(named, |(n, _)| n) } else { named };
        let named = named.split(" AS").next().unwrap();
        client.batch_execute(&format!("DROP {named}")).unwrap();
    }

    // Many of them, in a schema with a name that needs quotes, which is the one that the hint would choose.
    client.batch_execute("CREATE SCHEMA \"Odd 'one\"; CREATE SCHEMA secretlink").unwrap();
    for number in 0..25 {
        let arguments = vec!["int"; number].join(", ");
        client
            .batch_execute(&format!(
                "CREATE FUNCTION \"Odd 'one\".dblink({arguments}) RETURNS int LANGUAGE sql AS 'SELECT 1';
                 CREATE FUNCTION secretlink.dblink({arguments}) RETURNS int LANGUAGE sql AS 'SELECT 1'"
            ))
            .unwrap();
    }
    let (detail, _) = refused(&mut client, "CREATE EXTENSION secretlink SCHEMA \"Odd 'one\"");
    assert!(detail.ends_with(", and others.") && detail.matches("dblink(").count() == 20, "{detail}");
    let (_, hint) = refused(&mut client, "CREATE EXTENSION secretlink SCHEMA secretlink");
    assert!(hint.contains("SCHEMA aws_secrets"), "{hint}");
    // What is elsewhere is in nobody's way.
    client.batch_execute("CREATE EXTENSION secretlink").unwrap();
    let left: i64 = client
        .query_one("SELECT count(*) FROM pg_proc WHERE proname = 'secretlink_look_first'", &[])
        .unwrap()
        .get(0);
    assert_eq!(left, 0, "the script takes its first function away");
}
