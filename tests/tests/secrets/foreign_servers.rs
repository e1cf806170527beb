//! Foreign servers with a secret: a role with USAGE connects, and neither reads the secret nor sends
//! it elsewhere.

use crate::session::{api, plain_role, refused, session, text};
use postgres::Client;
use secretlink_e2e::{Cluster, Stage, unique};
use serde_json::{Value, json};

const WHERE: &str = "SELECT concat_ws(' ', current_user, current_database(), (SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()))";

/// All there is to know of the remote database.
fn secret() -> Value {
    let remote = &Stage::shared().remote;
    json!({ "host": "127.0.0.1", "port": remote.port(), "dbname": "testdb", "username": "app",
            "password": remote.app_password() })
}

/// A server with this secret and these other options, and a session of a role that may use it.
fn server(secret: Value, options: &str) -> (String, String, Client) {
    let name = unique("server");
    api().create_secret(&name, &secret.to_string());
    let role = plain_role();
    session()
        .batch_execute(&format!(
            "CREATE SERVER \"{name}\" FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{name}'{options});
             GRANT USAGE ON FOREIGN SERVER \"{name}\" TO {role}"
        ))
        .unwrap();
    let mut client = Stage::shared().local.connect(&role, "postgres");
    client.batch_execute("SET statement_timeout = '60s'").unwrap();
    (name, role, client)
}

fn without(mut secret: Value, field: &str) -> Value {
    secret.as_object_mut().unwrap().remove(field);
    secret
}

fn ask(client: &mut Client, server: &str) -> String {
    text(client, "SELECT v FROM dblink($1, $2) AS t(v text)", &[server, WHERE])
}

fn connect(server: &str) -> String {
    format!("SELECT dblink_connect('{server}')")
}

/// What the detail says of a failure to connect.
#[track_caller]
fn told(client: &mut Client, server: &str) -> String {
    let error = secretlink_e2e::db_error(client.simple_query(&connect(server)));
    assert_eq!((error.code().code(), error.message()), ("08001", "could not establish connection"));
    error.detail().unwrap().to_owned()
}

#[test]
fn usage_is_enough_to_connect_and_for_nothing_more() {
    let (name, role, mut client) = server(secret(), "");
    assert_eq!(ask(&mut client, &name), "app testdb true");
    assert_eq!(text(&mut client, "SELECT dblink_connect('c', $1)", &[&name]), "OK");
    assert_eq!(ask(&mut client, "c"), "app testdb true");
    assert_eq!(text(&mut client, "SELECT dblink_exec($1, 'SET work_mem = 64')", &[&name]), "SET");
    refused(
        &mut client,
        &format!("SELECT dblink_connect('c', '{name}')"),
        "42710",
        "duplicate connection name",
        "",
    );

    for call in ["get_secret_value", "get_secret_string", "describe_secret", "connect_with_secret"] {
        let message = format!("permission denied for function {call}");
        refused(&mut client, &format!("SELECT {call}('{name}')"), "42501", &message, "");
    }
    let owner = format!("must be owner of foreign server {name}");
    for change in ["OPTIONS (ADD host 'elsewhere')", "OPTIONS (DROP secret_id)"] {
        refused(&mut client, &format!("ALTER SERVER \"{name}\" {change}"), "42501", &owner, "");
    }
    refused(
        &mut client,
        &format!(
            "CREATE SERVER \"{name}-2\" FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{name}')"
        ),
        "42501",
        "permission denied for foreign-data wrapper secretlink_fdw",
        "",
    );
    session().batch_execute(&format!("REVOKE USAGE ON FOREIGN SERVER \"{name}\" FROM {role}")).unwrap();
    let denied = format!("permission denied for foreign server {name}");
    refused(&mut client, &connect(&name), "42501", &denied, "");
    // The superuser needs neither right nor mapping.
    assert_eq!(ask(&mut session(), &name), "app testdb true");
}

#[test]
fn a_mapping_of_ones_own_does_not_turn_the_secret_on_somebody_else() {
    let (name, _, mut client) = server(secret(), "");
    let remote = &Stage::shared().remote;
    let second = unique("second").replace('-', "_");
    remote.create_login(&second, "own", "scram-sha-256");
    let other = unique("same").replace('-', "_");
    remote.create_login(&other, remote.app_password(), "scram-sha-256");
    let mut mapped = |options: &str| {
        client
            .batch_execute(&format!(
                "DROP USER MAPPING IF EXISTS FOR CURRENT_USER SERVER \"{name}\";
                 CREATE USER MAPPING FOR CURRENT_USER SERVER \"{name}\" OPTIONS ({options})"
            ))
            .unwrap();
        Stage::shared().local.connect(&text(&mut client, "SELECT current_user::text", &[]), "postgres")
    };
    let fixed = format!("user of the user mapping is not that of secret \"{name}\"");
    for options in
        [format!("user '{other}'"), format!("user '{other}', password ''"), "user 'postgres'".into()]
    {
        refused(&mut mapped(&options), &connect(&name), "42501", &fixed, "a password of its own");
    }
    assert_eq!(ask(&mut mapped("user 'app'"), &name), "app testdb true");
    assert_eq!(ask(&mut mapped("user ''"), &name), "app testdb true");
    // A user with a password of his own does not need the secret's.
    assert_eq!(
        ask(&mut mapped(&format!("user '{second}', password 'own'")), &name),
        format!("{second} testdb true")
    );
    let failed = told(&mut mapped("password 'guessed'"), &name);
    assert!(failed.ends_with("password authentication failed for user \"app\""), "{failed}");
}

#[test]
fn a_secret_without_a_user_takes_the_mappings() {
    let (name, role, mut client) = server(without(secret(), "username"), "");
    let missing = format!("secret \"{name}\" has no username field");
    refused(&mut client, &connect(&name), "22023", &missing, "or set user as an option of the user mapping");
    session()
        .batch_execute(&format!("CREATE USER MAPPING FOR {role} SERVER \"{name}\" OPTIONS (user 'app')"))
        .unwrap();
    assert_eq!(ask(&mut client, &name), "app testdb true");
}

#[test]
fn what_the_server_says_counts_more_than_the_secret() {
    let port = Stage::shared().remote.port();
    let elsewhere = json!({ "host": "no.such.host.invalid", "port": 1, "dbname": "nowhere" });
    let mut wrong = secret();
    for (field, value) in elsewhere.as_object().unwrap() {
        wrong[field] = value.clone();
    }
    let (name, _, mut client) =
        server(wrong, &format!(", host 'localhost', port '{port}', dbname 'postgres'"));
    assert_eq!(ask(&mut client, &name), "app postgres true");

    let (name, _, mut client) = server(without(secret(), "host"), "");
    let missing = format!("secret \"{name}\" has no host field");
    refused(&mut client, &connect(&name), "22023", &missing, "or set it as an option of the foreign server");
    let (name, _, mut client) = server(without(secret(), "host"), ", hostaddr '127.0.0.1'");
    assert_eq!(ask(&mut client, &name), "app testdb true");

    let tls = Stage::shared().remote.tls();
    let verified = format!(", sslmode 'verify-full', sslrootcert '{}'", tls.ca.display());
    let (name, _, mut client) = server(secret(), &verified);
    assert_eq!(ask(&mut client, &name), "app testdb true");
}

#[test]
fn the_password_goes_over_tls_unless_the_server_says_disable() {
    let plain = Cluster::plain().tcp().auth("host", "app", "scram-sha-256").start();
    plain.create_login("app", Stage::shared().remote.app_password(), "scram-sha-256");
    let at = format!(", port '{}', dbname 'postgres'", plain.port());
    for (mode, outcome) in [
        ("", "server does not support SSL, but SSL was required"),
        (", sslmode 'prefer'", "the server asked for the password over an unencrypted connection"),
        (", sslmode 'disable'", ""),
    ] {
        let (name, _, mut client) = server(secret(), &format!("{at}{mode}"));
        match outcome {
            "" => assert_eq!(ask(&mut client, &name), "app postgres false"),
            reason => assert!(told(&mut client, &name).ends_with(reason), "{mode}"),
        }
    }
}

#[test]
fn the_rules_of_dblink_hold() {
    let trusting = Cluster::plain().tcp().start();
    trusting.create_login("app", "x", "scram-sha-256");
    let at = format!(", port '{}', dbname 'postgres', sslmode 'disable'", trusting.port());
    let (name, _, mut client) = server(secret(), &at);
    refused(
        &mut client,
        &connect(&name),
        "2F003",
        "password is required",
        "authentication method must be changed",
    );
    assert_eq!(ask(&mut session(), &name), "app postgres false");

    // Nothing of the secret gets lost on the way.
    let (name, _, mut client) = server(json!({ "password": 1 }), "");
    refused(
        &mut client,
        &connect(&name),
        "22023",
        &format!("field \"password\" of secret \"{name}\" is not valid"),
        "",
    );
    api().delete_secret(&name, true);
    session().query_one("SELECT forget_secret($1)", &[&name]).unwrap();
    let gone = format!("secret \"{name}\" not found in region us-east-1");
    refused(&mut client, &connect(&name), "42704", &gone, "");
}

/// A wrapper without a validator lets anybody set any option.
#[test]
fn servers_of_other_wrappers_have_no_secret() {
    let (name, role, mut client) = server(secret(), "");
    let wrapper = unique("open").replace('-', "_");
    session()
        .batch_execute(&format!(
            "CREATE FOREIGN DATA WRAPPER {wrapper}; GRANT USAGE ON FOREIGN DATA WRAPPER {wrapper} TO {role}"
        ))
        .unwrap();
    client
        .batch_execute(&format!(
            "CREATE SERVER {wrapper} FOREIGN DATA WRAPPER {wrapper} OPTIONS (secret_id '{name}', host '127.0.0.1');
             CREATE USER MAPPING FOR CURRENT_USER SERVER {wrapper} OPTIONS (secret_id '{name}', user 'app')"
        ))
        .unwrap();
    refused(&mut client, &connect(&wrapper), "2F003", "password is required", "");
}

/// Another secret like this one, but for another role of the remote server; its name, and the role's.
fn second_secret() -> (String, String) {
    let (name, role) = (unique("second"), unique("second").replace('-', "_"));
    Stage::shared().remote.create_login(&role, "its own", "scram-sha-256");
    let mut value = secret();
    value["username"] = role.clone().into();
    value["password"] = "its own".into();
    api().create_secret(&name, &value.to_string());
    (name, role)
}

/// A server without a secret that belongs to a superuser, and a session of a role that may use it.
fn bare_server() -> (String, String, Client) {
    let (name, role, client) = server(secret(), "");
    session().batch_execute(&format!("ALTER SERVER \"{name}\" OPTIONS (DROP secret_id)")).unwrap();
    (name, role, client)
}

fn execute(sql: &str) {
    session().batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

#[test]
fn a_mapping_has_a_secret_for_its_role() {
    // Without one of the server's: no mapping, no way in.
    let (name, role, mut client) = bare_server();
    let (second, second_role) = second_secret();
    let error = secretlink_e2e::db_error(client.simple_query(&connect(&name)));
    assert_eq!(error.code().code(), "42704");
    // Later versions name the server, too.
    assert!(error.message().starts_with("user mapping not found for "), "{error:?}");
    execute(&format!("CREATE USER MAPPING FOR {role} SERVER \"{name}\" OPTIONS (secret_id '{second}')"));
    assert_eq!(ask(&mut client, &name), format!("{second_role} testdb true"));
    // For everybody, but who has a mapping of his own.
    execute(&format!("CREATE USER MAPPING FOR PUBLIC SERVER \"{name}\" OPTIONS (secret_id '{name}')"));
    assert_eq!(ask(&mut client, &name), format!("{second_role} testdb true"));
    client.batch_execute(&format!("DROP USER MAPPING FOR CURRENT_USER SERVER \"{name}\"")).unwrap();
    assert_eq!(ask(&mut client, &name), "app testdb true");
    // One's own that says nothing leads nowhere.
    client.batch_execute(&format!("CREATE USER MAPPING FOR CURRENT_USER SERVER \"{name}\"")).unwrap();
    refused(&mut client, &connect(&name), "2F003", "password is required", "");

    // Before that of the server.
    let (name, role, mut client) = server(secret(), "");
    execute(&format!("CREATE USER MAPPING FOR {role} SERVER \"{name}\" OPTIONS (secret_id '{second}')"));
    assert_eq!(ask(&mut client, &name), format!("{second_role} testdb true"));
    // As whom it is used is in that secret.
    execute(&format!("ALTER USER MAPPING FOR {role} SERVER \"{name}\" OPTIONS (user 'app')"));
    let fixed = format!("user of the user mapping is not that of secret \"{second}\"");
    refused(&mut client, &connect(&name), "42501", &fixed, "a password of its own");
    assert_eq!(ask(&mut session(), &name), "app testdb true");
}

#[test]
fn a_mapping_is_given_a_secret_by_superusers() {
    let (name, role, mut client) = server(secret(), "");
    let (second, second_role) = second_secret();
    execute(&format!("ALTER SERVER \"{name}\" OWNER TO {role}"));
    let denied = |client: &mut Client, statement: &str| {
        let detail = "permission denied to set option \"secret_id\"";
        refused(client, &statement.replace("{s}", &name).replace("{x}", &second), "42501", detail, "");
    };
    for statement in [
        "CREATE USER MAPPING FOR CURRENT_USER SERVER \"{s}\" OPTIONS (secret_id '{x}')",
        "CREATE USER MAPPING FOR PUBLIC SERVER \"{s}\" OPTIONS (user 'app', secret_id '{x}')",
        "CREATE USER MAPPING FOR postgres SERVER \"{s}\" OPTIONS (secret_id '{x}')",
    ] {
        denied(&mut client, statement);
    }
    client.batch_execute(&format!("CREATE USER MAPPING FOR CURRENT_USER SERVER \"{name}\"")).unwrap();
    denied(&mut client, "ALTER USER MAPPING FOR CURRENT_USER SERVER \"{s}\" OPTIONS (secret_id '{x}')");
    execute(&format!("ALTER USER MAPPING FOR {role} SERVER \"{name}\" OPTIONS (secret_id '{second}')"));
    assert_eq!(ask(&mut client, &name), format!("{second_role} testdb true"));
    for change in ["user 'app'", "SET secret_id 'other'", "password 'x'"] {
        let alter = format!("ALTER USER MAPPING FOR CURRENT_USER SERVER \"{{s}}\" OPTIONS ({change})");
        denied(&mut client, &alter);
    }
    // It can be given up, and is not got back.
    client
        .batch_execute(&format!(
            "ALTER USER MAPPING FOR CURRENT_USER SERVER \"{name}\" OPTIONS (DROP secret_id)"
        ))
        .unwrap();
    assert_eq!(ask(&mut client, &name), "app testdb true");
    denied(&mut client, "ALTER USER MAPPING FOR CURRENT_USER SERVER \"{s}\" OPTIONS (secret_id '{x}')");
}

/// The owner of a server decides where it leads: now, and after the mapping was made.
#[test]
fn the_secret_of_a_mapping_goes_nowhere_but_where_superusers_say() {
    let (name, role, mut client) = bare_server();
    let owner = plain_role();
    let mut thief = Stage::shared().local.connect(&owner, "postgres");
    execute(&format!("CREATE USER MAPPING FOR {role} SERVER \"{name}\" OPTIONS (secret_id '{name}')"));
    assert_eq!(ask(&mut client, &name), "app testdb true");

    let message = format!("secret of the user mapping may not be used with server \"{name}\"");
    let denied = |client: &mut Client| refused(client, &connect(&name), "42501", &message, "to a superuser");
    execute(&format!("ALTER SERVER \"{name}\" OWNER TO {owner}"));
    denied(&mut client);
    thief
        .batch_execute(&format!("ALTER SERVER \"{name}\" OPTIONS (host 'elsewhere', sslmode 'disable')"))
        .unwrap();
    denied(&mut client);
    execute(&format!("CREATE USER MAPPING FOR postgres SERVER \"{name}\" OPTIONS (secret_id '{name}')"));
    denied(&mut session());

    // A server with a secret of its own is changed by superusers only.
    execute(&format!("ALTER SERVER \"{name}\" OPTIONS (DROP host, DROP sslmode, secret_id '{name}')"));
    assert_eq!(ask(&mut client, &name), "app testdb true");
    refused(
        &mut thief,
        &format!("ALTER SERVER \"{name}\" OPTIONS (host 'elsewhere')"),
        "42501",
        "permission denied to set option \"secret_id\"",
        "",
    );
    thief
        .batch_execute(&format!("ALTER SERVER \"{name}\" OPTIONS (DROP secret_id, host 'elsewhere')"))
        .unwrap();
    denied(&mut client);
    execute(&format!(
        "ALTER SERVER \"{name}\" OPTIONS (DROP host); ALTER SERVER \"{name}\" OWNER TO postgres"
    ));
    assert_eq!(ask(&mut client, &name), "app testdb true");
}

#[test]
fn a_server_says_in_which_region_its_secrets_are() {
    let name = unique("far");
    let mut value = secret();
    api().in_region("eu-central-1").create_secret(&name, &value.to_string());
    value["dbname"] = "postgres".into();
    let arn = api().create_secret(&unique("near"), &value.to_string());
    let role = plain_role();
    execute(&format!(
        "CREATE SERVER \"{name}\" FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{name}');
         GRANT USAGE ON FOREIGN SERVER \"{name}\" TO {role}"
    ));
    let mut client = Stage::shared().local.connect(&role, "postgres");
    let gone = |region: &str| format!("secret \"{name}\" not found in region {region}");
    refused(&mut client, &connect(&name), "42704", &gone("us-east-1"), "");
    execute(&format!("ALTER SERVER \"{name}\" OPTIONS (region 'eu-central-1')"));
    assert_eq!(ask(&mut client, &name), "app testdb true");
    // Also of the secrets of mappings; an ARN says it itself.
    execute(&format!(
        "ALTER SERVER \"{name}\" OPTIONS (DROP secret_id);
         CREATE USER MAPPING FOR {role} SERVER \"{name}\" OPTIONS (secret_id '{name}')"
    ));
    assert_eq!(ask(&mut client, &name), "app testdb true");
    execute(&format!("ALTER USER MAPPING FOR {role} SERVER \"{name}\" OPTIONS (SET secret_id '{arn}')"));
    assert_eq!(ask(&mut client, &name), "app postgres true");
    // A lost connection is made again from there, and one in use follows.
    execute(&format!("ALTER USER MAPPING FOR {role} SERVER \"{name}\" OPTIONS (SET secret_id '{name}')"));
    text(&mut client, "SELECT dblink_connect('c', $1)", &[&name]);
    execute(&format!("ALTER SERVER \"{name}\" OPTIONS (SET region 'eu-west-3')"));
    let use_it = "SELECT dblink_exec('c', 'SET work_mem = 64')";
    refused(&mut client, use_it, "42704", &gone("eu-west-3"), "");

    for wrong in ["", "EU", "eu-west-1.example.com", "eu-west-1/x", "eu_west"] {
        refused(
            &mut session(),
            &format!("ALTER SERVER \"{name}\" OPTIONS (SET region '{wrong}')"),
            "22023",
            "invalid value for option \"region\"",
            "such as us-east-1",
        );
    }
    refused(
        &mut session(),
        &format!("ALTER SERVER \"{name}\" OPTIONS (regoin 'x')"),
        "HV00J",
        "invalid option \"regoin\"",
        "Perhaps you meant the option \"region\".",
    );
    execute(&format!("ALTER SERVER \"{name}\" OWNER TO {role}"));
    for change in ["SET region 'us-east-1'", "host 'elsewhere'"] {
        refused(
            &mut client,
            &format!("ALTER SERVER \"{name}\" OPTIONS ({change})"),
            "42501",
            "permission denied to set option \"region\"",
            "",
        );
    }
}

/// With an STS, whose roles belong to the account in their ARN.
#[test]
fn a_server_says_as_whom_its_secrets_are_read() {
    let moto = &Stage::shared().moto;
    let local = Cluster::local(moto).env("AWS_ENDPOINT_URL_STS", &moto.endpoint()).start();
    let other_account = "arn:aws:iam::111111111111:role/reader";
    let name = unique("theirs");
    let mut admin = local.connect("postgres", "postgres");
    admin
        .batch_execute(&format!(
            "CREATE ROLE app LOGIN; CREATE ROLE owner LOGIN;
             LOAD 'secretlink'; SET secretlink.role_arn = '{other_account}';
             SELECT create_secret('{name}', $${}$$); RESET secretlink.role_arn;
             CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{name}');
             GRANT USAGE ON FOREIGN SERVER s TO app",
            secret()
        ))
        .unwrap();
    let mut client = local.connect("app", "postgres");
    let gone = format!("secret \"{name}\" not found in region us-east-1");
    refused(&mut client, &connect("s"), "42704", &gone, "");
    admin
        .batch_execute(&format!(
            "ALTER SERVER s OPTIONS (role_arn '{other_account}', external_id 'an id', DROP secret_id)"
        ))
        .unwrap_err();
    admin
        .batch_execute(&format!("ALTER SERVER s OPTIONS (role_arn '{other_account}', external_id 'an-id')"))
        .unwrap();
    assert_eq!(ask(&mut client, "s"), "app testdb true");
    text(&mut client, "SELECT dblink_connect('c', 's')", &[]);
    admin
        .batch_execute("ALTER SERVER s OPTIONS (SET role_arn 'arn:aws:iam::222222222222:role/reader')")
        .unwrap();
    refused(&mut client, "SELECT dblink_exec('c', 'SET work_mem = 64')", "42704", &gone, "");

    for (option, wrong, hint) in [
        ("role_arn", "reader", "arn:aws:iam::"),
        ("role_arn", "arn:aws:iam::222222222222:user/reader", "arn:aws:iam::"),
        ("external_id", "a b", ""),
    ] {
        let message = format!("invalid value for option \"{option}\"");
        let alter = format!("ALTER SERVER s OPTIONS (SET {option} '{wrong}')");
        refused(&mut admin, &alter, "22023", &message, hint);
    }
    // The owner may not choose another role, nor lead elsewhere what this one may read.
    admin.batch_execute("ALTER SERVER s OPTIONS (DROP secret_id); ALTER SERVER s OWNER TO owner").unwrap();
    let mut owner = local.connect("owner", "postgres");
    for change in ["SET role_arn 'arn:aws:iam::111111111111:role/other'", "host 'elsewhere'"] {
        let denied = "permission denied to set option \"role_arn\"";
        refused(&mut owner, &format!("ALTER SERVER s OPTIONS ({change})"), "42501", denied, "");
    }
    owner.batch_execute("ALTER SERVER s OPTIONS (DROP role_arn)").unwrap_err();
    owner.batch_execute("ALTER SERVER s OPTIONS (DROP role_arn, DROP external_id)").unwrap();
    refused(
        &mut owner,
        "ALTER SERVER s OPTIONS (external_id 'an-id')",
        "42501",
        "permission denied to set option \"external_id\"",
        "",
    );
}
