//! One password, and everything that is seen of it.

use crate::ground::{api, ground, remote_role};
use crate::watch::Watch;
use postgres::Client;
use postgres::error::DbError;
use postgres::types::ToSql;
use secretlink_e2e::{db_error, random_password, unique};
use serde_json::json;
use std::sync::{Arc, Mutex};

/// A session that must not show its marker, and everything that is seen of it meanwhile.
pub struct Trial {
    pub marker: String,
    pub client: Client,
    /// What the client was told, errors and notices.
    pub told: Arc<Mutex<Vec<String>>>,
    /// The messages of the errors: the log has them, or it is not the right log.
    pub errors: Vec<String>,
    watch: Watch,
}

impl Trial {
    pub fn new() -> Self {
        Self::with_roles([]).0
    }

    /// With roles of the remote that have the marker as their password, one in each of `groups`.
    /// They come first: who creates a role is seen to do so.
    pub fn with_roles<const N: usize>(groups: [&str; N]) -> (Self, [String; N]) {
        let ground = ground();
        let (id, marker) = (unique("trial"), random_password());
        let roles = groups.map(|group| remote_role(&marker, group));
        let watch = Watch::start(&marker, &id);
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut config: postgres::Config = ground.local.conninfo("postgres", "postgres").parse().unwrap();
        config.application_name(&id).notice_callback({
            let told = Arc::clone(&told);
            move |notice| told.lock().unwrap().push(format!("{notice:?}"))
        });
        let mut client = config.connect(postgres::NoTls).unwrap();
        client.batch_execute("SET client_min_messages = debug5").unwrap();
        (Self { marker, client, told, errors: Vec::new(), watch }, roles)
    }

    /// A secret with this value, in which `MARKER` stands for the marker.
    pub fn secret(&self, value: &str) -> String {
        let name = unique("secret");
        api().create_secret(&name, &value.replace("MARKER", &self.marker));
        name
    }

    /// A secret for `role`, with the marker as its password.
    pub fn login(&self, role: &str) -> String {
        self.secret(&json!({ "username": role, "password": "MARKER" }).to_string())
    }

    /// That a statement fails. What it says is checked by [`Trial::end`].
    #[track_caller]
    pub fn fails_with(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> DbError {
        assert!(!sql.contains(&self.marker), "the log is right to show this statement");
        let error = db_error(self.client.query(sql, parameters));
        self.told.lock().unwrap().push(format!("{error:?}"));
        self.errors.push(error.message().to_owned());
        error
    }

    /// That a statement without parameters fails so.
    #[track_caller]
    pub fn fails(&mut self, sql: &str, expected: &str) {
        let error = self.fails_with(sql, &[]);
        let all = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        assert!(all.contains(expected), "{sql}: {error:?}");
    }

    /// That an attempt to connect fails so, and that with `fail => false` it says so.
    #[track_caller]
    pub fn fails_to_connect(&mut self, secret: &str, arguments: &str, expected: &str) {
        let call = format!("SELECT connect_with_secret('{secret}', {arguments}");
        self.fails(&format!("{call})"), expected);
        let said: String = self.client.query_one(&format!("{call}, fail => false)"), &[]).unwrap().get(0);
        assert!(said.starts_with("Connection failed: ") && said.contains(expected), "{said}");
        self.told.lock().unwrap().push(said);
    }

    /// Where the marker was seen.
    fn seen(self) -> Vec<String> {
        let Self { marker, client, told, errors, watch } = self;
        let ground = ground();
        let mut seen = watch.end();
        drop(client);
        let told = told.lock().unwrap();
        assert!(told.iter().any(|line| line.contains("DEBUG")), "the client is told everything");
        seen.extend(told.iter().filter(|line| line.contains(&marker)).cloned());
        let log = ground.local.log();
        for message in errors {
            let line = message.lines().next().unwrap_or_default();
            assert!(log.contains(line), "the log lacks {line:?}");
        }
        for (server, log) in [("local", log), ("remote", ground.remote.log()), ("plain", ground.plain.log())]
        {
            assert!(log.contains("DEBUG:  00000: "), "the log of {server} has everything");
            let lines = log.lines().filter(|line| line.contains(&marker));
            seen.extend(lines.map(|line| format!("log of {server}: {line}")));
        }
        seen
    }

    /// The marker was seen nowhere.
    #[track_caller]
    pub fn end(self) {
        let seen = self.seen();
        assert!(seen.is_empty(), "{seen:#?}");
    }
}

#[test]
fn a_marker_that_does_get_out_is_seen_everywhere() {
    let mut trial = Trial::new();
    let (marker, secret) = (trial.marker.clone(), trial.login("app"));
    trial.fails_with("SELECT $1::text::int", &[&marker]);
    // The name of a database is no secret: the remote logs it.
    let connect = "SELECT connect_with_secret($1, '127.0.0.1', $2, remote_port => $3)";
    trial.fails_with(connect, &[&secret, &marker, &i32::from(ground().remote.port())]);
    let plain =
        "SELECT connect_with_secret($1, '127.0.0.1', $2, remote_port => $3, options => 'sslmode=disable')";
    trial.fails_with(plain, &[&secret, &marker, &i32::from(ground().plain.port())]);
    let show = "SELECT set_config('application_name', $1, false), pg_sleep(0.5)";
    trial.client.query(show, &[&marker]).unwrap();
    let seen = trial.seen();
    for channel in ["DbError", "log of local", "log of remote", "log of plain", "pg_stat_activity"] {
        assert!(seen.iter().any(|line| line.starts_with(channel)), "{channel}: {seen:#?}");
    }
}
