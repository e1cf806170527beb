//! Foreign servers named in place of a connection string, and the validator of their options.

use crate::outcome::{Outcome, Told};
use crate::pair::{Pair, Side};
use postgres::Client;
use secretlink_e2e::{Cluster, PostgresBin, db_error, eventually, private_file};
use std::time::Duration;

/// Where options can be set: servers, user mappings, wrappers, tables, columns, and nowhere.
const CATALOGS: [u32; 6] = [1417, 1418, 2328, 3118, 1249, 0];

/// Every keyword of libpq, from 14 to 19, and what is nearly one.
const NAMES: [&str; 62] = [
    "service",
    "servicefile",
    "user",
    "password",
    "passfile",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "client_encoding",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslmode",
    "sslnegotiation",
    "sslcompression",
    "sslcert",
    "sslkey",
    "sslcertmode",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "requirepeer",
    "require_auth",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "min_protocol_version",
    "max_protocol_version",
    "gssencmode",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "replication",
    "target_session_attrs",
    "load_balance_hosts",
    "scram_client_key",
    "scram_server_key",
    "oauth_issuer",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
    "sslkeylogfile",
    "use_scram_passthrough",
    "HOST",
    "hots",
    "usr",
    "passwd",
    "db_name",
    "x",
    "secret_id",
    "caf\u{e9}",
    "application name",
    "ssl_min_protocoll_version_",
];

/// A Postgres with both extensions in `local`, and `remote` to connect to, where the role `keeper` logs
/// in with a password; everybody else is trusted. The role `ordinary` is nobody special.
fn cluster() -> Cluster {
    let cluster = Cluster::plain().hba("local remote keeper scram-sha-256").start();
    cluster.create_login("keeper", "it's \"a\\ pass", "scram-sha-256");
    cluster.connect("postgres", "postgres").batch_execute("CREATE ROLE ordinary LOGIN").unwrap();
    for database in ["remote", "local"] {
        cluster
            .connect("postgres", "postgres")
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .unwrap();
    }
    admin(&cluster)
        .batch_execute(
            "CREATE SCHEMA contrib; CREATE EXTENSION dblink SCHEMA contrib;
             CREATE SCHEMA secretlink; CREATE EXTENSION secretlink SCHEMA secretlink;
             CREATE EXTENSION postgres_fdw;
             GRANT USAGE ON SCHEMA contrib, secretlink TO ordinary",
        )
        .unwrap();
    cluster
}

fn admin(cluster: &Cluster) -> Client {
    cluster.connect("postgres", "local")
}

fn pair(cluster: &Cluster, user: &str) -> Pair {
    let side = |schema| Side::new(cluster, user, "local", schema);
    Pair { contrib: side("contrib"), ours: side("secretlink") }
}

/// Where `remote` is, as options of a server.
fn location(cluster: &Cluster) -> String {
    format!("host '{}', port '{}', dbname 'remote'", cluster.socket_dir().display(), cluster.port())
}

const KEEPER: &str = r#"OPTIONS (user 'keeper', password 'it''s "a\ pass')"#;

/// Both say the same, but for contrib's words about delegated GSSAPI credentials from 16 on, which we
/// have none of.
#[track_caller]
fn same_rule(pair: &mut Pair, sql: &str) -> Told {
    if PostgresBin::get().major() < 16 {
        return pair.same(sql).error().clone();
    }
    let (contrib, ours) = pair.both(sql);
    assert_eq!(ours.error().code, contrib.error().code, "{sql}");
    ours.error().clone()
}

/// In PostgreSQL 14 contrib has other words where no option is valid: a list of none.
fn none_is_valid(mut told: Told) -> Told {
    if told.hint.as_deref() == Some("Valid options in this context are: ") {
        told.hint = Some("There are no valid options in this context.".to_owned());
    }
    told
}

/// Both say the same, but for [`none_is_valid`].
#[track_caller]
fn same_validation(pair: &mut Pair, sql: &str) -> Outcome {
    let (mut contrib, ours) = pair.both(sql);
    contrib.result = contrib.result.map_err(none_is_valid);
    assert_eq!(ours, contrib, "ours (left) differs from contrib's (right) for: {sql}");
    ours
}

#[test]
fn the_validator_says_what_contribs_says() {
    let cluster = cluster();
    let mut pair = pair(&cluster, "ordinary");
    let mut accepted = 0;
    for catalog in CATALOGS {
        for name in NAMES {
            let sql = format!("SELECT dblink_fdw_validator(ARRAY['{name}=true'], {catalog})");
            accepted += i32::from(same_validation(&mut pair, &sql).result.is_ok());
        }
        for options in [
            "'{}'",
            "NULL",
            "'{host}'",
            "'{=x}'",
            "'{\"\"}'",
            "'{host=a=b,port=}'",
            "'{user=a,password=b}'",
            "'{NULL}'",
            "'{host=a,NULL}'",
            "'{{host=a,port=1},{dbname=c,hots=x}}'",
            "'{host=a,nonsense=b}'",
            "'{use_scram_passthrough=maybe}'",
            "'{use_scram_passthrough=ON}'",
        ] {
            same_validation(&mut pair, &format!("SELECT dblink_fdw_validator({options}, {catalog}) IS NULL"));
        }
    }
    assert!(accepted >= 34, "{accepted}");
    let wrong = pair.same("SELECT dblink_fdw_validator('{hots=x}', 1417)");
    assert_eq!(
        (wrong.error().code.as_str(), wrong.error().message.as_str()),
        ("HV00J", "invalid option \"hots\"")
    );

    // It serves a wrapper as contrib's does.
    let mut admin = admin(&cluster);
    admin.batch_execute("CREATE FOREIGN DATA WRAPPER theirs VALIDATOR contrib.dblink_fdw_validator").unwrap();
    admin
        .batch_execute("CREATE FOREIGN DATA WRAPPER ours VALIDATOR secretlink.dblink_fdw_validator")
        .unwrap();
    for statement in [
        "CREATE SERVER {}_s FOREIGN DATA WRAPPER {} OPTIONS (host 'a', port 'b')",
        "CREATE SERVER {}_t FOREIGN DATA WRAPPER {} OPTIONS (client_encoding 'a')",
        "ALTER SERVER {}_s OPTIONS (DROP port, ADD user 'x')",
        "CREATE USER MAPPING FOR PUBLIC SERVER {}_s OPTIONS (host 'x')",
        "CREATE USER MAPPING FOR PUBLIC SERVER {}_s OPTIONS (user 'x')",
        "ALTER FOREIGN DATA WRAPPER {} OPTIONS (host 'x')",
    ] {
        let mut outcome = |wrapper| match admin.batch_execute(&statement.replace("{}", wrapper)) {
            Ok(()) => None,
            error @ Err(_) => Some(Told { context: None, ..Told::from(&db_error(error)) }),
        };
        assert_eq!(outcome("ours"), outcome("theirs").map(none_is_valid), "{statement}");
    }
}

#[test]
fn a_server_can_be_named_in_place_of_a_connection_string() {
    let cluster = cluster();
    let location = location(&cluster);
    let long = "s".repeat(63);
    admin(&cluster)
        .batch_execute(&format!(
            r#"CREATE SERVER a FOREIGN DATA WRAPPER dblink_fdw OPTIONS ({location}, application_name 'it''s \ "a"');
               CREATE SERVER b FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({location}, application_name '');
               CREATE SERVER c FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({location}, fetch_size '7', application_name 'caf{e}');
               CREATE SERVER "{long}" FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({location});
               CREATE SERVER "A b'c" FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({location});
               CREATE SERVER "host=/nowhere" FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({location});"#,
            e = '\u{e9}'
        ))
        .unwrap();
    for server in ["a", "b", "c", &long, "A b'c", "host=/nowhere"] {
        admin(&cluster)
            .batch_execute(&format!(
                r#"CREATE USER MAPPING FOR PUBLIC SERVER "{server}" {KEEPER};
                   CREATE USER MAPPING FOR postgres SERVER "{server}" OPTIONS (user 'postgres');
                   GRANT USAGE ON FOREIGN SERVER "{server}" TO ordinary"#
            ))
            .unwrap();
    }
    for (user, remote_user) in [("ordinary", "keeper"), ("postgres", "postgres")] {
        let mut pair = pair(&cluster, user);
        let who = "SELECT current_user, current_database(), current_setting(''application_name'')";
        let columns = "AS t(u text, d text, a text)";
        for (server, name) in [
            ("a", "it's \\ \"a\""),
            ("b", ""),
            ("c", "caf??"),
            (&long, ""),
            (&format!("{long}more"), ""),
            ("A b''c", ""),
            ("host=/nowhere", ""),
        ] {
            let seen = pair.same(&format!("SELECT * FROM dblink('{server}', '{who}') {columns}"));
            // Postgres keeps ASCII only in that setting; later versions write the bytes as numbers.
            let name =
                if name.ends_with('?') { seen.rows()[0][2].unwrap().to_owned() } else { name.to_owned() };
            assert_eq!(seen.rows(), [[Some(remote_user), Some("remote"), Some(name.as_str())]], "{server}");
            let tag = pair.same(&format!("SELECT dblink_exec('{server}', 'CREATE TEMP TABLE t ()', false)"));
            assert_eq!(tag.value(), "CREATE TABLE");
            assert_eq!(pair.same(&format!("SELECT dblink_connect('{server}')")).value(), "OK");
            assert_eq!(pair.same(&format!("SELECT u FROM dblink('{who}') {columns}")).value(), remote_user);
            assert_eq!(pair.same(&format!("SELECT dblink_connect('n', '{server}')")).value(), "OK");
            assert_eq!(
                pair.same(&format!("SELECT u FROM dblink('n', '{who}') {columns}")).value(),
                remote_user
            );
            let twice = pair.same(&format!("SELECT dblink_connect('n', '{server}')"));
            assert_eq!(twice.error().code, "42710");
            pair.same("SELECT dblink_disconnect('n')");
        }
        // A name is a server's as it is written.
        for (sql, expected) in
            [("SELECT dblink_connect('A')", "08001"), ("SELECT dblink_exec('B', 'SELECT 1')", "08003")]
        {
            // contrib takes it for a connection string, and so has 2F003 for all but superusers.
            let (contrib, ours) = pair.both(sql);
            let theirs = if user == "postgres" { "08001" } else { "2F003" };
            assert_eq!(
                (contrib.error().code.as_str(), ours.error().code.as_str()),
                (theirs, expected),
                "{sql}"
            );
        }
        // These want connections.
        for sql in ["SELECT dblink_open('a', 'c', 'SELECT 1')", "SELECT dblink_disconnect('a')"] {
            assert_eq!(pair.same(sql).error().code, "08003");
        }
        // A connection of the name comes first.
        pair.same("SELECT dblink_connect('b', 'a')");
        let seen = pair.same(&format!("SELECT a FROM dblink('b', '{who}') {columns}"));
        assert_eq!(seen.value(), "it's \\ \"a\"");
    }
}

#[test]
fn who_may_use_a_server_is_decided_as_in_contrib() {
    let cluster = cluster();
    let location = location(&cluster);
    let mut admin = admin(&cluster);
    for server in ["no_mapping", "no_usage", "neither", "no_password", "trusted", "wrong", "bad_port", "fine"]
    {
        let port = if server == "bad_port" { "SET port 'x'" } else { "SET dbname 'remote'" };
        admin
            .batch_execute(&format!(
                "CREATE SERVER {server} FOREIGN DATA WRAPPER dblink_fdw OPTIONS ({location});
                 ALTER SERVER {server} OPTIONS ({port});
                 GRANT USAGE ON FOREIGN SERVER {server} TO ordinary"
            ))
            .unwrap();
        let mapping = match server {
            "no_password" => "OPTIONS (user 'keeper')",
            "trusted" => "OPTIONS (user 'postgres', password 'x')",
            "wrong" => "OPTIONS (user 'keeper', password 'wrong')",
            _ => KEEPER,
        };
        if !["no_mapping", "neither"].contains(&server) {
            admin
                .batch_execute(&format!("CREATE USER MAPPING FOR ordinary SERVER {server} {mapping}"))
                .unwrap();
        }
    }
    admin.batch_execute("REVOKE USAGE ON FOREIGN SERVER no_usage, neither FROM ordinary").unwrap();

    let mut plain = pair(&cluster, "ordinary");
    for (server, code, message) in [
        ("no_mapping", "42704", "user mapping not found for"),
        ("neither", "42704", "user mapping not found for"),
        ("no_usage", "42501", "permission denied for foreign server no_usage"),
        ("no_password", "2F003", "password is required"),
        ("trusted", "2F003", "password is required"),
        ("wrong", "08001", "could not establish connection"),
        ("bad_port", "08001", "could not establish connection"),
    ] {
        for sql in [
            format!("SELECT dblink_connect('{server}')"),
            format!("SELECT dblink_connect('n', '{server}')"),
            format!("SELECT * FROM dblink('{server}', 'SELECT 1') AS t(a int)"),
            format!("SELECT dblink_exec('{server}', 'SELECT 1', false)"),
        ] {
            let told = same_rule(&mut plain, &sql);
            assert_eq!(told.code, code, "{sql}: {told:?}");
            assert!(told.message.starts_with(message), "{sql}: {told:?}");
        }
    }
    // A superuser is asked for a mapping, too.
    let mut root = pair(&cluster, "postgres");
    assert_eq!(root.same("SELECT dblink_connect('fine')").error().code, "42704");

    // The mapping is that of the current user, and not of the one who logged in.
    for schema in ["contrib", "secretlink"] {
        admin
            .batch_execute(&format!(
                "CREATE FUNCTION {schema}.as_owner() RETURNS text LANGUAGE sql SECURITY DEFINER
                 SET search_path = {schema} AS $$ SELECT dblink_connect('n', 'fine') $$;
                 ALTER FUNCTION {schema}.as_owner() OWNER TO ordinary;
                 GRANT EXECUTE ON FUNCTION {schema}.dblink_connect_u(text, text) TO ordinary"
            ))
            .unwrap();
    }
    let who = "SELECT u FROM dblink('n', 'SELECT current_user') AS t(u text)";
    assert_eq!(root.same("SELECT as_owner()").value(), "OK");
    assert_eq!(root.same(who).value(), "keeper");
    root.same("SET ROLE ordinary");
    assert_eq!(root.same("SELECT dblink_connect('m', 'fine')").value(), "OK");
    root.same("RESET ROLE");
    // dblink_connect_u runs as the extension's owner, who has no mapping, and then one.
    assert_eq!(plain.same("SELECT dblink_connect_u('n', 'fine')").error().code, "42704");
    admin.batch_execute("CREATE USER MAPPING FOR postgres SERVER fine OPTIONS (user 'postgres')").unwrap();
    assert_eq!(plain.same("SELECT dblink_connect_u('n', 'fine')").value(), "OK");
    assert_eq!(plain.same(who).value(), "postgres");
    plain.same("SELECT dblink_disconnect('n')");

    // What is open stays open; what is new is refused.
    assert_eq!(plain.same("SELECT dblink_connect('n', 'fine')").value(), "OK");
    admin.batch_execute("REVOKE USAGE ON FOREIGN SERVER fine FROM ordinary").unwrap();
    assert_eq!(plain.same("SELECT dblink_connect('fine')").error().code, "42501");
    admin.batch_execute("DROP USER MAPPING FOR ordinary SERVER fine").unwrap();
    assert_eq!(plain.same("SELECT dblink_connect('fine')").error().code, "42704");
    admin.batch_execute("DROP SERVER fine CASCADE").unwrap();
    // Without the server the name is a connection string again, and none.
    let (contrib, ours) = root.both("SELECT dblink_connect('fine')");
    assert_eq!((contrib.error().code.as_str(), ours.error().code.as_str()), ("08001", "08001"));
    assert_eq!(plain.same(who).value(), "keeper");
}

#[test]
fn nothing_in_the_search_path_stands_for_a_server() {
    let cluster = cluster();
    let location = location(&cluster);
    admin(&cluster)
        .batch_execute(&format!(
            "CREATE SERVER real FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({location});
             CREATE USER MAPPING FOR ordinary SERVER real {KEEPER};
             CREATE SCHEMA trap AUTHORIZATION ordinary"
        ))
        .unwrap();
    let mut client = cluster.connect("ordinary", "local");
    client
        .batch_execute(
            "CREATE TABLE trap.pg_foreign_server AS SELECT * FROM pg_catalog.pg_foreign_server;
             CREATE VIEW trap.pg_user_mapping AS SELECT * FROM pg_catalog.pg_user_mappings;
             CREATE FUNCTION trap.has_server_privilege(name, text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
             CREATE FUNCTION trap.has_server_privilege(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
             SET search_path = trap, pg_catalog, secretlink",
        )
        .unwrap();
    let refused = db_error(client.simple_query("SELECT secretlink.dblink_connect('real')"));
    assert_eq!(refused.message(), "permission denied for foreign server real");
    admin(&cluster).batch_execute("GRANT USAGE ON FOREIGN SERVER real TO ordinary").unwrap();
    client.batch_execute("UPDATE trap.pg_foreign_server SET srvoptions = '{host=/nowhere}'").unwrap();
    client.simple_query("SELECT secretlink.dblink_connect('real')").unwrap();
}

#[test]
fn our_validator_helps_on() {
    let cluster = cluster();
    let mut admin = admin(&cluster);
    let mut refused = |statement: &str| {
        let error = db_error(admin.batch_execute(statement));
        let hint = error.hint().unwrap_or_default().to_owned();
        (error.code().code().to_owned(), error.message().to_owned(), hint)
    };
    let server =
        |options: &str| format!("CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({options})");
    for (options, code, message, hint) in [
        (
            "secretid 'x'",
            "HV00J",
            "invalid option \"secretid\"",
            "Perhaps you meant the option \"secret_id\".",
        ),
        ("sslmod 'x'", "HV00J", "invalid option \"sslmod\"", "Perhaps you meant the option \"sslmode\"."),
        ("password 'x'", "HV00J", "invalid option \"password\"", "It is an option of the user mapping."),
        ("nonsense 'x'", "HV00J", "invalid option \"nonsense\"", ""),
        ("replication 'on'", "HV00J", "invalid option \"replication\"", ""),
        ("port 'x'", "22023", "invalid integer value \"x\" for connection option \"port\"", ""),
        ("sslmode 'yes'", "22023", "invalid sslmode value: \"yes\"", ""),
        (
            "gssencmode 'require'",
            "0A000",
            "connection option \"gssencmode\" is not supported with the value \"require\"",
            "GSSAPI is not supported; use TLS (\"sslmode\") to encrypt the connection.",
        ),
        (
            "dbname 'a password=b'",
            "22023",
            "value of connection option \"dbname\" contains a connection string with a password",
            "Give each option under its own keyword.",
        ),
        ("secret_id ''", "22023", "invalid secret id", ""),
    ] {
        let (found_code, found_message, found_hint) = refused(&server(options));
        assert_eq!((found_code.as_str(), found_message.as_str()), (code, message), "{options}");
        assert!(
            found_hint == hint || hint.is_empty() && !found_hint.contains("option"),
            "{options}: {found_hint}"
        );
    }
    for (statement, hint) in [
        (
            "ALTER FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (host 'x')",
            "There are no valid options in this context.",
        ),
        (
            "CREATE USER MAPPING FOR PUBLIC SERVER fine OPTIONS (host 'x')",
            "It is an option of the foreign server.",
        ),
        (
            "CREATE USER MAPPING FOR PUBLIC SERVER fine OPTIONS (usr 'x')",
            "Perhaps you meant the option \"user\".",
        ),
        (
            "ALTER FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (host 'x')",
            "There are no valid options in this context.",
        ),
    ] {
        cluster
            .connect("postgres", "local")
            .batch_execute(
                "DROP SERVER IF EXISTS fine CASCADE;
                 CREATE SERVER fine FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (host 'a,b', port '1,2', service 'nowhere', passfile '/nowhere', require_auth 'md5',
                          options '-c a=b', secret_id 'prod/fine', sslmode 'verify-full')",
            )
            .unwrap();
        let (code, _, found) = refused(statement);
        assert_eq!((code.as_str(), found.as_str()), ("HV00J", hint), "{statement}");
    }
}

/// The owner of a server with a secret could otherwise send the password to wherever he likes.
#[test]
fn a_server_with_a_secret_is_changed_by_superusers_only() {
    let cluster = cluster();
    admin(&cluster)
        .batch_execute(
            "GRANT USAGE ON FOREIGN DATA WRAPPER secretlink_fdw TO ordinary;
             CREATE SERVER given FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id 'x', host 'h');
             ALTER SERVER given OWNER TO ordinary",
        )
        .unwrap();
    let mut client = cluster.connect("ordinary", "local");
    client.batch_execute("CREATE SERVER own FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (host 'h')").unwrap();
    for statement in [
        "CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id 'x')",
        "ALTER SERVER own OPTIONS (secret_id 'x')",
        "ALTER SERVER given OPTIONS (SET host 'elsewhere')",
        "ALTER SERVER given OPTIONS (SET secret_id 'y')",
        "ALTER SERVER given OPTIONS (sslmode 'disable')",
    ] {
        let error = db_error(client.batch_execute(statement));
        assert_eq!(
            (error.code().code(), error.message()),
            ("42501", "permission denied to set option \"secret_id\""),
            "{statement}"
        );
    }
    // To give the secret up is allowed, and cannot be undone.
    client.batch_execute("ALTER SERVER given OPTIONS (DROP secret_id, SET host 'elsewhere')").unwrap();
    assert!(client.batch_execute("ALTER SERVER given OPTIONS (secret_id 'x')").is_err());
}

#[test]
fn pg_dump_carries_servers_and_mappings() {
    let cluster = cluster();
    let location = location(&cluster);
    admin(&cluster)
        .batch_execute(&format!(
            "CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({location}, secret_id 'prod/s', sslmode 'disable');
             CREATE SERVER plain FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({location});
             ALTER SERVER plain OWNER TO ordinary;
             CREATE USER MAPPING FOR ordinary SERVER plain {KEEPER};
             CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (user 'keeper');
             GRANT USAGE ON FOREIGN SERVER s TO ordinary"
        ))
        .unwrap();
    let what = "SELECT string_agg(concat_ws(' ', srvname, srvowner::regrole, srvacl, (SELECT array_agg(o ORDER BY o) FROM unnest(srvoptions) o), usename, (SELECT array_agg(o ORDER BY o) FROM unnest(umoptions) o), fdwname), E'\\n' ORDER BY srvname)
                FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = srvfdw JOIN pg_user_mappings USING (srvname)";
    let listed =
        |database| -> String { cluster.connect("postgres", database).query_one(what, &[]).unwrap().get(0) };

    let dump = std::process::Command::new(PostgresBin::get().program("pg_dump"))
        .args(["--dbname", &cluster.conninfo("postgres", "local")])
        .output()
        .unwrap();
    let script = String::from_utf8(dump.stdout).unwrap();
    assert!(
        dump.status.success() && script.contains("CREATE SERVER"),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    admin(&cluster).batch_execute("CREATE DATABASE restored").unwrap();
    // By psql: a dump has the rows of tables between COPY and a line that only psql understands.
    let file = private_file(cluster.data_dir().join("dump.sql"), &script);
    let psql = std::process::Command::new(PostgresBin::get().program("psql"))
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file", file.to_str().unwrap()])
        .args(["--dbname", &cluster.conninfo("postgres", "restored")])
        .output()
        .unwrap();
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
    assert_eq!(listed("restored"), listed("local"));
    let mut ours = Side::new(&cluster, "ordinary", "restored", "secretlink");
    assert_eq!(ours.value("SELECT dblink_connect('plain')"), "OK");
}

#[test]
fn the_extension_goes_after_its_servers() {
    let cluster = cluster();
    let mut admin = admin(&cluster);
    admin.batch_execute("CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw").unwrap();
    let refused = db_error(admin.batch_execute("DROP EXTENSION secretlink"));
    assert_eq!(refused.code().code(), "2BP01");
    assert_eq!(refused.detail(), Some("server s depends on foreign-data wrapper secretlink_fdw"));
    for part in ["FOREIGN DATA WRAPPER secretlink_fdw", "FUNCTION secretlink.secretlink_fdw_validator"] {
        let refused = db_error(admin.batch_execute(&format!("DROP {part} CASCADE")));
        assert_eq!(refused.code().code(), "2BP01", "{part}");
    }
    admin
        .batch_execute(
            "DROP SERVER s; DROP EXTENSION secretlink; CREATE EXTENSION secretlink SCHEMA secretlink",
        )
        .unwrap();
    admin
        .batch_execute(
            "CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw; DROP EXTENSION secretlink CASCADE",
        )
        .unwrap();
    let left: i64 =
        admin.query_one("SELECT count(*) FROM pg_foreign_server WHERE srvname = 's'", &[]).unwrap().get(0);
    assert_eq!(left, 0);
}

/// PostgreSQL 18 keeps what a client has proved to know when it logged in by SCRAM.
#[test]
fn a_login_by_scram_is_passed_on_from_18_on() {
    let cluster = cluster();
    let location = location(&cluster);
    let mut admin = admin(&cluster);
    // A role whose every login is by SCRAM, and which everybody may become on the remote side's `open`.
    cluster.create_login("passer", "pass", "scram-sha-256");
    let hba = cluster.data_dir().join("pg_hba.conf");
    let others = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("local open passer trust\nlocal all passer scram-sha-256\n{others}"))
        .unwrap();
    admin.batch_execute("CREATE DATABASE open").unwrap();
    admin
        .batch_execute("SELECT pg_reload_conf(); GRANT USAGE ON SCHEMA contrib, secretlink TO passer")
        .unwrap();
    let reloaded = || match cluster.try_connect("passer", "local") {
        Ok(_) => Err("no password is asked for".to_owned()),
        Err(_) => Ok(()),
    };
    eventually("the new pg_hba.conf", Duration::from_secs(5), reloaded);

    let create = |name: &str, more: &str| {
        format!(
            "CREATE SERVER {name} FOREIGN DATA WRAPPER dblink_fdw OPTIONS ({location}{more});
             GRANT USAGE ON FOREIGN SERVER {name} TO PUBLIC;
             CREATE USER MAPPING FOR PUBLIC SERVER {name} OPTIONS (user 'passer')"
        )
    };
    let asked = ", use_scram_passthrough 'true'";
    if PostgresBin::get().major() < 18 {
        for wrapper in ["dblink_fdw", "secretlink_fdw"] {
            let create = create("s", asked).replace("dblink_fdw", wrapper);
            let error = db_error(admin.batch_execute(&create));
            assert_eq!(error.message(), "invalid option \"use_scram_passthrough\"");
        }
        return;
    }
    admin.batch_execute(&create("on_server", asked)).unwrap();
    admin.batch_execute(&create("ours", asked).replace("dblink_fdw", "secretlink_fdw")).unwrap();
    admin.batch_execute(&create("off_in_mapping", asked)).unwrap();
    admin.batch_execute(&create("on_in_mapping", "")).unwrap();
    admin.batch_execute(&create("without", "")).unwrap();
    admin.batch_execute(&create("any_method", &format!("{asked}, require_auth '!md5'"))).unwrap();
    admin.batch_execute(&create("trusting", asked)).unwrap();
    admin
        .batch_execute(
            "ALTER SERVER trusting OPTIONS (SET dbname 'open');
         ALTER USER MAPPING FOR PUBLIC SERVER off_in_mapping OPTIONS (use_scram_passthrough 'off');
         ALTER USER MAPPING FOR PUBLIC SERVER on_in_mapping OPTIONS (use_scram_passthrough 'ON')",
        )
        .unwrap();
    let side = |schema| Side::log_in(&cluster, "passer", "pass", "local", schema);
    let mut passer = Pair { contrib: side("contrib"), ours: side("secretlink") };
    for server in ["on_server", "ours", "on_in_mapping"] {
        let sql = format!("SELECT u FROM dblink('{server}', 'SELECT current_user') AS t(u text)");
        if server != "ours" {
            assert_eq!(passer.same(&sql).value(), "passer", "{server}");
        }
        assert_eq!(passer.ours.value(&sql), "passer", "{server}");
    }
    for (server, code) in
        [("off_in_mapping", "2F003"), ("without", "2F003"), ("any_method", "2F003"), ("trusting", "08001")]
    {
        let told = same_rule(&mut passer, &format!("SELECT dblink_connect('{server}')"));
        assert_eq!(told.code, code, "{server}: {told:?}");
        if server == "trusting" {
            assert!(told.detail.unwrap().contains("server did not complete authentication"));
        }
    }
    // Who was trusted has proved nothing.
    let mut ordinary = pair(&cluster, "ordinary");
    assert_eq!(same_rule(&mut ordinary, "SELECT dblink_connect('on_server')").code, "2F003");
}

/// There are servers of `secretlink_fdw`, and no tables.
#[test]
fn foreign_tables_are_refused_with_a_hint() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("CREATE SERVER tables FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (host 'h')");
    for sql in [
        "CREATE FOREIGN TABLE f (a int) SERVER tables",
        "CREATE FOREIGN TABLE f (a int) SERVER tables OPTIONS (table_name 't')",
        "IMPORT FOREIGN SCHEMA public FROM SERVER tables INTO public",
        "IMPORT FOREIGN SCHEMA public LIMIT TO (t) FROM SERVER tables INTO public OPTIONS (a 'b')",
    ] {
        let outcome = ours.run(sql);
        let error = outcome.error();
        assert_eq!(error.code, "0A000", "{sql}: {error:?}");
        assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("postgres_fdw")), "{sql}: {error:?}");
    }
    // One that was made while the wrapper had no validator.
    ours.run(
        "ALTER FOREIGN DATA WRAPPER secretlink_fdw NO VALIDATOR;
         CREATE FOREIGN TABLE f (a int) SERVER tables;
         ALTER FOREIGN DATA WRAPPER secretlink_fdw VALIDATOR secretlink.secretlink_fdw_validator",
    );
    let outcome = ours.run("SELECT * FROM f");
    assert_eq!(outcome.error().code, "0A000", "{outcome:?}");
    assert!(outcome.error().hint.is_some(), "{outcome:?}");
    assert!(ours.run("DROP FOREIGN TABLE f").result.is_ok());
    // The columns of the check tell the other options as before.
    assert_eq!(ours.run("ALTER SERVER tables OPTIONS (ADD nonsense 'x')").error().code, "HV00J");
}
