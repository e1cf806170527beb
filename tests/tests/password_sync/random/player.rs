//! A session that changes roles in every way.

use super::foreign_rotation::ForeignRotation;
use super::world::{MARK, World, secret_name};
use crate::ground::{api, log_in};
use postgres::Client;
use postgres_protocol::password::scram_sha_256;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

pub struct Player<'a> {
    world: &'a World,
    random: fastrand::Rng,
    client: Client,
    session: usize,
    sessions: usize,
    seed: u64,
    made: usize,
    /// What this session has stored for the password that it is about to set.
    stored: Option<Stored>,
    /// The rotation of somebody else that this session carries out.
    rotation: Option<ForeignRotation>,
}

/// A password that was made current before it is set.
struct Stored {
    secret: String,
    role: String,
    password: String,
    before: String,
    version: String,
}

/// The name of a step that others follow.
const SET_SECRET: &str = "foreign rotation: setSecret";

/// For how many milliseconds a session waits for a rotation, which goes on without it.
const ROTATION_PATIENCE: u32 = 5000;

impl<'a> Player<'a> {
    pub fn new(world: &'a World, session: usize, sessions: usize, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed.wrapping_add(session as u64));
        Self {
            world,
            random,
            client: world.connect(),
            session,
            sessions,
            seed,
            made: 0,
            stored: None,
            rotation: None,
        }
    }

    /// One operation after the other, until all sessions together have done so many.
    pub fn play(mut self, operations: usize) {
        while self.world.done.load(Ordering::SeqCst) < operations {
            let Ok(roles) = self.world.synced_roles(&mut self.client) else {
                self.client = self.world.connect();
                continue;
            };
            let (name, sql, touched) = self.operation(&roles);
            let outcome = self.run(&sql);
            self.after(&outcome);
            if name == SET_SECRET {
                self.test_and_finish();
            }
            for secret in &touched {
                let sql = sql.replace(MARK, "…");
                self.world.journal.note(secret, format!("session {}: {outcome}: {sql}", self.session));
            }
            self.world.count_outcome(name, &outcome);
            self.world.done.fetch_add(1, Ordering::SeqCst);
        }
        while self.rotation.is_some() {
            self.test_and_finish();
        }
    }

    /// How a statement ended: `ok`, an SQLSTATE, or `lost`.
    fn run(&mut self, sql: &str) -> String {
        match self.client.batch_execute(sql) {
            Ok(()) => "ok".to_owned(),
            Err(error) => {
                let outcome = error.code().map_or("lost", |code| code.code()).to_owned();
                if self.client.is_closed() || self.client.batch_execute("ROLLBACK").is_err() {
                    self.client = self.world.connect();
                }
                outcome
            }
        }
    }

    /// What to do, and the secrets it concerns.
    fn operation(&mut self, roles: &[(String, String)]) -> (&'static str, String, Vec<String>) {
        if let Some(rotation) = &self.rotation
            && self.random.bool()
        {
            let secret = rotation.secret.clone();
            let role = roles.iter().find(|(_, its)| *its == secret);
            let sql = role.map_or("SELECT 1".to_owned(), |(role, _)| rotation.statement(role));
            return (SET_SECRET, sql, vec![secret]);
        }
        if let Some(secret) = self.homeless(roles) {
            let sql = self.create(&secret);
            return ("create", format!("BEGIN; {sql}; COMMIT"), vec![secret]);
        }
        let Some((role, secret)) = self.random.choice(roles).cloned() else {
            return ("nothing", "SELECT 1".to_owned(), Vec::new());
        };
        let one = vec![secret.clone()];
        let alter = self.alter(&role);
        match self.random.usize(..100) {
            0..22 => ("change", alter, one),
            22..27 => ("rollback", format!("BEGIN; {alter}; ROLLBACK"), one),
            27..37 => {
                let body = self.nested(&role, 3);
                let end = if self.random.u8(..5) == 0 { "ROLLBACK" } else { "COMMIT" };
                ("savepoints", format!("BEGIN; {body}; {end}"), one)
            }
            37..42 => match self.create_secret(roles) {
                Some(secret) => ("foreign rotation: createSecret", "SELECT 1".to_owned(), vec![secret]),
                None => ("change", alter, one),
            },
            42..45 => match self.put(roles) {
                Some((sql, secret)) => ("hash of what was put", sql, vec![secret]),
                None => ("change", alter, one),
            },
            // Not of a secret that another session has put a password into, and may take back: with that password
            // in a version more, nobody could.
            45..47 => match self.own_role(roles) {
                Some((_, secret)) => {
                    let note = self.random.u32(..);
                    let sql = format!("SELECT put_secret_field('{secret}', 'note', '{note}')");
                    ("put_secret_field", sql, vec![secret])
                }
                None => ("change", alter, one),
            },
            // A secret that names no role leads to none.
            47..52 if !self.world.made_anew.contains(&secret) => {
                let sql = format!(
                    "SET statement_timeout = {ROTATION_PATIENCE}; SELECT rotate_secret('{secret}'); RESET statement_timeout"
                );
                ("rotate_secret", sql, one)
            }
            47..52 => ("change", alter, one),
            52..55 => ("exception block", self.exception_block(&role), one),
            55..60 => ("change twice", format!("BEGIN; {alter}; {}; COMMIT", self.alter(&role)), one),
            60..68 => {
                let new = self.fresh_name(&role);
                let rename = format!("ALTER ROLE {role} RENAME TO {new}");
                let sql = match self.random.usize(..4) {
                    0 => rename,
                    1 => format!("BEGIN; {alter}; {rename}; COMMIT"),
                    2 => format!("BEGIN; {rename}; {}; COMMIT", self.alter(&new)),
                    _ => format!("BEGIN; SAVEPOINT s; {rename}; ROLLBACK TO s; {alter}; COMMIT"),
                };
                ("rename", sql, one)
            }
            68..84 => {
                let mut several: Vec<(String, String)> = roles.to_vec();
                self.random.shuffle(&mut several);
                several.truncate(self.random.usize(2..5));
                let all: Vec<String> = several.iter().map(|(role, _)| self.alter(role)).collect();
                let sql = format!("BEGIN; {}; COMMIT", all.join("; "));
                ("several roles", sql, several.into_iter().map(|(_, secret)| secret).collect())
            }
            84..92 => {
                let limit = self.random.u32(3..150);
                (
                    "with statement_timeout",
                    format!("SET statement_timeout = {limit}; {alter}; RESET statement_timeout"),
                    one,
                )
            }
            _ if self.owns(&secret) => {
                let drop = format!("DROP ROLE {role}");
                let sql = match self.random.usize(..4) {
                    0 => drop,
                    1 => format!("BEGIN; {alter}; {drop}; COMMIT"),
                    2 => format!("BEGIN; {drop}; {}; COMMIT", self.create(&secret)),
                    _ => format!("BEGIN; {alter}; SAVEPOINT s; {drop}; ROLLBACK TO s; COMMIT"),
                };
                ("drop", sql, one)
            }
            _ => ("change", alter, one),
        }
    }

    /// A role with a secret for which no other session stores anything.
    fn own_role(&mut self, roles: &[(String, String)]) -> Option<(String, String)> {
        let is_own = |(_, secret): &&(String, String)| {
            let number = secret.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
            number.is_some_and(|number| number % self.sessions == self.session)
        };
        let own: Vec<_> = roles.iter().filter(is_own).cloned().collect();
        self.random.choice(own)
    }

    /// The first step of a rotation of somebody else's, one at a time.
    fn create_secret(&mut self, roles: &[(String, String)]) -> Option<String> {
        if self.rotation.is_some() {
            return None;
        }
        let (_, secret) = self.own_role(roles)?;
        self.rotation = ForeignRotation::create(&secret, self.password(), self.random.bool());
        self.rotation.is_some().then_some(secret)
    }

    /// The last two steps of the rotation, or the one that is left when it cannot go on.
    fn test_and_finish(&mut self) {
        let Some(rotation) = &mut self.rotation else { return };
        if let Some(end) = rotation.test_and_finish(self.world) {
            self.world.journal.note(&rotation.secret, format!("session {}: {end:?}", self.session));
            self.world.count_outcome("foreign rotation", &format!("{end:?}"));
            self.rotation = None;
        }
    }

    /// Makes another password current, as `put_secret_value` does, and sends its hash.
    fn put(&mut self, roles: &[(String, String)]) -> Option<(String, String)> {
        let (role, secret) = self.own_role(roles)?;
        if self.rotation.as_ref().is_some_and(|rotation| rotation.secret == secret) {
            return None;
        }
        let password = self.password();
        let (before, version) = replace(&secret, |value| value["password"] = password.clone().into())?;
        let sql = format!("ALTER ROLE {role} PASSWORD '{}'", scram_sha_256(password.as_bytes()));
        self.stored = Some(Stored { secret: secret.clone(), role, password, before, version });
        Some((sql, secret))
    }

    /// Takes back what was stored for a password that was not set.
    fn after(&mut self, outcome: &str) {
        let Some(Stored { secret, role, password, before, version }) = self.stored.take() else { return };
        if outcome == "ok" {
            return;
        }
        // The server tells whether it was set, once it is there again.
        let role = self.world.role_at_rest(&secret).unwrap_or(role);
        if log_in(self.world.port(), &role, &password).is_err() {
            move_current(&secret, &version, &before);
        }
    }

    /// Only one session drops and makes the role of a secret, so that it never has two.
    fn owns(&self, secret: &str) -> bool {
        self.own_secrets().any(|own| own == secret)
    }

    fn own_secrets(&self) -> impl Iterator<Item = String> + use<> {
        let (seed, first, step) = (self.seed, self.session, self.sessions);
        (first..super::SECRETS)
            .step_by(step)
            .filter(|number| *number >= super::DROPPED_FROM)
            .map(move |number| secret_name(seed, number))
    }

    /// One of this session's secrets that has no role.
    fn homeless(&self, roles: &[(String, String)]) -> Option<String> {
        self.own_secrets().find(|secret| !roles.iter().any(|(_, linked)| linked == secret))
    }

    fn create(&mut self, secret: &str) -> String {
        let role = self.fresh_name("new");
        let (password, sync) = (self.password(), format!("SELECT sync_role('{role}', '{secret}')"));
        match self.random.usize(..3) {
            0 => format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'; {sync}"),
            1 => format!("CREATE ROLE {role} LOGIN; {sync}; {}", self.alter(&role)),
            _ => format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'; {sync}; {}", self.alter(&role)),
        }
    }

    fn alter(&mut self, role: &str) -> String {
        format!("ALTER ROLE {role} PASSWORD '{}'", self.password())
    }

    fn password(&mut self) -> String {
        let rest: String = std::iter::repeat_with(|| self.random.alphanumeric()).take(10).collect();
        format!("{MARK}-{rest}")
    }

    fn fresh_name(&mut self, role: &str) -> String {
        self.made += 1;
        let stem = role.split('_').next().unwrap_or(role);
        format!("{stem}_{}_{}", self.session, self.made)
    }

    /// Changes in savepoints that are released or taken back, one in another.
    fn nested(&mut self, role: &str, depth: usize) -> String {
        let mut parts = Vec::new();
        for _ in 0..self.random.usize(1..4) {
            if depth == 0 || self.random.bool() {
                parts.push(self.alter(role));
                continue;
            }
            let end = if self.random.bool() { "RELEASE" } else { "ROLLBACK TO" };
            parts.push(format!("SAVEPOINT s{depth}; {}; {end} s{depth}", self.nested(role, depth - 1)));
        }
        parts.join("; ")
    }

    fn exception_block(&mut self, role: &str) -> String {
        let [before, inside, handler] = [self.alter(role), self.alter(role), self.alter(role)];
        let before = if self.random.bool() { format!("{before};") } else { String::new() };
        let fails = if self.random.u8(..3) > 0 { "PERFORM 1/0;" } else { "" };
        let handler = if self.random.bool() { handler } else { "NULL".to_owned() };
        format!(
            "DO $do$ BEGIN {before} BEGIN {inside}; {fails} EXCEPTION WHEN division_by_zero THEN {handler}; END; END $do$"
        )
    }
}

/// Moves AWSCURRENT, if it is where it is thought to be.
fn move_current(secret: &str, from: &str, to: &str) -> bool {
    api().move_label(secret, "AWSCURRENT", Some(from), Some(to)).is_ok()
}

/// Makes a changed value current, if nobody else has been quicker. The versions before and after.
fn replace(secret: &str, change: impl FnOnce(&mut Value)) -> Option<(String, String)> {
    let before = api().version_at(secret, "AWSCURRENT")?;
    let read = api().call("GetSecretValue", json!({ "SecretId": secret, "VersionId": before })).ok()?;
    let mut value: Value = serde_json::from_str(read["SecretString"].as_str()?).ok()?;
    change(&mut value);
    let version = api().put_secret_value(secret, &value.to_string(), &["EDITED"]);
    move_current(secret, &before, &version).then_some((before, version))
}
