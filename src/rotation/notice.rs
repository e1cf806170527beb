//! What rotation tells the server's log.

use secretlink_core::{Report, SqlState};
use secretlink_rotation::RunOutcome;
use thiserror::Error;

/// A line for the log. It names secret and version, never a password.
#[derive(Debug, Error)]
pub(crate) enum Notice {
    /// A run has given the secret a new password.
    #[error("rotation of secret \"{secret}\" {}: AWSCURRENT is version {version_id}", words(*outcome))]
    Done {
        /// The secret, as the run names it.
        secret: String,
        /// How the run ended.
        outcome: RunOutcome,
        /// The id of the version that is now current.
        version_id: String,
    },
    /// A run has ended, and the secret has no new password of its.
    #[error("rotation of secret \"{secret}\" {}: {reason}", words(*outcome))]
    NotDone {
        /// The secret, as the run names it.
        secret: String,
        /// How the run ended.
        outcome: RunOutcome,
        /// Why, as a message.
        reason: String,
        /// More about why, as sentences.
        detail: Option<String>,
        /// What to do about it, as a sentence.
        hint: Option<String>,
    },
    /// A run could not be ended: a worker takes it up again.
    #[error("rotation of secret \"{secret}\" goes on later: {reason}")]
    Later {
        /// The secret, as the run names it.
        secret: String,
        /// Why, as a message.
        reason: String,
        /// More about why, as sentences.
        detail: Option<String>,
    },
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
