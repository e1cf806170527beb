//! Foreign servers with `iam_auth`.

use crate::ground::{Ground, HOST, refusal, signed, text};
use postgres::Client;
use secretlink_e2e::Moto;

fn server(ground: &Ground, client: &mut Client, host: &str, more: &str) {
    let (port, ca) = (ground.remote.port(), ground.remote.tls().ca.display());
    client
        .batch_execute(&format!(
            "CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (iam_auth 'on', host '{host}', port '{port}', dbname 'testdb', sslrootcert '{ca}'{more});
             CREATE ROLE someone LOGIN; GRANT USAGE ON FOREIGN SERVER s TO someone;
             CREATE USER MAPPING FOR someone SERVER s OPTIONS (user 'app');
             CREATE USER MAPPING FOR postgres SERVER s OPTIONS (user 'app')"
        ))
        .unwrap();
}

const WHO: &str = "SELECT v FROM dblink('s', 'SELECT current_user') AS t(v text)";

#[test]
fn with_its_own_name() {
    let ground = Ground::start();
    let mut client = ground.session();
    server(&ground, &mut client, HOST, ", hostaddr '127.0.0.1'");
    let mut someone = ground.local.connect("someone", "postgres");
    assert_eq!(text(&mut someone, WHO), "app");
    assert_eq!(text(&mut client, WHO), "app");
    assert_eq!(signed(&mut client), 1);
    assert!(ground.verifier.verdicts().iter().all(|verdict| verdict.refusal.is_none()));
}

/// The certificate is checked for the name that was signed, as well.
#[test]
fn by_another_name() {
    let ground = Ground::start();
    let mut client = ground.session();
    server(&ground, &mut client, "localhost", &format!(", iam_host '{HOST}'"));
    assert_eq!(text(&mut client, WHO), "app");
    // Behind a tunnel the port is another, too.
    ground.verifier.expect(HOST, 5432);
    client.batch_execute(&format!("ALTER SERVER s OPTIONS (SET iam_host '{HOST}:5432')")).unwrap();
    assert_eq!(text(&mut client, WHO), "app");
    client.batch_execute("ALTER SERVER s OPTIONS (DROP iam_host)").unwrap();
    let error = refusal(&mut client, WHO);
    assert_eq!(error.code().code(), "08001");
    assert!(error.hint().unwrap().contains("iam_host"), "{error:?}");
    assert_eq!(ground.verifier.verdicts().len(), 2);
}

#[test]
fn its_options_are_for_superusers() {
    let ground = Ground::start();
    let mut client = ground.session();
    client
        .batch_execute("CREATE ROLE owner LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER secretlink_fdw TO owner")
        .unwrap();
    let mut owner = ground.local.connect("owner", "postgres");
    for option in ["iam_auth 'on'", "iam_auth 'off'", "iam_host 'h'"] {
        let sql = format!("CREATE SERVER o FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({option})");
        let error = refusal(&mut owner, &sql);
        assert_eq!(error.code().code(), "42501", "{error:?}");
    }
    // Nor may its owner lead it elsewhere.
    client
        .batch_execute(&format!(
            "CREATE SERVER o FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (iam_auth 'on', host '{HOST}');
             ALTER SERVER o OWNER TO owner"
        ))
        .unwrap();
    let error = refusal(&mut owner, "ALTER SERVER o OPTIONS (SET host 'evil.example')");
    assert_eq!(error.code().code(), "42501", "{error:?}");

    for (options, code) in [
        ("iam_auth 'maybe'", "42601"),
        ("iam_host 'a/b'", "22023"),
        ("iam_host ''", "22023"),
        ("iam_host 'a,b'", "22023"),
        ("iam_auth 'on', secret_id 'x'", "22023"),
    ] {
        let sql = format!("CREATE SERVER x FOREIGN DATA WRAPPER secretlink_fdw OPTIONS ({options})");
        assert_eq!(refusal(&mut client, &sql).code().code(), code, "{options}");
    }
    client
        .batch_execute(
            "CREATE SERVER y FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (iam_auth 'off', secret_id 'x');
             CREATE SERVER z FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (iam_auth 'on', iam_host '[::1]:5432')",
        )
        .unwrap();
    for of in ["iam_auth 'on'", "iam_host 'h'"] {
        let error = refusal(&mut client, &format!("CREATE USER MAPPING FOR PUBLIC SERVER y OPTIONS ({of})"));
        assert_eq!(error.hint(), Some("It is an option of the foreign server."));
    }
}

#[test]
fn what_a_mapping_leaves_open() {
    let ground = Ground::start();
    let mut client = ground.session();
    server(&ground, &mut client, HOST, ", hostaddr '127.0.0.1'");
    client
        .batch_execute("DROP USER MAPPING FOR postgres SERVER s; CREATE USER MAPPING FOR postgres SERVER s")
        .unwrap();
    let error = refusal(&mut client, WHO);
    assert_eq!((error.code().code(), error.message()), ("22023", "an IAM token needs the name of a user"));
    // One with a password of its own does without a token.
    client
        .batch_execute("ALTER USER MAPPING FOR postgres SERVER s OPTIONS (user 'app', password 'wrong')")
        .unwrap();
    assert_eq!(refusal(&mut client, WHO).code().code(), "08001");
    assert_eq!(signed(&mut client), 0);
    client.batch_execute("ALTER USER MAPPING FOR postgres SERVER s OPTIONS (DROP password)").unwrap();
    assert_eq!(text(&mut client, WHO), "app");
    client.batch_execute("ALTER SERVER s OPTIONS (DROP host)").unwrap();
    let error = refusal(&mut client, WHO);
    assert_eq!(error.message(), "an IAM token needs the name of a host");
}

/// The token of a server with a role is signed with the credentials of that role, and is nobody else's.
#[test]
fn as_a_role_of_its_own() {
    let moto = Moto::start();
    let ground = Ground::with(|local| local.env("AWS_ENDPOINT_URL_STS", &moto.endpoint()), |remote| remote);
    let mut client = ground.session();
    let role = "arn:aws:iam::123456789012:role/orders";
    server(
        &ground,
        &mut client,
        HOST,
        &format!(", hostaddr '127.0.0.1', role_arn '{role}', external_id 'x-1'"),
    );
    // The database knows the credentials of this server only, and not those that STS has made.
    let error = refusal(&mut client, WHO);
    assert!(error.hint().unwrap().contains("rds-db:connect"), "{error:?}");
    let verdict = ground.verifier.take("app").remove(0);
    assert_eq!(verdict.refusal.as_deref(), Some("nobody has that access key"));
    assert!(verdict.token.contains("&X-Amz-Security-Token="), "{}", verdict.token);
    let seen = "SELECT concat_ws(' ', kind, role_arn, region) FROM secret_cache";
    assert_eq!(text(&mut client, seen), format!("iam_token {role} us-east-1"));
    // Without the role it is another token.
    client.batch_execute("ALTER SERVER s OPTIONS (DROP role_arn, DROP external_id)").unwrap();
    assert_eq!(text(&mut client, WHO), "app");
    assert!(!ground.verifier.take("app")[0].token.contains("X-Amz-Security-Token"));
    assert_eq!(signed(&mut client), 2);
}
