-- Before anything is made: is there room for it? Every name that the script gives is in these two lists.
CREATE FUNCTION secretlink_look_first(functions pg_catalog.text[], relations pg_catalog.text[]) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'secretlink_look_first_wrapper';
SELECT secretlink_look_first(
    ARRAY[
        'check_all_role_sync', 'check_role_sync', 'check_rotation', 'connect_with_iam',
        'connect_with_secret', 'create_role_with_secret', 'create_secret', 'dblink', 'dblink_build_sql_delete',
        'dblink_build_sql_insert', 'dblink_build_sql_update', 'dblink_cancel_query',
        'dblink_close', 'dblink_connect', 'dblink_connect_u', 'dblink_current_query',
        'dblink_disconnect', 'dblink_error_message', 'dblink_exec', 'dblink_fdw_validator',
        'dblink_fetch', 'dblink_get_connections', 'dblink_get_notify', 'dblink_get_pkey',
        'dblink_get_result', 'dblink_is_busy', 'dblink_open', 'dblink_send_query',
        'describe_secret', 'forget_all_secrets', 'forget_secret', 'get_secret_binary',
        'get_secret_field', 'get_secret_string', 'get_secret_value', 'iam_auth_token',
        'list_secrets', 'next_rotations', 'put_secret_binary', 'put_secret_field',
        'put_secret_string', 'put_secret_value', 'refresh_secret', 'remote_connection',
        'role_sync_states', 'rotate_secret', 'schedule_rotation', 'secret_cache_entries',
        'secretlink_check', 'secretlink_fdw_handler', 'secretlink_fdw_validator',
        'secretlink_stat_aws_calls', 'secretlink_stat_counters', 'secretlink_stats_reset',
        'sync_role', 'try_connect_with_secret', 'unschedule_rotation', 'unsync_role'
    ],
    ARRAY[
        'dblink_pkey_results', 'remote_connections', 'role_sync', 'rotation_history',
        'rotation_plan', 'rotation_run', 'rotation_run_run_seq', 'rotation_schedule',
        'secret_cache', 'secretlink_aws_calls', 'secretlink_stats'
    ]
);
DROP FUNCTION secretlink_look_first(pg_catalog.text[], pg_catalog.text[]);
