//! Taking up a run that was interrupted: how far it came is found out by logging in.

use secretlink_aws::stage::{CURRENT, PENDING};
use secretlink_aws::{AwsError, Client, VersionSelector};
use secretlink_versions::{Issuer, Origin};

use super::{Job, Limits, Run, check, is_gone};
use crate::login::Verdict;
use crate::{Account, Next, RunOutcome, Step, Strategy, Surroundings, Trouble};

impl Run {
    /// Takes up a run that was written down.
    pub fn take_up(
        aws: Client,
        surroundings: Surroundings,
        limits: Limits,
        issuer: Issuer,
        job: Job,
    ) -> Box<Run> {
        Box::new(Run { unsure: true, ..Run::new(aws, surroundings, limits, issuer, job) })
    }

    /// Finds out how far an earlier attempt came.
    pub(super) async fn resume(&mut self, step: Step) -> Next {
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
        self.pending_at = holder.filter(|version_id| stages.has_been_current(version_id)).map(str::to_owned);
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
}
