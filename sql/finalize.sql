-- Who may call what, and what each function is for. Runs after everything else is created.

-- Secrets are for those to whom the DBA gives them.
REVOKE ALL ON FUNCTION get_secret_value(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION get_secret_string(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION get_secret_binary(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION describe_secret(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION create_secret(text, json, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION put_secret_value(text, json, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION get_secret_field(text, text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION put_secret_field(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION put_secret_string(text, text, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION put_secret_binary(text, bytea, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION list_secrets(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION try_connect_with_secret(text, text, text, text, int, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION connect_with_secret(text, text, text, text, int, text, text, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION connect_with_iam(text, text, text, int, text, text, text, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION iam_auth_token(text, text, int, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION dblink_connect_u(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION dblink_connect_u(text, text) FROM PUBLIC;

COMMENT ON FUNCTION get_secret_value(text, text, text) IS
    'value of a secret in AWS Secrets Manager, which must be JSON; EXECUTE reaches every secret that the identity of this server can read';
COMMENT ON FUNCTION get_secret_string(text, text, text) IS
    'value of a secret in AWS Secrets Manager, as text';
COMMENT ON FUNCTION get_secret_binary(text, text, text) IS
    'value of a binary secret in AWS Secrets Manager';
COMMENT ON FUNCTION describe_secret(text) IS
    'versions of a secret in AWS Secrets Manager and what is known of it besides its value';
COMMENT ON FUNCTION create_secret(text, json, text, text) IS
    'creates a secret in AWS Secrets Manager and returns its ARN';
COMMENT ON FUNCTION put_secret_value(text, json, text[]) IS
    'stores a new version of a secret in AWS Secrets Manager, which is JSON, and returns the version id';
COMMENT ON FUNCTION get_secret_field(text, text, text, text) IS
    'one field of a secret in AWS Secrets Manager that is a JSON object, as text';
COMMENT ON FUNCTION put_secret_field(text, text, text) IS
    'changes one field of a secret in AWS Secrets Manager that is a JSON object, keeps all others, and returns the version id';
COMMENT ON FUNCTION put_secret_string(text, text, text[]) IS
    'stores a new version of a secret in AWS Secrets Manager, which is any text, and returns the version id';
COMMENT ON FUNCTION put_secret_binary(text, bytea, text[]) IS
    'stores a new version of a secret in AWS Secrets Manager, which is bytes, and returns the version id';
COMMENT ON FUNCTION list_secrets(text) IS
    'secrets in AWS Secrets Manager whose name begins with a text, without their values';
COMMENT ON FUNCTION connect_with_secret(text, text, text, text, int, text, text, boolean) IS
    'opens a connection to another PostgreSQL server with the password from a secret; arguments go before options, and options before the secret';
COMMENT ON FUNCTION try_connect_with_secret(text, text, text, text, int, text, text) IS
    'does what connect_with_secret does, and returns a failure as columns instead of raising it';

COMMENT ON FUNCTION connect_with_iam(text, text, text, int, text, text, text, boolean) IS
    'opens a connection to a database of RDS, Aurora or Aurora DSQL with an IAM token';
COMMENT ON FUNCTION iam_auth_token(text, text, int, text) IS
    'token with which a user logs in at a database of RDS, Aurora or Aurora DSQL, good for 15 minutes';

COMMENT ON FUNCTION remote_connection() IS
    'connections of this session to other PostgreSQL servers: see the view remote_connections';
COMMENT ON VIEW remote_connections IS
    'connections of this session to other PostgreSQL servers';
COMMENT ON COLUMN remote_connections.name IS 'name of the connection; NULL if it has no name';
COMMENT ON COLUMN remote_connections.host IS 'host, or directory of the socket, as it was asked for';
COMMENT ON COLUMN remote_connections.port IS 'port of the remote server';
COMMENT ON COLUMN remote_connections.database IS 'remote database';
COMMENT ON COLUMN remote_connections.username IS 'remote role';
COMMENT ON COLUMN remote_connections.secret IS 'secret with which the connection was made; NULL if there was none';
COMMENT ON COLUMN remote_connections.tls_version IS 'version of TLS; NULL if the connection is not encrypted';
COMMENT ON COLUMN remote_connections.tls_cipher IS 'cipher suite of TLS; NULL if the connection is not encrypted';
COMMENT ON COLUMN remote_connections.backend_pid IS 'process id at the remote server of the backend that serves the connection';
COMMENT ON COLUMN remote_connections.state IS
    'idle; active, with a query; pending, with results of dblink_send_query to be read; or lost';
COMMENT ON COLUMN remote_connections.in_transaction IS
    'whether the connection was in a transaction, or in a failed one, after its last query';
COMMENT ON COLUMN remote_connections.connected_at IS 'when the connection was made';
COMMENT ON COLUMN remote_connections.queries IS 'number of query strings sent on the connection';
COMMENT ON COLUMN remote_connections.rows IS 'number of rows received on the connection';
COMMENT ON COLUMN remote_connections.bytes IS 'bytes of the rows received on the connection, not counting encryption';

COMMENT ON FUNCTION dblink_connect(text) IS
    'opens the unnamed connection to another PostgreSQL server';
COMMENT ON FUNCTION dblink_connect(text, text) IS
    'opens a named connection to another PostgreSQL server';
COMMENT ON FUNCTION dblink_connect_u(text) IS
    'opens the unnamed connection, without the rule that a password must be used';
COMMENT ON FUNCTION dblink_connect_u(text, text) IS
    'opens a named connection, without the rule that a password must be used';
COMMENT ON FUNCTION dblink_disconnect() IS
    'closes the unnamed connection';
COMMENT ON FUNCTION dblink_disconnect(text) IS
    'closes a named connection';
COMMENT ON FUNCTION dblink_get_connections() IS
    'names of the open named connections';
COMMENT ON FUNCTION dblink(text, text) IS
    'runs a query on a connection, given by name or by connection string, and returns its rows';
COMMENT ON FUNCTION dblink(text, text, boolean) IS
    'runs a query on a connection, given by name or by connection string; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink(text) IS
    'runs a query on the unnamed connection and returns its rows';
COMMENT ON FUNCTION dblink(text, boolean) IS
    'runs a query on the unnamed connection; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink_exec(text, text) IS
    'runs a command on a connection, given by name or by connection string, and returns its command tag';
COMMENT ON FUNCTION dblink_exec(text, text, boolean) IS
    'runs a command on a connection, given by name or by connection string; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink_exec(text) IS
    'runs a command on the unnamed connection and returns its command tag';
COMMENT ON FUNCTION dblink_exec(text, boolean) IS
    'runs a command on the unnamed connection; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink_open(text, text) IS
    'opens a cursor for a query on the unnamed connection';
COMMENT ON FUNCTION dblink_open(text, text, boolean) IS
    'opens a cursor for a query on the unnamed connection; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink_open(text, text, text) IS
    'opens a cursor for a query on a named connection';
COMMENT ON FUNCTION dblink_open(text, text, text, boolean) IS
    'opens a cursor for a query on a named connection; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink_close(text) IS
    'closes a cursor on the unnamed connection';
COMMENT ON FUNCTION dblink_close(text, boolean) IS
    'closes a cursor on the unnamed connection; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink_close(text, text) IS
    'closes a cursor on a named connection';
COMMENT ON FUNCTION dblink_close(text, text, boolean) IS
    'closes a cursor on a named connection; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink_fetch(text, int) IS
    'returns rows of a cursor on the unnamed connection';
COMMENT ON FUNCTION dblink_fetch(text, int, boolean) IS
    'returns rows of a cursor on the unnamed connection; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink_fetch(text, text, int) IS
    'returns rows of a cursor on a named connection';
COMMENT ON FUNCTION dblink_fetch(text, text, int, boolean) IS
    'returns rows of a cursor on a named connection; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink_send_query(text, text) IS
    'sends a query on a named connection without waiting for its results';
COMMENT ON FUNCTION dblink_is_busy(text) IS
    'whether the next result of the query that was sent is still to be waited for';
COMMENT ON FUNCTION dblink_get_result(text) IS
    'returns the next result of the query that was sent; nothing if there is no more';
COMMENT ON FUNCTION dblink_get_result(text, boolean) IS
    'returns the next result of the query that was sent; fail => false turns a remote error into a notice';
COMMENT ON FUNCTION dblink_cancel_query(text) IS
    'asks the remote server to stop what it does for a named connection';
COMMENT ON FUNCTION dblink_error_message(text) IS
    'what went wrong with the last query on a named connection, or OK';
COMMENT ON FUNCTION dblink_get_notify() IS
    'notifications that came on the unnamed connection';
COMMENT ON FUNCTION dblink_get_notify(text) IS
    'notifications that came on a named connection';
COMMENT ON FUNCTION dblink_get_pkey(text) IS
    'columns of the primary key of a local table';
COMMENT ON FUNCTION dblink_build_sql_insert(text, int2vector, int, text[], text[]) IS
    'writes the INSERT of a local row, with other values in its key';
COMMENT ON FUNCTION dblink_build_sql_update(text, int2vector, int, text[], text[]) IS
    'writes the UPDATE that makes a row like a local one, with other values in its key';
COMMENT ON FUNCTION dblink_build_sql_delete(text, int2vector, int, text[]) IS
    'writes the DELETE of the row with a key';
COMMENT ON FUNCTION dblink_current_query() IS
    'text of the statement that the client sent';
COMMENT ON TYPE dblink_pkey_results IS
    'a column of a primary key: what dblink_get_pkey returns';

COMMENT ON FUNCTION dblink_fdw_validator(text[], oid) IS
    'checks options of foreign servers and user mappings as contrib dblink does';
COMMENT ON FUNCTION secretlink_fdw_handler() IS
    'handler of secretlink_fdw, which says that it has no foreign tables';
COMMENT ON FUNCTION secretlink_fdw_validator(text[], oid) IS
    'checks options of servers of secretlink_fdw and of their user mappings';
COMMENT ON FOREIGN DATA WRAPPER secretlink_fdw IS
    'servers to connect to by name, with a password from a user mapping or a secret';
-- Password sync. Who may tie a role to a secret decides what is written to it.
REVOKE ALL ON FUNCTION sync_role(name, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION unsync_role(name) FROM PUBLIC;
REVOKE ALL ON FUNCTION check_role_sync(name) FROM PUBLIC;
REVOKE ALL ON FUNCTION check_all_role_sync() FROM PUBLIC;
REVOKE ALL ON FUNCTION create_role_with_secret(name, text, int) FROM PUBLIC;
REVOKE ALL ON FUNCTION role_sync_states() FROM PUBLIC;
REVOKE ALL ON role_sync FROM PUBLIC;
GRANT EXECUTE ON FUNCTION check_role_sync(name) TO pg_monitor;
GRANT EXECUTE ON FUNCTION check_all_role_sync() TO pg_monitor;
GRANT EXECUTE ON FUNCTION role_sync_states() TO pg_monitor;
GRANT SELECT ON role_sync TO pg_monitor;

COMMENT ON FUNCTION sync_role(name, text) IS
    'keeps the password of a role in a secret of AWS Secrets Manager from now on';
COMMENT ON FUNCTION unsync_role(name) IS
    'stops keeping the password of a role in a secret; the secret stays as it is';
COMMENT ON FUNCTION check_role_sync(name) IS
    'asks AWS Secrets Manager whether the secret of a role holds its password: in_sync, pending, drifted, no_secret, never_set, no_password, tied or unknown';
COMMENT ON FUNCTION check_all_role_sync() IS
    'asks AWS Secrets Manager of every synced role whether its secret holds its password';
COMMENT ON FUNCTION create_role_with_secret(name, text, int) IS
    'creates a role with a random password, and a secret that holds it, in one transaction';
COMMENT ON FUNCTION role_sync_states() IS
    'rows of the view role_sync';
COMMENT ON VIEW role_sync IS
    'synced roles, their secrets, and whether role and secret had the same password when the server last looked';
COMMENT ON COLUMN role_sync.role IS 'name of the role';
COMMENT ON COLUMN role_sync.secret_id IS 'secret of the role: from its security label, or from secretlink.sync_secret_template';
COMMENT ON COLUMN role_sync.state IS 'whether the secret holds the role''s password: in_sync, pending, drifted, no_secret, never_set, no_password, tied or unknown';
COMMENT ON COLUMN role_sync.version_id IS 'version of the secret that last held the role''s password';
COMMENT ON COLUMN role_sync.synced_at IS 'when the server last knew that the secret held the role''s password';
COMMENT ON COLUMN role_sync.last_error IS 'why the role is not in sync';

-- What has been done. As for PostgreSQL's own: pg_monitor reads, and a superuser, or whom he lets, resets.
REVOKE ALL ON FUNCTION secretlink_stat_counters() FROM PUBLIC;
REVOKE ALL ON FUNCTION secretlink_stat_aws_calls() FROM PUBLIC;
REVOKE ALL ON FUNCTION secretlink_stats_reset() FROM PUBLIC;
REVOKE ALL ON secretlink_stats FROM PUBLIC;
REVOKE ALL ON secretlink_aws_calls FROM PUBLIC;
GRANT EXECUTE ON FUNCTION secretlink_stat_counters() TO pg_monitor;
GRANT EXECUTE ON FUNCTION secretlink_stat_aws_calls() TO pg_monitor;
GRANT SELECT ON secretlink_stats TO pg_monitor;
GRANT SELECT ON secretlink_aws_calls TO pg_monitor;

COMMENT ON FUNCTION secretlink_stat_counters() IS
    'row of the view secretlink_stats';
COMMENT ON FUNCTION secretlink_stat_aws_calls() IS
    'rows of the view secretlink_aws_calls';
COMMENT ON FUNCTION secretlink_stats_reset() IS
    'sets everything in secretlink_stats and secretlink_aws_calls to zero';
COMMENT ON VIEW secretlink_stats IS
    'what secretlink has done on this server since stats_reset, or in this session if secretlink is not preloaded';
COMMENT ON COLUMN secretlink_stats.cache_hits IS 'secrets that the cache had';
COMMENT ON COLUMN secretlink_stats.cache_misses IS 'secrets that AWS had to be asked for';
COMMENT ON COLUMN secretlink_stats.cache_waits IS 'secrets that another session was asking AWS for already';
COMMENT ON COLUMN secretlink_stats.cache_stale_serves IS
    'secrets given out after their time because AWS could not be asked';
COMMENT ON COLUMN secretlink_stats.cache_refreshes IS
    'secrets that were asked for again before their time was over';
COMMENT ON COLUMN secretlink_stats.aws_calls IS 'calls to AWS, which secretlink_aws_calls shows one by one';
COMMENT ON COLUMN secretlink_stats.aws_failures IS 'calls to AWS that failed; cancelled calls do not count';
COMMENT ON COLUMN secretlink_stats.connections_opened IS 'connections made to other servers';
COMMENT ON COLUMN secretlink_stats.connections_failed IS
    'connections to other servers that could not be made or were cancelled';
COMMENT ON COLUMN secretlink_stats.connections_retried IS
    'connections tried again with another version of their secret, because a server did not accept the password';
COMMENT ON COLUMN secretlink_stats.rows_received IS 'rows received from other servers';
COMMENT ON COLUMN secretlink_stats.bytes_received IS 'bytes of the rows received from other servers, not counting encryption';
COMMENT ON COLUMN secretlink_stats.iam_tokens_signed IS 'IAM tokens signed for logins at other servers';
COMMENT ON COLUMN secretlink_stats.stats_reset IS
    'when all counters were zero: at the start of the server, or at the last secretlink_stats_reset()';
COMMENT ON VIEW secretlink_aws_calls IS
    'calls to AWS since the last reset, by operation and outcome';
COMMENT ON COLUMN secretlink_aws_calls.operation IS 'operation, as AWS calls it';
COMMENT ON COLUMN secretlink_aws_calls.outcome IS
    'success, throttled, denied, not_found, unreachable, timed_out, server_fault, credentials, cancelled or error';
COMMENT ON COLUMN secretlink_aws_calls.calls IS 'number of calls; the attempts of one call count as one';
COMMENT ON COLUMN secretlink_aws_calls.total_ms IS 'time that all these calls took together, in milliseconds';
COMMENT ON COLUMN secretlink_aws_calls.max_ms IS 'time that the longest of these calls took, in milliseconds';
COMMENT ON COLUMN secretlink_aws_calls.latency_ms_le IS 'limits in milliseconds that latency_ms_bucket counts by; the last limit is infinite';
COMMENT ON COLUMN secretlink_aws_calls.latency_ms_bucket IS
    'number of calls that took no longer than the limit at the same place of latency_ms_le';

-- Whether all is well is for pg_monitor to see. With a secret it is asked for, with the rights of this server.
REVOKE ALL ON FUNCTION secretlink_check() FROM PUBLIC;
REVOKE ALL ON FUNCTION secretlink_check(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION secretlink_check(text, text, integer, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION secretlink_check() TO pg_monitor;
COMMENT ON FUNCTION secretlink_check() IS
    'what works of all that secretlink needs, and what does not';
COMMENT ON FUNCTION secretlink_check(text) IS
    'what works of all that secretlink needs, and whether a secret can be read and written, without writing';
COMMENT ON FUNCTION secretlink_check(text, text, integer, text, text) IS
    'what works of all that a login with an IAM token needs: region, identity, token, TLS, and the password that the server asks for';

-- The cache of secrets.
REVOKE ALL ON FUNCTION refresh_secret(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION forget_secret(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION forget_all_secrets() FROM PUBLIC;
REVOKE ALL ON FUNCTION secret_cache_entries() FROM PUBLIC;
REVOKE ALL ON secret_cache FROM PUBLIC;
GRANT EXECUTE ON FUNCTION secret_cache_entries() TO pg_monitor;
GRANT SELECT ON secret_cache TO pg_monitor;

COMMENT ON FUNCTION refresh_secret(text) IS
    'reads a secret again, even if its cached value is fresh, and returns the version id now cached';
COMMENT ON FUNCTION forget_secret(text) IS
    'wipes all cached values of a secret, and returns how many there were';
COMMENT ON FUNCTION forget_all_secrets() IS
    'wipes the cache of secrets and IAM tokens, and returns how many values there were';
COMMENT ON FUNCTION secret_cache_entries() IS
    'rows of the view secret_cache';
COMMENT ON VIEW secret_cache IS
    'secrets and IAM tokens that the server has cached, without their values';
COMMENT ON COLUMN secret_cache.secret_id IS
    'the secret, as it was asked for; of an IAM token, who logs in where with it: user@host:port';
COMMENT ON COLUMN secret_cache.stage IS 'the staging label asked for; NULL if a version was asked for by its id';
COMMENT ON COLUMN secret_cache.version_id IS 'the version that is cached, or else that was asked for; of an IAM token, when it was signed';
COMMENT ON COLUMN secret_cache.state IS 'fresh; stale: too old, and used only if AWS cannot be reached; expired: not used any more; failed: no value; asking: AWS is being asked';
COMMENT ON COLUMN secret_cache.age IS 'time since AWS was asked for the value';
COMMENT ON COLUMN secret_cache.expires IS 'when AWS must be asked again';
COMMENT ON COLUMN secret_cache.hits IS 'how often the value was taken from the cache';
COMMENT ON COLUMN secret_cache.region IS
    'region, where a foreign server names one; of an IAM token, the one that it was signed for';
COMMENT ON COLUMN secret_cache.role_arn IS 'role, where a foreign server names one';
COMMENT ON COLUMN secret_cache.kind IS 'secret or iam_token';
COMMENT ON COLUMN secret_cache.last_error IS 'why the last request to AWS failed, if it did';

REVOKE ALL ON FUNCTION rotate_secret(text, text, text) FROM PUBLIC;
REVOKE ALL ON rotation_history FROM PUBLIC;
GRANT SELECT ON rotation_history TO pg_monitor;

COMMENT ON FUNCTION rotate_secret(text, text, text) IS
    'gives the role of a secret a new password, and returns the version of the secret that is then current';
COMMENT ON TABLE rotation_run IS 'rotations under way and over: see the view rotation_history';
COMMENT ON VIEW rotation_history IS 'rotations under way and over';
COMMENT ON COLUMN rotation_history.run IS 'number of the rotation';
COMMENT ON COLUMN rotation_history.secret_id IS 'the secret, as it was named';
COMMENT ON COLUMN rotation_history.cause IS 'what began the rotation: call, if somebody called rotate_secret, or schedule';
COMMENT ON COLUMN rotation_history.strategy IS 'single_user, alternating_users or managed';
COMMENT ON COLUMN rotation_history.step IS 'last step that the rotation came to: createSecret, setSecret, testSecret or finishSecret';
COMMENT ON COLUMN rotation_history.from_version_id IS 'version of the secret that was current before the rotation';
COMMENT ON COLUMN rotation_history.version_id IS 'version of the secret that holds the new password';
COMMENT ON COLUMN rotation_history.attempts IS 'number of attempts of the rotation';
COMMENT ON COLUMN rotation_history.outcome IS
    'how the rotation ended: succeeded, failed, rolled_back, abandoned or managed; NULL if it has not ended';
COMMENT ON COLUMN rotation_history.error IS 'why the rotation did not succeed, or has to wait';
COMMENT ON COLUMN rotation_history.started_at IS 'when the rotation began';
COMMENT ON COLUMN rotation_history.finished_at IS 'when the rotation ended; NULL if it has not ended';
COMMENT ON COLUMN secretlink_stats.rotations_succeeded IS 'rotations that gave a secret a new password';
COMMENT ON COLUMN secretlink_stats.rotations_failed IS 'rotations that did not give a secret a new password';

REVOKE ALL ON FUNCTION check_rotation(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION schedule_rotation(text, text, text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION unschedule_rotation(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION next_rotations(text, text, timestamptz, int) FROM PUBLIC;
REVOKE ALL ON rotation_schedule FROM PUBLIC;
GRANT SELECT ON rotation_schedule TO pg_monitor;

COMMENT ON FUNCTION check_rotation(text, text, text) IS
    'says what a rotation of a secret would do, and what is missing for it; changes nothing';
COMMENT ON FUNCTION schedule_rotation(text, text, text, text, text) IS
    'rotates a secret by a schedule from now on, and returns when its next window begins';
COMMENT ON FUNCTION unschedule_rotation(text) IS
    'ends the schedule of a secret, and returns whether there was one';
COMMENT ON FUNCTION next_rotations(text, text, timestamptz, int) IS
    'next windows of a schedule';
COMMENT ON TABLE rotation_plan IS 'schedules of rotations: see the view rotation_schedule';
COMMENT ON VIEW rotation_schedule IS 'schedules of rotations';
COMMENT ON COLUMN rotation_schedule.secret_id IS 'the secret, as it was named';
COMMENT ON COLUMN rotation_schedule.strategy IS
    'single_user, alternating_users or managed; NULL if the secret decides';
COMMENT ON COLUMN rotation_schedule.schedule IS 'the schedule, in AWS''s syntax';
COMMENT ON COLUMN rotation_schedule.duration IS 'length of the schedule''s windows; NULL for the default';
COMMENT ON COLUMN rotation_schedule."window" IS 'window that is open, or else the next window';
COMMENT ON COLUMN rotation_schedule.state IS
    'waiting, due, running, aws if AWS carries the rotation out, or inert if the schedule is another server''s';
COMMENT ON COLUMN rotation_schedule.step IS 'current step of the rotation, if one is under way';
COMMENT ON COLUMN rotation_schedule.attempts IS 'number of attempts in the current window';
COMMENT ON COLUMN rotation_schedule.last_error IS 'why the last rotation did not succeed';
COMMENT ON COLUMN rotation_schedule.last_rotation IS 'when a rotation by this schedule last succeeded';
