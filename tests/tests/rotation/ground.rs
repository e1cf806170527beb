//! A server that rotates, a server whose roles get new passwords, and a Secrets Manager behind a relay.

use postgres::Client;
use secretlink_e2e::{
    Cluster, ClusterBuilder, Moto, SecretsApi, SecretsRelay, db_error, eventually, random_password, unique,
};
use serde_json::{Value, json};
use std::sync::OnceLock;
use std::time::Duration;

/// By when what happens on its own has happened, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The two servers.
pub struct Ground {
    pub local: Cluster,
    pub remote: Cluster,
    pub relay: SecretsRelay,
}

/// The Secrets Manager of all tests.
pub fn moto() -> &'static Moto {
    Moto::shared()
}

/// A client to prepare and look at secrets with, past the relay.
pub fn api() -> SecretsApi {
    moto().secrets()
}

/// The servers of all tests that need none of their own. Never dropped, as above.
pub fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(Ground::start)
}

impl Ground {
    pub fn start() -> Self {
        Self::with(|local| local)
    }

    /// A rotating server that is a little different.
    pub fn with(adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        Self::with_both(adjust, |remote| remote)
    }

    /// Two servers that are a little different.
    pub fn with_both(
        adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
        adjust_remote: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
    ) -> Self {
        let relay = SecretsRelay::to(moto());
        let local = Cluster::local_with_endpoint(&relay.endpoint())
            .preload(true)
            .tcp()
            .auth("host", "all", "scram-sha-256")
            // What is written down is to survive a crash right after it.
            .conf("synchronous_commit = on")
            .conf("secretlink.max_attempts = 1")
            .conf("secretlink.rotation_min_age = 0")
            .conf("secretlink.reconcile_interval = 1");
        let remote = adjust_remote(Cluster::remote().conf("log_statement = 'all'")).start();
        Self { local: adjust(local).start(), remote, relay }
    }

    /// A session of the superuser at the rotating server, which may be recovering from a blow.
    pub fn session(&self) -> Client {
        eventually("the server takes connections", PATIENCE, || {
            self.local.try_connect("postgres", "postgres").map_err(|e| e.to_string())
        })
    }

    /// A role of the other server, and its secret.
    pub fn subject(&self, name: &str) -> Subject<'_> {
        self.subject_at(&self.remote, name)
    }

    /// A role of one of the servers, and its secret.
    pub fn subject_at<'a>(&'a self, server: &'a Cluster, name: &str) -> Subject<'a> {
        let role = unique(name).replace('-', "_");
        let (secret, password) = (format!("rotation/{role}"), random_password());
        server.create_login(&role, &password, "scram-sha-256");
        let subject = Subject { ground: self, server, secret, role };
        api().create_secret(&subject.secret, &subject.value(&password).to_string());
        subject
    }
}

/// A role whose password is rotated.
pub struct Subject<'a> {
    pub ground: &'a Ground,
    pub server: &'a Cluster,
    pub secret: String,
    pub role: String,
}

impl Subject<'_> {
    /// What its secret says with this password.
    pub fn value(&self, password: &str) -> Value {
        json!({
            "engine": "postgres", "host": "127.0.0.1", "port": self.server.port(), "username": self.role,
            "password": password, "dbname": "postgres", "note": 1.5,
        })
    }

    /// Rotate it; the version that is current then.
    pub fn rotate(&self) -> Result<String, postgres::Error> {
        rotate(&mut self.ground.session(), &self.secret, None)
    }

    /// Rotate it where that must fail: SQLSTATE and message.
    pub fn refused(&self) -> (String, String) {
        let error = db_error(self.rotate());
        (error.code().code().to_owned(), error.message().to_owned())
    }

    /// What is at a label.
    pub fn at(&self, stage: &str) -> Value {
        serde_json::from_str(&api().get_stage(&self.secret, stage).unwrap()).unwrap()
    }

    /// The password at `AWSCURRENT`.
    pub fn password(&self) -> String {
        self.at("AWSCURRENT")["password"].as_str().unwrap().to_owned()
    }

    /// Whether what is at `AWSCURRENT` logs in.
    pub fn current_logs_in(&self) -> bool {
        self.logs_in(&self.at("AWSCURRENT"))
    }

    /// Whether a role and password log in.
    pub fn logs_in(&self, login: &Value) -> bool {
        let (user, password) = (login["username"].as_str().unwrap(), login["password"].as_str().unwrap());
        self.logs_in_as(user, password)
    }

    pub fn logs_in_as(&self, user: &str, password: &str) -> bool {
        log_in(self.server, user, password)
    }

    /// All is as before: nothing changed, nothing left over.
    #[track_caller]
    pub fn assert_untouched(&self, before: &Value) {
        assert_eq!(&self.at("AWSCURRENT"), before);
        self.assert_at_rest();
    }

    /// `AWSCURRENT` logs in, and no rotation is under way.
    #[track_caller]
    pub fn assert_at_rest(&self) {
        eventually("the secret is at rest", PATIENCE, || {
            let pending = api().version_at(&self.secret, "AWSPENDING");
            let current = api().version_at(&self.secret, "AWSCURRENT");
            match pending.is_none() || pending == current {
                true => Ok(()),
                false => Err(format!("AWSPENDING is at {pending:?}, AWSCURRENT at {current:?}")),
            }
        });
        assert!(self.current_logs_in(), "{} does not log in: {:?}", self.secret, self.history());
    }

    /// Each run: step, outcome, error.
    pub fn history(&self) -> Vec<(String, Option<String>, Option<String>)> {
        let sql = "SELECT step, outcome, error FROM rotation_history WHERE secret_id = $1 ORDER BY run";
        let rows = self.ground.session().query(sql, &[&self.secret]).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    /// The outcome of the last run, when it is over.
    #[track_caller]
    pub fn last_outcome(&self) -> String {
        eventually("the run is over", PATIENCE, || {
            let sql = "SELECT outcome, finished_at IS NOT NULL FROM rotation_history WHERE secret_id = $1 ORDER BY run DESC LIMIT 1";
            let row = self.ground.session().query_one(sql, &[&self.secret]).map_err(|e| e.to_string())?;
            match row.get(1) {
                true => Ok(row.get(0)),
                false => Err(format!("{:?}", row.get::<_, Option<String>>(0))),
            }
        })
    }
}

/// Rotate a secret, in a given session and perhaps by a given strategy.
pub fn rotate(session: &mut Client, secret: &str, strategy: Option<&str>) -> Result<String, postgres::Error> {
    let row = session.query_one("SELECT rotate_secret($1, $2)", &[&secret, &strategy])?;
    Ok(row.get(0))
}

/// Whether a role and password log in, over TCP and TLS where there is any.
pub fn log_in(server: &Cluster, user: &str, password: &str) -> bool {
    let conninfo =
        format!("host=127.0.0.1 port={} user={user} password={password} dbname=postgres", server.port());
    server.psql_with(&conninfo, "SELECT 1").success
}

/// Which PostgreSQL this is.
pub fn major() -> u32 {
    secretlink_e2e::PostgresBin::get().major()
}

/// The secret of a master of a server: it may make roles, and is no superuser. From PostgreSQL 16 on it
/// needs ADMIN OPTION on a role that it has not made.
pub fn master_of(server: &Cluster, admin_of: Option<&String>) -> String {
    let role = unique("master").replace('-', "_");
    let password = random_password();
    server.create_login(&role, &password, "scram-sha-256");
    assert!(server.psql(&format!("ALTER ROLE {role} CREATEROLE")).success);
    if let Some(other) = admin_of {
        assert!(server.psql(&format!("GRANT {other} TO {role} WITH ADMIN OPTION")).success);
    }
    let secret = format!("rotation/{role}");
    let value = json!({
        "engine": "postgres", "host": "127.0.0.1", "port": server.port(), "username": role, "password": password,
    });
    api().create_secret(&secret, &value.to_string());
    secret
}
