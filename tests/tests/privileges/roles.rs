//! What each kind of role may not do.

use crate::ground::{admin, all_fail, ask, elsewhere, execute, log_in, role, secret, server};
use secretlink_e2e::{Stage, db_error};

/// What takes EXECUTE, and has not been granted.
const NOT_GRANTED: [(&str, &str, &str); 12] = [
    ("SELECT get_secret_value('{s}')", "42501", "permission denied for function get_secret_value"),
    ("SELECT get_secret_string('{s}')", "42501", "permission denied for function get_secret_string"),
    ("SELECT get_secret_binary('{s}')", "42501", "permission denied for function get_secret_binary"),
    ("SELECT * FROM describe_secret('{s}')", "42501", "permission denied for function describe_secret"),
    ("SELECT create_secret('{s}-2', '1')", "42501", "permission denied for function create_secret"),
    ("SELECT put_secret_value('{s}', '1')", "42501", "permission denied for function put_secret_value"),
    (
        "SELECT connect_with_secret('{s}', '127.0.0.1', remote_port => {t})",
        "42501",
        "permission denied for function connect_with_secret",
    ),
    ("SELECT connect_with_secret('{s}')", "42501", "permission denied for function connect_with_secret"),
    ("SELECT dblink_connect_u('{s}')", "42501", "permission denied for function dblink_connect_u"),
    ("SELECT dblink_connect_u('c', '{s}')", "42501", "permission denied for function dblink_connect_u"),
    ("SELECT sync_role(current_user, '{s}')", "42501", "permission denied for function sync_role"),
    (
        "SELECT create_role_with_secret('x', '{s}-3')",
        "42501",
        "permission denied for function create_role_with_secret",
    ),
];

/// What no role but superusers can do, whatever it may use.
const FOR_SUPERUSERS: [(&str, &str, &str); 19] = [
    ("CREATE FOREIGN DATA WRAPPER thief", "42501", "permission denied to create foreign-data wrapper"),
    ("ALTER FOREIGN DATA WRAPPER secretlink_fdw NO VALIDATOR", "42501", "permission denied"),
    ("ALTER FOREIGN DATA WRAPPER secretlink_fdw OWNER TO CURRENT_USER", "42501", "permission denied"),
    ("ALTER EXTENSION secretlink UPDATE", "42501", "must be owner of extension secretlink"),
    ("ALTER EXTENSION secretlink DROP FUNCTION get_secret_value", "42501", "must be owner of extension"),
    ("DROP EXTENSION secretlink CASCADE", "42501", "must be owner of extension secretlink"),
    ("ALTER FUNCTION get_secret_value OWNER TO CURRENT_USER", "42501", "must be owner of function"),
    ("ALTER FUNCTION get_secret_value SECURITY DEFINER", "42501", "must be owner of function"),
    ("ALTER FUNCTION dblink_connect(text) SECURITY DEFINER", "42501", "must be owner of function"),
    ("GRANT EXECUTE ON FUNCTION get_secret_value TO CURRENT_USER", "42501", "permission denied for function"),
    (
        "CREATE FUNCTION pg_temp.stolen(text, text, text) RETURNS json LANGUAGE c AS '$libdir/secretlink', 'get_secret_value_wrapper'",
        "42501",
        "permission denied for language c",
    ),
    ("LOAD 'secretlink'", "42501", "access to library"),
    ("SET secretlink.endpoint_url = 'http://127.0.0.1:{t}'", "42501", "permission denied to set parameter"),
    ("SET secretlink.region = 'eu-west-1'", "42501", "permission denied to set parameter"),
    ("SET LOCAL secretlink.profile = 'x'", "42501", "permission denied to set parameter"),
    (
        "ALTER ROLE CURRENT_USER SET secretlink.endpoint_url = 'http://127.0.0.1:{t}'",
        "42501",
        "permission denied",
    ),
    // PostgreSQL 14 has other words for it.
    ("ALTER SYSTEM SET secretlink.endpoint_url = 'http://127.0.0.1:{t}'", "42501", ""),
    (
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql SET secretlink.endpoint_url = 'http://127.0.0.1:{t}' AS 'SELECT 1'",
        "42501",
        "permission denied to set parameter",
    ),
    ("SELECT * FROM role_sync", "42501", "permission denied for view role_sync"),
];

/// What takes the server's owner.
const FOR_OWNERS: [(&str, &str, &str); 7] = [
    (
        "ALTER SERVER {s} OPTIONS (host '127.0.0.1', port '{t}')",
        "42501",
        "must be owner of foreign server {s}",
    ),
    ("ALTER SERVER {s} OPTIONS (DROP secret_id)", "42501", "must be owner of foreign server {s}"),
    ("ALTER SERVER {s} OWNER TO CURRENT_USER", "42501", "must be owner of foreign server {s}"),
    ("ALTER SERVER {s} RENAME TO other", "42501", "must be owner of foreign server {s}"),
    ("DROP SERVER {s} CASCADE", "42501", "must be owner of foreign server {s}"),
    (
        "CREATE USER MAPPING FOR PUBLIC SERVER {s} OPTIONS (user 'app')",
        "42501",
        "must be owner of foreign server {s}",
    ),
    ("CREATE USER MAPPING FOR postgres SERVER {s}", "42501", "must be owner of foreign server {s}"),
];

/// What takes USAGE on the server, or on its wrapper.
const FOR_USERS: [(&str, &str, &str); 7] = [
    ("SELECT dblink_connect('{s}')", "42501", "permission denied for foreign server {s}"),
    ("SELECT dblink_connect('c', '{s}')", "42501", "permission denied for foreign server {s}"),
    (
        "SELECT * FROM dblink('{s}', 'SELECT 1') AS t(a int)",
        "42501",
        "permission denied for foreign server {s}",
    ),
    ("SELECT dblink_exec('{s}', 'SELECT 1', false)", "42501", "permission denied for foreign server {s}"),
    ("CREATE USER MAPPING FOR CURRENT_USER SERVER {s}", "42501", "permission denied for foreign server {s}"),
    (
        "CREATE FOREIGN TABLE pg_temp.t (a int) SERVER {s}",
        "42501",
        "permission denied for foreign server {s}",
    ),
    (
        "CREATE SERVER thief FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{s}', host '127.0.0.1', port '{t}')",
        "42501",
        "permission denied for foreign-data wrapper secretlink_fdw",
    ),
];

#[test]
fn a_role_without_rights() {
    let (server, thief) = (server(), elsewhere());
    let (_, mut client) = role("nobody");
    let port = thief.port().to_string();
    for attacks in [&NOT_GRANTED[..], &FOR_SUPERUSERS, &FOR_OWNERS, &FOR_USERS] {
        all_fail(&mut client, attacks, &[("{s}", &server), ("{t}", &port)]);
    }
    assert_eq!(thief.accepted(), 0);
    assert_eq!(ask(&mut admin(), &server), "app testdb true");
}

#[test]
fn a_role_with_usage_on_the_server() {
    let (server, other, thief) = (server(), secret(), elsewhere());
    let (role, mut client) = role("user");
    let port = thief.port().to_string();
    execute(&format!("GRANT USAGE ON FOREIGN SERVER {server} TO {role}"));
    let replace = [("{s}", server.as_str()), ("{t}", &port), ("{o}", &other)];
    for attacks in [&NOT_GRANTED[..], &FOR_SUPERUSERS, &FOR_OWNERS, &FOR_USERS[6..]] {
        all_fail(&mut client, attacks, &replace);
    }
    let mut mapping = Vec::new();
    for option in [
        "host '127.0.0.1'",
        "hostaddr '127.0.0.1'",
        "port '{t}'",
        "dbname 'postgres'",
        "sslmode 'disable'",
        "sslrootcert '/dev/null'",
        "options '-c role=postgres'",
        "service 'x'",
        "passfile '/dev/null'",
        "require_auth 'password'",
        "channel_binding 'disable'",
        "region 'eu-west-1'",
        "sslcert 'x'",
        "target_session_attrs 'any'",
        "application_name 'x'",
        "replication 'true'",
        "scram_client_key 'x'",
    ] {
        mapping.push(format!("CREATE USER MAPPING FOR CURRENT_USER SERVER {{s}} OPTIONS ({option})"));
    }
    let mapping: Vec<_> = mapping.iter().map(|sql| (sql.as_str(), "HV00J", "invalid option")).collect();
    all_fail(&mut client, &mapping, &replace);
    all_fail(
        &mut client,
        &[
            (
                "CREATE USER MAPPING FOR CURRENT_USER SERVER {s} OPTIONS (secret_id '{o}')",
                "42501",
                "permission denied to set option \"secret_id\"",
            ),
            // A name with more to it is a connection string, and none with a password.
            ("SELECT dblink_connect('{s} host=127.0.0.1 port={t}')", "2F003", "password is required"),
            ("SELECT dblink_connect('service={s} host=127.0.0.1 port={t}')", "2F003", "password is required"),
            (
                "SELECT dblink_connect('secret_id={s} host=127.0.0.1 port={t}')",
                "2F003",
                "password is required",
            ),
            ("SELECT dblink_exec('{s} sslmode=disable', 'SELECT 1')", "2F003", "password is required"),
            (
                "SELECT * FROM dblink('postgresql://127.0.0.1:{t}/{s}', 'SELECT 1') AS t(a int)",
                "2F003",
                "password is required",
            ),
            // There is nothing behind it but connections.
            (
                "CREATE FOREIGN TABLE pg_temp.t (a int) SERVER {s}; SELECT * FROM pg_temp.t",
                "0A000",
                "foreign tables are not supported",
            ),
            (
                "IMPORT FOREIGN SCHEMA public FROM SERVER {s} INTO pg_temp",
                "0A000",
                "foreign tables are not supported",
            ),
        ],
        &replace,
    );
    client
        .batch_execute(&format!(
            "CREATE USER MAPPING FOR CURRENT_USER SERVER {server} OPTIONS (user 'postgres')"
        ))
        .unwrap();
    all_fail(
        &mut client,
        &[("SELECT dblink_connect('{s}')", "42501", "user of the user mapping is not that of secret")],
        &replace,
    );
    client.batch_execute(&format!("DROP USER MAPPING FOR CURRENT_USER SERVER {server}")).unwrap();

    // Settings of a session's own change nothing.
    client
        .batch_execute(
            "SET search_path = pg_temp; SET secretlink.request_timeout = '30s'; SET application_name = 'x';
             SET client_encoding = 'LATIN1'; RESET client_encoding; SET standard_conforming_strings = off;
             SET DateStyle = 'SQL'; RESET search_path",
        )
        .unwrap();
    assert_eq!(ask(&mut client, &server), "app testdb true");
    client.batch_execute(&format!("SELECT dblink_connect('c', '{server}')")).unwrap();
    assert_eq!(ask(&mut client, "c"), "app testdb true");
    // Nothing that the session can see has the password in it.
    let seen: String = client
        .query_one(
            "SELECT concat((SELECT string_agg(r::text, '') FROM remote_connections r),
                           (SELECT string_agg(m::text, '') FROM pg_user_mappings m),
                           (SELECT string_agg(s::text, '') FROM pg_foreign_server s),
                           (SELECT string_agg(a::text, '') FROM pg_stat_activity a),
                           (SELECT string_agg(g::text, '') FROM pg_settings g),
                           dblink_error_message('c'), dblink_current_query())",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(seen.contains(&server) && !seen.contains(Stage::shared().remote.app_password()));
    assert_eq!(thief.accepted(), 0);
}

#[test]
fn the_owner_of_a_server_who_is_no_superuser() {
    let (server, thief) = (server(), elsewhere());
    let (role, mut client) = role("owner");
    let port = thief.port().to_string();
    execute(&format!(
        "ALTER SERVER {server} OWNER TO {role}; GRANT USAGE ON FOREIGN DATA WRAPPER secretlink_fdw TO {role}"
    ));
    let replace = [("{s}", server.as_str()), ("{t}", &port)];
    for attacks in [&NOT_GRANTED[..], &FOR_SUPERUSERS] {
        all_fail(&mut client, attacks, &replace);
    }
    let denied = "permission denied to set option \"secret_id\"";
    let statements: Vec<String> = [
        "host '127.0.0.1'",
        "port '{t}'",
        "hostaddr '127.0.0.1'",
        "sslmode 'disable'",
        "region 'eu-west-1'",
        "service 'x'",
        "options '-c role=postgres'",
        "dbname 'postgres'",
        "SET secret_id 'other'",
    ]
    .iter()
    .map(|options| format!("ALTER SERVER {{s}} OPTIONS ({options})"))
    .collect();
    let mut attacks: Vec<_> =
        statements.iter().map(|sql| (sql.as_str(), "42501", "permission denied to set option")).collect();
    attacks.extend([
        ("CREATE SERVER thief FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{s}', host '127.0.0.1', port '{t}')", "42501", denied),
        ("CREATE USER MAPPING FOR PUBLIC SERVER {s} OPTIONS (secret_id '{s}')", "42501", denied),
        ("CREATE USER MAPPING FOR postgres SERVER {s} OPTIONS (secret_id '{s}')", "42501", denied),
    ]);
    all_fail(&mut client, &attacks, &replace);
    assert_eq!(ask(&mut client, &server), "app testdb true");

    // What he may do leads away from the secret, not its password away. A superuser with a connection
    // is told, and one who asks for the server now gets nothing of the secret's.
    let mut superuser = admin();
    superuser.batch_execute(&format!("SELECT dblink_connect('c', '{server}')")).unwrap();
    client
        .batch_execute(&format!(
            "ALTER SERVER {server} OPTIONS (DROP secret_id, host '127.0.0.1', port '{port}')"
        ))
        .unwrap();
    all_fail(
        &mut client,
        &[
            ("SELECT dblink_connect('{s}')", "42704", "user mapping not found"),
            ("ALTER SERVER {s} OPTIONS (secret_id '{s}')", "42501", denied),
        ],
        &replace,
    );
    all_fail(
        &mut superuser,
        &[("SELECT dblink_exec('c', 'SELECT 1')", "42704", "user mapping not found")],
        &replace,
    );
    client
        .batch_execute(&format!("CREATE USER MAPPING FOR PUBLIC SERVER {server} OPTIONS (user 'app')"))
        .unwrap();
    all_fail(&mut client, &[("SELECT dblink_connect('{s}')", "2F003", "password is required")], &replace);
    assert_eq!(thief.accepted(), 0);
}

#[test]
fn roles_with_one_function_granted_to_them() {
    let (server, thief) = (server(), elsewhere());
    let port = thief.port().to_string();
    let replace = [("{s}", server.as_str()), ("{t}", &port)];
    for granted in ["get_secret_value", "describe_secret", "connect_with_secret"] {
        let (grantee, mut client) = role("granted");
        execute(&format!("GRANT EXECUTE ON FUNCTION {granted} TO {grantee}"));
        let others: Vec<_> =
            NOT_GRANTED.into_iter().filter(|(_, _, message)| !message.ends_with(granted)).collect();
        assert!(others.len() < NOT_GRANTED.len());
        // To grant what one has without the option to grant it does nothing, with a WARNING.
        let for_superusers: Vec<_> =
            FOR_SUPERUSERS.into_iter().filter(|(sql, ..)| !sql.starts_with("GRANT EXECUTE")).collect();
        for attacks in [&others[..], &for_superusers, &FOR_OWNERS, &FOR_USERS] {
            all_fail(&mut client, attacks, &replace);
        }
        let others = format!("GRANT EXECUTE ON FUNCTION {granted} TO PUBLIC");
        client.batch_execute(&others).unwrap();
        let (_, mut nobody) = role("nobody");
        let denied = format!("permission denied for function {granted}");
        all_fail(&mut nobody, &[(&format!("SELECT {granted}('{{s}}')"), "42501", &denied)], &replace);
        assert_eq!(thief.accepted(), 0, "{granted}");
        let row = client.query_one(&format!("SELECT {granted}('{server}')::text"), &[]).unwrap();
        let told: String = row.get(0);
        // A role that may connect does not read: only the first of them gets to see it.
        let password = Stage::shared().remote.app_password();
        assert_eq!(told.contains(password), granted == "get_secret_value", "{granted}");
    }
    // With `connect_with_secret` comes the choice of the host, on purpose: the README says so.
    let (role, mut client) = role("granted");
    execute(&format!("GRANT EXECUTE ON FUNCTION connect_with_secret TO {role}"));
    client
        .batch_execute(&format!("SELECT connect_with_secret('{server}', 'localhost', remote_port => {port})"))
        .unwrap();
    assert_eq!(thief.accepted(), 1);
}

#[test]
fn those_who_watch_and_those_who_own_the_database_or_the_schema() {
    let (server, thief) = (server(), elsewhere());
    let port = thief.port().to_string();
    let replace = [("{s}", server.as_str()), ("{t}", &port)];

    let (monitor, mut client) = role("monitor");
    execute(&format!("GRANT pg_monitor TO {monitor}"));
    for attacks in [&NOT_GRANTED[..], &FOR_SUPERUSERS[..18], &FOR_OWNERS, &FOR_USERS] {
        all_fail(&mut client, attacks, &replace);
    }
    client.batch_execute("SELECT * FROM role_sync; SELECT * FROM remote_connections").unwrap();

    // In databases of their own: what they own there is not the server's, nor the extension's.
    for schema in ["public", "secretlink"] {
        let (owner, _) = role("dba");
        let database = format!("of_{owner}");
        execute(&format!("CREATE DATABASE {database} OWNER {owner}"));
        Stage::shared()
            .local
            .connect("postgres", &database)
            .batch_execute(&format!(
                "CREATE SCHEMA IF NOT EXISTS {schema}; CREATE EXTENSION secretlink SCHEMA {schema};
                 ALTER SCHEMA {schema} OWNER TO {owner};
                 CREATE SERVER {server} FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{server}')"
            ))
            .unwrap();
        let mut client = Stage::shared().local.connect(&owner, &database);
        client
            .batch_execute(&format!("SET search_path = {schema}; SELECT dblink_get_connections()"))
            .unwrap();
        for attacks in [&NOT_GRANTED[..], &FOR_SUPERUSERS, &FOR_OWNERS, &FOR_USERS] {
            all_fail(&mut client, attacks, &replace);
        }
        all_fail(
            &mut client,
            &[
                (
                    "ALTER DATABASE {d} SET secretlink.endpoint_url = 'http://127.0.0.1:{t}'",
                    "42501",
                    "permission denied",
                ),
                ("CREATE EXTENSION secretlink", "42710", "already exists"),
                (
                    "GRANT USAGE ON FOREIGN SERVER {s} TO CURRENT_USER",
                    "42501",
                    "permission denied for foreign server",
                ),
                (
                    "GRANT USAGE ON FOREIGN DATA WRAPPER secretlink_fdw TO CURRENT_USER",
                    "42501",
                    "permission denied for foreign-data wrapper",
                ),
                ("DROP FUNCTION get_secret_value", "2BP01", "extension secretlink requires it"),
                (
                    "CREATE OR REPLACE FUNCTION get_secret_value(secret_id text, version_stage text DEFAULT NULL, version_id text DEFAULT NULL) RETURNS json LANGUAGE sql AS 'SELECT NULL::json'",
                    "42501",
                    "must be owner of function",
                ),
                ("CREATE OR REPLACE VIEW remote_connections AS SELECT 1", "42501", "must be owner of view"),
                ("REASSIGN OWNED BY postgres TO CURRENT_USER", "42501", "permission denied"),
            ],
            &[("{d}", &database), replace[0], replace[1]],
        );
        let mut admin = Stage::shared().local.connect("postgres", &database);
        let who = admin.query_one(
            &format!("SELECT v FROM {schema}.dblink($1, 'SELECT current_user') AS t(v text)"),
            &[&server],
        );
        assert_eq!(who.unwrap().get::<_, String>(0), "app");
    }
    assert_eq!(thief.accepted(), 0);
}

/// A role that was let in by another's function has what that function does, no more.
#[test]
fn functions_of_others() {
    let (server, thief) = (server(), elsewhere());
    let (vault, _) = role("vault");
    let (role, mut client) = role("guest");
    execute(&format!(
        "GRANT USAGE ON FOREIGN SERVER {server} TO {vault};
         CREATE FUNCTION {vault}() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
         AS $$ SELECT public.dblink_connect('c', '{server}') $$;
         ALTER FUNCTION {vault}() OWNER TO {vault}; REVOKE ALL ON FUNCTION {vault}() FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION {vault}() TO {role}"
    ));
    client.batch_execute(&format!("SELECT {vault}()")).unwrap();
    assert_eq!(ask(&mut client, "c"), "app testdb true");
    let error = db_error(client.simple_query(&format!("SELECT dblink_connect('d', '{server}')")));
    assert_eq!(error.code().code(), "42501");
    // Another session has nothing of it.
    let mut other = log_in(&role);
    assert_eq!(db_error(other.simple_query("SELECT dblink_exec('c', 'SELECT 1')")).code().code(), "08003");
    assert_eq!(thief.accepted(), 0);
}
