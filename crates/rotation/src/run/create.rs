//! createSecret: a version with the new password, and `AWSPENDING`, which is taken and given back, never stolen.

use secretlink_aws::AwsError;
use secretlink_aws::stage::PENDING;
use secretlink_versions::random_password_of;

use super::{OURS, Run, TRIES, is_elsewhere, is_gone};
use crate::alternate::alternate_of;
use crate::{Account, Next, RunOutcome, Strategy, Trouble};

impl Run {
    /// createSecret.
    pub(super) async fn create(&mut self) -> Next {
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
    pub(super) async fn stored(&self) -> Result<Account, Trouble> {
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
                    if holder.as_ref().is_some_and(|version_id| !stages.has_been_current(version_id)) {
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

    /// Takes `AWSPENDING` from the new version: a rotation of AWS's would not begin.
    pub(super) async fn clear(&mut self, outcome: RunOutcome) -> Next {
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
}
