//! What password sync tells, to the user and to the server's log, without failing.

use secretlink_core::{Report, SqlState};
use thiserror::Error;

/// A line for the client or the log. It names role, secret and version, never a password.
#[derive(Debug, Error)]
pub(crate) enum Notice {
    #[error("secret \"{secret}\" of dropped role \"{role}\" is left alone")]
    Dropped { role: String, secret: String },
    #[error("role \"{role}\" has no password any more, but secret \"{secret}\" still holds one")]
    NoPassword { role: String, secret: String },
    #[error("role \"{role}\" is not synced")]
    NotSynced { role: String },
    #[error("secret \"{secret}\" does not exist yet")]
    WillBeCreated { secret: String },
    #[error("secret \"{secret}\" does not hold the password of role \"{role}\"")]
    NotTheSame { role: String, secret: String },
    #[error("secret \"{secret}\" cannot be that of role \"{role}\"")]
    NotForRole { role: String, secret: String, reason: String, hint: Option<String> },
    #[error("could not look at secret \"{secret}\" of role \"{role}\"")]
    NotSeen { role: String, secret: String, reason: String },

    #[error("staged password of role \"{role}\" in secret \"{secret}\" as version {version_id}")]
    Staged { role: String, secret: String, version_id: String },
    #[error(
        "promoted password of role \"{role}\" in secret \"{secret}\": AWSCURRENT is version {version_id}"
    )]
    Promoted { role: String, secret: String, version_id: String },
    #[error(
        "password of role \"{role}\" was changed, but AWSCURRENT of secret \"{secret}\" has not moved to version {version_id} yet"
    )]
    NotPromoted { role: String, secret: String, version_id: String, reason: String },
    #[error("password of role \"{role}\" was changed, but not in secret \"{secret}\"")]
    NotStored { role: String, secret: String, reason: String, hint: Option<String> },
    #[error("role \"{from}\" was renamed to \"{role}\", but not in secret \"{secret}\"")]
    NotRenamed { from: String, role: String, secret: String, reason: String, hint: Option<String> },
    #[error("reconciled role \"{role}\" and secret \"{secret}\": AWSCURRENT is version {version_id}")]
    Reconciled { role: String, secret: String, version_id: String },
    #[error("role \"{role}\" and secret \"{secret}\" have drifted apart")]
    Drifted { role: String, secret: String, reason: String },
    #[error("role \"{role}\" and secret \"{secret}\" drift apart again and again")]
    Rewritten { role: String, secret: String, writer: String },
    #[error("{roles} roles are synced, and secretlink.max_synced_roles is {limit}")]
    TooManyRoles { roles: usize, limit: usize },
    #[error("could not reconcile role \"{role}\" and secret \"{secret}\"")]
    NotReconciled { role: String, secret: String, reason: String },
}

impl Report for Notice {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            Notice::NoPassword { .. }
            | Notice::NotTheSame { .. }
            | Notice::NotSeen { .. }
            | Notice::NotForRole { .. }
            | Notice::NotPromoted { .. }
            | Notice::NotStored { .. }
            | Notice::NotRenamed { .. }
            | Notice::Drifted { .. }
            | Notice::Rewritten { .. }
            | Notice::NotReconciled { .. } => "01000",
            _ => "00000",
        })
    }

    fn detail(&self) -> Option<String> {
        match self {
            Notice::NotPromoted { reason, .. }
            | Notice::NotStored { reason, .. }
            | Notice::NotRenamed { reason, .. }
            | Notice::NotSeen { reason, .. }
            | Notice::NotForRole { reason, .. }
            | Notice::Drifted { reason, .. }
            | Notice::Rewritten { writer: reason, .. }
            | Notice::NotReconciled { reason, .. } => Some(reason.clone()),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Notice::NotPromoted { .. } => {
                "The password is in that version. The background worker moves AWSCURRENT.".into()
            }
            Notice::NotStored { hint, .. }
            | Notice::NotRenamed { hint, .. }
            | Notice::NotForRole { hint, .. } => return hint.clone(),
            Notice::TooManyRoles { .. } => {
                "Raise secretlink.max_synced_roles and restart the server, so that role_sync shows the state of all.".into()
            }
            Notice::WillBeCreated { .. } => "It is made when the role's password is set.".into(),
            Notice::NotTheSame { .. } | Notice::Drifted { .. } => {
                "Set the role's password again, or store the right one in the secret.".into()
            }
            Notice::Rewritten { .. } => {
                "See to it that nobody else sets the role's password or writes the secret, or untie them with unsync_role. This is said once.".into()
            }
            _ => return None,
        })
    }
}
