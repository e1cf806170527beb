//! The Postgres that connects, and what comes of it.

use postgres::Client;
use postgres::error::DbError;
use secretlink_e2e::{Cluster, ClusterBuilder, db_error};

/// The Postgres that connects, with both extensions.
pub struct Lab {
    pub local: Cluster,
    pub client: Client,
}

/// The session one got: its user, and whether it is encrypted.
pub type Login = (String, bool);

/// What one got instead.
pub type Refusal = Box<DbError>;

const WHO: &str = "SELECT current_user::text, \
                   coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)";

impl Lab {
    pub fn new() -> Self {
        Self::with(|local| local)
    }

    pub fn with(build: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let local = build(Cluster::plain()).start();
        let mut client = local.connect("postgres", "postgres");
        client
            .batch_execute(
                "CREATE SCHEMA contrib; CREATE EXTENSION dblink SCHEMA contrib;
                 CREATE SCHEMA secretlink; CREATE EXTENSION secretlink SCHEMA secretlink;
                 SET statement_timeout = '60s'",
            )
            .unwrap();
        Self { local, client }
    }

    /// The same server, asked by somebody else.
    pub fn login(&mut self, user: &str) -> Client {
        self.client
            .batch_execute(&format!(
                "CREATE ROLE {user} LOGIN; GRANT USAGE ON SCHEMA contrib, secretlink TO {user}"
            ))
            .unwrap();
        self.local.connect(user, "postgres")
    }

    pub fn ours(&mut self, conninfo: &str) -> Result<Login, Refusal> {
        attempt(&mut self.client, "secretlink", conninfo)
    }

    pub fn libpq(&mut self, conninfo: &str) -> Result<Login, Refusal> {
        attempt(&mut self.client, "contrib", conninfo)
    }

    /// What we make of it, which must be what libpq makes of it.
    #[track_caller]
    pub fn both(&mut self, conninfo: &str) -> Result<Login, Refusal> {
        let (ours, libpq) = (self.ours(conninfo), self.libpq(conninfo));
        match (&ours, &libpq) {
            (Ok(ours), Ok(libpq)) => assert_eq!(ours, libpq, "ours and libpq's for {conninfo}"),
            (Err(_), Err(_)) => {}
            _ => panic!("{conninfo}\nours:  {ours:?}\nlibpq: {libpq:?}"),
        }
        ours
    }

    /// One value of a query at the other end.
    #[track_caller]
    pub fn ask(&mut self, conninfo: &str, sql: &str) -> String {
        let query = "SELECT v FROM secretlink.dblink($1, $2) AS t(v text)";
        self.client
            .query_one(query, &[&conninfo, &sql])
            .unwrap_or_else(|e| panic!("{conninfo}: {e:?}"))
            .get(0)
    }
}

pub fn attempt(client: &mut Client, schema: &str, conninfo: &str) -> Result<Login, Refusal> {
    let query = format!("SELECT u, s FROM {schema}.dblink($1, $2) AS t(u text, s bool)");
    match client.query_one(&query, &[&conninfo, &WHO]) {
        Ok(row) => Ok((row.get(0), row.get(1))),
        error @ Err(_) => Err(Box::new(db_error(error))),
    }
}

/// The failure, as dblink words it: what happened is in the detail.
#[track_caller]
pub fn detail(outcome: Result<Login, Refusal>) -> String {
    let error = outcome.expect_err("no connection was expected");
    assert_eq!((error.code().code(), error.message()), ("08001", "could not establish connection"));
    error.detail().expect("a detail").to_owned()
}
