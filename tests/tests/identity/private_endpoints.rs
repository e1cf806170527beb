//! Endpoints with certificates of one's own: `secretlink.ca_bundle`.

use crate::ground::{moto, refused, text};
use secretlink_e2e::{Cluster, Gateway, TempDir, Workshop, private_file, unique};

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

/// Proxies that look into TLS have authorities, keys and certificates of all kinds. What the AWS CLI takes, which
/// has OpenSSL too, is taken.
#[test]
fn what_openssl_verifies_is_trusted() {
    let Some(workshop) = Workshop::open() else { return };
    let name = unique("inspected");
    moto().secrets().create_secret(&name, "1");
    let read = format!("SELECT get_secret_string('{name}')");
    let local = Cluster::local_with_endpoint("https://localhost:1").start();
    let mut client = local.connect("postgres", "postgres");

    let authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign";
    let policies = "certificatePolicies=critical,1.2.3.4";
    for (file, extensions) in [
        ("ordinary", authority.to_owned()),
        ("policies", format!("{authority}\n{policies}")),
        (
            "constraints",
            format!("{authority}\n{policies}\npolicyConstraints=critical,inhibitPolicyMapping:0"),
        ),
        ("any", format!("{authority}\n{policies}\ninhibitAnyPolicy=critical,0")),
        ("no_sign", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature".to_owned()),
    ] {
        workshop.intermediate(file, &extensions);
    }
    workshop.root("rsa_pss", "RSA-PSS -pkeyopt rsa_keygen_bits:2048", authority);
    workshop.run("x509 -in root.crt -trustout -out trusted.pem");
    let root = workshop.read("root.crt");
    private_file(workshop.path("marked.crt"), &format!("\u{feff}{root}"));
    let localhost = "subjectAltName=DNS:localhost";
    let long = "0x7a6b5c4d3e2f1a0b1c2d3e4f5a6b7c8d9eaf0b1c2d3e4f50";
    let p521 = "EC -pkeyopt ec_paramgen_curve:P-521";
    for (what, issuer, algorithm, extensions, serial, bundle, trusted) in [
        ("an intermediate", "ordinary", "RSA", localhost, "", "root.crt", true),
        ("critical policies", "policies", "RSA", localhost, "", "root.crt", true),
        ("critical policyConstraints", "constraints", "RSA", localhost, "", "root.crt", true),
        ("critical inhibitAnyPolicy", "any", "RSA", localhost, "", "root.crt", true),
        ("a long serial number", "root", "RSA", localhost, long, "root.crt", true),
        (
            "a leaf that is an authority",
            "root",
            "RSA",
            &format!("{localhost}\nbasicConstraints=CA:TRUE"),
            "",
            "root.crt",
            true,
        ),
        ("a key on P-521", "root", p521, localhost, "", "root.crt", true),
        (
            "a key for RSA-PSS",
            "root",
            "RSA-PSS -pkeyopt rsa_keygen_bits:2048",
            localhost,
            "",
            "root.crt",
            true,
        ),
        ("signed with RSA-PSS", "rsa_pss", "RSA", localhost, "", "rsa_pss.crt", true),
        ("a byte order mark", "root", "RSA", localhost, "", "marked.crt", true),
        ("TRUSTED CERTIFICATE", "root", "RSA", localhost, "", "trusted.pem", true),
        ("version 1, by its common name", "root", "RSA", "", "", "root.crt", true),
        ("another name", "root", "RSA", "subjectAltName=DNS:example.com", "", "root.crt", false),
        ("another authority", "root", "RSA", localhost, "", "rsa_pss.crt", false),
        ("the intermediate alone", "ordinary", "RSA", localhost, "", "ordinary.crt", false),
        ("an intermediate without keyCertSign", "no_sign", "RSA", localhost, "", "root.crt", false),
        (
            "a leaf for clients",
            "root",
            "RSA",
            &format!("{localhost}\nextendedKeyUsage=clientAuth"),
            "",
            "root.crt",
            false,
        ),
    ] {
        let (cert, key) = workshop.leaf_below(issuer, algorithm, extensions, serial);
        let is_root = issuer == "root" || issuer == "rsa_pss";
        let chain = if is_root { cert } else { format!("{cert}{}", workshop.read(&format!("{issuer}.crt"))) };
        let chain = private_file(workshop.path("chain.crt"), &chain);
        let key = private_file(workshop.path("chain.key"), &key);
        let gateway = Gateway::showing(moto(), &chain, &key);
        let endpoint = format!("https://localhost:{}", gateway.port());
        let bundle = workshop.path(bundle);
        client
            .batch_execute(&format!(
                "SET secretlink.endpoint_url = '{endpoint}'; SET secretlink.ca_bundle = '{}'",
                bundle.display()
            ))
            .unwrap();
        if trusted {
            assert_eq!(text(&mut client, &read), "1", "{what}");
        } else {
            let all = refused(
                &mut client,
                &read,
                "08001",
                &format!("could not reach Secrets Manager at {endpoint}"),
            );
            assert!(all.contains("certificate verify failed: "), "{what}: {all}");
        }
    }
}
