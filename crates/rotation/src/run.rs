//! One rotation: what each step does, and what is done about a run that was interrupted.
//!
//! | it ends in | what then holds | what the next attempt does |
//! |---|---|---|
//! | [`Next::Create`] | the server knows nothing of the new version; `AWSPENDING` may be at it | goes on with the same version, or gives it up |
//! | [`Next::Open`] | the same | the same |
//! | [`Next::Set`] | the server has the old or the new password; the secret has both | tries the new one, then the old one |
//! | [`Next::Test`] | the same | the same |
//! | [`Next::Finish`] | the new password logs in; `AWSCURRENT` has moved or not | looks where it is, and moves it |
//! | [`Next::Clear`] | the outcome is written down | takes `AWSPENDING` away |
//!
//! Requests that arrive after their sender has gone do no harm. The new version's id and value stay the
//! same over all attempts, a label is moved only from where the request says, and an `ALTER ROLE` that is
//! still under way belongs to a session that still has the lock on the role.

mod create;
mod finish;
mod managed;
mod resume;
mod set;

use secretlink_aws::stage::{CURRENT, PENDING};
use secretlink_aws::{AwsError, Client, SecretId, SecretStages, SecretValue, VersionSelector};
use secretlink_core::Secret;
use secretlink_versions::{Issuer, Origin};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep, timeout_at};

use crate::admin_session::AdminSession;
use crate::login::{Verdict, log_in};
use crate::{Account, Next, RunOutcome, Step, Strategy, Surroundings, Trouble};

/// A label of our own keeps a version from being deleted when it has lost `AWSPENDING`.
const OURS: &str = "SECRETLINK_ROTATION";

/// How often a label that somebody else moves at the same time is gone after.
const TRIES: usize = 4;
/// How long an attempt that has no deadline any more waits for the lock on the role.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is to be rotated, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// The secret.
    pub secret: SecretId,
    /// How; `None` leaves it to the secret.
    pub strategy: Option<Strategy>,
    /// The master's secret, in place of the one that the secret names.
    pub master: Option<SecretId>,
}

/// What the settings say.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a new password is.
    pub password_length: usize,
    /// What is not in it.
    pub exclude: String,
    /// How old the current version has to be.
    pub min_age: Duration,
    /// The time by which the new password must be about to be set.
    pub deadline: std::time::Instant,
}

/// A run, as it can be written down and taken up again.
#[derive(Clone, Debug)]
pub struct Job {
    /// The secret, by its ARN.
    pub secret: SecretId,
    /// How the secret is rotated.
    pub strategy: Strategy,
    /// The master's secret, if it was given.
    pub master: Option<SecretId>,
    /// The version that holds the new password.
    pub version_id: String,
    /// The version that was current when the run began.
    pub from: Option<String>,
}

/// A run under way.
pub struct Run {
    aws: Client,
    surroundings: Surroundings,
    limits: Limits,
    issuer: Issuer,
    job: Job,
    /// Where `AWSPENDING` was found, if a rotation that is over has left it there.
    pending_at: Option<String>,
    current: Option<Account>,
    pending: Option<Account>,
    session: Option<AdminSession>,
    /// What gives the role the new password, and what gives it the old one again.
    statements: Option<Secret>,
    back: Option<Secret>,
    /// The server may have the new password.
    may_be_set: bool,
    /// The current version's password has logged in since this attempt began.
    current_is_right: bool,
    /// The secret's host is a standby, which learns a new password a little later.
    at_standby: bool,
    /// A request for `AWSPENDING` may still be under way.
    unsure: bool,
    /// Whether a server was promoted in place of this server: nothing may be written.
    superseded: bool,
}

/// A run that can begin, and what it begins with.
pub struct Prepared {
    /// The run.
    pub run: Box<Run>,
    /// The run's first step.
    pub next: Next,
}

/// Looks at a secret and decides how it is rotated. Writes nothing.
///
/// # Errors
/// What stands in the way.
pub async fn prepare(
    aws: Client,
    surroundings: Surroundings,
    limits: Limits,
    issuer: Issuer,
    order: Order,
) -> Result<Prepared, Trouble> {
    let name = || order.secret.as_str().to_owned();
    let stages = aws.stages(&order.secret).await?;
    check(&stages, issuer, &order.secret)?;
    let strategy = match (order.strategy, managed_by(&stages)) {
        // A Lambda function goes on by itself; who names another strategy wants both.
        (Some(strategy), _) if strategy != Strategy::Managed && stages.owning_service.is_some() => {
            let by = stages.owning_service.unwrap_or_default();
            return Err(Trouble::ManagedElsewhere { secret: name(), by });
        }
        (Some(Strategy::Managed), None) => return Err(Trouble::NotManaged { secret: name() }),
        (None, Some(_)) => Some(Strategy::Managed),
        (strategy, _) => strategy,
    };
    let current = stages.holder(CURRENT).map(str::to_owned);
    let holder = stages.holder(PENDING).map(str::to_owned);
    let job = Job {
        secret: SecretId::parse(&stages.arn)?,
        strategy: strategy.unwrap_or(Strategy::SingleUser),
        master: order.master,
        version_id: String::new(),
        from: current.clone(),
    };
    let is_over = |version_id: &String| match strategy {
        // RotateSecret takes any other version for one of a rotation under way.
        Some(Strategy::Managed) => Some(version_id) == current.as_ref(),
        _ => stages.has_been_current(version_id),
    };
    let mut run = Box::new(Run {
        pending_at: holder.clone().filter(is_over),
        ..Run::new(aws, surroundings, limits, issuer, job)
    });
    let held = holder.filter(|_| run.pending_at.is_none());
    if let Some(version_id) = &held
        && (strategy == Some(Strategy::Managed) || !issuer.made(Origin::Rotation, version_id))
    {
        return Err(Trouble::InProgress { secret: name(), version_id: held });
    }
    if strategy != Some(Strategy::Managed) {
        let value = run.aws.get_secret_value(&run.job.secret, &VersionSelector::default()).await?;
        let account = Account::of(&value)?;
        if strategy.is_none() && (run.job.master.is_some() || account.master.is_some()) {
            run.job.strategy = Strategy::AlternatingUsers;
        }
        run.job.from = Some(value.version_id.clone());
        run.current = Some(account);
        wait_for_age(&value, run.limits.min_age).await;
    }
    let next = match held {
        // Ours, but nobody remembers it: a server that was restored, or promoted without its last words.
        // Whether its password is in force is not known.
        Some(version_id) => {
            run.job.version_id = version_id;
            Next::Resume(Step::Set)
        }
        None => {
            run.job.version_id = issuer.new_version_id(Origin::Rotation)?;
            Next::Create
        }
    };
    Ok(Prepared { run, next })
}

/// Who read the secret just before the last rotation must be able to log in with it until then.
async fn wait_for_age(value: &SecretValue, min_age: Duration) {
    let age = value.created.and_then(|created| SystemTime::now().duration_since(created).ok());
    // A clock that is behind AWS's is no reason to wait any longer.
    sleep(min_age.saturating_sub(age.unwrap_or_default())).await;
}

/// Who rotates a secret instead of us.
pub fn managed_by(stages: &SecretStages) -> Option<String> {
    let lambda = || stages.rotation_lambda_arn.clone().filter(|_| stages.rotation_enabled);
    stages.owning_service.clone().or_else(lambda)
}

/// What forbids writing.
fn check(stages: &SecretStages, issuer: Issuer, secret: &SecretId) -> Result<(), Trouble> {
    let name = || secret.as_str().to_owned();
    if stages.deleted.is_some() {
        return Err(AwsError::MarkedForDeletion { secret: name() }.into());
    }
    let region = SecretId::parse(&stages.arn)?.region().map(str::to_owned);
    if let Some(primary) = &stages.primary_region
        && Some(primary) != region.as_ref()
    {
        return Err(Trouble::Replica { secret: name(), primary_region: primary.clone() });
    }
    match stages.versions.keys().find(|version_id| issuer.is_superseded_by(version_id)) {
        Some(version_id) => Err(Trouble::Superseded { secret: name(), version_id: version_id.clone() }),
        None => Ok(()),
    }
}

/// Whether Secrets Manager has refused a label, since it is not where the request says.
fn is_elsewhere(error: &AwsError) -> bool {
    matches!(error, AwsError::InvalidParameter { .. } | AwsError::InvalidRequest { .. })
}

/// Whether there is nothing left that a label could be taken from.
fn is_gone(error: &AwsError) -> bool {
    matches!(
        error,
        AwsError::SecretNotFound { .. }
            | AwsError::VersionNotFound { .. }
            | AwsError::MarkedForDeletion { .. }
    )
}

impl Run {
    fn new(aws: Client, surroundings: Surroundings, limits: Limits, issuer: Issuer, job: Job) -> Run {
        Run {
            aws,
            surroundings,
            limits,
            issuer,
            job,
            pending_at: None,
            current: None,
            pending: None,
            session: None,
            statements: None,
            back: None,
            may_be_set: false,
            current_is_right: false,
            at_standby: false,
            unsure: false,
            superseded: false,
        }
    }

    /// What is to be written down.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The current version, of a secret that is not managed.
    pub(crate) fn current(&self) -> Option<&Account> {
        self.current.as_ref()
    }

    /// The new version's text, once it is current.
    pub fn text(&self) -> Option<Secret> {
        self.pending.as_ref().map(Account::text)
    }

    /// Whether `AWSPENDING` should be looked at once more: a request for it may have been on its way when
    /// it was taken away.
    pub fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Does one step. Before [`Next::Set`], [`Next::Test`] and [`Next::Finish`] the driver has written down
    /// that the run has come so far.
    pub async fn step(mut self: Box<Self>, next: Next) -> (Box<Run>, Next) {
        let deadline = Instant::from_std(self.limits.deadline);
        let then = match next {
            Next::Resume(step) => self.resume(step).await,
            Next::Create => match timeout_at(deadline, self.create()).await {
                Ok(next) => next,
                Err(_) => {
                    self.unsure = true;
                    self.too_late()
                }
            },
            Next::Open if self.may_be_set => self.open(Instant::now() + PATIENCE).await,
            Next::Open => match timeout_at(deadline, self.open(deadline)).await {
                Ok(next) => next,
                Err(_) => self.too_late(),
            },
            Next::Set => self.set().await,
            Next::Test => self.test().await,
            Next::Finish if self.job.strategy == Strategy::Managed => self.wait_for_aws(deadline).await,
            Next::Finish => self.finish().await,
            Next::Clear(outcome, _) => self.clear(outcome).await,
            Next::Later(_) | Next::Over => Next::Over,
        };
        if matches!(then, Next::Clear(..) | Next::Later(_) | Next::Over)
            && let Some(session) = self.session.take()
        {
            session.close().await;
        }
        (self, then)
    }

    fn name(&self) -> String {
        self.job.secret.as_str().to_owned()
    }

    fn too_late(&self) -> Next {
        Next::Clear(RunOutcome::Failed, Some(Trouble::TooLate { secret: self.name() }))
    }

    /// Ends the run if that loses nothing: the server surely has not got the new password, or the current
    /// one has logged in and nothing has been sent since.
    fn give_up(&self, trouble: Trouble) -> Next {
        let outcome = match trouble {
            Trouble::Edited { .. } => RunOutcome::Abandoned,
            _ => RunOutcome::Failed,
        };
        match self.may_be_set && !self.current_is_right {
            true => Next::Later(trouble),
            false => Next::Clear(outcome, Some(trouble)),
        }
    }

    async fn read(&self, version: VersionSelector) -> Result<Option<SecretValue>, AwsError> {
        match self.aws.get_secret_value(&self.job.secret, &version).await {
            Ok(value) => Ok(Some(value)),
            // The stand-in, moto, says of a version that is not there that the secret is not.
            Err(AwsError::VersionNotFound { .. } | AwsError::SecretNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read_version(&self, version_id: &str) -> Result<Option<SecretValue>, AwsError> {
        self.read(VersionSelector { version_id: Some(version_id.to_owned()), stage: None }).await
    }

    async fn log_in(&self, account: &Account) -> Result<Verdict, Trouble> {
        log_in(account, &self.surroundings).await
    }
}
