//! Every function and view of the extension, and who may call it.

use crate::ground::{admin, execute, role};
use postgres::Client;
use secretlink_e2e::db_error;
use std::collections::BTreeSet;

/// For everybody, as with contrib dblink: what they lead to is decided elsewhere.
const EVERYBODY: [&str; 24] = [
    "dblink",
    "dblink_build_sql_delete",
    "dblink_build_sql_insert",
    "dblink_build_sql_update",
    "dblink_cancel_query",
    "dblink_close",
    "dblink_connect",
    "dblink_current_query",
    "dblink_disconnect",
    "dblink_error_message",
    "dblink_exec",
    "dblink_fdw_validator",
    "dblink_fetch",
    "dblink_get_connections",
    "dblink_get_notify",
    "dblink_get_pkey",
    "dblink_get_result",
    "dblink_is_busy",
    "dblink_open",
    "dblink_send_query",
    "remote_connection",
    "remote_connections",
    "secretlink_fdw_handler",
    "secretlink_fdw_validator",
];

/// For those who watch the server: members of `pg_monitor`. No value of a secret is in them.
const MONITORS: [&str; 13] = [
    "secretlink_check()",
    "check_all_role_sync",
    "check_role_sync",
    "role_sync",
    "role_sync_states",
    "rotation_history",
    "rotation_schedule",
    "secret_cache",
    "secret_cache_entries",
    "secretlink_aws_calls",
    "secretlink_stat_aws_calls",
    "secretlink_stat_counters",
    "secretlink_stats",
];

/// For superusers, until they grant them.
const SUPERUSERS: [&str; 30] = [
    "secretlink_check(secret_id text)",
    "secretlink_check(host text, username text, port integer, region text, options text)",
    "check_rotation",
    "connect_with_iam",
    "connect_with_secret",
    "create_role_with_secret",
    "create_secret",
    "dblink_connect_u",
    "describe_secret",
    "forget_all_secrets",
    "forget_secret",
    "get_secret_binary",
    "get_secret_field",
    "get_secret_string",
    "get_secret_value",
    "iam_auth_token",
    "list_secrets",
    "next_rotations",
    "put_secret_binary",
    "put_secret_field",
    "put_secret_string",
    "put_secret_value",
    "refresh_secret",
    "rotate_secret",
    "schedule_rotation",
    "secretlink_stats_reset",
    "sync_role",
    "try_connect_with_secret",
    "unschedule_rotation",
    "unsync_role",
];

/// Tables, without a secret in them. As every table, they are for pg_read_all_data, too.
const TABLES: [&str; 3] = ["rotation_plan", "rotation_run", "rotation_run_run_seq"];

/// A statement that uses each, by its name, and arguments where they make a difference: the functions with
/// NULL for every argument, not as a constant, of which the planner knows the result.
pub fn uses(client: &mut Client) -> Vec<(String, String)> {
    let rows = client
        .query(
            "SELECT CASE proname WHEN 'secretlink_check' THEN format('%s(%s)', proname, pg_get_function_identity_arguments(p.oid))
                    ELSE proname::text END, format('SELECT %s.%I(%s)', pronamespace::regnamespace, proname,
                    (SELECT string_agg(format('(SELECT NULL::%s)', format_type(t, NULL)), ', ' ORDER BY n) FROM unnest(proargtypes) WITH ORDINALITY a(t, n)))
             FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
             WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')
             UNION ALL
             SELECT relname::text, format('SELECT * FROM %s.%I', relnamespace::regnamespace, relname)
             FROM pg_depend d JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND relkind <> 'c'
             WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')",
            &[],
        )
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn each_is_for_those_in_the_table() {
    let uses = uses(&mut admin());
    let known: BTreeSet<&str> =
        EVERYBODY.iter().chain(&MONITORS).chain(&SUPERUSERS).chain(&TABLES).copied().collect();
    let found: BTreeSet<&str> = uses.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, known, "who is a new one for? Say so in this file.");

    let (_, mut nobody) = role("nobody");
    let (monitor, mut watcher) = role("monitor");
    execute(&format!("GRANT pg_monitor TO {monitor}"));
    // With NULLs most do nothing, and some find something wrong with them.
    let may = |client: &mut Client, sql: &str| match client.simple_query(sql) {
        Ok(_) => true,
        error @ Err(_) => {
            let error = db_error(error);
            !(error.code().code() == "42501" && error.message().starts_with("permission denied for "))
        }
    };
    for (name, sql) in &uses {
        let name = name.as_str();
        let everybody = EVERYBODY.contains(&name);
        assert_eq!(may(&mut nobody, sql), everybody, "{sql}, by anybody");
        assert_eq!(may(&mut watcher, sql), everybody || MONITORS.contains(&name), "{sql}, by pg_monitor");
    }
}

/// No member of the predefined roles comes near a secret.
#[test]
fn other_predefined_roles_get_nothing() {
    let (role, mut client) = role("predefined");
    let predefined: Vec<String> = admin()
        .query(
            "SELECT rolname::text FROM pg_roles WHERE rolname ~ '^pg_' AND rolname <> 'pg_database_owner'",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(predefined.len() > 5);
    execute(&format!("GRANT {} TO {role}", predefined.join(", ")));
    for (name, sql) in uses(&mut admin()) {
        if SUPERUSERS.contains(&name.as_str()) {
            let outcome = client.simple_query(&sql);
            assert!(outcome.is_err(), "{sql}");
            assert_eq!(db_error(outcome).code().code(), "42501", "{sql}");
        }
    }
}
