//! finishSecret: `AWSCURRENT` moves, and from then on the run goes only forward.

use secretlink_aws::AwsError;
use secretlink_aws::stage::CURRENT;
use secretlink_versions::Origin;

use super::{OURS, Run, TRIES, is_elsewhere};
use crate::login::Verdict;
use crate::{Account, Next, RunOutcome, Strategy, Trouble};

impl Run {
    /// finishSecret: only forward.
    pub(super) async fn finish(&mut self) -> Next {
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
}
