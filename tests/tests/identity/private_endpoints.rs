//! Endpoints with certificates of one's own: `secretlink.ca_bundle`.

use crate::ground::{moto, refused, text};
use secretlink_e2e::{Cluster, Gateway, TempDir, private_file, unique};

#[test]
fn only_who_is_in_the_bundle_is_trusted() {
    let gateway = Gateway::to(moto(), &["localhost"]);
    let endpoint = format!("https://localhost:{}", gateway.port());
    let name = unique("private");
    moto().secrets().create_secret(&name, "1");
    let read = format!("SELECT get_secret_string('{name}')");

    let local = Cluster::local_with_endpoint(&endpoint).start();
    let mut client = local.connect("postgres", "postgres");
    let message = format!("could not reach Secrets Manager at {endpoint}");
    let all = refused(&mut client, &read, "08001", &message);
    assert!(all.contains("certificate"), "{all}");
    client.batch_execute(&format!("SET secretlink.ca_bundle = '{}'", gateway.ca().display())).unwrap();
    assert_eq!(text(&mut client, &read), "1");

    let other = Gateway::to(moto(), &["localhost"]);
    client.batch_execute(&format!("SET secretlink.ca_bundle = '{}'", other.ca().display())).unwrap();
    refused(&mut client, &read, "08001", &message);
    drop(client);

    // The environment's, which the setting comes before.
    let ca = gateway.ca().display().to_string();
    let local = Cluster::local_with_endpoint(&endpoint).env("AWS_CA_BUNDLE", &ca).start();
    let mut client = local.connect("postgres", "postgres");
    assert_eq!(text(&mut client, &read), "1");
    client.batch_execute(&format!("SET secretlink.ca_bundle = '{}'", other.ca().display())).unwrap();
    refused(&mut client, &read, "08001", &message);
}

#[test]
fn a_bundle_that_is_none_is_named() {
    let gateway = Gateway::to(moto(), &["localhost"]);
    let directory = TempDir::new();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        private_file(path.clone(), content);
        path.display().to_string()
    };
    let of_nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let unfinished = "-----BEGIN CERTIFICATE-----\n!!!!\n";
    let local = Cluster::local_with_endpoint(&format!("https://localhost:{}", gateway.port())).start();
    let mut client = local.connect("postgres", "postgres");
    for path in [
        "/nonexistent/ca.pem".to_owned(),
        directory.path().display().to_string(),
        file("empty", ""),
        file("text", "hello\0world"),
        file("nonsense", of_nonsense),
        file("unfinished", unfinished),
    ] {
        client.batch_execute(&format!("SET secretlink.ca_bundle = '{path}'")).unwrap();
        let message = format!("could not use the CA bundle \"{path}\"");
        let all = refused(&mut client, "SELECT get_secret_value('x')", "22023", &message);
        assert!(all.contains("secretlink.ca_bundle"), "{all}");
    }
    // One that rustls does not take spoils none of the others.
    let ca = std::fs::read_to_string(gateway.ca()).unwrap();
    let mixed = file("mixed", &format!("{of_nonsense}{ca}"));
    client.batch_execute(&format!("SET secretlink.ca_bundle = '{mixed}'")).unwrap();
    let name = unique("mixed");
    moto().secrets().create_secret(&name, "1");
    assert_eq!(text(&mut client, &format!("SELECT get_secret_string('{name}')")), "1");
}
