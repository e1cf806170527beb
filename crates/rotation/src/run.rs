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

use secretlink_aws::stage::{CURRENT, PENDING, PREVIOUS};
use secretlink_aws::{AwsError, Client, SecretId, SecretStages, SecretValue, VersionSelector};
use secretlink_core::Secret;
use secretlink_remote::connection::Connection;
use secretlink_remote::verifier::scram;
use secretlink_versions::{Issuer, Origin, random_password_of};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep, timeout_at};

use crate::admin_session::AdminSession;
use crate::alternate::{alternate_of, base_of, statements};
use crate::login::{Verdict, log_in};
use crate::server_identity::ServerIdentity;
use crate::statement::alter_role;
use crate::{Account, Next, RunOutcome, Step, Strategy, Surroundings, Trouble};

/// A label of our own keeps a version from being deleted when it has lost `AWSPENDING`.
const OURS: &str = "SECRETLINK_ROTATION";

/// How often a label that somebody else moves at the same time is gone after.
const TRIES: usize = 4;
/// How long to wait between two looks whether a standby knows the new password.
const REPLAY_POLL: Duration = Duration::from_millis(200);
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
    /// Where `AWSPENDING` was found, if it was at the current version.
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
    /// A server was promoted in place of this one: nothing may be written.
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
    let mut run = Box::new(Run {
        aws,
        surroundings,
        limits,
        issuer,
        job: Job {
            secret: SecretId::parse(&stages.arn)?,
            strategy: strategy.unwrap_or(Strategy::SingleUser),
            master: order.master,
            version_id: String::new(),
            from: current.clone(),
        },
        pending_at: holder.clone().filter(|_| holder == current),
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
    /// Takes up a run that was written down.
    pub fn take_up(
        aws: Client,
        surroundings: Surroundings,
        limits: Limits,
        issuer: Issuer,
        job: Job,
    ) -> Box<Run> {
        Box::new(Run {
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
            unsure: true,
            superseded: false,
        })
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

    /// createSecret.
    async fn create(&mut self) -> Next {
        if self.job.strategy == Strategy::Managed {
            return match self.aws.rotate_secret(&self.job.secret, &self.job.version_id, None).await {
                Ok(_) => Next::Finish,
                Err(error) => self.give_up(error.into()),
            };
        }
        match self.stage().await {
            Ok(()) => Next::Open,
            Err(trouble) => self.give_up(trouble),
        }
    }

    async fn stage(&mut self) -> Result<(), Trouble> {
        let current = self.current.clone().ok_or_else(|| Trouble::Edited { secret: self.name() })?;
        if self.pending.is_none() {
            let username = match self.job.strategy {
                Strategy::AlternatingUsers => alternate_of(&current.username)?,
                _ => current.username.clone(),
            };
            let exclude = self.limits.exclude.as_bytes();
            let password = random_password_of(self.limits.password_length, |byte| !exclude.contains(&byte))?;
            let pending = current.with(&username, &password);
            let (id, version_id) = (&self.job.secret, self.job.version_id.clone());
            let put =
                self.aws.put_secret_value(id, pending.text(), vec![OURS.to_owned()], Some(version_id)).await;
            self.pending = Some(match put {
                Ok(_) => pending,
                // A former attempt's request has come first.
                Err(AwsError::AlreadyExists { .. }) => self.stored().await?,
                Err(error) => return Err(error.into()),
            });
        }
        self.take_pending().await
    }

    /// The new version as an earlier attempt has stored it.
    async fn stored(&self) -> Result<Account, Trouble> {
        let gone = || Trouble::VersionGone { secret: self.name(), version_id: self.job.version_id.clone() };
        Account::of(&self.read_version(&self.job.version_id).await?.ok_or_else(gone)?)
    }

    /// Takes `AWSPENDING` if nobody has it. Secrets Manager refuses if somebody else does.
    async fn take_pending(&mut self) -> Result<(), Trouble> {
        for _ in 0..TRIES {
            let to = Some(self.job.version_id.as_str());
            let taken = self
                .aws
                .update_secret_version_stage(&self.job.secret, PENDING, self.pending_at.as_deref(), to)
                .await;
            match taken {
                Ok(()) => return Ok(()),
                Err(error) if is_elsewhere(&error) => {
                    let stages = self.aws.stages(&self.job.secret).await?;
                    let holder = stages.holder(PENDING).map(str::to_owned);
                    if holder.as_ref() == Some(&self.job.version_id) {
                        return Ok(());
                    }
                    if holder.is_some() && holder.as_deref() != stages.holder(CURRENT) {
                        return Err(Trouble::InProgress { secret: self.name(), version_id: holder });
                    }
                    // A rotation that has just ended has left it, or taken it away.
                    if holder == self.pending_at {
                        return Err(error.into());
                    }
                    self.pending_at = holder;
                }
                Err(error) => {
                    self.unsure |= error.is_unreachable();
                    return Err(error.into());
                }
            }
        }
        Err(Trouble::Edited { secret: self.name() })
    }

    /// The first half of setSecret: everything that changes nothing.
    async fn open(&mut self, deadline: Instant) -> Next {
        match self.prepare_server(deadline).await {
            Ok(()) => Next::Set,
            Err(trouble) => self.give_up(trouble),
        }
    }

    async fn prepare_server(&mut self, deadline: Instant) -> Result<(), Trouble> {
        let edited = || Trouble::Edited { secret: self.name() };
        let current = self.current.clone().ok_or_else(edited)?;
        let pending = self.pending.clone().ok_or_else(edited)?;
        // The role that logs in may not lead to another server, or to any role but itself and its clone.
        let expected = match self.job.strategy {
            Strategy::AlternatingUsers => alternate_of(&current.username)?,
            _ => current.username.clone(),
        };
        if !pending.is_same_but_login(&current) || pending.username != expected {
            return Err(Trouble::Edited { secret: self.name() });
        }
        self.current_is_right = false;
        let (connection, password) = self.log_in_as_current(&current).await?;
        let mut session = match self.job.strategy {
            Strategy::AlternatingUsers => {
                let master = self.master(&current, connection).await?;
                AdminSession::begin(master, base_of(&current.username)).await?
            }
            _ => AdminSession::begin(connection, &current.username).await?,
        };
        session.lock(base_of(&current.username), deadline).await?;
        // The holder of the lock before may have rotated the secret.
        let stages = self.aws.stages(&self.job.secret).await?;
        check(&stages, self.issuer, &self.job.secret)?;
        if stages.holder(PENDING) != Some(&self.job.version_id)
            || stages.holder(CURRENT) != self.job.from.as_deref()
        {
            session.close().await;
            return Err(Trouble::Edited { secret: self.name() });
        }
        let new = scram(&pending.password, session.iterations)?;
        self.statements = Some(match self.job.strategy {
            Strategy::AlternatingUsers => {
                statements(&mut session, &current.username, &pending.username, &new).await?
            }
            _ => {
                // Of two roles that take turns, the one that is not current is nobody's to put back.
                let old = scram(&password, session.iterations)?;
                self.back = Some(alter_role(&current.username, &old));
                alter_role(&pending.username, &new)
            }
        });
        self.session = Some(session);
        Ok(())
    }

    /// Logs in with the current password, else with the one before. Returns the password that is right.
    pub(crate) async fn log_in_as_current(
        &mut self,
        current: &Account,
    ) -> Result<(Box<Connection>, Secret), Trouble> {
        let role = current.username.clone();
        let reason = match self.log_in(current).await? {
            Verdict::Accepted(connection) => {
                self.current_is_right = true;
                return Ok((connection, current.password.clone()));
            }
            Verdict::NotAsked => return Err(Trouble::NotAsked { role }),
            Verdict::Proven(error) => {
                self.current_is_right = true;
                return Err(error.into());
            }
            Verdict::Unknown(error) => return Err(error.into()),
            Verdict::Refused(error) => error,
        };
        let no_login = || Trouble::NoLogin { secret: self.name(), role: role.clone(), reason };
        let selector = VersionSelector { stage: Some(PREVIOUS.to_owned()), version_id: None };
        let Some(previous) = self.read(selector).await? else { return Err(no_login()) };
        let Ok(previous) = Account::of(&previous) else { return Err(no_login()) };
        if previous.username != current.username || !previous.is_at(current) {
            return Err(no_login());
        }
        match self.log_in(&current.with(&role, &previous.password)).await? {
            Verdict::Accepted(connection) => Ok((connection, previous.password)),
            _ => Err(no_login()),
        }
    }

    /// A session of the master, who acts at its own secret's host only. `connection` is that of the current
    /// login.
    pub(crate) async fn master(
        &mut self,
        current: &Account,
        connection: Box<Connection>,
    ) -> Result<Box<Connection>, Trouble> {
        let id = match (&self.job.master, &current.master) {
            (Some(master), _) => master.clone(),
            (None, Some(master)) => SecretId::parse(master)?,
            (None, None) => return Err(Trouble::NoMaster { secret: self.name() }),
        };
        let name = id.as_str().to_owned();
        let value = self.aws.get_secret_value(&id, &VersionSelector::default()).await?;
        if value.arn == self.job.secret.as_str() {
            return Err(Trouble::OwnMaster { secret: self.name() });
        }
        let master = Account::of(&value)?;
        if master.is_at(current) {
            connection.close().await;
        } else if self.is_standby_of(current, connection, &master).await? {
            self.at_standby = true;
        } else {
            return Err(Trouble::MasterElsewhere { master: name, host: current.host.clone() });
        }
        let role = master.username.clone();
        let master = Account { dbname: current.dbname.clone(), ..master };
        match self.log_in(&master).await? {
            Verdict::Accepted(connection) => Ok(connection),
            Verdict::NotAsked => Err(Trouble::NotAsked { role }),
            Verdict::Proven(error) | Verdict::Unknown(error) => Err(error.into()),
            Verdict::Refused(reason) => Err(Trouble::MasterRefused { master: name, role, reason }),
        }
    }

    /// Whether the secret's host is a standby of the master's. What that host says of itself proves nothing: the
    /// current password must log in at the master's host, too.
    async fn is_standby_of(
        &self,
        current: &Account,
        connection: Box<Connection>,
        master: &Account,
    ) -> Result<bool, Trouble> {
        let here = ServerIdentity::ask(connection).await?;
        let Some(here) = here.filter(|here| here.is_standby) else { return Ok(false) };
        let at_master = Account { host: master.host.clone(), port: master.port, ..current.clone() };
        let Verdict::Accepted(connection) = self.log_in(&at_master).await? else { return Ok(false) };
        let there = ServerIdentity::ask(connection).await?;
        Ok(there.is_some_and(|there| !there.is_standby && there.system == here.system))
    }

    /// The second half of setSecret.
    async fn set(&mut self) -> Next {
        let (Some(session), Some(statements)) = (&mut self.session, &self.statements) else {
            return Next::Later(Trouble::Edited { secret: self.name() });
        };
        let done = session.set(statements).await;
        match done {
            Ok(()) => {
                self.may_be_set = true;
                self.current_is_right = false;
                Next::Test
            }
            Err(trouble @ Trouble::Lost { .. }) => {
                self.may_be_set = true;
                Next::Later(trouble)
            }
            Err(trouble) => self.give_up(trouble),
        }
    }

    /// testSecret.
    async fn test(&mut self) -> Next {
        let Some(pending) = self.pending.clone() else {
            return Next::Later(Trouble::Edited { secret: self.name() });
        };
        let role = pending.username.clone();
        let mut verdict = self.log_in(&pending).await;
        let deadline = Instant::now() + PATIENCE;
        while self.at_standby && matches!(verdict, Ok(Verdict::Refused(_))) && Instant::now() < deadline {
            sleep(REPLAY_POLL).await;
            verdict = self.log_in(&pending).await;
        }
        let trouble = match verdict {
            Ok(Verdict::Accepted(connection)) => {
                connection.close().await;
                return Next::Finish;
            }
            Ok(Verdict::Proven(_)) => return Next::Finish,
            Ok(Verdict::Unknown(error)) => return Next::Later(error.into()),
            Ok(Verdict::Refused(reason)) => Trouble::NotAccepted { role, reason },
            Ok(Verdict::NotAsked) => Trouble::NotAsked { role },
            Err(trouble) => return Next::Later(trouble),
        };
        // The move of AWSCURRENT has not been sent, and this session has the lock: the old password can
        // still be put back.
        match (&mut self.session, &self.back) {
            // The current role was never touched.
            _ if self.job.strategy == Strategy::AlternatingUsers => {
                Next::Clear(RunOutcome::RolledBack, Some(trouble))
            }
            (Some(session), Some(back)) => match session.set(back).await {
                Ok(()) => Next::Clear(RunOutcome::RolledBack, Some(trouble)),
                Err(_) => Next::Later(trouble),
            },
            _ => Next::Later(trouble),
        }
    }

    /// finishSecret: only forward.
    async fn finish(&mut self) -> Next {
        match self.move_current().await {
            Ok(next) => next,
            Err(Trouble::Aws(error @ AwsError::MarkedForDeletion { .. })) => {
                self.take_back(error.into()).await
            }
            Err(trouble) => Next::Later(trouble),
        }
    }

    /// The secret was marked for deletion before `AWSCURRENT` has moved: since no label can be moved any more,
    /// the role can have its former password again, which is that of the secret if it is restored.
    async fn take_back(&mut self, trouble: Trouble) -> Next {
        let stages = self.aws.stages(&self.job.secret).await;
        let is_unmoved = stages.is_ok_and(|stages| {
            stages.deleted.is_some() && stages.holder(CURRENT) == self.job.from.as_deref()
        });
        match (&mut self.session, &self.back) {
            _ if !is_unmoved => Next::Later(trouble),
            // The current role was never touched.
            _ if self.job.strategy == Strategy::AlternatingUsers => {
                Next::Clear(RunOutcome::RolledBack, Some(trouble))
            }
            (Some(session), Some(back)) => match session.set(back).await {
                Ok(()) => Next::Clear(RunOutcome::RolledBack, Some(trouble)),
                Err(_) => Next::Later(trouble),
            },
            _ => Next::Later(trouble),
        }
    }

    async fn move_current(&mut self) -> Result<Next, Trouble> {
        let id = self.job.secret.clone();
        let mut from = self.job.from.clone();
        let mut to = self.job.version_id.clone();
        for _ in 0..TRIES {
            let moved = self.aws.update_secret_version_stage(&id, CURRENT, from.as_deref(), Some(&to)).await;
            match moved {
                Ok(()) => return Ok(Next::Clear(RunOutcome::Succeeded, None)),
                Err(error) if is_elsewhere(&error) => {}
                Err(error) => return Err(error.into()),
            }
            // An earlier request got through although its answer did not, or somebody has written a version
            // of their own.
            let stages = self.aws.stages(&id).await?;
            let Some(holder) = stages.holder(CURRENT).map(str::to_owned) else {
                from = None;
                continue;
            };
            if holder == self.job.version_id || holder == to {
                return Ok(Next::Clear(RunOutcome::Succeeded, None));
            }
            let edited = || Trouble::Edited { secret: self.name() };
            let theirs = self.read_version(&holder).await?.ok_or_else(edited)?;
            let theirs = Account::of(&theirs)?;
            let ours = self.pending.clone().ok_or_else(edited)?;
            match self.log_in(&theirs).await? {
                Verdict::Accepted(connection) => {
                    connection.close().await;
                    return Ok(Self::theirs_is_right(&theirs, &ours, edited()));
                }
                Verdict::Proven(_) => return Ok(Self::theirs_is_right(&theirs, &ours, edited())),
                Verdict::Refused(_) => {}
                Verdict::NotAsked => return Err(Trouble::NotAsked { role: theirs.username }),
                Verdict::Unknown(error) => return Err(error.into()),
            }
            // Nobody's fields are lost: theirs, with the password that the server has.
            let merged = theirs.with(&ours.username, &ours.password);
            match self.log_in(&merged).await? {
                Verdict::Accepted(connection) => connection.close().await,
                Verdict::Proven(_) => {}
                Verdict::NotAsked => return Err(Trouble::NotAsked { role: merged.username }),
                Verdict::Refused(error) | Verdict::Unknown(error) => return Err(error.into()),
            }
            let version_id = self.issuer.new_version_id(Origin::Rotation)?;
            let stages = vec![OURS.to_owned()];
            to = self.aws.put_secret_value(&id, merged.text(), stages, Some(version_id)).await?;
            self.pending = Some(merged);
            from = Some(holder);
        }
        Err(Trouble::Edited { secret: self.name() })
    }

    /// What somebody has written meanwhile logs in.
    fn theirs_is_right(theirs: &Account, ours: &Account, edited: Trouble) -> Next {
        match theirs.username == ours.username && theirs.password == ours.password {
            true => Next::Clear(RunOutcome::Succeeded, None),
            false => Next::Clear(RunOutcome::Abandoned, Some(edited)),
        }
    }

    /// Takes `AWSPENDING` from the new version: a rotation of AWS's would not begin.
    async fn clear(&mut self, outcome: RunOutcome) -> Next {
        if self.job.strategy == Strategy::Managed || self.superseded {
            return Next::Over;
        }
        let version_id = &self.job.version_id;
        let cleared =
            self.aws.update_secret_version_stage(&self.job.secret, PENDING, Some(version_id), None).await;
        // At the current version it is in nobody's way.
        self.unsure &= !outcome.is_success();
        match cleared {
            Ok(()) => Next::Over,
            Err(error) if is_elsewhere(&error) || is_gone(&error) => Next::Over,
            Err(error) => Next::Later(error.into()),
        }
    }

    /// Finds out how far an earlier attempt came.
    async fn resume(&mut self, step: Step) -> Next {
        self.may_be_set = step >= Step::Set;
        match self.find_out(step).await {
            Ok(next) => next,
            // Until it is restored, or gone for good, nobody can say which password is the role's.
            Err(Trouble::Aws(error @ AwsError::MarkedForDeletion { .. }))
                if self.may_be_set && self.job.strategy == Strategy::SingleUser =>
            {
                Next::Later(error.into())
            }
            Err(Trouble::Aws(error)) if is_gone(&error) => {
                Next::Clear(RunOutcome::Failed, Some(error.into()))
            }
            // It will be known when AWS and the server can be asked again.
            Err(Trouble::Aws(error)) if error.is_unreachable() || error.is_throttled() => {
                Next::Later(error.into())
            }
            Err(trouble @ Trouble::Superseded { .. }) => {
                self.superseded = true;
                Next::Clear(RunOutcome::Abandoned, Some(trouble))
            }
            Err(trouble) => self.give_up(trouble),
        }
    }

    async fn find_out(&mut self, step: Step) -> Result<Next, Trouble> {
        let secret = self.job.secret.clone();
        let stages = self.aws.stages(&secret).await?;
        let managed = self.job.strategy == Strategy::Managed;
        if !self.issuer.made(Origin::Rotation, &self.job.version_id) {
            // A table that was copied from another server.
            self.superseded = true;
            return Ok(Next::Clear(RunOutcome::Abandoned, Some(Trouble::Edited { secret: self.name() })));
        }
        if stages.holder(CURRENT) == Some(&self.job.version_id) {
            let outcome = if managed { RunOutcome::Managed } else { RunOutcome::Succeeded };
            if !managed {
                self.pending = Some(self.stored().await?);
            }
            return Ok(Next::Clear(outcome, None));
        }
        if managed {
            // With the same token it is the same rotation.
            return Ok(Next::Create);
        }
        check(&stages, self.issuer, &secret)?;
        let holder = stages.holder(PENDING);
        self.pending_at = holder.filter(|_| holder == stages.holder(CURRENT)).map(str::to_owned);
        let pending = self.read_version(&self.job.version_id).await?;
        let current = self.read(VersionSelector::default()).await?;
        let current = current.ok_or_else(|| Trouble::Edited { secret: self.name() })?;
        let is_unchanged = Some(&current.version_id) == self.job.from.as_ref();
        let current = Account::of(&current)?;
        self.current = Some(current.clone());
        let Some(pending) = pending else {
            if self.may_be_set {
                let version_id = self.job.version_id.clone();
                return self
                    .current_decides(&current, Trouble::VersionGone { secret: self.name(), version_id })
                    .await;
            }
            return match is_unchanged {
                true => Ok(Next::Create),
                false => Err(Trouble::Edited { secret: self.name() }),
            };
        };
        let pending = Account::of(&pending)?;
        self.pending = Some(pending.clone());
        let is_held = holder == Some(self.job.version_id.as_str());
        if step == Step::Create {
            // Nothing has been sent to the server. Only what is surely the same rotation still is gone on with.
            return match is_unchanged && pending.is_same_but_login(&current) {
                true if is_held => Ok(Next::Open),
                true => Ok(Next::Create),
                false => Err(Trouble::Edited { secret: self.name() }),
            };
        }
        match self.log_in(&pending).await? {
            Verdict::Accepted(connection) => {
                connection.close().await;
                return Ok(Next::Finish);
            }
            Verdict::Proven(_) => return Ok(Next::Finish),
            Verdict::NotAsked => return Err(Trouble::NotAsked { role: pending.username }),
            Verdict::Unknown(error) => return Err(error.into()),
            Verdict::Refused(_) => {}
        }
        match is_held && is_unchanged {
            true => Ok(Next::Open),
            false => self.current_decides(&current, Trouble::Edited { secret: self.name() }).await,
        }
    }

    /// The new password is not in force, and is not to be any more: the run may end if the current one is.
    async fn current_decides(&mut self, current: &Account, trouble: Trouble) -> Result<Next, Trouble> {
        if let Verdict::Accepted(connection) = self.log_in(current).await? {
            self.current_is_right = true;
            connection.close().await;
        }
        Err(trouble)
    }

    /// Waits until AWS has rotated the secret.
    async fn wait_for_aws(&mut self, deadline: Instant) -> Next {
        let began = Instant::now();
        let mut pause = Duration::from_millis(250);
        let mut seen = false;
        loop {
            match self.aws.stages(&self.job.secret).await {
                Ok(stages) if stages.holder(CURRENT) == Some(&self.job.version_id) => {
                    return Next::Clear(RunOutcome::Managed, None);
                }
                Ok(stages) => {
                    let known = stages.versions.contains_key(&self.job.version_id);
                    if seen && !known {
                        // It has lost AWSPENDING and did not become current.
                        let trouble = Trouble::ManagedFailed { secret: self.name() };
                        return Next::Clear(RunOutcome::Failed, Some(trouble));
                    }
                    seen |= known;
                }
                Err(error) if error.is_unreachable() || error.is_throttled() => {}
                Err(error) => return Next::Clear(RunOutcome::Failed, Some(error.into())),
            }
            if Instant::now() + pause > deadline {
                let seconds = began.elapsed().as_secs();
                let trouble = Trouble::ManagedTooLate { secret: self.name(), seconds };
                return Next::Clear(RunOutcome::Failed, Some(trouble));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}
