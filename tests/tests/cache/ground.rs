//! A server with a cache, its way to Secrets Manager, and what sessions do with it.

use postgres::Client;
use secretlink_e2e::{Cluster, ClusterBuilder, Moto, SecretsApi, SecretsRelay, eventually, unique};
use serde_json::json;
use std::time::Duration;

/// By when what happens on its own has happened, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The Secrets Manager of all tests.
pub fn moto() -> &'static Moto {
    Moto::shared()
}

/// A client to prepare and look at secrets with, past the relay.
pub fn api() -> SecretsApi {
    moto().secrets()
}

/// A server with the library preloaded, and its way to Secrets Manager.
pub struct Ground {
    pub local: Cluster,
    pub relay: SecretsRelay,
}

impl Ground {
    pub fn start() -> Self {
        Self::with(|local| local)
    }

    /// A server that is a little different.
    pub fn with(adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let relay = SecretsRelay::to(moto());
        let local = Cluster::local_with_endpoint(&relay.endpoint())
            .preload(true)
            // The extension is to survive a crash right after it was made.
            .conf("synchronous_commit = on")
            .conf("secretlink.max_attempts = 1");
        Self { local: adjust(local).start(), relay }
    }

    pub fn session(&self) -> Client {
        self.local.connect("postgres", "postgres")
    }

    /// How often Secrets Manager was asked for the value of a secret, which must be named as it was there.
    pub fn asked(&self, secret: &str) -> usize {
        self.relay.count(secret, "GetSecretValue")
    }

    /// Until that is so often.
    #[track_caller]
    pub fn until_asked(&self, secret: &str, times: usize) {
        eventually(&format!("{secret} is asked for {times} times"), PATIENCE, || match self.asked(secret) {
            asked if asked >= times => Ok(()),
            asked => Err(asked.to_string()),
        });
    }

    /// Changes a setting for all processes. `session` sees it when this returns.
    pub fn set(&self, session: &mut Client, name: &str, value: &str) {
        self.local.append_conf(&[format!("{name} = {value}")]);
        session.batch_execute("SELECT pg_reload_conf()").unwrap();
        let sql = format!("SELECT setting FROM pg_settings WHERE name = '{name}'");
        eventually("the setting is seen", PATIENCE, || {
            let seen: String = session.query_one(&sql, &[]).unwrap().get(0);
            if seen == value { Ok(()) } else { Err(seen) }
        });
    }

    /// Makes everything in the cache too old to be used without asking.
    pub fn expire(&self, session: &mut Client) {
        self.set(session, "secretlink.cache_ttl", "1");
        std::thread::sleep(Duration::from_millis(1_100));
    }
}

/// A secret that nobody has read yet, not even a cache.
pub fn secret(value: &str) -> String {
    let name = unique("cache");
    api().create_secret(&name, value);
    name
}

/// Makes another value the current one, past the server. Returns its version.
pub fn put(secret: &str, value: &str) -> String {
    api().put_secret_value(secret, value, &["AWSCURRENT"])
}

pub fn login(username: &str, password: &str) -> String {
    json!({ "username": username, "password": password }).to_string()
}

pub fn get(client: &mut Client, secret: &str) -> Result<String, postgres::Error> {
    client.query_one("SELECT get_secret_string($1)", &[&secret]).map(|row| row.get(0))
}

/// That a secret holds this.
#[track_caller]
pub fn holds(client: &mut Client, secret: &str, value: &str) {
    let seen = get(client, secret).unwrap_or_else(|e| panic!("{secret}: {e:?}"));
    assert_eq!(seen, value, "{secret}");
}

/// A column of `secretlink_stats`.
pub fn stat(client: &mut Client, column: &str) -> i64 {
    client.query_one(&format!("SELECT {column} FROM secretlink_stats"), &[]).unwrap().get(0)
}

/// How often this server has asked for the value of any secret.
pub fn requests(client: &mut Client) -> i64 {
    let sql =
        "SELECT coalesce(sum(calls), 0)::bigint FROM secretlink_aws_calls WHERE operation = 'GetSecretValue'";
    client.query_one(sql, &[]).unwrap().get(0)
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

/// A Postgres to connect to over TCP with a password, without TLS, which many at once log in to faster.
pub fn remote(adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Cluster {
    let remote = Cluster::plain()
        .tcp()
        .auth("host", "all", "scram-sha-256")
        .conf("password_encryption = 'scram-sha-256'");
    adjust(remote).start()
}

/// A statement that connects with a secret, as `c`.
pub fn connect(secret: &str, port: u16) -> String {
    format!(
        "SELECT connect_with_secret('{secret}', '127.0.0.1', 'postgres', remote_port => {port},
                                    connection_name => 'c', options => 'sslmode=disable')"
    )
}
