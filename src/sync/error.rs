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
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Secrets(#[from] SecretsError),

    #[error("password of role \"{role}\" cannot be stored in secret \"{secret}\"")]
    NotStaged { role: String, secret: String, obstacle: Box<Obstacle> },
    #[error(
        "role \"{role}\" has the name of its secret from secretlink.sync_secret_template, which cannot be used"
    )]
    Template { role: String, problem: TemplateError },
    #[error("password of synced role \"{role}\" was given as a hash")]
    Hashed { role: String },
    #[error("password of role \"{role}\" cannot be synced")]
    Encoding { role: String },
    #[error("cannot PREPARE a transaction that changes synced role \"{role}\"")]
    Prepared { role: String },

    #[error("secretlink must be loaded with \"shared_preload_libraries\"")]
    NotPreloaded,
    #[error("secretlink provides labels for roles only")]
    NotARole,
    #[error("permission denied to set a security label of secretlink")]
    LabelNotPermitted,
    #[error("permission denied to sync role \"{0}\"")]
    NotAdmin(String),
    #[error("secret \"{secret}\" is already in use for role \"{role}\"")]
    SecretInUse { secret: String, role: String, called: Option<String> },
    #[error("security label is too long")]
    LabelTooLong,
    #[error("role \"{0}\" is not synced")]
    NotSynced(String),
    #[error("role \"{0}\" was not created")]
    NotCreated(String),
    #[error("password sync is off")]
    SyncIsOff,
    #[error("password length {0} is out of range")]
    PasswordLength(i32),
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
