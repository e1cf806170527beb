//! `secretlink.role_arn`.

use crate::ground::{moto, refused, text};
use secretlink_e2e::{Cluster, Gateway, ScriptedEndpoint, unique};

const ROLE: &str = "arn:aws:iam::111122223333:role/orders";

/// Moto keeps the accounts apart, and takes a caller with an assumed role's credentials for one of
/// the role's account.
#[test]
fn a_role_is_assumed_and_used() {
    let gateway = Gateway::to(moto(), &["localhost"]);
    let endpoint = format!("http://127.0.0.1:{}", gateway.port());
    let local = Cluster::local_with_endpoint(&endpoint)
        .env("AWS_ENDPOINT_URL_STS", &endpoint)
        .conf("cluster_name = 'main db'")
        .start();
    let name = unique("theirs");
    let mut client = local.connect("postgres", "postgres");
    client.batch_execute(&format!("SET secretlink.role_arn = '{ROLE}'")).unwrap();
    client.batch_execute("SET secretlink.external_id = 'between-us'").unwrap();
    let arn = text(&mut client, &format!("SELECT create_secret('{name}', '\"in their account\"')"));
    assert!(arn.contains(":111122223333:"), "{arn}");
    let read = format!("SELECT get_secret_string('{name}')");
    assert_eq!(text(&mut client, &read), "\"in their account\"");

    let seen = gateway.seen();
    let assumed: Vec<_> = seen.iter().filter(|(request, _)| request.contains("Action=AssumeRole&")).collect();
    let [(request, answer)] = assumed[..] else { panic!("once: {assumed:?}") };
    for part in ["orders", "RoleSessionName=secretlink-main-db", "ExternalId=between-us", "/us-east-1/sts/"] {
        assert!(request.contains(part), "{part}: {request}");
    }
    let between = |text: &str, from: &str, to: &str| {
        text.split_once(from).and_then(|(_, rest)| Some(rest.split_once(to)?.0.to_owned())).unwrap()
    };
    let id = between(answer, "<AccessKeyId>", "<");
    let token = between(answer, "<SessionToken>", "<");
    let used = gateway.requests_with("GetSecretValue").pop().unwrap();
    assert!(used.contains(&format!("Credential={id}/")), "{used}");
    assert!(used.contains(&token), "{used}");

    // As itself, the server finds nothing of that name: not in its own account.
    client.batch_execute("RESET secretlink.role_arn").unwrap();
    let message = format!("secret \"{name}\" not found in region us-east-1");
    refused(&mut client, &read, "42704", &message);
}

#[test]
fn a_role_that_may_not_be_assumed_is_named() {
    let sts = ScriptedEndpoint::start();
    let said = "User: arn:aws:iam::1:user/db is not authorized to perform: sts:AssumeRole";
    let denial = format!(
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>{said}</Message></Error></ErrorResponse>"
    );
    sts.answer(403, &denial);
    let local = Cluster::local(moto()).env("AWS_ENDPOINT_URL_STS", &sts.url()).start();
    let mut client = local.connect("postgres", "postgres");
    client.batch_execute(&format!("SET secretlink.role_arn = '{ROLE}'")).unwrap();
    let message = format!("could not assume role \"{ROLE}\": AccessDenied");
    let all = refused(&mut client, "SELECT get_secret_value('x')", "28000", &message);
    assert!(all.contains(said) && all.contains("trust policy"), "{all}");
}
