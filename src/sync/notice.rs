//! What password sync tells, to the user and to the server's log, without failing.

use secretlink_core::{Report, SqlState};
use thiserror::Error;

/// A line for the client or the log. It names role, secret and version, never a password.
#[derive(Debug, Error)]
pub(crate) enum Notice {
    /// A synced role was dropped; its secret stays.
    #[error("secret \"{secret}\" of dropped role \"{role}\" is left alone")]
    Dropped {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
    },
    /// A role's password was set to NULL; its secret still has the old one.
    #[error("role \"{role}\" has no password any more, but secret \"{secret}\" still holds one")]
    NoPassword {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
    },
    /// `unsync_role` was called for a role that has no label.
    #[error("role \"{role}\" is not synced")]
    NotSynced {
        /// The role's name.
        role: String,
    },
    /// A role was tied to a secret that does not exist.
    #[error("secret \"{secret}\" does not exist yet")]
    WillBeCreated {
        /// The secret, as the role's label or the template names it.
        secret: String,
    },
    /// A role was tied to a secret that holds another password.
    #[error("secret \"{secret}\" does not hold the password of role \"{role}\"")]
    NotTheSame {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
    },
    /// A role's secret is another role's, says that it is for somebody else, or may not be written.
    #[error("secret \"{secret}\" cannot be that of role \"{role}\"")]
    NotForRole {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The detail: why, as sentences.
        reason: String,
        /// What to do about it, as a sentence.
        hint: Option<String>,
    },
    /// `sync_role` or `check_role_sync` could not read a role's secret.
    #[error("could not look at secret \"{secret}\" of role \"{role}\"")]
    NotSeen {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The detail: why, as sentences.
        reason: String,
    },

    /// A new password was stored in its secret before the commit.
    #[error("staged password of role \"{role}\" in secret \"{secret}\" as version {version_id}")]
    Staged {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The new version's id.
        version_id: String,
    },
    /// `AWSCURRENT` has moved to the new password after the commit.
    #[error(
        "promoted password of role \"{role}\" in secret \"{secret}\": AWSCURRENT is version {version_id}"
    )]
    Promoted {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The version's id.
        version_id: String,
    },
    /// The commit is over, and `AWSCURRENT` could not be moved: the worker does that later.
    #[error(
        "password of role \"{role}\" was changed, but AWSCURRENT of secret \"{secret}\" has not moved to version {version_id} yet"
    )]
    NotPromoted {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The new version's id.
        version_id: String,
        /// The detail: why, as sentences.
        reason: String,
    },
    /// With `secretlink.password_sync` at `warn`, a new password could not be stored, and the commit goes on.
    #[error("password of role \"{role}\" was changed, but not in secret \"{secret}\"")]
    NotStored {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The detail: why, as sentences.
        reason: String,
        /// What to do about it, as a sentence.
        hint: Option<String>,
    },
    /// With `secretlink.password_sync` at `warn`, a role's new name could not be stored, and the commit goes on.
    #[error("role \"{from}\" was renamed to \"{role}\", but not in secret \"{secret}\"")]
    NotRenamed {
        /// The role's name as it was.
        from: String,
        /// The role's new name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The detail: why, as sentences.
        reason: String,
        /// What to do about it, as a sentence.
        hint: Option<String>,
    },
    /// The worker has made the version current that holds a role's password.
    #[error("reconciled role \"{role}\" and secret \"{secret}\": AWSCURRENT is version {version_id}")]
    Reconciled {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The version's id.
        version_id: String,
    },
    /// The worker has found a role whose password is in no version of its secret.
    #[error("role \"{role}\" and secret \"{secret}\" have drifted apart")]
    Drifted {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The detail: why, as sentences.
        reason: String,
    },
    /// A role has drifted several times since the worker has started: somebody else writes its password or its secret.
    #[error("role \"{role}\" and secret \"{secret}\" drift apart again and again")]
    Rewritten {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The detail: who seems to write, as a sentence.
        writer: String,
    },
    /// More roles are synced than shared memory has room for.
    #[error("{roles} roles are synced, and secretlink.max_synced_roles is {limit}")]
    TooManyRoles {
        /// How many roles are synced.
        roles: usize,
        /// The value of `secretlink.max_synced_roles`.
        limit: usize,
    },
    /// The worker could not read or write a role's secret, and tries again later.
    #[error("could not reconcile role \"{role}\" and secret \"{secret}\"")]
    NotReconciled {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The detail: why, as sentences.
        reason: String,
    },
}

impl Report for Notice {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            Notice::NoPassword { .. }
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
