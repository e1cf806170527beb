//! A server with a cache, and a database that takes tokens.

use postgres::Client;
use postgres::error::DbError;
use secretlink_e2e::{Cluster, ClusterBuilder, TempDir, TokenVerifier, db_error, private_file};

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

    /// Servers of which the one under test gets credentials from a program, which end after 16 seconds.
    pub fn with_credentials_that_end_early(directory: &TempDir) -> Ground {
        let config = private_file(
            directory.path().join("config"),
            "[default]\ncredential_process = /bin/sh -c 'echo {\\\"Version\\\":1,\\\"AccessKeyId\\\":\\\"early\\\",\\\"SecretAccessKey\\\":\\\"s\\\",\\\"Expiration\\\":\\\"'$(date -u -d +16sec +%Y-%m-%dT%H:%M:%SZ)'\\\"}'\n",
        );
        let ground = Ground::with(
            |local| {
                local
                    .without_env("AWS_ACCESS_KEY_ID")
                    .without_env("AWS_SECRET_ACCESS_KEY")
                    .env("AWS_CONFIG_FILE", &config.display().to_string())
            },
            |remote| remote,
        );
        ground.verifier.trust("early", "s", None);
        ground
    }

    /// Servers of which the database has users who log in otherwise than by a token: `scrammer`, `digester` and
    /// `trusted`; it turns `rejected` away.
    pub fn with_other_logins() -> Ground {
        let ground = Ground::with(
            |local| local,
            |remote| {
                remote
                    .auth("hostssl", "scrammer", "scram-sha-256")
                    .auth("hostssl", "digester", "md5")
                    .auth("hostssl", "rejected", "reject")
                    .auth("hostssl", "trusted", "trust")
            },
        );
        let roles = "CREATE ROLE scrammer LOGIN PASSWORD 'x'; SET password_encryption = 'md5';
             CREATE ROLE digester LOGIN PASSWORD 'x'; CREATE ROLE trusted LOGIN";
        ground.remote.connect("postgres", "postgres").batch_execute(roles).unwrap();
        ground
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
