//! Logins that succeed.

use crate::ground::{Ground, HOST, refusal, signed, text, who};
use secretlink_e2e::{Proxy, private_file, unique};

#[test]
fn with_a_token_that_the_database_verifies() {
    let ground = Ground::start();
    let mut client = ground.session();
    assert_eq!(text(&mut client, &ground.connect("app")), "Connection established successfully");
    assert_eq!(who(&mut client), "app");
    let seen = "SELECT concat_ws(' ', host, database, username, secret, tls_version IS NOT NULL) FROM remote_connections";
    assert_eq!(text(&mut client, seen), format!("{HOST} testdb app t"));
    let verdicts = ground.verifier.verdicts();
    assert_eq!(verdicts.len(), 1, "{verdicts:?}");
    assert_eq!(verdicts[0].refusal, None);
}

#[test]
fn users_with_odd_names() {
    let ground = Ground::start();
    let mut client = ground.session();
    for user in ["a&b", "a b", "a=b?c/d+e%41", "\u{e9}t\u{e9}", "x@y:1", "[]{}~!*()", &"l".repeat(63)] {
        ground.role(user);
        text(&mut client, &ground.connect(user));
        assert_eq!(who(&mut client), user);
    }
    assert!(ground.verifier.verdicts().iter().all(|verdict| verdict.refusal.is_none()));
}

#[test]
fn tokens_of_two_thousand_bytes_and_more() {
    for length in [1_500, 5_000] {
        let session = "s+/=".repeat(length / 4);
        let ground = Ground::with(|local| local.env("AWS_SESSION_TOKEN", &session), |remote| remote);
        ground.verifier.trust("test", "test", Some(&session));
        let mut client = ground.session();
        text(&mut client, &ground.connect("app"));
        assert_eq!(who(&mut client), "app");
        let token = &ground.verifier.verdicts()[0].token;
        assert!(token.len() >= 2_000, "{}", token.len());
    }
}

#[test]
fn a_secret_without_a_password_can_ask_for_it() {
    use secretlink_e2e::Moto;
    let moto = Moto::start();
    let ground = Ground::with(
        |local| local.conf(&format!("secretlink.endpoint_url = '{}'", moto.endpoint())),
        |remote| remote,
    );
    let name = unique("iam");
    let value = serde_json::json!({
        "host": HOST, "port": ground.remote.port(), "username": "app", "dbname": "testdb", "iam_auth": true,
    });
    moto.secrets().create_secret(&name, &value.to_string());
    let mut client = ground.session();
    text(&mut client, &format!("SELECT connect_with_secret('{name}', options => '{}')", ground.options()));
    assert_eq!(who(&mut client), "app");

    // Through a foreign server, too, whose user the secret fixes.
    let ca = ground.remote.tls().ca.display().to_string();
    client
        .batch_execute(&format!(
            "CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (secret_id '{name}', hostaddr '127.0.0.1', sslrootcert '{ca}')"
        ))
        .unwrap();
    text(&mut client, "SELECT dblink_connect('remote_conn2', 's')");
    client.batch_execute("CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (user 'postgres')").unwrap();
    let error = refusal(&mut client, "SELECT dblink_connect('remote_conn3', 's')");
    assert_eq!(error.code().code(), "42501", "{error:?}");

    // Without a password, and without that.
    let name = unique("iam");
    moto.secrets().create_secret(&name, &value.to_string().replace("true", "false"));
    let error = refusal(&mut client, &format!("SELECT connect_with_secret('{name}')"));
    assert_eq!(error.message(), format!("secret \"{name}\" has no password field"));
    assert_eq!(signed(&mut client), 1);
}

#[test]
fn a_connection_that_was_lost_is_made_again_with_a_new_token() {
    let ground = Ground::start();
    let mut client = ground.session();
    text(&mut client, &ground.connect("app"));
    let first = ground.verifier.verdicts()[0].token.clone();
    text(&mut client, "SELECT forget_all_secrets()");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    ground
        .remote
        .connect("postgres", "postgres")
        .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        .unwrap();
    secretlink_e2e::eventually("the loss is seen", std::time::Duration::from_secs(40), || {
        let state = text(&mut client, "SELECT state FROM remote_connections");
        if state == "lost" { Ok(()) } else { Err(state) }
    });
    assert_eq!(who(&mut client), "app");
    let verdicts = ground.verifier.verdicts();
    assert_eq!(verdicts.len(), 2);
    assert_ne!(verdicts[1].token, first);
    assert_eq!(verdicts[1].refusal, None);
}

/// The certificate must name the database that was signed for, whatever the address is called.
#[test]
fn the_server_must_be_the_one_that_was_signed_for() {
    let ground = Ground::start();
    let mut client = ground.session();
    let port = ground.remote.port();
    let other = format!(
        "SELECT connect_with_iam('other.abc.us-east-1.rds.amazonaws.com', 'testdb', 'app', {port}, options => '{}')",
        ground.options()
    );
    let error = refusal(&mut client, &other);
    assert_eq!((error.code().code(), error.message()), ("08001", "could not establish connection"));
    assert!(error.hint().unwrap().contains("truststore.pki.rds.amazonaws.com"), "{error:?}");
    assert!(ground.verifier.verdicts().is_empty(), "and no token has left");

    // Nor is a certificate of nobody's known authority enough, nor none at all.
    let stranger = private_file(ground.local.data_dir().join("stranger.crt"), STRANGER);
    for options in
        ["hostaddr=127.0.0.1".to_owned(), format!("hostaddr=127.0.0.1 sslrootcert={}", stranger.display())]
    {
        let error = refusal(&mut client, &ground.connect_with("app", &options));
        assert!(error.hint().unwrap().contains("truststore.pki.rds.amazonaws.com"), "{error:?}");
    }
    // Asked for by name, less is enough; the rest of the world may be different.
    for options in
        ["hostaddr=127.0.0.1 sslmode=require".to_owned(), format!("{} sslmode=verify-ca", ground.options())]
    {
        text(&mut client, &ground.connect_with("app", &options));
    }
    assert_eq!(ground.verifier.verdicts().len(), 2);
}

/// A certificate that has nothing to do with anything here.
const STRANGER: &str = include_str!("stranger.crt");

#[test]
fn a_proxy_in_between_gets_no_token_without_tls() {
    let ground = Ground::start();
    let mut client = ground.session();
    let proxy = Proxy::to(ground.remote.port());
    for mode in ["disable", "allow", "prefer"] {
        let sql = format!(
            "SELECT connect_with_iam('{HOST}', 'testdb', 'app', {}, options => 'hostaddr=127.0.0.1 sslmode={mode}')",
            proxy.port()
        );
        let error = refusal(&mut client, &sql);
        let message = format!("sslmode value \"{mode}\" is too weak to send an IAM token");
        assert_eq!((error.code().code(), error.message()), ("22023", message.as_str()));
        assert!(error.hint().is_some());
    }
    assert!(ground.verifier.verdicts().is_empty());
}
