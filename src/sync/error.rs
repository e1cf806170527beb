//! What password sync reports.

use secretlink_core::random::NoRandomness;
use secretlink_core::{Report, SqlState};
use secretlink_versions::{Obstacle, TemplateError};
use thiserror::Error;

/// An error of password sync, raised by the statement or the commit that it prevents; a WARNING where
/// `secretlink.password_sync` is `warn`.
#[derive(Debug, Error)]
pub enum PasswordError {
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

impl Report for PasswordError {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            PasswordError::NotStaged { obstacle, .. } => return obstacle.sqlstate(),
            PasswordError::Template { .. }
            | PasswordError::LabelTooLong
            | PasswordError::PasswordLength(_) => "22023",
            // invalid_password
            PasswordError::Hashed { .. } | PasswordError::Encoding { .. } => "28P01",
            PasswordError::Prepared { .. } | PasswordError::NotARole => "0A000",
            PasswordError::NotPreloaded
            | PasswordError::NotSynced(_)
            | PasswordError::NotCreated(_)
            | PasswordError::SyncIsOff => "55000",
            PasswordError::LabelNotPermitted | PasswordError::NotAdmin(_) => "42501",
            PasswordError::SecretInUse { .. } => "42710",
            PasswordError::NoRandomness(_) => "58000",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            PasswordError::NotStaged { obstacle, .. } => sentences(obstacle.as_ref()),
            PasswordError::Template { problem, .. } => problem.to_string(),
            PasswordError::Hashed { .. } => {
                "A secret holds the password itself, and none of this role's that verifies against the hash is at AWSCURRENT or AWSPENDING.".into()
            }
            PasswordError::Encoding { .. } => {
                "Clients send a password in UTF-8, and in this database's encoding it has other bytes.".into()
            }
            PasswordError::LabelNotPermitted => {
                "Who labels a role decides which secret is overwritten.".into()
            }
            PasswordError::NotCreated(_) => "Another library has kept the server from creating it.".into(),
            PasswordError::NotAdmin(_) => "It takes admin rights over that role.".into(),
            PasswordError::SecretInUse { called: Some(called), .. } => {
                format!("That role's secret is called \"{called}\", which may be the same secret.")
            }
            PasswordError::LabelTooLong => "It has at most 1000 bytes.".into(),
            PasswordError::PasswordLength(_) => "It is a number from 16 to 256.".into(),
            _ => return None,
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            PasswordError::NotStaged { obstacle, .. } if matches!(**obstacle, Obstacle::Aws(_)) => {
                let first = obstacle.hint().map_or_else(String::new, |hint| hint + " ");
                format!(
                    "{first}To change the password and leave its secret as it is, use SET secretlink.password_sync = off."
                )
            }
            PasswordError::NotStaged { obstacle, .. } => return obstacle.hint(),
            PasswordError::Hashed { .. } => {
                "Give ALTER ROLE ... PASSWORD the password itself, or store the password in the secret first, with put_secret_value, and set the hash then: psql's \\password and many tools send a hash. If another library checks passwords, load it before secretlink.".into()
            }
            PasswordError::Encoding { .. } => {
                "Use ASCII characters only, or change the password in a database whose encoding is UTF8.".into()
            }
            PasswordError::Prepared { .. } => {
                "Change synced roles in a transaction of their own. In a Citus cluster only the coordinator syncs: set secretlink.password_sync to off on the workers.".into()
            }
            PasswordError::NotPreloaded => {
                "Add secretlink to shared_preload_libraries in postgresql.conf, and restart the server.".into()
            }
            PasswordError::LabelNotPermitted => {
                "Use sync_role, for which EXECUTE can be granted, or ask a superuser.".into()
            }
            PasswordError::SyncIsOff => "Set secretlink.password_sync to strict.".into(),
            PasswordError::SecretInUse { .. } => "Use one secret for each role.".into(),
            PasswordError::NotSynced(_) => "Use sync_role to name the secret of a role.".into(),
            _ => return None,
        })
    }
}

/// Message and detail of a report, as sentences.
pub fn sentences(report: &dyn Report) -> String {
    let message = sentence(&report.to_string());
    match report.detail() {
        Some(detail) => format!("{message} {detail}"),
        None => message,
    }
}

/// A message as a sentence of its own.
pub fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}
