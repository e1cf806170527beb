//! The certificate that a client shows.

use crate::home::home;
use crate::lab::{Lab, detail};
use crate::servers::{generate, roles, tcp, with_tls};
use secretlink_e2e::{Cluster, TempDir, private_file};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn a_client_certificate_is_shown_to_a_server_that_asks() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_tls(&tls).auth("hostssl", "certified", "cert").auth("hostssl", "app", "cert").start();
    roles(&server, &["certified", "app"]);
    let other_directory = TempDir::new();
    let other = generate(&other_directory, &["localhost"]);
    let mut lab = Lab::new();
    let conninfo = |user: &str, cert: &Path, key: &Path| {
        format!(
            "{} user={user} sslmode=require sslcert={} sslkey={}",
            tcp(&server),
            cert.display(),
            key.display()
        )
    };
    let (cert, key) = (&tls.client_cert, &tls.client_key);
    assert_eq!(lab.both(&conninfo("certified", cert, key)).unwrap(), ("certified".to_owned(), true));
    assert!(
        detail(lab.both(&conninfo("app", cert, key)))
            .contains("certificate authentication failed for user \"app\"")
    );
    let none = detail(lab.both(&format!("{} user=certified sslmode=require", tcp(&server))));
    assert!(none.contains("connection requires a valid client certificate"), "{none}");
    let foreign = detail(lab.both(&conninfo("certified", &other.client_cert, &other.client_key)));
    assert!(foreign.contains("SSL error: ") || foreign.contains("closed the connection"), "{foreign}");
    assert!(
        lab.both(&conninfo("certified", cert, &other.client_key)).is_err(),
        "a key of another certificate"
    );

    // The key is nobody else's business.
    let open = private_file(directory.path().join("open.key"), &fs::read_to_string(key).unwrap());
    fs::set_permissions(&open, fs::Permissions::from_mode(0o640)).unwrap();
    let error = lab.both(&conninfo("certified", cert, &open)).unwrap_err();
    assert!(error.detail().unwrap().contains("open.key\" has group or world access"), "{error:?}");
    assert!(error.hint().unwrap().contains("0600"), "{error:?}");
    for (cert, key, what) in [
        (Path::new("/nonexistent.crt"), key.as_path(), "certificate file \"/nonexistent.crt\""),
        (cert.as_path(), Path::new("/nonexistent.key"), "private key file \"/nonexistent.key\""),
        (cert.as_path(), cert.as_path(), "private key file"),
    ] {
        let told = lab.ours(&conninfo("certified", cert, key));
        if what == "certificate file \"/nonexistent.crt\"" {
            // libpq goes on without; the server then says what is missing.
            assert!(lab.libpq(&conninfo("certified", cert, key)).is_err());
        }
        assert!(detail(told).contains(what));
    }
    // `sslcertmode=require`: to a server that asks, and to none other.
    let required = format!("{} sslcertmode=require", conninfo("certified", cert, key));
    assert!(lab.ours(&required).unwrap().1);
    let no_ca = Cluster::plain()
        .tcp()
        .conf("ssl = on")
        .conf(&format!("ssl_cert_file = '{}'", tls.server_cert.display()))
        .conf(&format!("ssl_key_file = '{}'", tls.server_key.display()))
        .start();
    let asks_nobody = required
        .replace(&format!("port={}", server.port()), &format!("port={}", no_ca.port()))
        .replace("user=certified", "user=postgres");
    assert!(lab.ours(&asks_nobody.replace("sslcertmode=require", "")).unwrap().1);
    assert!(detail(lab.ours(&asks_nobody)).ends_with("server did not request an SSL certificate"));
    // In the home directory, as psql finds it.
    let (home, dot) = home();
    private_file(dot.join("postgresql.crt"), &fs::read_to_string(cert).unwrap());
    private_file(dot.join("postgresql.key"), &fs::read_to_string(key).unwrap());
    let mut lab = Lab::with(|local| local.env("HOME", &home.path().display().to_string()));
    assert!(lab.both(&format!("{} user=certified sslmode=require", tcp(&server))).is_ok());
    assert!(
        lab.ours(&format!("{} user=certified sslmode=require sslcertmode=disable", tcp(&server))).is_err()
    );
}
