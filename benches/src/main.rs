//! `make bench`: secretlink beside contrib dblink and others, in one run on one machine.
//!
//! Single figures of a shared machine say little. So every subject measures its candidates in turn,
//! round after round, and what counts is the ratio of medians. Nothing here passes or fails.
//!
//! `make bench` prints a table and writes `target/bench.json`. `ROUNDS` sets the number of rounds,
//! `SUBJECTS` chooses subjects by a part of their titles.

mod alter_user;
mod boto3;
mod connect;
mod first_error;
mod first_fetch;
mod growth;
mod iam_tokens;
mod measure;
mod memory;
mod one_row;
mod report;
mod rotation;
mod rows;
mod secrets_in_sql;

use boto3::Boto3;
use growth::Memory;
use measure::Subject;
use postgres::Client;
use report::Report;
use rotation::Rotating;
use secretlink_e2e::{Cluster, Moto};

/// Enough rounds for a median.
const FEWEST_ROUNDS: usize = 5;

fn main() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(9).max(FEWEST_ROUNDS);
    let chosen = std::env::var("SUBJECTS").unwrap_or_default();
    let moto = Moto::start();
    let remote = Cluster::remote().demo_tables().start();
    let mut remote_client = remote.connect("postgres", "testdb");
    remote_client.batch_execute(one_row::MAKE).expect("the table is made");
    rows::make_tables(&mut remote_client);
    // Lest the first readers write hint bits, or autovacuum starts in the middle.
    remote_client.batch_execute("VACUUM (FREEZE, ANALYZE)").expect("VACUUM works");
    moto.secrets().create_secret(SECRET, &secret(&remote));
    let without = Cluster::plain().start();

    let mut report = Report::default();
    let mut measure = |subject: Subject<'_>, rounds| {
        if subject.title.contains(&chosen) {
            report.add(subject.run(rounds));
        }
    };
    for preload in [true, false] {
        // Each fetch is to be one.
        let local = Cluster::local(&moto).preload(preload).conf("secretlink.cache_size = 0");
        let local = local.env("RUST_BACKTRACE", "1").start();
        let setting = Setting { local: &local, remote: &remote, preload };
        setting.install_the_others();
        measure(connect::first(&setting), rounds);
        measure(first_fetch::subject(&setting), rounds);
        // The rest is the same, whichever session has loaded the library.
        if preload {
            measure(connect::later(&setting), rounds);
            measure(one_row::subject(&setting), rounds);
            measure(first_error::subject(&setting), rounds);
            for subject in rows::subjects(&setting) {
                measure(subject, rounds);
            }
            measure(memory::subject(&setting), FEWEST_ROUNDS);
            measure(alter_user::not_synced(&setting, &without), rounds);
            measure(alter_user::synced(&setting), rounds);
            measure(alter_user::synced_over_tls(&moto), FEWEST_ROUNDS);
        }
    }
    let mut local = Cluster::local(&moto).preload(true);
    if let Some(path) = boto3::python_path() {
        local = local.env("PYTHONPATH", &path.display().to_string());
    }
    let local = local.start();
    let setting = Setting { local: &local, remote: &remote, preload: true };
    setting.install_the_others();
    let boto3 = Boto3::install(&mut setting.session(), &moto.endpoint());
    measure(secrets_in_sql::each(&setting, boto3.as_ref()), rounds);
    measure(iam_tokens::each(&setting), rounds);
    measure(secrets_in_sql::first(&setting, boto3.as_ref()), rounds);
    measure(connect::first_with_cached_secret(&setting), rounds);
    for memory in [Memory::Resident, Memory::Private] {
        measure(growth::subject(&setting, boto3.as_ref(), memory), FEWEST_ROUNDS);
    }
    let rotating = Rotating::start(&moto, &remote);
    for subject in rotating.subjects() {
        measure(subject, rounds);
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

    /// contrib dblink, in a schema of its own, and postgres_fdw with a server `remote`.
    fn install_the_others(&self) {
        let (port, password) = (self.remote.port(), self.remote.app_password());
        self.session()
            .batch_execute(&format!(
                "CREATE SCHEMA contrib; CREATE EXTENSION dblink SCHEMA contrib;
                 CREATE EXTENSION postgres_fdw;
                 CREATE SERVER remote FOREIGN DATA WRAPPER postgres_fdw
                     OPTIONS (host '127.0.0.1', port '{port}', dbname 'testdb', sslmode 'require', fetch_size '10000');
                 CREATE USER MAPPING FOR postgres SERVER remote OPTIONS (user 'app', password '{password}')"
            ))
            .expect("dblink and postgres_fdw are installed with Postgres");
    }

    /// How to reach the remote server.
    fn conninfo(&self) -> String {
        format!(
            "host=127.0.0.1 port={} dbname=testdb user=app password={} sslmode=require",
            self.remote.port(),
            self.remote.app_password()
        )
    }

    /// A local session.
    fn session(&self) -> Client {
        self.local.connect("postgres", "postgres")
    }

    /// A local session with a connection `c` of the extension in `schema`.
    fn connected(&self, schema: &str) -> Client {
        let mut client = self.session();
        client
            .batch_execute(&format!("SELECT {schema}.dblink_connect('c', '{}')", self.conninfo()))
            .expect("the connection is made");
        client
    }
}

fn secret(remote: &Cluster) -> String {
    serde_json::json!({
        "engine": "postgres", "host": "127.0.0.1", "port": remote.port(),
        "dbname": "testdb", "username": "app", "password": remote.app_password(),
    })
    .to_string()
}
