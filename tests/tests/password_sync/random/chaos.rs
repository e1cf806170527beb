//! Crashes at chosen moments and at any.

use super::world::World;
use secretlink_e2e::Process;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// When, in the life of a change, something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    BeforeStaging,
    BetweenStagingAndCommit,
    BetweenCommitAndPromotion,
    DuringPromotion,
    Worker,
    Elsewhere,
}

impl Window {
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeStaging => "before staging",
            Self::BetweenStagingAndCommit => "between staging and commit",
            Self::BetweenCommitAndPromotion => "between commit and promotion",
            Self::DuringPromotion => "during promotion",
            Self::Worker => "while the worker settles",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// Whether a request for this operation may be the moment.
    pub fn may_be_at(self, operation: &str) -> bool {
        match self {
            // Whatever is asked before the new version is written.
            Self::BeforeStaging => {
                ["DescribeSecret", "GetSecretValue", "PutSecretValue"].contains(&operation)
            }
            Self::BetweenStagingAndCommit => operation == "PutSecretValue",
            Self::BetweenCommitAndPromotion | Self::DuringPromotion => {
                operation == "UpdateSecretVersionStage"
            }
            Self::Worker => true,
            Self::Elsewhere => false,
        }
    }
}

/// How something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SIGKILL for the backend, and so a crash of the whole server.
    Kill,
    /// SIGKILL for another one: this one ends by what the postmaster does then.
    KillAnother,
    /// `pg_ctl stop --mode=immediate`.
    PowerCut,
    /// The server dies, and its standby is promoted.
    Failover,
    /// `pg_terminate_backend`.
    Terminate,
    /// `pg_cancel_backend`.
    Cancel,
}

/// A crash that is to happen.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub window: Window,
    pub kind: Kind,
    /// With the answer of Secrets Manager at hand, not with the request.
    pub after_the_answer: bool,
}

impl Plan {
    /// Do it. `backend` is whose request it is.
    pub fn act(self, world: &World, backend: Option<Process>) {
        let name = match self.kind {
            Kind::Kill => "SIGKILL",
            Kind::KillAnother => "SIGKILL of another",
            Kind::PowerCut => "immediate stop",
            Kind::Failover => "failover",
            Kind::Terminate => "terminate",
            Kind::Cancel => "cancel",
        };
        world.count_crash(self.window, name);
        match self.kind {
            Kind::Failover if world.fail_over() => {}
            // The standby is not there yet.
            Kind::PowerCut | Kind::Failover => world.power_cut(),
            Kind::Kill | Kind::KillAnother => {
                let victim = if self.kind == Kind::Kill { backend } else { None };
                if let Some(victim) = victim.or_else(|| any_backend(world)) {
                    victim.kill();
                }
            }
            Kind::Terminate | Kind::Cancel => {
                let Some(backend) = backend.or_else(|| any_backend(world)) else { return };
                let function =
                    if self.kind == Kind::Cancel { "pg_cancel_backend" } else { "pg_terminate_backend" };
                let pid = backend.pid();
                // The server may be gone by another's hand.
                let _ = world.connect().batch_execute(&format!("SELECT {function}({pid})"));
                return;
            }
        }
        // What a crash has begun is over for this backend before it hears from Secrets Manager again.
        if let Some(backend) = backend {
            backend.until_gone(Duration::from_secs(20));
        }
    }
}

/// Some backend of a client.
fn any_backend(world: &World) -> Option<Process> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1";
    let row = world.connect().query_opt(sql, &[]).ok()??;
    Some(Process::new(row.get::<_, i32>(0).cast_unsigned()))
}

/// Plans one crash after the other, and changes the weather.
pub struct Chaos<'a> {
    world: &'a World,
    random: fastrand::Rng,
}

/// How many operations of the players are between two plans.
const PACE: std::ops::Range<usize> = 10..35;

impl<'a> Chaos<'a> {
    pub fn new(world: &'a World, seed: u64) -> Self {
        Self { world, random: fastrand::Rng::with_seed(seed ^ 0xC4A05) }
    }

    pub fn rage(mut self) {
        while !self.over() {
            let weather = *self.random.choice(&[0, 0, 4, 4, 12, 30]).unwrap_or(&0);
            self.world.weather.store(weather, Ordering::SeqCst);
            let plan = self.plan();
            self.world.journal.note("", format!("-- weather {weather}, planned: {plan:?}"));
            if plan.window == Window::Elsewhere {
                let after = Duration::from_millis(self.random.u64(..300));
                sleep(after);
                plan.act(self.world, None);
            } else {
                *self.world.plan.lock().unwrap() = Some(plan);
            }
            self.wait();
            // A moment that does not come is given up.
            *self.world.plan.lock().unwrap() = None;
            self.world.tend();
        }
    }

    fn plan(&mut self) -> Plan {
        use Kind::*;
        use Window::*;
        let windows = [
            BeforeStaging,
            BetweenStagingAndCommit,
            BetweenStagingAndCommit,
            BetweenCommitAndPromotion,
            BetweenCommitAndPromotion,
            DuringPromotion,
            Worker,
            Elsewhere,
        ];
        let kinds = [Kill, Kill, KillAnother, PowerCut, PowerCut, Failover, Terminate, Cancel];
        let window = windows[self.random.usize(..windows.len())];
        let after_the_answer = match window {
            BetweenStagingAndCommit | DuringPromotion => true,
            Worker => self.random.bool(),
            BeforeStaging | BetweenCommitAndPromotion | Elsewhere => false,
        };
        Plan { window, kind: kinds[self.random.usize(..kinds.len())], after_the_answer }
    }

    /// Until the players have done some more.
    fn wait(&mut self) {
        let target = self.world.done.load(Ordering::SeqCst) + self.random.usize(PACE);
        let began = Instant::now();
        while self.world.done.load(Ordering::SeqCst) < target && !self.over() {
            assert!(began.elapsed() < Duration::from_secs(120), "the players are stuck");
            sleep(Duration::from_millis(5));
        }
    }

    fn over(&self) -> bool {
        self.world.over.load(Ordering::SeqCst)
    }
}
