//! A server whose passwords are synced, and a Secrets Manager behind a relay.

use crate::session::Session;
use crate::synced_role::SyncedRole;
use postgres::NoTls;
use secretlink_e2e::{
    Cluster, ClusterBuilder, Moto, PostgresBin, SecretsApi, SecretsRelay, random_password, unique,
};
use serde_json::json;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long the worker sleeps between two passes, in the tests that wait for it.
pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(1);

/// By when the worker has done what it has to: its interval, and a machine that is busy.
pub const SETTLED: Duration = Duration::from_secs(120);

/// A server with the library preloaded, on which roles log in by TCP and SCRAM.
pub struct Ground {
    pub cluster: Cluster,
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

/// The server of all tests that need none of their own. Never dropped, as above.
pub fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(Ground::start)
}

impl Ground {
    pub fn start() -> Self {
        Self::with(|cluster| cluster)
    }

    /// A server that is a little different.
    pub fn with(adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let relay = SecretsRelay::to(moto());
        let cluster = adjust(Self::builder(&relay)).start();
        Self { cluster, relay }
    }

    pub fn builder(relay: &SecretsRelay) -> ClusterBuilder {
        let builder = Cluster::local_with_endpoint(&relay.endpoint());
        // From PostgreSQL 18 on each MD5 password has a warning; tests look for ours, and for none.
        let builder = match PostgresBin::get().major() {
            ..18 => builder,
            18.. => builder.conf("md5_password_warnings = off"),
        };
        builder
            .preload(true)
            .tcp()
            // Which is SCRAM for all passwords that are not kept as MD5.
            .auth("host", "all", "md5")
            .conf("max_prepared_transactions = 5")
            // What sync_role has linked is to survive a crash right after it.
            .conf("synchronous_commit = on")
            .conf("secretlink.max_attempts = 1")
            .conf(&format!("secretlink.reconcile_interval = {}", RECONCILE_INTERVAL.as_secs()))
            // A failing statement is logged, and with it the password in it: not the library's doing.
            .conf("log_min_error_statement = panic")
    }

    /// A session of the superuser.
    pub fn session(&self) -> Session {
        self.session_in("postgres")
    }

    pub fn session_in(&self, database: &str) -> Session {
        self.session_of("postgres", database)
    }

    pub fn session_of(&self, user: &str, database: &str) -> Session {
        Session::start(&self.cluster.conninfo(user, database))
    }

    /// A role that can log in and its secret, which agree and are linked.
    pub fn synced_role(&self, name: &str) -> SyncedRole<'_> {
        let role = unique(name).replace('-', "_");
        let secret = format!("sync/{role}");
        let password = new_password();
        api().create_secret(&secret, &json!({ "username": role, "password": password }).to_string());
        self.synced_role_with_secret(&role, &secret, &password)
    }

    /// The same with a secret that is there already, or is to be made.
    pub fn synced_role_with_secret(&self, role: &str, secret: &str, password: &str) -> SyncedRole<'_> {
        self.link(role, secret, password, &format!("SELECT sync_role('{role}', '{secret}')"), 5)
    }

    /// The same with a secret that `sync_role` would have something to say about.
    pub fn labelled_role(&self, role: &str, secret: &str, password: &str) -> SyncedRole<'_> {
        self.link(
            role,
            secret,
            password,
            &format!("SECURITY LABEL FOR secretlink ON ROLE \"{role}\" IS '{secret}'"),
            2,
        )
    }

    /// `requests`: how many there are then, by the function and by the worker.
    fn link(&self, role: &str, secret: &str, password: &str, link: &str, requests: usize) -> SyncedRole<'_> {
        let mut session = self.session();
        session.run(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}'"));
        session.run(link);
        let role = SyncedRole { ground: self, name: role.to_owned(), secret: secret.to_owned() };
        // The worker has a look at it, too; what comes later is what the tests are about.
        role.until_seen("known", |state| !["unknown", "tied"].contains(&state));
        let began = Instant::now();
        while self.relay.requests(secret).len() < requests && began.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.relay.forget(secret);
        role
    }

    /// Log in as a person would, and say as whom.
    pub fn log_in(&self, user: &str, password: &str) -> Result<String, String> {
        log_in(self.cluster.port(), user, password)
    }
}

/// A password like no other, which contrib's `passwordcheck` takes too.
pub fn new_password() -> String {
    format!("{}-1", random_password())
}

/// Log in over TCP, and say as whom.
pub fn log_in(port: u16, user: &str, password: &str) -> Result<String, String> {
    let mut config = postgres::Config::new();
    config.host("127.0.0.1").port(port).user(user).password(password).dbname("postgres");
    let mut client =
        config.connect_timeout(Duration::from_secs(20)).connect(NoTls).map_err(|e| format!("{e:?}"))?;
    let row = client.query_one("SELECT session_user::text", &[]).map_err(|e| format!("{e:?}"))?;
    Ok(row.get(0))
}
