//! What the players and the chaos share.

use super::DROPPED_FROM;
use super::chaos::{Plan, Window};
use super::journal::Journal;
use crate::ground::{Ground, RECONCILE_INTERVAL, SETTLED, api, log_in, moto};
use postgres::{Client, NoTls};
use secretlink_e2e::{
    Cluster, Fault, Process, SecretsRelay, SecretsRequest, ServerRelay, StopMode, eventually,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// In every password, so that one look at the log finds any of them.
pub const MARK: &str = "QxMarkZ";

pub struct World {
    pub relay: SecretsRelay,
    /// What the secrets lead to, and what leads to the primary.
    door: ServerRelay,
    pub cluster: Mutex<Cluster>,
    /// That of the server that is the primary now, and the port that it has.
    config: Mutex<postgres::Config>,
    /// The standby that commits wait for, unless one is being made.
    standby: Mutex<Option<Cluster>>,
    /// The primary of before, until it was seen to do no harm.
    old: Mutex<Option<Cluster>>,
    /// What those have logged that are no more.
    old_logs: Mutex<Vec<String>>,
    pub failovers: AtomicUsize,
    pub journal: Journal,
    pub done: AtomicUsize,
    pub over: AtomicBool,
    /// The crash that waits for its moment.
    pub plan: Mutex<Option<Plan>>,
    /// How many of a hundred requests meet a fault.
    pub weather: AtomicUsize,
    random: Mutex<fastrand::Rng>,
    outcomes: Mutex<BTreeMap<String, usize>>,
    faults: Mutex<BTreeMap<&'static str, usize>>,
    crashes: Mutex<BTreeMap<(Window, &'static str), usize>>,
    pub slowest_start: Mutex<Duration>,
    /// The secrets whose roles are dropped and made anew.
    pub made_anew: BTreeSet<String>,
}

impl World {
    pub fn start(seed: u64, secrets: usize) -> Arc<Self> {
        let relay = SecretsRelay::to(moto());
        let cluster = Ground::builder(&relay)
            .conf("secretlink.request_timeout = 2000")
            .conf("secretlink.connect_timeout = 500")
            .conf("secretlink.promote_timeout = 600")
            .conf("secretlink.max_attempts = 2")
            .conf("secretlink.rotation_min_age = 0")
            .conf("secretlink.rotation_timeout = 10")
            .conf("deadlock_timeout = 200")
            .conf("synchronous_commit = off")
            .conf("wal_retrieve_retry_interval = 100")
            .start();
        let world = Arc::new(Self {
            relay,
            door: ServerRelay::to(cluster.port()),
            config: Mutex::new(config_of(&cluster)),
            standby: Mutex::default(),
            old: Mutex::default(),
            old_logs: Mutex::default(),
            failovers: AtomicUsize::new(0),
            cluster: Mutex::new(cluster),
            journal: Journal::new(),
            done: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            plan: Mutex::new(None),
            weather: AtomicUsize::new(0),
            random: Mutex::new(fastrand::Rng::with_seed(seed ^ 0xFA17)),
            outcomes: Mutex::default(),
            faults: Mutex::default(),
            crashes: Mutex::default(),
            slowest_start: Mutex::default(),
            made_anew: (DROPPED_FROM..secrets).map(|number| secret_name(seed, number)).collect(),
        });
        let mut client = world.connect();
        for number in 0..secrets {
            let (role, secret, password) =
                (format!("r{number}"), secret_name(seed, number), format!("{MARK}-{number}"));
            let mut value = json!({ "password": password, "big": 1, "other": "kept" });
            // A secret belongs to the role it names, and those that are made anew have other names.
            if number < DROPPED_FROM {
                value["username"] = role.clone().into();
                value["host"] = "127.0.0.1".into();
                value["port"] = world.door.port().into();
                value["ssl"] = false.into();
            }
            api().create_secret(&secret, &value.to_string());
            client
                .batch_execute(&format!(
                    "CREATE ROLE {role} LOGIN PASSWORD '{password}'; SELECT sync_role('{role}', '{secret}')"
                ))
                .unwrap();
        }
        // Roles as such must not be lost by a crash, which no sync is about.
        client.batch_execute("CHECKPOINT").unwrap();
        world.make_standby();
        world.door.rule({
            let world = Arc::downgrade(&world);
            move |_| world.upgrade().map_or(Fault::None, |world| world.fate_of_message())
        });
        world.relay.rule_for_others({
            let world = Arc::clone(&world);
            move |request| world.fate(request)
        });
        world
    }

    /// Connect, as soon as there is a server.
    pub fn connect(&self) -> Client {
        let began = Instant::now();
        loop {
            let config = self.config.lock().unwrap().clone();
            match config.connect(NoTls) {
                Ok(client) => return client,
                Err(e) if began.elapsed() > Duration::from_secs(90) => {
                    panic!("no server for too long: {e:?}")
                }
                Err(_) => std::thread::sleep(Duration::from_millis(15)),
            }
        }
    }

    /// The synced roles: name and secret.
    pub fn synced_roles(&self, client: &mut Client) -> Result<Vec<(String, String)>, postgres::Error> {
        let sql = "SELECT rolname::text, label FROM pg_authid JOIN pg_shseclabel
                   ON objoid = pg_authid.oid AND classoid = 'pg_authid'::regclass AND provider = 'secretlink'";
        Ok(client.query(sql, &[])?.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// What becomes of a request: the crash that waits for it, a fault, or nothing.
    fn fate(self: &Arc<Self>, request: &SecretsRequest) -> Fault {
        if let Some((plan, sender)) = self.plan_for(request) {
            return self.crash(request, plan, sender);
        }
        let mut random = self.random.lock().unwrap();
        let (name, fault) = if random.usize(..100) >= self.weather.load(Ordering::SeqCst) {
            ("none", Fault::None)
        } else {
            match random.usize(..6) {
                0 => ("cut", Fault::Cut),
                1 => ("answer cut", Fault::CutAnswer),
                2 => ("delayed", Fault::Delay(Duration::from_millis(random.u64(50..3000)))),
                3 => ("500", Fault::Refuse(500, "InternalServiceError")),
                4 => ("400 throttled", Fault::Refuse(400, "ThrottlingException")),
                _ => ("403 denied", Fault::Refuse(403, "AccessDeniedException")),
            }
        };
        drop(random);
        *self.faults.lock().unwrap().entry(name).or_default() += 1;
        self.journal
            .note(name_of(&request.secret), format!("    {} {} {name}", request.operation, tokens(request)));
        fault
    }

    /// What becomes of what a rotation says to the server.
    fn fate_of_message(&self) -> Fault {
        let mut random = self.random.lock().unwrap();
        if random.usize(..100) >= self.weather.load(Ordering::SeqCst) {
            return Fault::None;
        }
        let (name, fault) = match random.usize(..3) {
            0 => ("server: cut", Fault::Cut),
            1 => ("server: answer cut", Fault::CutAnswer),
            _ => ("server: delayed", Fault::Delay(Duration::from_millis(random.u64(50..3000)))),
        };
        *self.faults.lock().unwrap().entry(name).or_default() += 1;
        fault
    }

    /// Takes the plan if this request is its moment.
    fn plan_for(&self, request: &SecretsRequest) -> Option<(Plan, Process)> {
        let plan = self.plan.lock().unwrap().take_if(|plan| plan.window.may_be_at(&request.operation))?;
        // Not under the lock: it takes a while.
        let sender = request
            .sender()
            .filter(|sender| sender.title().contains("secretlink") == (plan.window == Window::Worker));
        if sender.is_none() {
            self.plan.lock().unwrap().get_or_insert(plan);
        }
        sender.map(|sender| (plan, sender))
    }

    fn crash(self: &Arc<Self>, request: &SecretsRequest, plan: Plan, backend: Process) -> Fault {
        let what = format!("    {} {}: {plan:?}", request.operation, tokens(request));
        self.journal.note(name_of(&request.secret), what);
        let world = Arc::clone(self);
        let secret = name_of(&request.secret).to_owned();
        let act = move || {
            plan.act(&world, Some(backend));
            world.journal.note(&secret, "    it is over");
        };
        if plan.after_the_answer {
            return Fault::BeforeAnswer(Box::new(act));
        }
        act();
        Fault::Cut
    }

    /// Stop the server as a power cut would, and start it again.
    pub fn power_cut(&self) {
        let mut cluster = self.cluster.lock().unwrap();
        cluster.stop(StopMode::Immediate);
        let began = Instant::now();
        cluster.start();
        let mut slowest = self.slowest_start.lock().unwrap();
        *slowest = began.elapsed().max(*slowest);
    }

    fn make_standby(&self) {
        // There is a server again by now.
        drop(self.connect());
        let standby = self.cluster.lock().unwrap().synchronous_standby();
        *self.standby.lock().unwrap() = Some(standby);
    }

    /// The primary dies, and its standby is promoted. Whether there was one.
    pub fn fail_over(&self) -> bool {
        let Some(standby) = self.standby.lock().unwrap().take() else { return false };
        let mut cluster = self.cluster.lock().unwrap();
        cluster.stop(StopMode::Immediate);
        let config = config_of(&standby);
        // Another crash may meet it on the way.
        eventually("the standby is promoted", SETTLED, || {
            let promoted = || {
                let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote() ELSE true END";
                config.connect(NoTls)?.query_one(sql, &[])?.try_get::<_, bool>(0)
            };
            match promoted() {
                Ok(true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        *self.config.lock().unwrap() = config;
        self.door.lead_to(standby.port());
        *self.old.lock().unwrap() = Some(std::mem::replace(&mut cluster, standby));
        self.failovers.fetch_add(1, Ordering::SeqCst);
        self.journal.note("", "-- failed over");
        true
    }

    /// The primary of before comes back beside the new one for a while, and does no harm. Then there is a new
    /// standby. Nothing crashes meanwhile.
    pub fn tend(&self) {
        let Some(mut old) = self.old.lock().unwrap().take() else { return };
        self.weather.store(0, Ordering::SeqCst);
        let is_clear =
            eventually("the new primary has looked at what was in flight", SETTLED, || self.none_in_flight());
        if is_clear {
            self.journal.note("", "-- the old primary is back");
            std::fs::write(old.data_dir().join("postgresql.auto.conf"), "").unwrap();
            old.start();
            sleep(RECONCILE_INTERVAL * 2);
            old.stop(StopMode::Immediate);
            self.journal.note("", "-- the old primary is gone");
        } else {
            // What drifted by somebody's edit is for people to decide, and nothing was written to it.
            self.journal.note("", "-- the old primary stays away");
        }
        self.old_logs.lock().unwrap().push(old.log());
        self.make_standby();
    }

    /// No version that the primary of before has staged is still to be settled. Whether none is left at all: one of a role
    /// that drifted stays.
    fn none_in_flight(&self) -> Result<bool, String> {
        let mut client = self.connect();
        let timeline = client
            .query_one("SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)", &[])
            .map_err(|e| format!("{e:?}"))?
            .get::<_, String>(0)
            .to_lowercase();
        let mut is_clear = true;
        for (_, secret) in self.synced_roles(&mut client).map_err(|e| format!("{e:?}"))? {
            let staged = api().version_at(&secret, "SECRETLINK");
            if let Some(staged) = staged
                && staged.split('-').nth(2) != Some(&timeline)
                && api().version_at(&secret, "AWSCURRENT").as_ref() != Some(&staged)
            {
                let sql = "SELECT state FROM role_sync WHERE secret_id = $1";
                let row = client.query_opt(sql, &[&secret]).map_err(|e| format!("{e:?}"))?;
                match row.map(|row| row.get::<_, String>(0)) {
                    Some(state) if state == "drifted" => is_clear = false,
                    state => return Err(format!("{secret}: {staged}, {state:?}")),
                }
            }
        }
        Ok(is_clear)
    }

    /// From here on nothing happens to what rotations say to the server.
    pub fn door_passes(&self) {
        self.door.pass();
    }

    /// That each synced role logs in with its secret; how many there are.
    pub fn check_all(&self) -> Result<usize, String> {
        let mut client = self.connect();
        let roles = self.synced_roles(&mut client).map_err(|e| format!("{e:?}"))?;
        for (role, secret) in &roles {
            self.check(role, secret).map_err(|e| {
                let seen = client
                    .query_opt("SELECT r::text FROM role_sync r WHERE role::text = $1", &[role])
                    .map(|row| row.map(|row| row.get::<_, String>(0)));
                format!(
                    "{role} does not log in with {secret}: {e}\nversions: {:?}\nrole_sync: {seen:?}\n{}",
                    api()
                        .versions(secret)
                        .iter()
                        .filter(|(_, stages)| !stages.is_empty())
                        .collect::<Vec<_>>(),
                    self.journal.about(secret)
                )
            })?;
        }
        Ok(roles.len())
    }

    fn check(&self, role: &str, secret: &str) -> Result<(), String> {
        let current = api().get_secret_value(secret).map_err(|e| format!("{e:?}"))?;
        let value: Value = serde_json::from_str(&current).map_err(|e| format!("{e}: {current}"))?;
        let field = |name: &str| value[name].as_str().unwrap_or_default();
        if field("other") != "kept" {
            return Err(format!("a field is lost: {current}"));
        }
        let username = if self.made_anew.contains(secret) { role } else { field("username") };
        let user = log_in(self.port(), username, field("password")).map_err(|e| format!("{current}: {e}"))?;
        if user == role { Ok(()) } else { Err(format!("{current} is {user}'s")) }
    }

    /// The port of the primary.
    pub fn port(&self) -> u16 {
        self.cluster.lock().unwrap().port()
    }

    /// The role that is synced with a secret, when nobody is changing it.
    pub fn role_at_rest(&self, secret: &str) -> Option<String> {
        let sql = "SELECT rolname::text FROM pg_authid JOIN pg_shseclabel
                   ON objoid = pg_authid.oid AND classoid = 'pg_authid'::regclass AND provider = 'secretlink'
                   WHERE label = $1 FOR UPDATE OF pg_authid";
        loop {
            if let Ok(row) = self.connect().query_opt(sql, &[&secret]) {
                return row.map(|row| row.get(0));
            }
        }
    }

    /// How an operation of a player ended.
    pub fn count_outcome(&self, operation: &str, outcome: &str) {
        *self.outcomes.lock().unwrap().entry(format!("{operation}: {outcome}")).or_default() += 1;
    }

    pub fn count_crash(&self, window: Window, kind: &'static str) {
        *self.crashes.lock().unwrap().entry((window, kind)).or_default() += 1;
    }

    /// What has been done, and what has been done to it.
    pub fn report(&self) -> String {
        let mut windows: BTreeMap<Window, String> = BTreeMap::new();
        for ((window, kind), count) in &*self.crashes.lock().unwrap() {
            windows.entry(*window).or_default().push_str(&format!("  {kind} {count}"));
        }
        let list = |title: &str, lines: Vec<String>| format!("{title}:\n  {}", lines.join("\n  "));
        [
            list(
                "operations",
                self.outcomes.lock().unwrap().iter().map(|(what, n)| format!("{what} {n}")).collect(),
            ),
            list(
                "requests",
                self.faults.lock().unwrap().iter().map(|(what, n)| format!("{what} {n}")).collect(),
            ),
            list(
                "crashes",
                windows.iter().map(|(window, kinds)| format!("{}:{kinds}", window.name())).collect(),
            ),
            format!("failovers: {}", self.failovers.load(Ordering::SeqCst)),
            format!("slowest start after a crash: {:?}", self.slowest_start.lock().unwrap()),
        ]
        .join("\n")
    }

    /// Everything that the repertoire has was done, and has succeeded, several times: on a busy machine less often.
    pub fn check_repertoire(&self) {
        let outcomes = self.outcomes.lock().unwrap();
        for (what, least) in [
            ("change: ok", 50),
            ("hash of what was put: ok", 3),
            ("put_secret_field: ok", 3),
            ("foreign rotation: Finished", 5),
            ("rotate_secret: ok", 2),
        ] {
            let times = outcomes.get(what).copied().unwrap_or_default();
            assert!(times >= least, "{what} {times} times");
        }
        let failovers = self.failovers.load(Ordering::SeqCst);
        assert!(failovers >= 2, "{failovers} failovers");
    }

    /// Something ended in each of the windows that matter most.
    pub fn check_windows(&self) {
        use Window::{BetweenCommitAndPromotion, BetweenStagingAndCommit, DuringPromotion};
        let crashes = self.crashes.lock().unwrap();
        for window in [BetweenStagingAndCommit, BetweenCommitAndPromotion, DuringPromotion] {
            assert!(crashes.keys().any(|(seen, _)| *seen == window), "no crash {}", window.name());
        }
    }

    /// The server log knows no password, and of no crash but those that were meant.
    pub fn check_log(&self) {
        let mut logs = self.old_logs.lock().unwrap().clone();
        logs.push(self.cluster.lock().unwrap().log());
        for line in logs.iter().flat_map(|log| log.lines()) {
            // Postgres itself says what ran at a crash or in a deadlock, or around an error in PL/pgSQL.
            let by_postgres = line.starts_with('\t')
                || ["CONTEXT:  ", "Failed process was running: "].iter().any(|words| line.contains(words));
            assert!(by_postgres || !line.contains(MARK), "a password is in the log: {line}");
            assert!(!line.contains("PANIC:"), "{line}");
            // 9 and 3 are SIGKILL and SIGQUIT.
            let crashed = line
                .split_once("was terminated by signal ")
                .is_some_and(|(_, signal)| !signal.starts_with(['9', '3']));
            assert!(!crashed, "{line}");
        }
    }
}

fn config_of(cluster: &Cluster) -> postgres::Config {
    let mut config = postgres::Config::new();
    config.host_path(cluster.socket_dir()).port(cluster.port()).user("postgres").dbname("postgres");
    config.connect_timeout(Duration::from_secs(10));
    config
}

pub fn secret_name(seed: u64, number: usize) -> String {
    format!("random/{seed}/{number}")
}

/// The name of a secret that may be named by its ARN.
fn name_of(secret: &str) -> &str {
    let in_arn = secret.split_once(":secret:").and_then(|(_, name)| name.rsplit_once('-'));
    in_arn.map_or(secret, |(name, _)| name)
}

/// The versions a request is about, shortened.
fn tokens(request: &SecretsRequest) -> String {
    let short = |field: &str| {
        request.input[field].as_str().map(|text| format!("{field}={} ", text.get(11..19).unwrap_or(text)))
    };
    let fields =
        ["ClientRequestToken", "VersionStage", "VersionId", "MoveToVersionId", "RemoveFromVersionId"];
    let password: Option<String> = request.input["SecretString"].as_str().map(|text| text.replace(MARK, "…"));
    fields.iter().filter_map(|field| short(field)).chain(password).collect()
}
