//! What password sync reports.

use secretlink_aws::AwsError;
use secretlink_core::random::NoRandomness;
use secretlink_core::{Report, SqlState};
use secretlink_versions::{Obstacle, TemplateError};
use thiserror::Error;

use crate::backend::error::BackendError;
use crate::secrets::error::SecretsError;

/// An error of password sync, raised by the statement or the commit that it prevents; a WARNING where
/// `secretlink.password_sync` is `warn`.
#[derive(Debug, Error)]
pub(crate) enum SyncError {
    /// The backend could not do its part.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A secret could not be asked for, or a setting was refused.
    #[error(transparent)]
    Secrets(#[from] SecretsError),

    /// Before the commit: a new password could not be stored in its secret.
    #[error("password of role \"{role}\" cannot be stored in secret \"{secret}\"")]
    NotStaged {
        /// The role's name.
        role: String,
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// What was in the way.
        obstacle: Box<Obstacle>,
    },
    /// `secretlink.sync_secret_template` does not give a secret's name for a role.
    #[error(
        "role \"{role}\" has the name of its secret from secretlink.sync_secret_template, which cannot be used"
    )]
    Template {
        /// The role's name.
        role: String,
        /// What is wrong with the template.
        problem: TemplateError,
    },
    /// A password came as a hash, and no version of the secret holds the password that the hash was made of.
    #[error("password of synced role \"{role}\" was given as a hash")]
    Hashed {
        /// The role's name.
        role: String,
    },
    /// A password has characters whose bytes differ between UTF-8 and the encoding of the database.
    #[error("password of role \"{role}\" cannot be synced")]
    Encoding {
        /// The role's name.
        role: String,
    },
    /// `sync_role` or `unsync_role` was called on a standby, where nothing can be written.
    #[error("cannot tie roles to secrets during recovery")]
    Standby,
    /// PREPARE TRANSACTION was tried after a synced role was changed.
    #[error("cannot PREPARE a transaction that changes synced role \"{role}\"")]
    Prepared {
        /// The role's name.
        role: String,
    },

    /// The library is not preloaded, so the hooks of other sessions do not exist.
    #[error("secretlink must be loaded with \"shared_preload_libraries\"")]
    NotPreloaded,
    /// SECURITY LABEL was used for something else than a role.
    #[error("secretlink provides labels for roles only")]
    NotARole,
    /// SECURITY LABEL was used by somebody who is not a superuser.
    #[error("permission denied to set a security label of secretlink")]
    LabelNotPermitted,
    /// `sync_role` was called by somebody who may not change the role, which has this name.
    #[error("permission denied to sync role \"{0}\"")]
    NotAdmin(String),
    /// The secret is tied to another role.
    #[error("secret \"{secret}\" is already in use for role \"{role}\"")]
    SecretInUse {
        /// The secret, as the role's label or the template names it.
        secret: String,
        /// The other role's name.
        role: String,
        /// What the other role's label calls the secret, if that is another text.
        called: Option<String>,
    },
    /// A security label has more than 1000 bytes.
    #[error("security label is too long")]
    LabelTooLong,
    /// A role without a secret was to be looked at, or to get a new password; with the role's name.
    #[error("role \"{0}\" is not synced")]
    NotSynced(String),
    /// `create_synced_role` ran CREATE ROLE, and no role of this name exists after that.
    #[error("role \"{0}\" was not created")]
    NotCreated(String),
    /// A new random password was asked for while nothing is stored, so that nobody would know the password.
    #[error("password sync is off")]
    SyncIsOff,
    /// The length that was asked for a random password cannot be used.
    #[error("password length {0} is out of range")]
    PasswordLength(i32),
    /// The operating system gave no random bytes for a password.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl From<AwsError> for SyncError {
    fn from(error: AwsError) -> SyncError {
        SyncError::Secrets(error.into())
    }
}

impl Report for SyncError {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            SyncError::Backend(error) => return error.sqlstate(),
            SyncError::Secrets(error) => return error.sqlstate(),
            SyncError::NotStaged { obstacle, .. } => return obstacle.sqlstate(),
            SyncError::Template { .. } | SyncError::LabelTooLong | SyncError::PasswordLength(_) => "22023",
            // invalid_password
            SyncError::Hashed { .. } | SyncError::Encoding { .. } => "28P01",
            // read_only_sql_transaction
            SyncError::Standby => "25006",
            SyncError::Prepared { .. } | SyncError::NotARole => "0A000",
            SyncError::NotPreloaded
            | SyncError::NotSynced(_)
            | SyncError::NotCreated(_)
            | SyncError::SyncIsOff => "55000",
            SyncError::LabelNotPermitted | SyncError::NotAdmin(_) => "42501",
            SyncError::SecretInUse { .. } => "42710",
            SyncError::NoRandomness(_) => "58000",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            SyncError::Backend(error) => return error.detail(),
            SyncError::Secrets(error) => return error.detail(),
            SyncError::NotStaged { obstacle, .. } => sentences(obstacle.as_ref()),
            SyncError::Template { problem, .. } => problem.to_string(),
            SyncError::Hashed { .. } => {
                "A secret holds the password itself, and none of this role's that verifies against the hash is at AWSCURRENT or AWSPENDING.".into()
            }
            SyncError::Encoding { .. } => {
                "Clients send a password in UTF-8, and in this database's encoding it has other bytes.".into()
            }
            SyncError::LabelNotPermitted => {
                "Who labels a role decides which secret is overwritten.".into()
            }
            SyncError::NotCreated(_) => "Another library has kept the server from creating it.".into(),
            SyncError::NotAdmin(_) => "It takes admin rights over that role.".into(),
            SyncError::SecretInUse { called: Some(called), .. } => {
                format!("That role's secret is called \"{called}\", which may be the same secret.")
            }
            SyncError::LabelTooLong => "It has at most 1000 bytes.".into(),
            SyncError::PasswordLength(_) => "It is a number from 16 to 256.".into(),
            _ => return None,
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            SyncError::Backend(error) => return error.hint(),
            SyncError::Secrets(error) => return error.hint(),
            SyncError::NotStaged { obstacle, .. } if matches!(**obstacle, Obstacle::Aws(_)) => {
                let first = obstacle.hint().map_or_else(String::new, |hint| hint + " ");
                format!(
                    "{first}To change the password and leave its secret as it is, use SET secretlink.password_sync = off."
                )
            }
            SyncError::NotStaged { obstacle, .. } => return obstacle.hint(),
            SyncError::Hashed { .. } => {
                "Give ALTER ROLE ... PASSWORD the password itself, or store the password in the secret first, with put_secret_value, and set the hash then: psql's \\password and many tools send a hash. If another library checks passwords, load it before secretlink.".into()
            }
            SyncError::Encoding { .. } => {
                "Use ASCII characters only, or change the password in a database whose encoding is UTF8.".into()
            }
            SyncError::Prepared { .. } => {
                "Change synced roles in a transaction of their own. In a Citus cluster only the coordinator syncs: set secretlink.password_sync to off on the workers.".into()
            }
            SyncError::NotPreloaded => {
                "Add secretlink to shared_preload_libraries in postgresql.conf, and restart the server.".into()
            }
            SyncError::LabelNotPermitted => {
                "Use sync_role, for which EXECUTE can be granted, or ask a superuser.".into()
            }
            SyncError::SyncIsOff => "Set secretlink.password_sync to strict.".into(),
            SyncError::SecretInUse { .. } => "Use one secret for each role.".into(),
            SyncError::NotSynced(_) => "Use sync_role to name the secret of a role.".into(),
            _ => return None,
        })
    }
}

/// Message and detail of a report, as sentences.
pub(crate) fn sentences(report: &dyn Report) -> String {
    let message = sentence(&report.to_string());
    match report.detail() {
        Some(detail) => format!("{message} {detail}"),
        None => message,
    }
}

/// A message as a sentence of its own.
pub(crate) fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}
