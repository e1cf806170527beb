//! Which certificates of a server are accepted.

use crate::authority::{authority, named, present};
use crate::home::home;
use crate::lab::Lab;
use crate::servers::{generate, tcp, with_tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use secretlink_e2e::{Cluster, Issuer, TempDir, private_file, version_1};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn certificates_are_judged_as_libpq_judges_them() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let mut server = with_tls(&tls).auth("host", "scram", "scram-sha-256").start();
    server.create_login("scram", "pass", "scram-sha-256");
    let ca = authority("test root");
    let root = private_file(directory.path().join("root.crt"), &ca.pem());
    let mut lab = Lab::new();
    // Which hosts a certificate is good for, of localhost, db.example.com, a.db.example.com and 127.0.0.1.
    let hosts = ["localhost", "db.example.com", "a.db.example.com", "127.0.0.1", "127.0.0.2"];
    let judge = |lab: &mut Lab,
                 server: &Cluster,
                 what: &str,
                 root: &Path,
                 good_for: &[&str],
                 trusted: bool| {
        for host in hosts {
            for mode in ["require", "verify-ca", "verify-full"] {
                // Channel binding proves that the hash of this certificate is the one that the server means.
                let conninfo = format!(
                    "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user=scram password=pass sslmode={mode} \
                     channel_binding=require sslrootcert={}",
                    server.port(),
                    root.display()
                );
                let accepted = lab.both(&conninfo).is_ok();
                let expected = trusted && (mode != "verify-full" || good_for.contains(&host));
                assert_eq!(accepted, expected, "{what}, sslmode={mode}, host={host}");
            }
        }
    };
    let sign = |params: &CertificateParams| {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
    };

    // What is wrong decides what is to be done.
    let advises = |lab: &mut Lab, server: &Cluster, word: &str| {
        let conninfo = format!(
            "host=localhost hostaddr=127.0.0.1 port={} dbname=postgres user=scram password=pass sslmode=require \
             sslrootcert={}",
            server.port(),
            root.display()
        );
        let error = lab.ours(&conninfo).unwrap_err();
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains(word), "{error:?}");
        assert_eq!(hint.contains("sslrootcert"), word == "sslrootcert", "{error:?}");
    };

    for (what, common_name, alternatives, good_for) in [
        ("a common name and nothing else", "db.example.com", &[][..], &["db.example.com"][..]),
        ("an address as common name", "127.0.0.1", &[], &["127.0.0.1"]),
        ("a wildcard as common name", "*.db.example.com", &[], &["a.db.example.com"]),
        ("a common name in capitals", "DB.Example.COM", &[], &["db.example.com"]),
        ("alternative names", "localhost", &["db.example.com"], &["db.example.com"]),
        (
            "an alternative name with a wildcard",
            "x",
            &["*.example.com", "*.db.example.com"],
            &["db.example.com", "a.db.example.com"],
        ),
        ("an address", "localhost", &["127.0.0.1"], &["localhost", "127.0.0.1"]),
        (
            "an address and a name",
            "localhost",
            &["127.0.0.1", "db.example.com"],
            &["127.0.0.1", "db.example.com"],
        ),
        ("no name at all that fits", "x", &["y"], &[]),
    ] {
        let (cert, key) = sign(&named(common_name, alternatives));
        present(&mut server, directory.path(), &cert, &key);
        judge(&mut lab, &server, what, &root, good_for, true);
    }

    let mut expired = named("localhost", &["localhost"]);
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let (cert, key) = sign(&expired);
    present(&mut server, directory.path(), &cert, &key);
    judge(&mut lab, &server, "an expired certificate", &root, &[], false);
    advises(&mut lab, &server, "renewed");

    let mut future = named("localhost", &["localhost"]);
    future.not_before = date_time_ymd(2090, 1, 1);
    future.not_after = date_time_ymd(2091, 1, 1);
    let (cert, key) = sign(&future);
    present(&mut server, directory.path(), &cert, &key);
    judge(&mut lab, &server, "a certificate of the future", &root, &[], false);
    advises(&mut lab, &server, "clocks");

    let mut for_clients = named("localhost", &["localhost"]);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let (cert, key) = sign(&for_clients);
    present(&mut server, directory.path(), &cert, &key);
    judge(&mut lab, &server, "a client's certificate", &root, &[], false);
    advises(&mut lab, &server, "issued anew");

    // An intermediate authority, sent along or not.
    let mut params = named("intermediate", &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let between = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &ca).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = named("localhost", &["localhost"]).signed_by(&key, &between).unwrap().pem();
    present(&mut server, directory.path(), &format!("{leaf}{}", between.pem()), &key.serialize_pem());
    judge(&mut lab, &server, "a chain", &root, &["localhost"], true);
    present(&mut server, directory.path(), &leaf, &key.serialize_pem());
    judge(&mut lab, &server, "a chain with a gap", &root, &[], false);
    advises(&mut lab, &server, "sslrootcert");
    // With the intermediate among the roots, next to the true one.
    let roots = private_file(directory.path().join("roots.crt"), &format!("{}{}", ca.pem(), between.pem()));
    judge(&mut lab, &server, "a chain completed by the root file", &roots, &["localhost"], true);

    // Its own root: with and without the mark of an authority.
    for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::NoCa] {
        let mut params = named("localhost", &["localhost"]);
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        present(&mut server, directory.path(), &cert, &key.serialize_pem());
        let own = private_file(directory.path().join("own.crt"), &cert);
        judge(&mut lab, &server, &format!("its own root, {is_ca:?}"), &own, &["localhost"], true);
        judge(&mut lab, &server, &format!("its own root, {is_ca:?}, not trusted"), &root, &[], false);
    }

    // Another key type, with another hash for channel binding.
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let cert = named("localhost", &["localhost"]).self_signed(&key).unwrap().pem();
    present(&mut server, directory.path(), &cert, &key.serialize_pem());
    let own = private_file(directory.path().join("own.crt"), &cert);
    judge(&mut lab, &server, "ECDSA P-384 with SHA-384", &own, &["localhost"], true);
}

/// The commands of PostgreSQL's documentation, "Creating Certificates", in `directory`.
fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn certificates_made_as_the_documentation_says_work() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!(
            "skipped: there is no openssl program, and only with it the documentation's recipe can be followed"
        );
        return;
    }
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let mut server = with_tls(&tls).auth("host", "scram", "scram-sha-256").start();
    server.create_login("scram", "pass", "scram-sha-256");
    let mut lab = Lab::new();
    let dir = directory.path();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();

    // A self-signed certificate, then a root, a server certificate by that root, and one by an
    // intermediate authority. Up to OpenSSL 3.3, the last two are of X.509 version 1.
    openssl(dir, "req -new -x509 -days 365 -nodes -text -out self.crt -keyout self.key -subj /CN=localhost");
    openssl(dir, "req -new -nodes -text -out root.csr -keyout root.key -subj /CN=root.example.com");
    openssl(
        dir,
        "x509 -req -in root.csr -text -days 3650 -extfile /etc/ssl/openssl.cnf -extensions v3_ca -signkey root.key -out root.crt",
    );
    openssl(dir, "req -new -nodes -text -out server.csr -keyout leaf.key -subj /CN=localhost");
    openssl(
        dir,
        "x509 -req -in server.csr -text -days 365 -CA root.crt -CAkey root.key -CAcreateserial -out leaf.crt",
    );
    openssl(
        dir,
        "req -new -nodes -text -out intermediate.csr -keyout intermediate.key -subj /CN=intermediate.example.com",
    );
    openssl(
        dir,
        "x509 -req -in intermediate.csr -text -days 1825 -extfile /etc/ssl/openssl.cnf -extensions v3_ca -CA root.crt -CAkey root.key -CAcreateserial -out intermediate.crt",
    );
    openssl(
        dir,
        "x509 -req -in server.csr -text -days 365 -CA intermediate.crt -CAkey intermediate.key -CAcreateserial -out below.crt",
    );
    // And what the recipe would not make: version 1, self-signed; by somebody else; out of date.
    version_1(dir, "server", Issuer::Own("leaf"), 365, "own");
    version_1(dir, "server", Issuer::Authority("root"), 365, "simple");
    openssl(dir, "req -new -nodes -text -out other.csr -keyout other.key -subj /CN=root.example.com");
    openssl(
        dir,
        "x509 -req -in other.csr -days 365 -extfile /etc/ssl/openssl.cnf -extensions v3_ca -signkey other.key -out other.crt",
    );
    version_1(dir, "server", Issuer::Authority("root"), -1, "old");
    openssl(
        dir,
        "x509 -req -in server.csr -days 365 -CA leaf.crt -CAkey leaf.key -CAcreateserial -out misuse.crt",
    );

    for (what, cert, key, root, works) in [
        ("self-signed", vec!["self.crt"], "self.key", "self.crt", true),
        ("by a root", vec!["leaf.crt"], "leaf.key", "root.crt", true),
        ("by a root, version 1", vec!["simple.crt"], "leaf.key", "root.crt", true),
        ("by an intermediate authority", vec!["below.crt", "intermediate.crt"], "leaf.key", "root.crt", true),
        ("by an intermediate authority that is not sent", vec!["below.crt"], "leaf.key", "root.crt", false),
        ("self-signed, version 1", vec!["own.crt"], "leaf.key", "own.crt", true),
        ("by another root of the same name", vec!["leaf.crt"], "leaf.key", "other.crt", false),
        ("out of date", vec!["old.crt"], "leaf.key", "root.crt", false),
        ("by a server's certificate", vec!["misuse.crt", "leaf.crt"], "leaf.key", "root.crt", false),
    ] {
        let chain: String = cert.iter().map(|name| read(name)).collect();
        present(&mut server, dir, &chain, &read(key));
        let root = private_file(dir.join("trusted.crt"), &read(root));
        for (host, version) in
            [("localhost", ""), ("localhost", "ssl_max_protocol_version=TLSv1.2"), ("db.example.com", "")]
        {
            for mode in ["require", "verify-ca", "verify-full"] {
                let conninfo = format!(
                    "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user=scram password=pass \
                     channel_binding=require sslmode={mode} sslrootcert={} {version}",
                    server.port(),
                    root.display()
                );
                let expected = works && (mode != "verify-full" || host == "localhost");
                assert_eq!(
                    lab.both(&conninfo).is_ok(),
                    expected,
                    "{what}, sslmode={mode}, host={host} {version}"
                );
            }
        }
        // Nothing to verify with: any certificate will do.
        let conninfo = format!("{} user=scram password=pass sslmode=require", tcp(&server));
        assert!(lab.both(&conninfo).unwrap().1, "{what}");
    }
}

#[test]
fn revoked_certificates_are_refused() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let mut server = with_tls(&tls).start();
    let mut lab = Lab::new();
    let ca = authority("test root");
    let root = private_file(directory.path().join("root.crt"), &ca.pem());
    let mut params = named("localhost", &["localhost"]);
    params.serial_number = Some(SerialNumber::from(4711u64));
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &ca).unwrap().pem();
    present(&mut server, directory.path(), &cert, &key.serialize_pem());

    let other = authority("another root");
    let list = |name: &str, issuer: &CertifiedIssuer<'static, KeyPair>, revoked: &[u64], year: i32| {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(year + 1, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2020, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        private_file(directory.path().join(name), &params.signed_by(issuer).unwrap().pem().unwrap())
    };
    let this_year: i32 = Command::new("date")
        .arg("+%Y")
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().parse().unwrap())
        .unwrap();
    let conninfo = format!(
        "host=localhost hostaddr=127.0.0.1 port={} dbname=postgres user=postgres sslmode=verify-full sslrootcert={}",
        server.port(),
        root.display()
    );
    for (file, hint) in [
        (list("clean.crl", &ca, &[1, 2, 3], this_year), ""),
        (list("revoked.crl", &ca, &[1, 4711], this_year), "has taken the certificate back"),
        (list("outdated.crl", &ca, &[], 2020), "none may be out of date"),
        (list("of_another.crl", &other, &[], this_year), "a list of each authority"),
    ] {
        let outcome = lab.both(&format!("{conninfo} sslcrl={}", file.display()));
        match &outcome {
            Ok(_) => assert_eq!(hint, "", "{}", file.display()),
            Err(error) => {
                assert!(error.hint().unwrap_or_default().contains(hint) && !hint.is_empty(), "{error:?}")
            }
        }
    }
    // In the place where libpq looks when it is not told.
    let (home, dot) = home();
    let mut lab = Lab::with(|local| local.env("HOME", &home.path().display().to_string()));
    assert!(lab.both(&conninfo).is_ok());
    private_file(dot.join("root.crl"), &fs::read_to_string(directory.path().join("revoked.crl")).unwrap());
    assert!(lab.both(&conninfo).is_err());
    // libpq goes on without a list that is not there; a client that names one wants it checked.
    assert!(lab.ours(&format!("{conninfo} sslcrl=/nonexistent.crl")).is_err());
}
