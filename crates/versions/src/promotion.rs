//! After the commit: `AWSCURRENT` moves to the version that was staged.

use secretlink_aws::{AwsError, Client, SecretId, stage};

use crate::versions::check_server;
use crate::{Issuer, Obstacle};

/// How often somebody else may move `AWSCURRENT` while we are about to.
const TRIES: usize = 4;

/// Makes `version_id` the current version. `expected` is the version that was current when it was
/// staged.
///
/// Safe to repeat, and safe when a request arrives after its sender gave up: Secrets Manager moves the
/// label only while it is at the version named in the request, so one that is late finds it elsewhere
/// and does nothing.
///
/// # Errors
/// Those of the calls, and that `server` was superseded meanwhile.
pub async fn promote(
    aws: &Client,
    id: &SecretId,
    server: Issuer,
    version_id: &str,
    expected: Option<&str>,
) -> Result<(), Obstacle> {
    if expected == Some(version_id) {
        return Ok(());
    }
    let mut current = expected.map(str::to_owned);
    let mut moved = Ok(());
    for _ in 0..TRIES {
        if current.is_none() {
            let stages = aws.stages(id).await?;
            check_server(&stages, server, id)?;
            current = stages.holder(stage::CURRENT).map(str::to_owned);
            if current.as_deref() == Some(version_id) {
                return Ok(());
            }
        }
        moved =
            aws.update_secret_version_stage(id, stage::CURRENT, current.as_deref(), Some(version_id)).await;
        match moved {
            // The label is not where we thought: an earlier request of ours got through although its
            // answer did not, or somebody else moved it. The committed password is in our version.
            Err(AwsError::InvalidParameter { .. } | AwsError::InvalidRequest { .. }) => current = None,
            _ => return Ok(moved?),
        }
    }
    Ok(moved?)
}
