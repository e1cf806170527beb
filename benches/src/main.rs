//! `make bench`: secretlink beside contrib dblink and others, in one run on one machine.
//!
//! Single figures of a shared machine say little. So every subject measures its candidates in turn,
//! round after round, and what counts is the ratio of medians. Nothing here passes or fails.
//!
//! `make bench` prints a table and writes `target/bench.json`. `ROUNDS` sets the number of rounds.

mod first_connect;
mod first_fetch;
mod measure;
mod report;

use report::Report;
use secretlink_e2e::{Cluster, Moto};

fn main() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(9).max(5);
    let moto = Moto::start();
    let remote = Cluster::remote().demo_tables().start();
    moto.secrets().create_secret(SECRET, &secret(&remote));

    let mut report = Report::new(rounds);
    for preload in [true, false] {
        let local = Cluster::local(&moto).preload(preload).start();
        let mut client = local.connect("postgres", "postgres");
        client
            .batch_execute("CREATE SCHEMA contrib; CREATE EXTENSION dblink SCHEMA contrib")
            .expect("contrib dblink is installed with Postgres");
        let setting = Setting { local: &local, remote: &remote, preload };
        for subject in [first_connect::subject(&setting), first_fetch::subject(&setting)] {
            report.add(subject.run(rounds));
        }
    }
    report.print();
    report.write("target/bench.json");
}

/// The secret of the role `app` at the remote server.
const SECRET: &str = "bench-secret";

/// Where a subject measures.
struct Setting<'a> {
    local: &'a Cluster,
    remote: &'a Cluster,
    /// Whether the library is loaded with the server.
    preload: bool,
}

impl Setting<'_> {
    fn describe(&self) -> &'static str {
        if self.preload { "preloaded" } else { "loaded at first use" }
    }
}

fn secret(remote: &Cluster) -> String {
    serde_json::json!({
        "engine": "postgres", "host": "127.0.0.1", "port": remote.port(),
        "dbname": "testdb", "username": "app", "password": remote.app_password(),
    })
    .to_string()
}
