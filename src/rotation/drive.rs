//! A worker's part of a run: one step after the other, each written down before it begins.

use pgrx::PgLogLevel;
use secretlink_aws::Client;
use secretlink_core::Report;
use secretlink_rotation::{
    Job, Limits, Next, Order, Prepared, Run, RunOutcome, Step, Surroundings, Trouble, prepare,
};
use secretlink_versions::Issuer;
use serde_json::json;
use std::time::{Duration, Instant};

use super::ask::surroundings;
use super::error::RotationError;
use super::history::{self, Begun, Cause, Tables, Unfinished};
use super::notice::Notice;
use super::plans::{self, Due, Plan};
use super::registry::{self, RotationRequest};
use crate::backend::process::report::RawReport;
use crate::backend::process::transaction::{attempt, lock_rotation, unlock_rotation};
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, server};
use crate::secrets::{cache, client};
use crate::settings;
use crate::stats::{self, Counter};
use crate::workers::doorbell;

/// The first pause before a run is tried again. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What a worker is made of.
pub(crate) struct Worker {
    tables: Tables,
    issuer: Issuer,
}

/// What a run needs of this server's settings, as they are when it begins.
struct Tools {
    aws: Client,
    surroundings: Surroundings,
}

impl Tools {
    fn get() -> Result<Tools, RotationError> {
        Ok(Tools { aws: client::current()?, surroundings: surroundings()? })
    }
}

/// A run as the worker knows it.
struct Known {
    /// The number of the run's row.
    id: i64,
    /// The secret, as it was named.
    name: String,
    attempts: i32,
    /// Whether the run has begun just now.
    is_new: bool,
}

/// What came of driving a run.
enum Drive {
    /// The run's outcome is clear. Sessions that wait for the run are told when the secret's lock is free: they may
    /// rotate the secret again at once.
    Ended(Ended),
    /// The run goes on later.
    Later,
}

impl Drive {
    fn answer(&self) {
        if let Drive::Ended(ended) = self {
            ended.answer();
        }
    }
}

/// A run whose outcome is clear.
struct Ended {
    /// The number of the run's row.
    id: i64,
    outcome: RunOutcome,
    version_id: String,
    /// Why the run did not succeed.
    error: Option<RotationError>,
}

impl Ended {
    fn answer(&self) {
        let untold;
        let result = match &self.error {
            None if self.outcome.is_success() => Ok(self.version_id.as_str()),
            Some(error) => Err(error as &dyn Report),
            None => {
                untold = RotationError::Ended(format!("the rotation has {}", self.outcome.as_str()));
                Err(&untold as &dyn Report)
            }
        };
        registry::answer_run(self.id, result);
    }
}

impl Worker {
    /// A worker that is connected to the database; `None` if there is nothing to keep runs in.
    pub(crate) fn begin() -> Option<Worker> {
        let tables = history::tables()?;
        let issuer = server::issuer()?;
        Some(Worker { tables, issuer })
    }

    /// Who this server is.
    pub(crate) fn issuer(&self) -> Issuer {
        self.issuer
    }

    /// The tables.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    fn limits() -> Limits {
        Limits {
            password_length: settings::rotation::password_length(),
            exclude: settings::rotation::exclude_characters(),
            min_age: settings::rotation::min_age(),
            deadline: Instant::now() + settings::rotation::timeout(),
        }
    }

    /// Answers those whose run has ended while the worker that was to tell them has gone.
    pub(crate) fn answer_orphans(&self) {
        for run in registry::orphans() {
            match history::outcome_of(&self.tables, run) {
                Some((outcome, version_id, _)) if outcome.is_success() => {
                    registry::answer_run(run, Ok(&version_id));
                }
                Some((_, _, reason)) => registry::answer_run(run, Err(&RotationError::Ended(reason))),
                None if history::is_gone(&self.tables, run) => {
                    registry::answer_run(run, Err(&RotationError::Lost));
                }
                None => {}
            }
        }
    }

    /// Carries out what a session has asked for.
    pub(crate) fn serve(&self, id: u64, request: &RotationRequest) {
        if let Err(error) = self.rotate(request, Cause::Call, |run| registry::attach_to_run(id, run)) {
            registry::answer(id, Err(&error));
        }
    }

    /// Rotates a secret. `begun` is told the run's number as soon as there is one; from then on the answer
    /// comes by that.
    ///
    /// # Errors
    /// Why it did not begin.
    fn rotate(
        &self,
        request: &RotationRequest,
        cause: Cause,
        begun: impl FnOnce(i64),
    ) -> Result<(), RotationError> {
        let refused = |error: RotationError| self.refused(request, cause, error);
        let tools = Tools::get().map_err(refused)?;
        let limits = Self::limits();
        let prepared = self.prepare(&tools, request, limits.clone()).map_err(refused)?;
        let arn = arn(prepared.run.job());
        if !lock(&arn) {
            let secret = request.secret.clone();
            return Err(refused(RotationError::from(Trouble::InProgress { secret, version_id: None })));
        }
        let done = self.begin_and_drive(&tools, request, cause, limits, prepared, begun);
        release(&arn);
        done?.answer();
        Ok(())
    }

    /// Rotates a secret whose lock is held. Returns how it went, as far as that is clear.
    fn begin_and_drive(
        &self,
        tools: &Tools,
        request: &RotationRequest,
        cause: Cause,
        limits: Limits,
        mut prepared: Prepared,
        begun: impl FnOnce(i64),
    ) -> Result<Drive, RotationError> {
        let begin = |prepared: &Prepared| {
            history::begin(&self.tables, &request.secret, prepared.run.job(), cause)
                .ok_or(RotationError::NotWrittenDown)
        };
        let refused = |error: RotationError| self.refused(request, cause, error);
        let found = match begin(&prepared).map_err(refused)? {
            // Who waited for it was told how it ended. Only AWSPENDING is left to be taken away.
            Begun::TakenUp(row) if row.outcome.is_some() => {
                let (known, run, next) = self.taken_up(tools, row);
                self.clear(&known, run, next);
                prepared = self.prepare(tools, request, limits).map_err(refused)?;
                begin(&prepared).map_err(refused)?
            }
            found => found,
        };
        let (known, run, next) = match found {
            Begun::New(id) => {
                let known = Known { id, name: request.secret.clone(), attempts: 1, is_new: true };
                (known, prepared.run, prepared.next)
            }
            // AWS did not let AWSPENDING go.
            Begun::TakenUp(row) if row.outcome.is_some() => {
                let secret = request.secret.clone();
                return Err(refused(Trouble::InProgress { secret, version_id: None }.into()));
            }
            // The one before has not come to its end: that is what is left to be done.
            Begun::TakenUp(row) => self.taken_up(tools, row),
        };
        begun(known.id);
        Ok(self.drive(&tools.aws, &known, run, next))
    }

    /// Carries out a schedule whose time has come. Returns whether it was to be had.
    pub(crate) fn follow(&self, plan: &Plan) -> bool {
        if !lock(&plan.arn) {
            return false;
        }
        let done = self.follow_locked(plan);
        release(&plan.arn);
        if let Some(done) = done {
            done.answer();
        }
        true
    }

    fn follow_locked(&self, plan: &Plan) -> Option<Drive> {
        let cause = match plans::look_again(&self.tables, plan) {
            Due::InTime => Cause::Schedule,
            Due::Late => Cause::MissedSchedule,
            Due::Done => {
                plans::advance(&self.tables, plan, None);
                return None;
            }
            Due::Missed => {
                let error = RotationError::Missed;
                let request = self.request_of(plan);
                self.refused(&request, Cause::MissedSchedule, error);
                plans::advance(&self.tables, plan, Some(&RotationError::Missed.to_string()));
                return None;
            }
        };
        let request = self.request_of(plan);
        let mut limits = Self::limits();
        if cause == Cause::Schedule {
            // Nothing begins after the window.
            let left = u64::try_from(plan.window.to - plans::now()).unwrap_or_default();
            limits.deadline = limits.deadline.min(Instant::now() + Duration::from_secs(left));
        }
        let done = Tools::get()
            .and_then(|tools| Ok((self.prepare(&tools, &request, limits.clone())?, tools)))
            .map_err(|error| self.refused(&request, cause, error))
            .and_then(|(prepared, tools)| {
                self.begin_and_drive(&tools, &request, cause, limits, prepared, |_| ())
            });
        match &done {
            Ok(Drive::Ended(ended)) if !ended.outcome.is_success() => {
                let reason = ended.error.as_ref().map_or_else(String::new, history::reason);
                plans::failed(&self.tables, plan, &reason);
            }
            // Or it goes on by itself.
            Ok(_) => plans::advance(&self.tables, plan, None),
            Err(error) => plans::failed(&self.tables, plan, &history::reason(error)),
        }
        done.ok()
    }

    fn request_of(&self, plan: &Plan) -> RotationRequest {
        RotationRequest { secret: plan.name.clone(), strategy: plan.strategy, master: plan.master.clone() }
    }

    fn prepare(
        &self,
        tools: &Tools,
        request: &RotationRequest,
        limits: Limits,
    ) -> Result<Prepared, RotationError> {
        let parse = |text: &String| secretlink_aws::SecretId::parse(text);
        let order = Order {
            secret: parse(&request.secret)?,
            strategy: request.strategy,
            master: request.master.as_ref().map(parse).transpose()?,
        };
        let work = prepare(tools.aws.clone(), tools.surroundings.clone(), limits, self.issuer, order);
        Ok(io::run(WaitEvent::RotationStep, work)??)
    }

    fn taken_up(&self, tools: &Tools, row: Unfinished) -> (Known, Box<Run>, Next) {
        let Unfinished { id, name, job, step, outcome, attempts } = row;
        let known = Known { id, name, attempts, is_new: false };
        let run =
            Run::take_up(tools.aws.clone(), tools.surroundings.clone(), Self::limits(), self.issuer, job);
        let next = match outcome {
            // It has been told already.
            Some(outcome) => Next::Clear(outcome, None),
            None => Next::Resume(step),
        };
        (known, run, next)
    }

    /// Takes up a run whose turn it is. Returns whether it was to be had.
    pub(crate) fn take_up(&self, row: Unfinished) -> bool {
        let arn = arn(&row.job);
        if !lock(&arn) {
            return false;
        }
        match Tools::get() {
            Ok(tools) => {
                let is_told = row.outcome.is_some();
                let (known, run, next) = self.taken_up(&tools, row);
                let done = match is_told {
                    true => {
                        self.clear(&known, run, next);
                        Drive::Later
                    }
                    false => self.drive(&tools.aws, &known, run, next),
                };
                release(&arn);
                done.answer();
                return true;
            }
            Err(error) => {
                RawReport::new(&error).emit(PgLogLevel::LOG);
                let reason = history::reason(&error);
                history::note_later(&self.tables, row.id, Some(&reason), pause(row.attempts));
            }
        }
        release(&arn);
        true
    }

    /// Goes on with a run until its outcome is clear, or until it has to wait.
    fn drive(&self, aws: &Client, known: &Known, mut run: Box<Run>, mut next: Next) -> Drive {
        loop {
            let step = match &next {
                Next::Set => Some(Step::Set),
                Next::Test => Some(Step::Test),
                Next::Finish => Some(Step::Finish),
                _ => None,
            };
            if let Some(step) = step
                && !history::note_step(&self.tables, known.id, step)
                && step == Step::Set
            {
                // Nothing was changed, and if it were, nobody would know.
                let error = RotationError::NotWrittenDown;
                self.ended(aws, known, &run, RunOutcome::Failed, Some(&error));
                let version_id = run.job().version_id.clone();
                self.clear(known, run, Next::Clear(RunOutcome::Failed, None));
                let (id, outcome) = (known.id, RunOutcome::Failed);
                return Drive::Ended(Ended { id, outcome, version_id, error: Some(error) });
            }
            match next {
                Next::Clear(outcome, trouble) => {
                    let error = trouble.map(RotationError::from);
                    self.ended(aws, known, &run, outcome, error.as_ref());
                    let version_id = run.job().version_id.clone();
                    self.clear(known, run, Next::Clear(outcome, None));
                    return Drive::Ended(Ended { id: known.id, outcome, version_id, error });
                }
                Next::Later(trouble) => {
                    self.later(known, &trouble);
                    return Drive::Later;
                }
                Next::Over => {
                    history::note_over(&self.tables, known.id);
                    return Drive::Later;
                }
                step => match io::run(WaitEvent::RotationStep, run.step(step)) {
                    Ok(stepped) => (run, next) = stepped,
                    Err(error) => {
                        // The I/O thread has panicked: the run is taken up from what is written down.
                        RawReport::new(&error).emit(PgLogLevel::LOG);
                        history::note_later(
                            &self.tables,
                            known.id,
                            Some(&history::reason(&error)),
                            pause(known.attempts),
                        );
                        return Drive::Later;
                    }
                },
            }
        }
    }

    /// Takes `AWSPENDING` away when the outcome has been told.
    fn clear(&self, known: &Known, run: Box<Run>, next: Next) {
        match io::run(WaitEvent::RotationStep, run.step(next)) {
            Ok((run, Next::Over)) if known.is_new && run.is_unsure() => {
                history::note_later(&self.tables, known.id, None, client_pause());
            }
            Ok((_, Next::Over)) => history::note_over(&self.tables, known.id),
            Ok((_, Next::Later(trouble))) => self.later(known, &trouble),
            Ok(_) | Err(_) => history::note_later(&self.tables, known.id, None, pause(known.attempts)),
        }
    }

    /// The outcome is clear: everybody is told.
    fn ended(
        &self,
        aws: &Client,
        known: &Known,
        run: &Run,
        outcome: RunOutcome,
        error: Option<&RotationError>,
    ) {
        let job = run.job();
        let version_id = job.version_id.clone();
        if outcome == RunOutcome::Succeeded {
            cache::changed(aws.settings(), &job.secret, &version_id, run.text().as_ref());
        } else if outcome == RunOutcome::Managed {
            cache::forget(job.secret.as_str());
        }
        let reason = error.map(history::reason);
        let mut told = json!({
            "secret": known.name, "outcome": outcome.as_str(), "version_id": version_id,
            "strategy": job.strategy.as_str(),
        });
        if let Some(reason) = &reason {
            told["error"] = json!(reason);
        }
        let payload = json!({ "rotation": told }).to_string();
        history::note_outcome(&self.tables, known.id, outcome, reason.as_deref(), &payload);
        let secret = known.name.clone();
        match error {
            None => {
                let notice = Notice::Done { secret, outcome, version_id: version_id.clone() };
                RawReport::new(&notice).emit(PgLogLevel::LOG);
            }
            Some(error) => {
                let (detail, hint) = (error.detail(), error.hint());
                let notice = Notice::NotDone { secret, outcome, reason: error.to_string(), detail, hint };
                RawReport::new(&notice).emit(PgLogLevel::WARNING);
            }
        }
        count(outcome);
        // Of a role whose password is synced, the secret may be right only now.
        doorbell::SYNC.ring();
    }

    fn later(&self, known: &Known, trouble: &Trouble) {
        let notice = Notice::Later {
            secret: known.name.clone(),
            reason: trouble.to_string(),
            detail: trouble.detail(),
        };
        RawReport::new(&notice).emit(PgLogLevel::LOG);
        let reason = history::reason(trouble);
        history::note_later(&self.tables, known.id, Some(&reason), pause(known.attempts));
    }

    /// A run that did not begin is in the history, too.
    fn refused(&self, request: &RotationRequest, cause: Cause, error: RotationError) -> RotationError {
        let secret = request.secret.clone();
        let reason = history::reason(&error);
        history::failed_at_once(&self.tables, &secret, cause, request.strategy, &reason);
        let told = json!({ "rotation": { "secret": secret, "outcome": "failed", "error": reason } });
        attempt(|| history::notify(&told.to_string()));
        let (detail, hint) = (error.detail(), error.hint());
        let reason = error.to_string();
        let notice = Notice::NotDone { secret, outcome: RunOutcome::Failed, reason, detail, hint };
        RawReport::new(&notice).emit(PgLogLevel::WARNING);
        count(RunOutcome::Failed);
        error
    }
}

fn arn(job: &Job) -> String {
    job.secret.as_str().to_owned()
}

/// Keeps other workers from this secret.
fn lock(arn: &str) -> bool {
    attempt(|| lock_rotation(arn)).unwrap_or_default()
}

fn release(arn: &str) {
    attempt(|| unlock_rotation(arn));
}

fn count(outcome: RunOutcome) {
    stats::count(match outcome.is_success() {
        true => Counter::RotationsSucceeded,
        false => Counter::RotationsFailed,
    });
}

/// How long a run waits after so many attempts.
fn pause(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or_default().min(16);
    (FIRST_PAUSE * 2_u32.pow(doublings)).min(settings::sync::reconcile_interval())
}

/// How long a request that was given up may be under way at the least: its sender's patience says nothing about
/// how busy the machines are that it passes through.
const UNDER_WAY: Duration = Duration::from_secs(3);

/// When a request that was given up has surely arrived, if it ever does.
fn client_pause() -> Duration {
    let patience = settings::aws::current().map_or(Duration::from_secs(10), |aws| aws.request_timeout);
    patience.min(settings::sync::reconcile_interval()).max(UNDER_WAY)
}
