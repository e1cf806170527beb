//! What a rotation costs: time, calls to AWS, and logins at the server whose role gets a new password.

use postgres::Client;
use secretlink_e2e::{Cluster, Moto, Proxy, SecretsRelay, random_password};
use serde_json::json;
use std::cell::RefCell;

use crate::measure::{Candidate, Subject, Unit, timed};

/// A server that rotates, and what counts.
pub struct Rotating<'a> {
    local: Cluster,
    remote: &'a Cluster,
    moto: &'a Moto,
    calls: SecretsRelay,
    logins: Proxy,
}

impl<'a> Rotating<'a> {
    /// Starts the server.
    pub fn start(moto: &'a Moto, remote: &'a Cluster) -> Rotating<'a> {
        let calls = SecretsRelay::to(moto);
        let local = Cluster::local_with_endpoint(&calls.endpoint())
            .preload(true)
            .conf("secretlink.rotation_min_age = 0")
            .start();
        Rotating { local, remote, moto, calls, logins: Proxy::to(remote.port()) }
    }

    /// A role and its secret; with a master if it takes turns.
    fn secret(&self, name: &str, alternating: bool) -> String {
        let api = self.moto.secrets();
        let login = |role: &str| {
            let password = random_password();
            self.remote.create_login(role, &password, "scram-sha-256");
            json!({ "engine": "postgres", "host": "127.0.0.1", "port": self.logins.port(),
                    "username": role, "password": password })
        };
        let mut value = login(name);
        if alternating {
            let master = format!("{name}_master");
            let secret = login(&master);
            let rights =
                format!("ALTER ROLE {master} CREATEROLE; GRANT {name} TO {master} WITH ADMIN OPTION");
            self.remote.connect("postgres", "postgres").batch_execute(&rights).expect("rights are given");
            api.create_secret(&master, &secret.to_string());
            value["masterarn"] = json!(master);
        }
        api.create_secret(name, &value.to_string());
        name.to_owned()
    }

    fn rotate(session: &RefCell<Client>, secret: &str) {
        session.borrow_mut().execute("SELECT rotate_secret($1)", &[&secret]).expect("it is rotated");
    }

    /// All requests of one rotation: the answer comes when the last has been sent.
    fn calls(&self, session: &RefCell<Client>, secret: &str) -> f64 {
        let before = self.calls.total();
        Self::rotate(session, secret);
        (self.calls.total() - before) as f64
    }

    fn logins(&self, session: &RefCell<Client>, secret: &str) -> f64 {
        let before = self.logins.accepted();
        Self::rotate(session, secret);
        (self.logins.accepted() - before) as f64
    }

    /// How long a rotation takes, and what it asks of others.
    pub fn subjects(&self) -> [Subject<'_>; 2] {
        let session = || RefCell::new(self.local.connect("postgres", "postgres"));
        let strategies = [("bench_single", false), ("bench_pair", true)];
        let [single, pair] = strategies.map(|(name, alternating)| self.secret(name, alternating));
        let time = |name, secret: &String| {
            let (session, secret) = (session(), secret.clone());
            Candidate { name, once: Box::new(move || timed(|| Self::rotate(&session, &secret))) }
        };
        let count = |name, secret: &String, of: fn(&Self, &RefCell<Client>, &str) -> f64| {
            let (session, secret) = (session(), secret.clone());
            Candidate { name, once: Box::new(move || of(self, &session, &secret)) as Box<dyn FnMut() -> f64> }
        };
        [
            Subject {
                title: "A rotation of a role of another server, from the call to its answer".into(),
                unit: Unit::Seconds,
                repeats: 2,
                candidates: vec![time(SINGLE, &single), time(PAIR, &pair)],
                ratios: Vec::new(),
                differences: Vec::new(),
            },
            Subject {
                title: "What a rotation asks of others".into(),
                unit: Unit::Count,
                repeats: 1,
                candidates: vec![
                    count("single_user: calls to AWS", &single, Self::calls),
                    count("single_user: logins at the server", &single, Self::logins),
                    count("alternating_users: calls to AWS", &pair, Self::calls),
                    count("alternating_users: logins at the server", &pair, Self::logins),
                ],
                ratios: Vec::new(),
                differences: Vec::new(),
            },
        ]
    }
}

const SINGLE: &str = "single_user";
const PAIR: &str = "alternating_users";
