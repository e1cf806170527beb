//! The Postgres servers to connect to.

use secretlink_e2e::{Cluster, ClusterBuilder, TempDir, TlsFiles};

pub fn tcp(cluster: &Cluster) -> String {
    format!("host=127.0.0.1 port={} dbname=postgres", cluster.port())
}

/// A cluster with TLS, everybody trusted but where `auth` says otherwise.
pub fn with_tls(tls: &TlsFiles) -> ClusterBuilder {
    Cluster::plain()
        .tcp()
        .conf("ssl = on")
        .conf(&format!("ssl_ca_file = '{}'", tls.ca.display()))
        .conf(&format!("ssl_cert_file = '{}'", tls.server_cert.display()))
        .conf(&format!("ssl_key_file = '{}'", tls.server_key.display()))
}

pub fn generate(directory: &TempDir, names: &[&str]) -> TlsFiles {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    TlsFiles::generate(directory.path(), &names, "certified")
}

pub fn roles(cluster: &Cluster, names: &[&str]) {
    let mut client = cluster.connect("postgres", "postgres");
    for name in names {
        client.batch_execute(&format!("CREATE ROLE {name} LOGIN")).unwrap();
    }
}

/// A server with a role for each way to log in, named after it, whose password is `pass`.
pub fn with_every_method(tls: &TlsFiles) -> Cluster {
    let server = with_tls(tls)
        .auth("host", "scram", "scram-sha-256")
        .auth("host", "md5", "md5")
        .auth("host", "cleartext", "password")
        .auth("host", "trusted", "trust")
        .auth("hostssl", "certified", "cert")
        .auth("hostnossl", "certified", "reject")
        .start();
    for (name, encryption) in [
        ("scram", "scram-sha-256"),
        ("md5", "md5"),
        ("cleartext", "scram-sha-256"),
        ("trusted", "scram-sha-256"),
        ("certified", "scram-sha-256"),
    ] {
        server.create_login(name, "pass", encryption);
    }
    server
}
