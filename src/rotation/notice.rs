//! What rotation tells the server's log.

use secretlink_core::{Report, SqlState};
use secretlink_rotation::RunOutcome;
use thiserror::Error;

/// A line for the log. It names secret and version, never a password.
#[derive(Debug, Error)]
pub(crate) enum Notice {
    #[error("rotation of secret \"{secret}\" {}: AWSCURRENT is version {version_id}", words(*outcome))]
    Done { secret: String, outcome: RunOutcome, version_id: String },
    #[error("rotation of secret \"{secret}\" {}: {reason}", words(*outcome))]
    NotDone {
        secret: String,
        outcome: RunOutcome,
        reason: String,
        detail: Option<String>,
        hint: Option<String>,
    },
    #[error("rotation of secret \"{secret}\" goes on later: {reason}")]
    Later { secret: String, reason: String, detail: Option<String> },
}

fn words(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::Failed => "failed",
        RunOutcome::RolledBack => "was rolled back",
        RunOutcome::Abandoned => "was abandoned",
        RunOutcome::Managed => "was carried out by AWS",
    }
}

impl Report for Notice {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            Notice::Done { .. } => "00000",
            Notice::NotDone { .. } | Notice::Later { .. } => "01000",
        })
    }

    fn detail(&self) -> Option<String> {
        match self {
            Notice::Done { .. } => None,
            Notice::NotDone { detail, .. } | Notice::Later { detail, .. } => detail.clone(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Notice::NotDone { hint, .. } => hint.clone(),
            Notice::Done { .. } | Notice::Later { .. } => None,
        }
    }
}
