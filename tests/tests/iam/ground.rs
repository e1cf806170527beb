//! A server with a cache, and a database that takes tokens.

use postgres::Client;
use postgres::error::DbError;
use secretlink_e2e::{Cluster, ClusterBuilder, TokenVerifier, db_error};

/// What AWS calls the database.
pub const HOST: &str = "db.abc.us-east-1.rds.amazonaws.com";

/// The server under test. Nobody needs Secrets Manager: there is none.
pub fn local(adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Cluster {
    adjust(Cluster::local_with_endpoint("http://127.0.0.1:9").preload(true)).start()
}

/// A server under test, a database that takes tokens over TLS, and what checks them there.
pub struct Ground {
    pub local: Cluster,
    pub remote: Cluster,
    pub verifier: TokenVerifier,
}

impl Ground {
    pub fn start() -> Ground {
        Ground::with(|local| local, |remote| remote)
    }

    /// Servers that are a little different. Lines that `remote` gets for `pg_hba.conf` come first.
    pub fn with(
        adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
        remote: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
    ) -> Ground {
        let verifier = TokenVerifier::start();
        let remote = remote(Cluster::remote().server_names(&[HOST]));
        let remote = remote.hba(&format!("hostssl all all 127.0.0.1/32 {}", verifier.hba_method())).start();
        verifier.expect(HOST, remote.port());
        Ground { local: local(adjust), remote, verifier }
    }

    pub fn session(&self) -> Client {
        self.local.connect("postgres", "postgres")
    }

    /// How to reach the database under its own name, and whom to trust.
    pub fn options(&self) -> String {
        format!("hostaddr=127.0.0.1 sslrootcert={}", self.remote.tls().ca.display())
    }

    /// A statement that logs in as a user, under the name `remote_conn`.
    pub fn connect(&self, user: &str) -> String {
        self.connect_with(user, &self.options())
    }

    /// A statement that logs in with these options.
    pub fn connect_with(&self, user: &str, options: &str) -> String {
        let port = self.remote.port();
        format!("SELECT connect_with_iam('{HOST}', 'testdb', '{user}', {port}, options => '{options}')")
    }

    /// Makes a user of the database.
    pub fn role(&self, name: &str) {
        let sql = format!("CREATE ROLE \"{name}\" LOGIN");
        self.remote.connect("postgres", "postgres").batch_execute(&sql).unwrap();
    }
}

/// The one value of a query, as text.
#[track_caller]
pub fn text(client: &mut Client, sql: &str) -> String {
    let rows = client.simple_query(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let value = rows.iter().find_map(|row| match row {
        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    value.unwrap_or_default()
}

/// The error of a statement.
#[track_caller]
pub fn refusal(client: &mut Client, sql: &str) -> DbError {
    db_error(client.simple_query(sql))
}

/// Who the session at the other end belongs to.
#[track_caller]
pub fn who(client: &mut Client) -> String {
    text(client, "SELECT v FROM dblink('remote_conn', 'SELECT current_user') AS t(v text)")
}

/// How many tokens the server has signed.
pub fn signed(client: &mut Client) -> i64 {
    client.query_one("SELECT iam_tokens_signed FROM secretlink_stats", &[]).unwrap().get(0)
}
