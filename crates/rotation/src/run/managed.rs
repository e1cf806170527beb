//! A rotation that AWS carries out: waiting for it.

use secretlink_aws::stage::CURRENT;
use std::time::Duration;
use tokio::time::{Instant, sleep};

use super::Run;
use crate::{Next, RunOutcome, Trouble};

impl Run {
    /// Waits until AWS has rotated the secret.
    pub(super) async fn wait_for_aws(&mut self, deadline: Instant) -> Next {
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
