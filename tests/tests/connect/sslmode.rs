//! `sslmode`, and the roots to trust.

use crate::home::home;
use crate::lab::{Lab, detail};
use crate::servers::{generate, roles, tcp, with_tls};
use secretlink_e2e::{Cluster, TempDir, TlsFiles, private_file};
use std::fs;

#[test]
fn sslmode_means_what_it_means_to_libpq() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let other_directory = TempDir::new();
    let other = generate(&other_directory, &["localhost"]);
    let secure = with_tls(&tls)
        .auth("hostssl", "tls_only", "trust")
        .auth("hostnossl", "tls_only", "reject")
        .auth("hostssl", "plain_only", "reject")
        .auth("hostnossl", "plain_only", "trust")
        .start();
    let plain = Cluster::plain().tcp().start();
    for server in [&secure, &plain] {
        roles(server, &["tls_only", "plain_only", "anyone"]);
    }
    let mut lab = Lab::new();
    let roots = [
        String::new(),
        format!("sslrootcert={}", tls.ca.display()),
        format!("sslrootcert={}", other.ca.display()),
        "sslrootcert=/nonexistent/root.crt".to_owned(),
    ];
    let mut encrypted = 0;
    let mut failed = 0;
    for mode in &[
        "",
        "sslmode=disable",
        "sslmode=allow",
        "sslmode=prefer",
        "sslmode=require",
        "sslmode=verify-ca",
        "sslmode=verify-full",
    ] {
        for (server, users) in [(&secure, &["tls_only", "plain_only", "anyone"][..]), (&plain, &["anyone"])] {
            for user in users {
                for root in &roots {
                    for host in ["localhost", "db.example.com"] {
                        let conninfo = format!(
                            "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user={user} {mode} {root}",
                            server.port()
                        );
                        // libpq gives up TLS here, and does not say so.
                        if matches!(*mode, "" | "sslmode=prefer")
                            && server.port() == secure.port()
                            && root == &roots[2]
                        {
                            assert!(!lab.libpq(&conninfo).is_ok_and(|(_, tls)| tls), "{conninfo}");
                            let told = detail(lab.ours(&conninfo));
                            assert!(told.contains("certificate verify failed"), "{told}");
                            continue;
                        }
                        match lab.both(&conninfo) {
                            Ok((_, tls)) => encrypted += i32::from(tls),
                            Err(_) => failed += 1,
                        }
                    }
                }
            }
        }
    }
    // Not all of one kind.
    assert!(encrypted > 30 && failed > 60, "{encrypted} encrypted, {failed} failed");

    let at = |mode: &str, host: &str, root: &TlsFiles, server: &Cluster| {
        format!(
            "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user=anyone sslmode={mode} sslrootcert={}",
            server.port(),
            root.ca.display()
        )
    };
    let told = detail(lab.ours(&at("require", "localhost", &tls, &plain)));
    assert!(told.ends_with("server does not support SSL, but SSL was required"), "{told}");
    let told = detail(lab.ours(&at("verify-full", "db.example.com", &tls, &secure)));
    assert!(
        told.ends_with("server certificate for \"localhost\" does not match host name \"db.example.com\""),
        "{told}"
    );
    let told = detail(lab.ours(&at("verify-ca", "localhost", &other, &secure)));
    // The other authority calls itself the same.
    assert!(told.ends_with("certificate verify failed: certificate signature failure"), "{told}");
    let missing = lab
        .ours(&format!("{} sslmode=verify-full sslrootcert=/nonexistent/root.crt", tcp(&secure)))
        .unwrap_err();
    assert!(
        missing.detail().unwrap().contains("root certificate file \"/nonexistent/root.crt\" does not exist")
    );
    assert!(missing.hint().unwrap().contains("sslrootcert=system"), "{missing:?}");
    // With prefer a refusal with and one without encryption are both told of.
    let remote = Cluster::remote().start();
    let told = detail(lab.both(&format!("{} user=nobody password=x sslmode=prefer", tcp(&remote))));
    assert_eq!(told.lines().filter(|line| line.contains("FATAL:")).count(), 2, "{told}");
}

#[test]
fn the_default_root_certificate_and_revocation_list_are_found_in_the_home_directory() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_tls(&tls).start();
    let (home, dot) = home();
    let mut lab = Lab::with(|local| local.env("HOME", &home.path().display().to_string()));
    let conninfo =
        format!("host=localhost hostaddr=127.0.0.1 port={} dbname=postgres user=postgres", server.port());
    assert!(lab.both(&format!("{conninfo} sslmode=require")).is_ok());
    assert!(lab.both(&format!("{conninfo} sslmode=verify-full")).is_err());
    private_file(dot.join("root.crt"), &fs::read_to_string(&tls.ca).unwrap());
    assert!(lab.both(&format!("{conninfo} sslmode=verify-full")).is_ok());
    // Another authority's: now require verifies as well, as libpq's documentation says.
    let other_directory = TempDir::new();
    private_file(dot.join("root.crt"), &fs::read_to_string(generate(&other_directory, &["x"]).ca).unwrap());
    assert!(lab.both(&format!("{conninfo} sslmode=require")).is_err());
    assert!(!lab.libpq(&format!("{conninfo} sslmode=prefer")).unwrap().1, "libpq gives up TLS");
    let told = detail(lab.ours(&format!("{conninfo} sslmode=prefer")));
    assert!(told.contains("certificate verify failed"), "{told}");
    assert!(lab.both(&format!("{conninfo} sslmode=require sslrootcert=/nonexistent")).is_ok());
}

#[test]
fn the_systems_trusted_roots_verify_in_full() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_tls(&tls).start();
    let conninfo = |host: &str, more: &str| {
        format!(
            "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user=postgres sslrootcert=system {more}",
            server.port()
        )
    };
    let mut trusting = Lab::with(|local| local.env("SSL_CERT_FILE", &tls.ca.display().to_string()));
    assert!(trusting.ours(&conninfo("localhost", "")).unwrap().1);
    assert!(trusting.ours(&conninfo("localhost", "sslmode=verify-full")).unwrap().1);
    assert!(detail(trusting.ours(&conninfo("db.example.com", ""))).contains("does not match host name"));
    let weak = detail(trusting.ours(&conninfo("localhost", "sslmode=require")));
    assert!(weak.contains("weak sslmode \"require\" may not be used with sslrootcert=system"), "{weak}");
    // The roots of this machine know nothing of our authority.
    let mut strict = Lab::new();
    let told = detail(strict.ours(&conninfo("localhost", "")));
    assert!(
        told.contains("certificate verify failed: self-signed certificate in certificate chain"),
        "{told}"
    );
}
