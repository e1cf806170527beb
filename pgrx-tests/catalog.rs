//! What CREATE EXTENSION leaves in the catalogs, which is a contract.

#[pgrx::pg_schema]
mod tests {
    use super::super::{text, texts};
    use pgrx::prelude::*;

    /// The functions of the extension but for the tests'.
    const OURS: &str = "
        FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
          AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')
          AND p.pronamespace <> 'tests'::regnamespace";

    fn of_ours(expression: &str) -> Vec<String> {
        texts(&format!("SELECT DISTINCT ({expression})::text COLLATE \"C\" {OURS} ORDER BY 1"))
    }

    /// Each function: arguments, result, volatility, strictness, parallel safety, and whether everybody may call it.
    ///
    /// dblink's are STRICT, as contrib's; the others tell NULL from nothing given. Nothing is planned as if it did not
    /// matter when and how often it is called, or in a parallel worker.
    #[pg_test]
    fn functions() {
        let found = of_ours(
            "format('%s(%s) %s %s %s %s%s', proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
                    provolatile, proisstrict, proparallel,
                    CASE WHEN has_function_privilege('public', p.oid, 'EXECUTE') THEN ' public' ELSE '' END)",
        );
        assert_eq!(
            found,
            [
                "check_all_role_sync() TABLE(role name, secret_id text, state text, version_id text, last_error text) v t u",
                "check_role_sync(role name) text v f u",
                "check_rotation(secret_id text, strategy text DEFAULT NULL::text, master_secret_id text DEFAULT NULL::text) TABLE(item text, ok boolean, detail text, hint text) v f r",
                "connect_with_iam(remote_host text, remote_db text, remote_user text, remote_port integer DEFAULT 5432, region text DEFAULT NULL::text, connection_name text DEFAULT 'remote_conn'::text, options text DEFAULT NULL::text, fail boolean DEFAULT true) text v f r",
                "connect_with_secret(secret_name text, remote_host text DEFAULT NULL::text, remote_db text DEFAULT NULL::text, remote_user text DEFAULT NULL::text, remote_port integer DEFAULT NULL::integer, connection_name text DEFAULT 'remote_conn'::text, options text DEFAULT NULL::text, fail boolean DEFAULT true) text v f r",
                "create_role_with_secret(role name, secret_id text, password_length integer DEFAULT 32) text v f u",
                "create_secret(name text, secret json, description text DEFAULT NULL::text, kms_key_id text DEFAULT NULL::text) text v f u",
                "dblink(connname text, sql text) SETOF record v t r public",
                "dblink(connname text, sql text, fail boolean) SETOF record v t r public",
                "dblink(sql text) SETOF record v t r public",
                "dblink(sql text, fail boolean) SETOF record v t r public",
                "dblink_build_sql_delete(relname text, primary_key_attnums int2vector, num_primary_key_atts integer, tgt_pk_att_vals_array text[]) text v t r public",
                "dblink_build_sql_insert(relname text, primary_key_attnums int2vector, num_primary_key_atts integer, src_pk_att_vals_array text[], tgt_pk_att_vals_array text[]) text v t r public",
                "dblink_build_sql_update(relname text, primary_key_attnums int2vector, num_primary_key_atts integer, src_pk_att_vals_array text[], tgt_pk_att_vals_array text[]) text v t r public",
                "dblink_cancel_query(connname text) text v t r public",
                "dblink_close(connname text, cursorname text) text v t r public",
                "dblink_close(connname text, cursorname text, fail boolean) text v t r public",
                "dblink_close(cursorname text) text v t r public",
                "dblink_close(cursorname text, fail boolean) text v t r public",
                "dblink_connect(connname text, connstr text) text v t r public",
                "dblink_connect(connstr text) text v t r public",
                "dblink_connect_u(connname text, connstr text) text v t r",
                "dblink_connect_u(connstr text) text v t r",
                "dblink_current_query() text v t r public",
                "dblink_disconnect() text v t r public",
                "dblink_disconnect(connname text) text v t r public",
                "dblink_error_message(connname text) text v t r public",
                "dblink_exec(connname text, sql text) text v t r public",
                "dblink_exec(connname text, sql text, fail boolean) text v t r public",
                "dblink_exec(sql text) text v t r public",
                "dblink_exec(sql text, fail boolean) text v t r public",
                "dblink_fdw_validator(options text[], catalog oid) void v t s public",
                "dblink_fetch(connname text, cursorname text, howmany integer) SETOF record v t r public",
                "dblink_fetch(connname text, cursorname text, howmany integer, fail boolean) SETOF record v t r public",
                "dblink_fetch(cursorname text, howmany integer) SETOF record v t r public",
                "dblink_fetch(cursorname text, howmany integer, fail boolean) SETOF record v t r public",
                "dblink_get_connections() text[] v t r public",
                "dblink_get_notify(OUT notify_name text, OUT be_pid integer, OUT extra text) SETOF record v t r public",
                "dblink_get_notify(conname text, OUT notify_name text, OUT be_pid integer, OUT extra text) SETOF record v t r public",
                "dblink_get_pkey(relname text) SETOF dblink_pkey_results v t r public",
                "dblink_get_result(connname text) SETOF record v t r public",
                "dblink_get_result(connname text, fail boolean) SETOF record v t r public",
                "dblink_is_busy(connname text) integer v t r public",
                "dblink_open(connname text, cursorname text, sql text) text v t r public",
                "dblink_open(connname text, cursorname text, sql text, fail boolean) text v t r public",
                "dblink_open(cursorname text, sql text) text v t r public",
                "dblink_open(cursorname text, sql text, fail boolean) text v t r public",
                "dblink_send_query(connname text, sql text) integer v t r public",
                "describe_secret(secret_id text) TABLE(arn text, name text, version_id text, stages text[], created timestamp with time zone, owning_service text, rotation_enabled boolean, next_rotation timestamp with time zone, last_rotated timestamp with time zone, last_changed timestamp with time zone, last_accessed timestamp with time zone, deleted timestamp with time zone, primary_region text, kms_key_id text, description text) v f r",
                "forget_all_secrets() integer v t r",
                "forget_secret(secret_id text) integer v f r",
                "get_secret_binary(secret_id text, version_stage text DEFAULT NULL::text, version_id text DEFAULT NULL::text) bytea v f r",
                "get_secret_field(secret_id text, field text, version_stage text DEFAULT NULL::text, version_id text DEFAULT NULL::text) text v f r",
                "get_secret_string(secret_id text, version_stage text DEFAULT NULL::text, version_id text DEFAULT NULL::text) text v f r",
                "get_secret_value(secret_id text, version_stage text DEFAULT NULL::text, version_id text DEFAULT NULL::text) json v f r",
                "iam_auth_token(host text, username text, port integer DEFAULT 5432, region text DEFAULT NULL::text) text v f r",
                "list_secrets(name_prefix text DEFAULT NULL::text) TABLE(name text, arn text, description text, owning_service text, rotation_enabled boolean, next_rotation timestamp with time zone, last_rotated timestamp with time zone, last_changed timestamp with time zone, last_accessed timestamp with time zone, created timestamp with time zone, deleted timestamp with time zone, primary_region text, kms_key_id text) v f r",
                "next_rotations(schedule text, duration text DEFAULT NULL::text, after timestamp with time zone DEFAULT now(), count integer DEFAULT 5) SETOF tstzrange s f s",
                "put_secret_binary(secret_id text, secret bytea, version_stages text[] DEFAULT '{AWSCURRENT}'::text[]) text v f u",
                "put_secret_field(secret_id text, field text, value text) text v f u",
                "put_secret_string(secret_id text, secret text, version_stages text[] DEFAULT '{AWSCURRENT}'::text[]) text v f u",
                "put_secret_value(secret_id text, secret json, version_stages text[] DEFAULT '{AWSCURRENT}'::text[]) text v f u",
                "refresh_secret(secret_id text) text v f r",
                "remote_connection() TABLE(name text, host text, port integer, database text, username text, secret text, tls_version text, tls_cipher text, backend_pid integer, state text, in_transaction boolean, connected_at timestamp with time zone, queries bigint, rows bigint, bytes bigint) v t r public",
                "role_sync_states() TABLE(role name, secret_id text, state text, version_id text, synced_at timestamp with time zone, last_error text) v t r",
                "rotate_secret(secret_id text, strategy text DEFAULT NULL::text, master_secret_id text DEFAULT NULL::text) text v f u",
                "schedule_rotation(secret_id text, schedule text, duration text DEFAULT NULL::text, strategy text DEFAULT NULL::text, master_secret_id text DEFAULT NULL::text) timestamp with time zone v f u",
                "secret_cache_entries() TABLE(secret_id text, stage text, version_id text, state text, age interval, expires timestamp with time zone, hits bigint, region text, role_arn text, last_error text, kind text) v t r",
                "secretlink_check() TABLE(item text, ok boolean, detail text, hint text) v t r",
                "secretlink_check(host text, username text, port integer DEFAULT 5432, region text DEFAULT NULL::text, options text DEFAULT NULL::text) TABLE(item text, ok boolean, detail text, hint text) v f r",
                "secretlink_check(secret_id text) TABLE(item text, ok boolean, detail text, hint text) v f r",
                "secretlink_fdw_handler() fdw_handler v t s public",
                "secretlink_fdw_validator(options text[], catalog oid) void v t s public",
                "secretlink_stat_aws_calls() TABLE(operation text, outcome text, calls bigint, total_ms double precision, max_ms double precision, latency_ms_le double precision[], latency_ms_bucket bigint[]) v t r",
                "secretlink_stat_counters() TABLE(cache_hits bigint, cache_misses bigint, cache_waits bigint, cache_stale_serves bigint, cache_refreshes bigint, aws_calls bigint, aws_failures bigint, connections_opened bigint, connections_failed bigint, connections_retried bigint, rows_received bigint, bytes_received bigint, iam_tokens_signed bigint, rotations_succeeded bigint, rotations_failed bigint, stats_reset timestamp with time zone) v t r",
                "secretlink_stats_reset() void v t r",
                "sync_role(role name, secret_id text) void v f u",
                "try_connect_with_secret(secret_name text, remote_host text DEFAULT NULL::text, remote_db text DEFAULT NULL::text, remote_user text DEFAULT NULL::text, remote_port integer DEFAULT NULL::integer, connection_name text DEFAULT 'remote_conn'::text, options text DEFAULT NULL::text) TABLE(connected boolean, sqlstate text, message text, detail text, hint text) v f r",
                "unschedule_rotation(secret_id text) boolean v f u",
                "unsync_role(role name) void v f u",
            ]
        );
        // With the owner's rights runs only what contrib runs so, and that is revoked from PUBLIC.
        let special = of_ours("CASE WHEN prosecdef OR proleakproof THEN proname ELSE '' END");
        // So do the functions that write to a table of the extension.
        assert_eq!(special, ["", "dblink_connect_u", "schedule_rotation", "unschedule_rotation"]);
    }

    #[pg_test]
    fn every_function_has_a_comment() {
        let comments = of_ours(
            "CASE WHEN coalesce(obj_description(p.oid, 'pg_proc'), '') = '' THEN p.oid::regprocedure END",
        );
        assert!(comments.iter().all(|function| function == "NULL"), "{comments:?}");
    }

    #[pg_test]
    fn views_and_who_may_read_them() {
        let found = texts(
            "SELECT format('%s %s %s', c.relname, has_table_privilege('public', c.oid, 'SELECT'),
                           has_table_privilege('pg_monitor', c.oid, 'SELECT'))
             FROM pg_depend d JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
             WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
               AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')
             ORDER BY 1",
        );
        assert_eq!(
            found,
            [
                "remote_connections t t",
                "role_sync f t",
                "rotation_history f t",
                "rotation_plan f f",
                "rotation_run f f",
                "rotation_run_run_seq f f",
                "rotation_schedule f t",
                "secret_cache f t",
                "secretlink_aws_calls f t",
                "secretlink_stats f t"
            ]
        );
        let without = texts(
            "SELECT attname::text FROM pg_attribute
             WHERE attrelid IN ('role_sync'::regclass, 'secret_cache'::regclass, 'remote_connections'::regclass,
                                'secretlink_stats'::regclass, 'secretlink_aws_calls'::regclass,
                                'rotation_history'::regclass, 'rotation_schedule'::regclass)
               AND attnum > 0 AND coalesce(col_description(attrelid, attnum), '') = ''",
        );
        assert!(without.is_empty(), "{without:?}");
    }

    /// A later version of the library must go on having every symbol that an installed schema names.
    #[pg_test]
    fn symbols() {
        assert_eq!(
            of_ours("prosrc"),
            [
                "check_all_role_sync_wrapper",
                "check_iam_login_wrapper",
                "check_role_sync_wrapper",
                "check_rotation_wrapper",
                "check_secret_wrapper",
                "check_wrapper",
                "connect_with_iam_wrapper",
                "connect_with_secret_wrapper",
                "create_role_with_secret_wrapper",
                "create_secret_wrapper",
                "dblink_build_sql_delete_wrapper",
                "dblink_build_sql_insert_wrapper",
                "dblink_build_sql_update_wrapper",
                "dblink_cancel_query_wrapper",
                "dblink_close_named_fail_wrapper",
                "dblink_close_named_wrapper",
                "dblink_close_unnamed_fail_wrapper",
                "dblink_close_unnamed_wrapper",
                "dblink_connect_named_wrapper",
                "dblink_connect_u_named_wrapper",
                "dblink_connect_u_unnamed_wrapper",
                "dblink_connect_unnamed_wrapper",
                "dblink_current_query_wrapper",
                "dblink_disconnect_named_wrapper",
                "dblink_disconnect_unnamed_wrapper",
                "dblink_error_message_wrapper",
                "dblink_exec_named_fail_wrapper",
                "dblink_exec_named_wrapper",
                "dblink_exec_unnamed_fail_wrapper",
                "dblink_exec_unnamed_wrapper",
                "dblink_fdw_validator_wrapper",
                "dblink_fetch_wrapper",
                "dblink_get_connections_wrapper",
                "dblink_get_notify_named_wrapper",
                "dblink_get_notify_unnamed_wrapper",
                "dblink_get_pkey_wrapper",
                "dblink_get_result_wrapper",
                "dblink_is_busy_wrapper",
                "dblink_open_named_fail_wrapper",
                "dblink_open_named_wrapper",
                "dblink_open_unnamed_fail_wrapper",
                "dblink_open_unnamed_wrapper",
                "dblink_record_wrapper",
                "dblink_send_query_wrapper",
                "describe_secret_wrapper",
                "forget_all_secrets_wrapper",
                "forget_secret_wrapper",
                "get_secret_binary_wrapper",
                "get_secret_field_wrapper",
                "get_secret_string_wrapper",
                "get_secret_value_wrapper",
                "iam_auth_token_wrapper",
                "list_secrets_wrapper",
                "next_rotations_wrapper",
                "put_secret_binary_wrapper",
                "put_secret_field_wrapper",
                "put_secret_string_wrapper",
                "put_secret_value_wrapper",
                "refresh_secret_wrapper",
                "remote_connection_wrapper",
                "role_sync_states_wrapper",
                "rotate_secret_wrapper",
                "schedule_rotation_wrapper",
                "secret_cache_entries_wrapper",
                "secretlink_fdw_handler_wrapper",
                "secretlink_fdw_validator_wrapper",
                "secretlink_stat_aws_calls_wrapper",
                "secretlink_stat_counters_wrapper",
                "secretlink_stats_reset_wrapper",
                "sync_role_wrapper",
                "try_connect_with_secret_wrapper",
                "unschedule_rotation_wrapper",
                "unsync_role_wrapper",
            ]
        );
    }

    #[pg_test]
    fn the_extension_stays_where_it_is() {
        let extension = text(
            "SELECT format('%s %s', extrelocatable, extversion) FROM pg_extension WHERE extname = 'secretlink'",
        );
        assert_eq!(extension.as_deref(), Some(concat!("f ", env!("CARGO_PKG_VERSION"))));
        let version = text(
            "SELECT format('%s %s', superuser, trusted) FROM pg_available_extension_versions WHERE name = 'secretlink'",
        );
        assert_eq!(version.as_deref(), Some("t f"));
    }

    #[pg_test]
    fn nothing_but_functions_views_a_type_and_a_wrapper_is_created() {
        let others = texts(
            "SELECT DISTINCT classid::regclass::text COLLATE \"C\" FROM pg_depend
             WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid <> 'pg_proc'::regclass
               AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')
               AND NOT (classid = 'pg_namespace'::regclass AND objid = 'tests'::regnamespace)
             ORDER BY 1",
        );
        // The views; secretlink_fdw; and dblink_pkey_results, which contrib has too.
        assert_eq!(others, ["pg_class", "pg_foreign_data_wrapper", "pg_type"]);
    }
}
