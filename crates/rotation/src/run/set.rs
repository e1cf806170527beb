//! setSecret and testSecret: who may change the password, the change, and a login with the new password. Where the
//! server does not accept it, the session that has set it sets the old one again.

use secretlink_aws::stage::{CURRENT, PENDING, PREVIOUS};
use secretlink_aws::{SecretId, VersionSelector};
use secretlink_core::Secret;
use secretlink_remote::connection::Connection;
use secretlink_remote::verifier::scram;
use std::time::Duration;
use tokio::time::{Instant, sleep};

use super::{PATIENCE, Run, check};
use crate::admin_session::AdminSession;
use crate::alternate::{alternate_of, base_of, statements};
use crate::login::Verdict;
use crate::server_identity::ServerIdentity;
use crate::statement::alter_role;
use crate::{Account, Next, RunOutcome, Strategy, Trouble};

/// How long to wait between two looks whether a standby knows the new password.
const REPLAY_POLL: Duration = Duration::from_millis(200);

impl Run {
    /// Does the first half of setSecret: everything that changes nothing.
    pub(super) async fn open(&mut self, deadline: Instant) -> Next {
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
    pub(super) async fn set(&mut self) -> Next {
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
    pub(super) async fn test(&mut self) -> Next {
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
}
