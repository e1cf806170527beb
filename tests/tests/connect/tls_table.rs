//! TLS as libpq speaks it: keys, suites, certificates and files of all kinds, and what each does.
//!
//! A row says what is expected, and contrib dblink in the same backend must agree, so that neither the
//! table nor we go our own way. Where we are stricter than libpq on purpose, the row says so.

use crate::home::home;
use crate::lab::{Lab, Login, Refusal, detail};
use crate::servers::{generate, tcp, with_tls};
use secretlink_e2e::{Cluster, StopMode, Workshop, private_file};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What comes of a connection string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Encrypted,
    Unencrypted,
    Refused,
}

fn outcome(login: &Result<Login, Refusal>) -> Outcome {
    match login {
        Ok((_, true)) => Outcome::Encrypted,
        Ok((_, false)) => Outcome::Unencrypted,
        Err(_) => Outcome::Refused,
    }
}

/// A connection string has the outcome that is expected, for libpq as well.
#[track_caller]
fn expect(lab: &mut Lab, what: &str, conninfo: &str, expected: Outcome) {
    let (ours, libpq) = (lab.ours(conninfo), lab.libpq(conninfo));
    assert_eq!(
        (outcome(&ours), outcome(&libpq)),
        (expected, expected),
        "{what}: {conninfo}\nours:  {ours:?}\nlibpq: {libpq:?}"
    );
    if let Err(error) = ours {
        readable(error.detail().unwrap_or_default());
    }
}

/// No dump of bytes, and a reason.
#[track_caller]
fn readable(detail: &str) {
    assert!(!detail.is_empty() && !detail.ends_with(": "), "{detail}");
    // What is quoted is a path as a rule, with a directory of a random name.
    let own_words = detail.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    for ugly in ["[", "0x", "Error {", "lib(", "error:0", "ErrorStack"] {
        assert!(!own_words.contains(ugly), "{detail}");
    }
}

#[test]
fn a_random_path_is_not_taken_for_a_dump() {
    readable("could not read certificate file \"/tmp/sl-FQT0xMlJ/text.pem\": no start line");
    let dump = std::panic::catch_unwind(|| readable("could not read \"/tmp/sl-a/text.pem\": 0x0909006C"));
    assert!(dump.is_err());
}

/// A server whose certificate, key and settings change from row to row.
struct Changing {
    server: Cluster,
    files: usize,
}

impl Changing {
    fn new(workshop: &Workshop) -> Self {
        let tls = generate(workshop.directory(), &["localhost"]);
        let server = with_tls(&tls).auth("host", "scram", "scram-sha-256").start();
        server.create_login("scram", "pass", "scram-sha-256");
        server.append_conf(&[format!("ssl_ca_file = '{}'", workshop.path("root.crt").display())]);
        Self { server, files: 0 }
    }

    /// Shows this chain, with its key and these settings.
    fn show(&mut self, workshop: &Workshop, chain: &str, key: &str, settings: &[&str]) {
        self.files += 1;
        let cert = private_file(workshop.path(&format!("shown{}.crt", self.files)), chain);
        let key = private_file(workshop.path(&format!("shown{}.key", self.files)), key);
        let mut conf = vec![
            "ssl_max_protocol_version = ''".to_owned(),
            "ssl_ciphers = 'HIGH:MEDIUM:+3DES:!aNULL'".to_owned(),
            "ssl_ecdh_curve = 'prime256v1'".to_owned(),
            format!("ssl_cert_file = '{}'", cert.display()),
            format!("ssl_key_file = '{}'", key.display()),
        ];
        conf.extend(settings.iter().map(|&setting| setting.to_owned()));
        self.server.append_conf(&conf);
        self.server.restart(StopMode::Fast);
    }

    fn conninfo(&self, more: &str) -> String {
        format!(
            "host=localhost hostaddr=127.0.0.1 port={} dbname=postgres user=scram password=pass {more}",
            self.server.port()
        )
    }
}

const EVERY_MODE: [&str; 5] =
    ["", "sslmode=prefer", "sslmode=require", "sslmode=verify-ca", "sslmode=verify-full"];

#[test]
fn keys_and_suites_of_servers() {
    let Some(workshop) = Workshop::open() else { return };
    let mut changing = Changing::new(&workshop);
    let mut lab = Lab::new();
    let root = workshop.path("root.crt").display().to_string();
    let only_12 = "ssl_max_protocol_version = 'TLSv1.2'";
    for (what, algorithm, settings) in [
        ("P-384", "EC -pkeyopt ec_paramgen_curve:P-384", &[][..]),
        ("P-521", "EC -pkeyopt ec_paramgen_curve:P-521", &[]),
        ("P-521, TLS 1.2", "EC -pkeyopt ec_paramgen_curve:P-521", &[only_12]),
        ("RSA-PSS", "RSA-PSS -pkeyopt rsa_keygen_bits:2048", &[]),
        ("RSA-PSS, TLS 1.2", "RSA-PSS -pkeyopt rsa_keygen_bits:2048", &[only_12]),
        (
            "RSA-PSS for SHA-512 alone",
            "RSA-PSS -pkeyopt rsa_keygen_bits:3072 -pkeyopt rsa_pss_keygen_md:sha512 \
             -pkeyopt rsa_pss_keygen_mgf1_md:sha512 -pkeyopt rsa_pss_keygen_saltlen:64",
            &[],
        ),
        ("Ed25519", "ED25519", &[]),
        ("Ed448", "ED448", &[]),
        ("Ed448, TLS 1.2", "ED448", &[only_12]),
        ("RSA of exponent 3", "RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3", &[]),
        ("RSA of 2049 bits", "RSA -pkeyopt rsa_keygen_bits:2049", &[]),
        ("RSA, curve secp521r1", "RSA", &["ssl_ecdh_curve = 'secp521r1'"]),
        ("RSA, curve secp384r1", "RSA", &["ssl_ecdh_curve = 'secp384r1'"]),
        ("RSA, curve secp521r1, TLS 1.2", "RSA", &["ssl_ecdh_curve = 'secp521r1'", only_12]),
        ("static RSA", "RSA", &[only_12, "ssl_ciphers = 'AES256-GCM-SHA384:AES128-SHA256'"]),
        ("static RSA with CBC", "RSA", &[only_12, "ssl_ciphers = 'AES128-SHA'"]),
        ("CBC with SHA-1", "RSA", &[only_12, "ssl_ciphers = 'ECDHE-RSA-AES128-SHA'"]),
        ("CBC with SHA-384", "RSA", &[only_12, "ssl_ciphers = 'ECDHE-RSA-AES256-SHA384'"]),
        (
            "CBC with ECDSA",
            "EC -pkeyopt ec_paramgen_curve:P-256",
            &[only_12, "ssl_ciphers = 'ECDHE-ECDSA-AES128-SHA256'"],
        ),
        ("DHE", "RSA", &[only_12, "ssl_ciphers = 'DHE-RSA-AES256-GCM-SHA384'"]),
        ("DHE with CBC", "RSA", &[only_12, "ssl_ciphers = 'DHE-RSA-AES128-SHA'"]),
        ("ChaCha20", "RSA", &[only_12, "ssl_ciphers = 'ECDHE-RSA-CHACHA20-POLY1305'"]),
    ] {
        let (cert, key) = workshop.leaf(algorithm, "subjectAltName=DNS:localhost");
        changing.show(&workshop, &cert, &key, settings);
        for mode in EVERY_MODE {
            let trust = if mode.contains("verify") { format!("sslrootcert={root}") } else { String::new() };
            expect(&mut lab, what, &changing.conninfo(&format!("{mode} {trust}")), Outcome::Encrypted);
        }
        // All of these are signed by a key with a hash.
        let bound = format!("sslmode=verify-full sslrootcert={root} channel_binding=require");
        expect(&mut lab, what, &changing.conninfo(&bound), Outcome::Encrypted);
    }

    // Signed without a hash of its own: there is nothing to bind to. libpq fails unless told not to bind.
    for algorithm in ["ED25519", "ED448"] {
        let (cert, key) = workshop.self_signed(algorithm);
        changing.show(&workshop, &cert, &key, &[]);
        expect(&mut lab, algorithm, &changing.conninfo("channel_binding=disable"), Outcome::Encrypted);
        assert!(lab.ours(&changing.conninfo("")).unwrap().1, "{algorithm}");
        let told = detail(lab.both(&changing.conninfo("channel_binding=require")));
        assert!(told.contains("no hash to bind to"), "{told}");
    }
}

#[test]
fn chains_of_servers() {
    let Some(workshop) = Workshop::open() else { return };
    let mut changing = Changing::new(&workshop);
    let mut lab = Lab::new();
    let read = |name: &str| workshop.read(name);
    let name = "subjectAltName=DNS:localhost";
    let authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign";
    let long = "0x7a6b5c4d3e2f1a0b1c2d3e4f5a6b7c8d9eaf0b1c2d3e4f50";
    let policies = "certificatePolicies=critical,1.2.3.4";

    workshop.root("rsa_pss", "RSA-PSS -pkeyopt rsa_keygen_bits:2048", authority);
    workshop.root("ed448", "ED448", authority);
    workshop.root("p521", "EC -pkeyopt ec_paramgen_curve:P-521", authority);
    workshop.root("v1", "EC -pkeyopt ec_paramgen_curve:P-256", "");
    let between = |name: &str, extensions: &str| workshop.intermediate(name, extensions);
    for (file, extensions) in [
        ("policies", format!("{authority}\n{policies}")),
        (
            "constraints",
            format!("{authority}\n{policies}\npolicyConstraints=critical,requireExplicitPolicy:0"),
        ),
        ("mapping", format!("{authority}\n{policies}\npolicyConstraints=critical,inhibitPolicyMapping:0")),
        ("any", format!("{authority}\n{policies}\ninhibitAnyPolicy=critical,0")),
        ("ordinary", authority.to_owned()),
        ("no_sign", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature".to_owned()),
        ("no_usage", "basicConstraints=critical,CA:TRUE".to_owned()),
        ("no_ca", "keyUsage=critical,keyCertSign".to_owned()),
        ("named", format!("{authority}\nnameConstraints=critical,permitted;DNS:localhost")),
        ("misnamed", format!("{authority}\nnameConstraints=critical,permitted;DNS:example.com")),
        ("for_servers", format!("{authority}\nextendedKeyUsage=serverAuth")),
        ("for_clients", format!("{authority}\nextendedKeyUsage=clientAuth")),
        ("unknown", format!("{authority}\n1.2.3.4.5=critical,DER:0500")),
        ("v1_between", String::new()),
    ] {
        between(file, &extensions);
    }

    use Outcome::{Encrypted, Refused};
    // Below each authority, a leaf with these extensions and this serial number; whom to trust; what
    // comes of verify-ca.
    for (what, issuer, extensions, serial, trusted, expected) in [
        ("critical policies", "policies", name, "", "root.crt", Encrypted),
        ("critical policies, asked for", "constraints", name, "", "root.crt", Encrypted),
        ("critical policyConstraints", "mapping", name, "", "root.crt", Encrypted),
        ("critical inhibitAnyPolicy", "any", name, "", "root.crt", Encrypted),
        ("a leaf with critical policies", "root", &format!("{name}\n{policies}"), "", "root.crt", Encrypted),
        ("a serial number of 24 octets", "root", name, long, "root.crt", Encrypted),
        ("a serial number below zero", "root", name, "-5", "root.crt", Encrypted),
        ("a serial number of 0", "root", name, "0", "root.crt", Encrypted),
        (
            "a leaf that is an authority",
            "root",
            &format!("{name}\nbasicConstraints=CA:TRUE"),
            "",
            "root.crt",
            Encrypted,
        ),
        ("signed with RSA-PSS", "rsa_pss", name, "", "rsa_pss.crt", Encrypted),
        ("signed with Ed448", "ed448", name, "", "ed448.crt", Encrypted),
        ("signed with P-521", "p521", name, "", "p521.crt", Encrypted),
        ("a root of version 1", "v1", name, "", "v1.crt", Encrypted),
        ("no extensions at all", "root", "", "", "root.crt", Encrypted),
        ("an intermediate without key usage", "no_usage", name, "", "root.crt", Encrypted),
        ("name constraints", "named", name, "", "root.crt", Encrypted),
        ("name constraints that exclude", "misnamed", name, "", "root.crt", Refused),
        ("an intermediate for servers", "for_servers", name, "", "root.crt", Encrypted),
        ("an intermediate for clients", "for_clients", name, "", "root.crt", Refused),
        ("an unknown critical extension", "unknown", name, "", "root.crt", Refused),
        ("an intermediate without keyCertSign", "no_sign", name, "", "root.crt", Refused),
        ("an intermediate that is no authority", "no_ca", name, "", "root.crt", Refused),
        ("an intermediate of version 1", "v1_between", name, "", "root.crt", Refused),
        ("the intermediate alone is trusted", "ordinary", name, "", "ordinary.crt", Refused),
        ("the leaf alone is trusted", "root", name, "", "leaf.crt", Refused),
        (
            "leaf and intermediate are trusted, not the root",
            "ordinary",
            name,
            "",
            "leaf.crt ordinary.crt",
            Refused,
        ),
        ("the intermediate and its root", "ordinary", name, "", "ordinary.crt root.crt", Encrypted),
        (
            "a leaf for keyCertSign only",
            "root",
            &format!("{name}\nkeyUsage=critical,keyCertSign"),
            "",
            "root.crt",
            Refused,
        ),
        ("a leaf for cRLSign only", "root", &format!("{name}\nkeyUsage=cRLSign"), "", "root.crt", Refused),
        (
            "a leaf for keyAgreement only",
            "root",
            &format!("{name}\nkeyUsage=keyAgreement"),
            "",
            "root.crt",
            Encrypted,
        ),
        (
            "a leaf for clients",
            "root",
            &format!("{name}\nextendedKeyUsage=clientAuth"),
            "",
            "root.crt",
            Refused,
        ),
        (
            "a leaf for anything",
            "root",
            &format!("{name}\nextendedKeyUsage=anyExtendedKeyUsage"),
            "",
            "root.crt",
            Refused,
        ),
        (
            "an authority for keyCertSign below its root",
            "root",
            &format!("{name}\n{authority}"),
            "",
            "root.crt",
            Refused,
        ),
    ] {
        let (cert, key) = workshop.leaf_below(issuer, "RSA", extensions, serial);
        private_file(workshop.path("leaf.crt"), &cert);
        let is_root = ["root", "rsa_pss", "ed448", "p521", "v1"].contains(&issuer);
        let chain = if is_root { cert } else { format!("{cert}{}", read(&format!("{issuer}.crt"))) };
        changing.show(&workshop, &chain, &key, &[]);
        let trusted: String = trusted.split(' ').map(read).collect();
        let trusted = private_file(workshop.path("trusted.crt"), &trusted);
        // A signature without a hash is nothing to bind to, and then libpq fails.
        let binding = if issuer == "ed448" { "channel_binding=disable" } else { "" };
        let roots = format!("sslrootcert={} {binding}", trusted.display());
        for mode in ["sslmode=require", "sslmode=verify-ca", "sslmode=verify-full"] {
            // Without a name in the certificate there is its common name, which is the same.
            expect(&mut lab, what, &changing.conninfo(&format!("{mode} {roots}")), expected);
        }
        // Nothing is to be verified.
        for mode in ["", "sslmode=require"] {
            let conninfo = changing.conninfo(&format!("{mode} {binding}"));
            let (ours, libpq) = (lab.ours(&conninfo), lab.libpq(&conninfo));
            assert!(outcome(&ours) == Encrypted, "{what}: {ours:?}");
            assert!(outcome(&libpq) == Encrypted, "{what}: {libpq:?}");
        }
        // A client that is told to verify does not go on without.
        if expected == Refused {
            let told = detail(lab.ours(&changing.conninfo(&format!("sslmode=prefer {roots}"))));
            assert!(told.contains("certificate verify failed: "), "{what}: {told}");
        }
    }
}

#[test]
fn files_of_authorities() {
    let Some(workshop) = Workshop::open() else { return };
    let mut changing = Changing::new(&workshop);
    let mut lab = Lab::new();
    let (cert, key) = workshop.leaf("RSA", "subjectAltName=DNS:localhost");
    changing.show(&workshop, &cert, &key, &[]);
    workshop.run("x509 -in root.crt -trustout -out trusted.pem");
    workshop.run("x509 -in root.crt -trustout -addtrust serverAuth -out for_servers.pem");
    workshop.run("x509 -in root.crt -trustout -addtrust clientAuth -out for_clients.pem");
    workshop.run("x509 -in root.crt -trustout -addreject serverAuth -out rejected.pem");
    workshop.run("x509 -in root.crt -outform DER -out root.der");
    workshop.root("other", "RSA", "basicConstraints=critical,CA:TRUE");
    let root = workshop.read("root.crt");
    let other = workshop.read("other.crt");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    use Outcome::{Encrypted, Refused};
    for (what, content, expected) in [
        ("as it is", root.clone(), Encrypted),
        ("a byte order mark", format!("\u{feff}{root}"), Encrypted),
        ("a byte order mark before text", format!("\u{feff}# text\n{root}"), Encrypted),
        ("TRUSTED CERTIFICATE", workshop.read("trusted.pem"), Encrypted),
        ("TRUSTED CERTIFICATE for servers", workshop.read("for_servers.pem"), Encrypted),
        ("TRUSTED CERTIFICATE for clients", workshop.read("for_clients.pem"), Refused),
        ("TRUSTED CERTIFICATE, rejected", workshop.read("rejected.pem"), Refused),
        ("X509 CERTIFICATE", root.replace(" CERTIFICATE", " X509 CERTIFICATE"), Encrypted),
        ("lines of Windows", root.replace('\n', "\r\n"), Encrypted),
        ("text around", format!("Subject: x\n\n{root}\ntext\n"), Encrypted),
        ("another one first", format!("{other}{root}"), Encrypted),
        ("a key before it", format!("{}{root}", workshop.read("other.key")), Encrypted),
        ("no newline at the end", root.trim_end().to_owned(), Encrypted),
        ("one that is none behind it", format!("{root}{broken}"), Refused),
        ("none", String::new(), Refused),
        ("text", "hello".to_owned(), Refused),
        ("a key", workshop.read("other.key"), Refused),
        ("another authority", other, Refused),
    ] {
        let file = private_file(workshop.path("roots.pem"), &content);
        for mode in ["sslmode=require", "sslmode=verify-ca", "sslmode=verify-full"] {
            let conninfo = changing.conninfo(&format!("{mode} sslrootcert={}", file.display()));
            expect(&mut lab, what, &conninfo, expected);
        }
    }
    for (what, path) in [
        ("DER", workshop.path("root.der").display().to_string()),
        ("a directory", workshop.directory().path().display().to_string()),
    ] {
        expect(&mut lab, what, &changing.conninfo(&format!("sslmode=verify-ca sslrootcert={path}")), Refused);
    }
    // What never ends is not read. (libpq would never come back.)
    let cert = private_file(workshop.path("shown.pem"), &cert);
    let pipe = workshop.path("pipe");
    mkfifo(&pipe);
    for path in ["/dev/zero", "/dev/random", &pipe.display().to_string()] {
        for option in [
            format!("sslrootcert={path}"),
            format!("sslcert={path}"),
            format!("sslcert={} sslkey={path}", cert.display()),
            format!("sslrootcert={} sslcrl={path}", workshop.path("root.crt").display()),
        ] {
            let told = detail(lab.ours(&changing.conninfo(&format!("sslmode=require {option}"))));
            assert!(told.contains("it is not a regular file"), "{option}: {told}");
        }
    }
}

#[test]
fn certificates_of_clients() {
    let Some(workshop) = Workshop::open() else { return };
    let tls = generate(workshop.directory(), &["localhost"]);
    let server = with_tls(&tls)
        .conf(&format!("ssl_ca_file = '{}'", workshop.path("root.crt").display()))
        .auth("hostssl", "certified", "cert")
        .start();
    let silent = Cluster::plain()
        .tcp()
        .conf("ssl = on")
        .conf(&format!("ssl_cert_file = '{}'", tls.server_cert.display()))
        .conf(&format!("ssl_key_file = '{}'", tls.server_key.display()))
        .start();
    for cluster in [&server, &silent] {
        crate::servers::roles(cluster, &["certified"]);
    }
    let mut lab = Lab::new();
    let with = |cluster: &Cluster, cert: &Path, key: &Path, more: &str| {
        format!("{} user=certified sslcert={} sslkey={} {more}", tcp(cluster), cert.display(), key.display())
    };
    use Outcome::{Encrypted, Refused};
    for (what, algorithm, extensions) in [
        ("version 1", "RSA", ""),
        ("version 1 with P-256", "EC -pkeyopt ec_paramgen_curve:P-256", ""),
        ("P-521", "EC -pkeyopt ec_paramgen_curve:P-521", "extendedKeyUsage=clientAuth"),
        ("RSA-PSS", "RSA-PSS -pkeyopt rsa_keygen_bits:2048", "extendedKeyUsage=clientAuth"),
        (
            "RSA of exponent 3",
            "RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3",
            "extendedKeyUsage=clientAuth",
        ),
        ("RSA of 8192 bits", "RSA -pkeyopt rsa_keygen_bits:8192", "extendedKeyUsage=clientAuth"),
        ("Ed25519", "ED25519", "extendedKeyUsage=clientAuth"),
        ("Ed448", "ED448", "extendedKeyUsage=clientAuth"),
    ] {
        let (cert, key) = workshop.signed_by("root", algorithm, "/CN=certified", extensions, "");
        let cert = private_file(workshop.path("client.crt"), &cert);
        let key = private_file(workshop.path("client.key"), &key);
        for cluster in [&server, &silent] {
            for mode in ["", "sslmode=require"] {
                expect(&mut lab, what, &with(cluster, &cert, &key, mode), Encrypted);
            }
            // Where the server does not take a P-521 key with the one curve that it has.
            let older = with(cluster, &cert, &key, "sslmode=require ssl_max_protocol_version=TLSv1.2");
            let older_works = !(what == "P-521" && cluster.port() == server.port());
            expect(&mut lab, what, &older, if older_works { Encrypted } else { Refused });
        }
    }

    // Keys in all forms.
    let (cert, key) = workshop.signed_by("root", "RSA", "/CN=certified", "", "");
    let cert = private_file(workshop.path("client.crt"), &cert);
    private_file(workshop.path("plain.key"), &key);
    for (file, command) in [
        ("pkcs8.key", "pkcs8 -topk8 -in plain.key -passout pass:hunter2 -out"),
        (
            "pkcs8_old.key",
            "pkcs8 -topk8 -v2 aes128 -v2prf hmacWithSHA1 -in plain.key -passout pass:hunter2 -out",
        ),
        ("rsa_aes.key", "rsa -traditional -aes256 -in plain.key -passout pass:hunter2 -out"),
        ("rsa_3des.key", "rsa -traditional -des3 -in plain.key -passout pass:hunter2 -out"),
        ("traditional.key", "rsa -traditional -in plain.key -out"),
        ("plain.der", "rsa -in plain.key -outform DER -out"),
        ("pkcs8.der", "pkcs8 -topk8 -nocrypt -in plain.key -outform DER -out"),
    ] {
        workshop.run(&format!("{command} {file}"));
        workshop.make_private(file);
        let path = workshop.path(file);
        let is_encrypted = !file.starts_with("traditional") && !file.ends_with("der");
        let conninfo = with(&server, &cert, &path, "sslmode=require");
        expect(&mut lab, file, &format!("{conninfo} sslpassword=hunter2"), Encrypted);
        if is_encrypted {
            let error = lab.both(&conninfo).unwrap_err();
            assert!(error.detail().unwrap().ends_with(&format!("{file}\" is encrypted")), "{error:?}");
            assert!(error.hint().unwrap().contains("sslpassword"), "{error:?}");
            for wrong in ["hunter", &"x".repeat(5_000)] {
                let error = lab.both(&format!("{conninfo} sslpassword={wrong}")).unwrap_err();
                let told = error.detail().unwrap();
                assert!(
                    told.ends_with(&format!("could not decrypt private key file \"{}\"", path.display())),
                    "{told}"
                );
                assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
            }
        } else {
            expect(&mut lab, file, &conninfo, Encrypted);
        }
    }

    // What does not fit, or cannot be read, is said in every mode in which the server is asked for TLS.
    let (_, other) = workshop.signed_by("root", "EC -pkeyopt ec_paramgen_curve:P-256", "/CN=x", "", "");
    let other = private_file(workshop.path("other_type.key"), &other);
    let (_, same) = workshop.signed_by("root", "RSA", "/CN=x", "", "");
    let same = private_file(workshop.path("same_type.key"), &same);
    let text = private_file(workshop.path("text.pem"), "hello");
    let plain = workshop.path("plain.key");
    for (what, cert, key, told) in [
        ("another key", &cert, same.display().to_string(), "does not match private key file"),
        ("a key of another type", &cert, other.display().to_string(), "does not match private key file"),
        ("no certificate", &text, plain.display().to_string(), "could not read certificate file"),
        ("no key", &cert, text.display().to_string(), "could not read private key file"),
        (
            "an engine",
            &cert,
            "pkcs11:object=x;pin-value=hunter2".to_owned(),
            "in an OpenSSL engine are not supported",
        ),
    ] {
        for mode in ["", "sslmode=prefer", "sslmode=require"] {
            let conninfo = with(&server, cert, Path::new(&key), mode);
            let error = lab.ours(&conninfo).unwrap_err();
            let detail = error.detail().unwrap();
            assert!(detail.contains(told), "{what}: {detail}");
            assert!(!format!("{error:?}").contains("hunter2"), "{what}: {error:?}");
            readable(detail);
            if what == "an engine" {
                assert!(error.hint().unwrap().contains("sslkey"), "{error:?}");
            }
            assert_ne!(outcome(&lab.libpq(&conninfo)), Encrypted, "{what}");
        }
    }
}

#[test]
fn tls_is_not_given_up_in_silence() {
    let Some(workshop) = Workshop::open() else { return };
    let mut changing = Changing::new(&workshop);
    let mut lab = Lab::new();
    let (cert, key) = workshop.leaf("RSA", "subjectAltName=DNS:localhost");
    changing.show(&workshop, &cert, &key, &["ssl_max_protocol_version = 'TLSv1.2'"]);
    // libpq goes on in the clear; we say why there is no handshake.
    for (what, more, told) in [
        ("no version in common", "ssl_min_protocol_version=TLSv1.3", "protocol version"),
        (
            "a root that is no certificate",
            "sslrootcert=ROOT/text.pem",
            "could not read root certificate file",
        ),
        ("a root of others", "sslrootcert=ROOT/other.crt", "certificate verify failed: "),
        (
            "a list that is none",
            "sslrootcert=ROOT/root.crt sslcrl=ROOT/text.pem",
            "could not read certificate revocation list",
        ),
        (
            "a certificate that is none",
            "sslcert=ROOT/text.pem sslkey=ROOT/root.key",
            "could not read certificate file",
        ),
    ] {
        private_file(workshop.path("text.pem"), "hello");
        if !workshop.path("other.crt").exists() {
            workshop.root("other", "RSA", "basicConstraints=critical,CA:TRUE");
        }
        let more = more.replace("ROOT", &workshop.directory().path().display().to_string());
        for mode in ["", "sslmode=prefer", "sslmode=require"] {
            let conninfo = changing.conninfo(&format!("{mode} {more}"));
            let error = lab.ours(&conninfo).unwrap_err();
            let detail = error.detail().unwrap().to_owned();
            assert!(detail.contains(told), "{what}: {detail}");
            assert_eq!(detail.lines().count(), 1, "{what}: {detail}");
            assert!(error.hint().is_some(), "{what}: {error:?}");
            readable(&detail);
            // A list that cannot be read is passed over by libpq.
            assert!(
                what == "a list that is none" || outcome(&lab.libpq(&conninfo)) != Outcome::Encrypted,
                "{what}"
            );
        }
        // Nobody asks for TLS here: the server takes us without.
        expect(&mut lab, what, &changing.conninfo(&format!("sslmode=allow {more}")), Outcome::Unencrypted);
    }

    // No suite in common: OpenSSL offers none of these by default.
    let camellia = ["ssl_max_protocol_version = 'TLSv1.2'", "ssl_ciphers = 'ECDHE-RSA-CAMELLIA256-SHA384'"];
    changing.show(&workshop, &cert, &key, &camellia);
    assert_eq!(outcome(&lab.libpq(&changing.conninfo(""))), Outcome::Unencrypted);
    let told = detail(lab.ours(&changing.conninfo("")));
    assert!(told.ends_with(" alert handshake failure"), "{told}");
    changing.show(&workshop, &cert, &key, &[]);

    // In the home directory, where nobody has named it.
    let (home, dot) = home();
    let mut lab = Lab::with(|local| local.env("HOME", &home.path().display().to_string()));
    let (cert, key) = workshop.signed_by("root", "RSA", "/CN=scram", "", "");
    let cert = private_file(dot.join("postgresql.crt"), &cert);
    let key = private_file(dot.join("postgresql.key"), &key);
    for mode in EVERY_MODE {
        let conninfo =
            changing.conninfo(&format!("{mode} sslrootcert={}", workshop.path("root.crt").display()));
        expect(&mut lab, "version 1 in the home directory", &conninfo, Outcome::Encrypted);
    }
    let conninfo = changing.conninfo("");
    let said = |lab: &mut Lab, told: &str| {
        assert_eq!(outcome(&lab.libpq(&conninfo)), Outcome::Unencrypted);
        let detail = detail(lab.ours(&conninfo));
        assert!(detail.contains(told), "{detail}");
        readable(&detail);
    };
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    said(&mut lab, "postgresql.key\" has group or world access");
    fs::remove_file(&key).unwrap();
    said(&mut lab, "could not read private key file");
    fs::set_permissions(&cert, Permissions::from_mode(0o000)).unwrap();
    said(&mut lab, "could not read certificate file");
    fs::remove_file(&cert).unwrap();
    expect(&mut lab, "nothing in the home directory", &conninfo, Outcome::Encrypted);
    private_file(dot.join("root.crt"), "hello");
    said(&mut lab, "could not read root certificate file");
}

/// What no table of ours foresaw: whatever libpq makes of it, we do.
#[test]
fn odd_servers_are_judged_as_libpq_judges_them() {
    let Some(workshop) = Workshop::open() else { return };
    let mut changing = Changing::new(&workshop);
    let mut lab = Lab::new();
    let name = "subjectAltName=DNS:localhost";
    let authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign";
    let only_12 = "ssl_max_protocol_version = 'TLSv1.2'";
    let root = workshop.read("root.crt");
    workshop.intermediate("short", "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=keyCertSign");
    workshop.intermediate("ordinary", authority);
    for (file, issuer) in [("below_short", "short"), ("below_ordinary", "ordinary")] {
        let (cert, key) = workshop.signed_by(issuer, "RSA", &format!("/CN={file}"), authority, "");
        private_file(workshop.path(&format!("{file}.crt")), &cert);
        private_file(workshop.path(&format!("{file}.key")), &key);
    }
    workshop.root("ec", "EC -pkeyopt ec_paramgen_curve:P-256", authority);
    let read = |name: &str| workshop.read(&format!("{name}.crt"));
    let many: String = (0..400).map(|n| format!(",DNS:h{n}.example.com")).collect();
    // What it is; its issuer, key and extensions; what is shown behind it; a setting of the server.
    type Row<'a> = (&'a str, &'a str, &'a str, String, Vec<&'a str>, &'a str);
    let rows: Vec<Row<'_>> = vec![
        ("secp256k1", "root", "EC -pkeyopt ec_paramgen_curve:secp256k1", name.into(), vec![], only_12),
        ("P-224", "root", "EC -pkeyopt ec_paramgen_curve:P-224", name.into(), vec![], only_12),
        (
            "brainpoolP384r1",
            "root",
            "EC -pkeyopt ec_paramgen_curve:brainpoolP384r1",
            name.into(),
            vec![],
            only_12,
        ),
        ("a path that is too long", "below_short", "RSA", name.into(), vec!["below_short", "short"], ""),
        ("two intermediates", "below_ordinary", "RSA", name.into(), vec!["below_ordinary", "ordinary"], ""),
        ("in the wrong order", "below_ordinary", "RSA", name.into(), vec!["ordinary", "below_ordinary"], ""),
        ("with its root", "ordinary", "RSA", name.into(), vec!["ordinary", "root"], ""),
        ("with somebody else's", "ordinary", "RSA", name.into(), vec!["ec", "ordinary"], ""),
        ("twice the same", "ordinary", "RSA", name.into(), vec!["ordinary", "ordinary"], ""),
        ("a gap", "below_ordinary", "RSA", name.into(), vec!["below_ordinary"], ""),
        ("many names", "root", "RSA", format!("{name}{many}"), vec![], ""),
        ("a critical name", "root", "RSA", "subjectAltName=critical,DNS:localhost".into(), vec![], ""),
        ("an address of a mailbox", "root", "RSA", "subjectAltName=email:a@b".into(), vec![], ""),
        ("a URI", "root", "RSA", "subjectAltName=URI:postgresql://localhost".into(), vec![], ""),
        ("a name with a dot behind", "root", "RSA", "subjectAltName=DNS:localhost.".into(), vec![], ""),
        ("a name in capitals", "root", "RSA", "subjectAltName=DNS:LOCALHOST".into(), vec![], ""),
        ("a lone star", "root", "RSA", "subjectAltName=DNS:*".into(), vec![], ""),
        ("a star within", "root", "RSA", "subjectAltName=DNS:local*".into(), vec![], ""),
        (
            "an international name",
            "root",
            "RSA",
            "subjectAltName=DNS:xn--bcher-kva.example".into(),
            vec![],
            "",
        ),
        ("only an address", "root", "RSA", "subjectAltName=IP:127.0.0.1".into(), vec![], ""),
        ("an address as a name", "root", "RSA", "subjectAltName=DNS:127.0.0.1".into(), vec![], ""),
        (
            "critical usage",
            "root",
            "RSA",
            format!("{name}\nextendedKeyUsage=critical,serverAuth"),
            vec![],
            "",
        ),
        ("both usages", "root", "RSA", format!("{name}\nextendedKeyUsage=clientAuth,serverAuth"), vec![], ""),
        ("to sign code", "root", "RSA", format!("{name}\nextendedKeyUsage=codeSigning"), vec![], ""),
        ("to be stapled", "root", "RSA", format!("{name}\ntlsfeature=status_request"), vec![], ""),
        (
            "no authority, critical",
            "root",
            "RSA",
            format!("{name}\nbasicConstraints=critical,CA:FALSE"),
            vec![],
            "",
        ),
        ("an unknown extension", "root", "RSA", format!("{name}\n1.2.3.4.5=critical,DER:0500"), vec![], ""),
    ];
    for (what, issuer, algorithm, extensions, between, settings) in rows {
        let (cert, key) = workshop.signed_by(issuer, algorithm, "/CN=localhost", &extensions, "");
        let chain: String = std::iter::once(cert).chain(between.iter().map(|name| read(name))).collect();
        changing.show(&workshop, &chain, &key, &[settings]);
        let roots = private_file(workshop.path("odd_roots.pem"), &root);
        for host in ["localhost", "127.0.0.1", "xn--bcher-kva.example", "bücher.example"] {
            for mode in ["sslmode=prefer", "sslmode=verify-ca", "sslmode=verify-full"] {
                let more = format!("host={host} {mode} sslrootcert={}", roots.display());
                let conninfo = changing.conninfo(&more);
                let (ours, libpq) = (lab.ours(&conninfo), lab.libpq(&conninfo));
                // Under prefer libpq goes on in the clear where we say why there is no TLS.
                let expected = match outcome(&libpq) {
                    Outcome::Unencrypted => Outcome::Refused,
                    other => other,
                };
                assert_eq!(outcome(&ours), expected, "{what}: {conninfo}\nours:  {ours:?}\nlibpq: {libpq:?}");
                if let Err(error) = ours {
                    readable(error.detail().unwrap_or_default());
                }
            }
        }
    }
}

/// Lists of revoked certificates in a directory, by OpenSSL's names for them.
#[test]
fn directories_of_revocation_lists() {
    let Some(workshop) = Workshop::open() else { return };
    let mut changing = Changing::new(&workshop);
    let mut lab = Lab::new();
    let (cert, key) = workshop.leaf("RSA", "subjectAltName=DNS:localhost");
    changing.show(&workshop, &cert, &key, &[]);
    private_file(workshop.path("shown.pem"), &cert);
    fs::write(
        workshop.path("ca.conf"),
        "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\ndefault_md = sha256\ndefault_crl_days = 10\n",
    )
    .unwrap();
    fs::write(workshop.path("index.txt"), "").unwrap();
    let root = workshop.path("root.crt").display().to_string();
    for revoke in [false, true] {
        if revoke {
            workshop.run("ca -config ca.conf -keyfile root.key -cert root.crt -revoke shown.pem");
        }
        let directory = workshop.path(if revoke { "revoked" } else { "clean" });
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        workshop.run("ca -config ca.conf -keyfile root.key -cert root.crt -gencrl -out list.pem");
        workshop.run(&format!("crl -in list.pem -out {}/list.pem", directory.display()));
        workshop.run(&format!("rehash {}", directory.display()));
        for mode in ["require", "verify-ca", "verify-full"] {
            let conninfo = changing
                .conninfo(&format!("sslmode={mode} sslrootcert={root} sslcrldir={}", directory.display()));
            expect(&mut lab, mode, &conninfo, if revoke { Outcome::Refused } else { Outcome::Encrypted });
        }
    }
    // A directory without a list of this authority.
    let empty = workshop.path("empty");
    fs::create_dir(&empty).unwrap();
    let conninfo =
        changing.conninfo(&format!("sslmode=verify-full sslrootcert={root} sslcrldir={}", empty.display()));
    expect(&mut lab, "an empty directory", &conninfo, Outcome::Refused);
    // A pipe where OpenSSL looks for the list, in the middle of a handshake. (libpq would never come back.)
    let names = fs::read_dir(workshop.path("clean")).unwrap().map(|entry| entry.unwrap().file_name());
    let list = names.map(|name| empty.join(name)).find(|path| path.extension().is_some_and(|e| e == "r0"));
    mkfifo(&list.unwrap());
    let told = detail(lab.ours(&conninfo));
    assert!(told.contains("r0\": it is not a regular file"), "{told}");
}

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg("-m").arg("666").arg(path).status().unwrap().success());
}
