//! What others do beside the demo's session.

use crate::script::Action;
use secretlink_e2e::{Fault, SecretsRelay, Stage};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// The secret that is rotated.
const SECRET: &str = "prod/app";

/// Other sessions and servers.
pub struct Company<'a> {
    stage: &'a Stage,
    relay: SecretsRelay,
    client: Option<(JoinHandle<()>, Arc<Logins>)>,
}

/// What a client that reconnects all the time has seen.
#[derive(Default)]
struct Logins {
    over: AtomicBool,
    made: AtomicUsize,
    failed: AtomicUsize,
}

impl<'a> Company<'a> {
    /// Stands between the server and its Secrets Manager from now on.
    pub fn of(stage: &'a Stage) -> Company<'a> {
        let relay = SecretsRelay::to(&stage.moto);
        let mut session = stage.local.connect("postgres", "postgres");
        for sql in [
            &format!("ALTER SYSTEM SET secretlink.endpoint_url = '{}'", relay.endpoint()),
            "SELECT pg_reload_conf()",
        ] {
            session.batch_execute(sql).expect("cannot change a setting");
        }
        Company { stage, relay, client: None }
    }

    /// Does something. What is wrong is returned.
    pub fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::ClientComes => self.client = Some(self.log_in_all_the_time()),
            Action::ClientLeaves => return self.client_leaves(),
            Action::RoleExpires => self.expire_in_the_middle(),
            Action::RoleIsValid => {
                self.relay.pass_all();
                self.set_valid_until("infinity");
            }
        }
        Ok(())
    }

    fn log_in_all_the_time(&self) -> (JoinHandle<()>, Arc<Logins>) {
        let logins: Arc<Logins> = Arc::default();
        let (seen, mut session) = (Arc::clone(&logins), self.stage.local.connect("postgres", "postgres"));
        let client = std::thread::spawn(move || {
            let sql = "SELECT connect_with_secret($1, connection_name => 'c'), dblink_disconnect('c')";
            while !seen.over.load(Ordering::SeqCst) {
                let counter = if session.query(sql, &[&SECRET]).is_ok() { &seen.made } else { &seen.failed };
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        (client, logins)
    }

    fn client_leaves(&mut self) -> Result<(), String> {
        let Some((client, logins)) = self.client.take() else { return Ok(()) };
        logins.over.store(true, Ordering::SeqCst);
        let _ = client.join();
        let (made, failed) = (logins.made.load(Ordering::SeqCst), logins.failed.load(Ordering::SeqCst));
        println!("-- The other session has logged in {made} times meanwhile; {failed} logins failed.\n");
        match (made, failed) {
            (1.., 0) => Ok(()),
            _ => Err("  the other session's logins\n    failed".to_owned()),
        }
    }

    /// When the rotation has looked at everything, and before it sets the password.
    fn expire_in_the_middle(&self) {
        let secret = self.stage.moto.secrets().call("DescribeSecret", json!({ "SecretId": SECRET }));
        let arn = secret.ok().and_then(|secret| Some(secret["ARN"].as_str()?.to_owned())).unwrap_or_default();
        let psql = self.stage.remote.psql_command(&self.stage.remote.conninfo("postgres", "postgres"));
        let psql = std::sync::Mutex::new(psql);
        self.relay.rule(&arn, move |request| {
            if request.operation == "DescribeSecret"
                && let Ok(mut psql) = psql.lock()
            {
                let _ = psql.args(["--quiet", "--command", &valid_until("2000-01-01")]).status();
            }
            Fault::None
        });
    }

    fn set_valid_until(&self, when: &str) {
        self.stage.remote.psql(&valid_until(when));
    }
}

fn valid_until(when: &str) -> String {
    format!("ALTER ROLE app VALID UNTIL '{when}'")
}
