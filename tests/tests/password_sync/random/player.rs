//! A session that changes roles in every way.

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
}

/// A version that was stored before its password is set.
struct Stored {
    secret: String,
    version: String,
    /// If it is at AWSCURRENT already: the version that was there, and the role and its password to be.
    current: Option<(String, String, String)>,
}

/// SQLSTATEs of which nobody can say that the transaction was committed all the same.
const SURELY_ABORTED: [&str; 7] = ["08001", "28P01", "42501", "53400", "55000", "55006", "58000"];

impl<'a> Player<'a> {
    pub fn new(world: &'a World, session: usize, sessions: usize, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed.wrapping_add(session as u64));
        Self { world, random, client: world.connect(), session, sessions, seed, made: 0, stored: None }
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
            for secret in &touched {
                let sql = sql.replace(MARK, "…");
                self.world.journal.note(secret, format!("session {}: {outcome}: {sql}", self.session));
            }
            self.world.count_outcome(name, &outcome);
            self.world.done.fetch_add(1, Ordering::SeqCst);
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
            0..25 => ("change", alter, one),
            25..32 => ("rollback", format!("BEGIN; {alter}; ROLLBACK"), one),
            32..44 => {
                let body = self.nested(&role, 3);
                let end = if self.random.u8(..5) == 0 { "ROLLBACK" } else { "COMMIT" };
                ("savepoints", format!("BEGIN; {body}; {end}"), one)
            }
            44..47 => match self.pending(roles) {
                Some((sql, secret)) => ("what is pending", sql, vec![secret]),
                None => ("change", alter, one),
            },
            47..49 => match self.put(roles) {
                Some((sql, secret)) => ("hash of what was put", sql, vec![secret]),
                None => ("change", alter, one),
            },
            // Not of a secret that another session has put a password into, and may take back: with that password
            // in a version more, nobody could.
            49 => match self.own_role(roles) {
                Some((_, secret)) => {
                    edit(&secret);
                    ("put_secret_value", "SELECT 1".to_owned(), vec![secret])
                }
                None => ("change", alter, one),
            },
            50..54 => ("exception block", self.exception_block(&role), one),
            54..60 => ("change twice", format!("BEGIN; {alter}; {}; COMMIT", self.alter(&role)), one),
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

    /// Stores a password at AWSPENDING, as a rotation of somebody else's does, and sets it, or its hash: not while
    /// such a version is there, which may be needed still.
    fn pending(&mut self, roles: &[(String, String)]) -> Option<(String, String)> {
        let (role, secret) = self.own_role(roles)?;
        let at = |stage| api().version_at(&secret, stage);
        let (current, pending) = (at("AWSCURRENT"), at("AWSPENDING"));
        if pending.is_some_and(|held| Some(&held) != current.as_ref()) {
            return None;
        }
        let password = self.password();
        let mut value: Value = serde_json::from_str(&api().get_secret_value(&secret).ok()?).ok()?;
        value["password"] = password.clone().into();
        let version = api().put_secret_value(&secret, &value.to_string(), &["AWSPENDING"]);
        self.stored = Some(Stored { secret: secret.clone(), version, current: None });
        let sent = if self.random.bool() { scram_sha_256(password.as_bytes()) } else { password };
        Some((format!("ALTER ROLE {role} PASSWORD '{sent}'"), secret))
    }

    /// Makes another password current, as `put_secret_value` does, and sends its hash.
    fn put(&mut self, roles: &[(String, String)]) -> Option<(String, String)> {
        let (role, secret) = self.own_role(roles)?;
        let password = self.password();
        let (before, version) = replace(&secret, |value| value["password"] = password.clone().into())?;
        let current = Some((before, role.clone(), password.clone()));
        self.stored = Some(Stored { secret: secret.clone(), version, current });
        Some((format!("ALTER ROLE {role} PASSWORD '{}'", scram_sha_256(password.as_bytes())), secret))
    }

    /// Takes back what was stored for a password that was not set.
    fn after(&mut self, outcome: &str) {
        let Some(Stored { secret, version, current }) = self.stored.take() else { return };
        if outcome == "ok" {
            return;
        }
        match current {
            None if SURELY_ABORTED.contains(&outcome)
                && api().version_at(&secret, "AWSCURRENT").as_ref() != Some(&version) =>
            {
                // It may have lost the label already.
                let input = json!({ "SecretId": secret, "VersionStage": "AWSPENDING", "RemoveFromVersionId": version });
                let _ = api().call("UpdateSecretVersionStage", input);
            }
            None => {}
            Some((before, role, password)) => {
                // The server tells whether it was set, once it is there again.
                drop(self.world.connect());
                let is_set = log_in(self.world.port(), &role, &password);
                if is_set.is_err() {
                    move_current(&secret, &version, &before);
                }
            }
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
    let input = json!({ "SecretId": secret, "VersionStage": "AWSCURRENT", "MoveToVersionId": to,
                        "RemoveFromVersionId": from });
    api().call("UpdateSecretVersionStage", input).is_ok()
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

/// Somebody edits another field of the secret.
fn edit(secret: &str) {
    replace(secret, |value| value["note"] = fastrand::u32(..).into());
}
