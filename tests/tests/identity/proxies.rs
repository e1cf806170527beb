//! The proxy of the server's environment, and which endpoints are asked through it.

use crate::ground::{moto, refused, text};
use secretlink_e2e::{Cluster, Gateway, free_port, unique};

const ENDPOINTS: [&str; 4] = [
    "secretsmanager.us-east-1.amazonaws.com",
    "secretsmanager-fips.us-east-1.amazonaws.com",
    "sts.us-east-1.amazonaws.com",
    // With dual stack; that of Secrets Manager has no name of its own.
    "sts.us-east-1.api.aws",
];

/// For the whole way as in a network with a proxy for the only way out: the endpoints are AWS's own.
#[test]
fn the_real_endpoints_are_reached_through_a_tunnel() {
    let gateway = Gateway::to(moto(), &ENDPOINTS);
    let name = unique("tunnel");
    moto().secrets().create_secret(&name, "1");
    let local = Cluster::local_with_endpoint("")
        .env("HTTPS_PROXY", &format!("http://db:hunter2@127.0.0.1:{}", gateway.port()))
        .conf(&format!("secretlink.ca_bundle = '{}'", gateway.ca().display()))
        .start();
    let mut client = local.connect("postgres", "postgres");
    let tunnels = |endpoint: &str| gateway.requests_with(&format!("CONNECT {endpoint}:443 "));
    let read = format!("SELECT get_secret_string('{name}')");
    for (set, endpoint) in [("", ENDPOINTS[0]), ("SET secretlink.use_fips_endpoint = on", ENDPOINTS[1])] {
        client.batch_execute(set).unwrap();
        assert_eq!(text(&mut client, &read), "1");
        let [tunnel] = &tunnels(endpoint)[..] else { panic!("{set}: {:?}", gateway.seen()) };
        // db:hunter2
        assert!(tunnel.contains("Basic ZGI6aHVudGVyMg=="), "{tunnel}");
    }
    client.batch_execute("RESET secretlink.use_fips_endpoint").unwrap();
    client.batch_execute("SET secretlink.role_arn = 'arn:aws:iam::111122223333:role/orders'").unwrap();
    for (set, sts) in [("", ENDPOINTS[2]), ("SET secretlink.use_dualstack_endpoint = on", ENDPOINTS[3])] {
        client.batch_execute(set).unwrap();
        let message = format!("secret \"{name}\" not found in region us-east-1");
        refused(&mut client, &read, "42704", &message);
        assert_eq!(tunnels(sts).len(), 1, "{set}: {:?}", gateway.seen());
    }
}

#[test]
fn fips_endpoints_can_be_asked_for_in_the_environment() {
    let gateway = Gateway::to(moto(), &ENDPOINTS);
    let name = unique("fips");
    moto().secrets().create_secret(&name, "1");
    let local = Cluster::local_with_endpoint("")
        .env("https_proxy", &format!("127.0.0.1:{}", gateway.port()))
        .env("AWS_CA_BUNDLE", &gateway.ca().display().to_string())
        .env("AWS_USE_FIPS_ENDPOINT", "true")
        .start();
    let mut client = local.connect("postgres", "postgres");
    assert_eq!(text(&mut client, &format!("SELECT get_secret_string('{name}')")), "1");
    assert_eq!(gateway.requests_with(&format!("CONNECT {}:443 ", ENDPOINTS[1])).len(), 1);
}

#[test]
fn plain_http_goes_through_http_proxy_but_not_what_is_here() {
    let gateway = Gateway::to(moto(), &["localhost"]);
    let name = unique("forward");
    moto().secrets().create_secret(&name, "1");
    let local = Cluster::local_with_endpoint("http://secrets.example.com")
        .env("HTTP_PROXY", &format!("http://127.0.0.1:{}", gateway.port()))
        .env("NO_PROXY", ".invalid")
        .start();
    let mut client = local.connect("postgres", "postgres");
    let read = format!("SELECT get_secret_string('{name}')");
    assert_eq!(text(&mut client, &read), "1");
    assert_eq!(gateway.requests_with("POST http://secrets.example.com/ ").len(), 1);

    client.batch_execute(&format!("SET secretlink.endpoint_url = '{}'", moto().endpoint())).unwrap();
    assert_eq!(text(&mut client, &read), "1");
    assert_eq!(gateway.seen().len(), 1, "loopback is asked directly");
    client.batch_execute("SET secretlink.endpoint_url = 'http://a.invalid'").unwrap();
    refused(&mut client, &read, "08001", "could not reach Secrets Manager at http://a.invalid");
    assert_eq!(gateway.seen().len(), 1, "so is what NO_PROXY names");
}

#[test]
fn a_proxys_password_is_in_no_error() {
    for (proxy, sqlstate, message) in [
        (
            format!("http://db:hunter2@127.0.0.1:{}", free_port()),
            "08001",
            format!("could not reach Secrets Manager at https://{}", ENDPOINTS[0]),
        ),
        (
            "socks5://db:hunter2@127.0.0.1:1".to_owned(),
            "22023",
            "environment variable HTTPS_PROXY does not name a proxy".to_owned(),
        ),
    ] {
        let local = Cluster::local_with_endpoint("").env("HTTPS_PROXY", &proxy).start();
        let mut client = local.connect("postgres", "postgres");
        let all = refused(&mut client, "SELECT get_secret_value('x')", sqlstate, &message);
        assert!(!all.contains("hunter2") && !all.contains("aHVudGVyMg"), "{all}");
        let checks: Vec<String> = client
            .query("SELECT c::text FROM secretlink_check() AS c", &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(!format!("{checks:?}").contains("hunter2"), "{checks:?}");
    }
}
