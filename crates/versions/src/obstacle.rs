//! Why a password could not be brought into its secret.

use secretlink_aws::{AwsError, NotWritable, SecretId};
use secretlink_core::random::NoRandomness;
use secretlink_core::{Report, SqlState};

/// What stands between a password and its secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A call failed, or the secret is not text.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Another AWS service writes this secret.
    #[error("secret \"{secret}\" is managed by {service}")]
    Owned {
        /// The secret.
        secret: String,
        /// The service, such as `rds`.
        service: String,
    },
    /// Replicas are written by Secrets Manager alone.
    #[error("secret \"{secret}\" is a replica")]
    Replica {
        /// The secret.
        secret: String,
        /// Where the original is.
        primary_region: String,
    },
    /// `AWSPENDING` is at a version that is not ours.
    #[error("a rotation of secret \"{secret}\" is in progress")]
    Rotating {
        /// The secret.
        secret: String,
        /// The version that holds `AWSPENDING`.
        version_id: String,
    },
    /// A version of the secret is of a server that was promoted in place of this server.
    #[error("this server has been superseded, and does not write secret \"{secret}\"")]
    Superseded {
        /// The secret.
        secret: String,
        /// The version.
        version_id: String,
    },
    /// The secret does not exist, and none is to be made.
    #[error("secret \"{secret}\" does not exist")]
    Missing {
        /// The secret.
        secret: String,
    },
    /// A new secret was asked for.
    #[error("secret \"{secret}\" already has a value")]
    NotNew {
        /// The secret.
        secret: String,
    },
    /// The secret says that it is for somebody else.
    #[error("secret \"{secret}\" is for user \"{username}\"")]
    OtherUser {
        /// The secret.
        secret: String,
        /// The user that it is for.
        username: String,
        /// Whether that user and the role take turns: one is the clone of the other.
        takes_turns: bool,
    },
    /// The secret is neither a JSON object nor a password, by the look of it.
    #[error("contents of secret \"{secret}\" are not understood")]
    NotUnderstood {
        /// The secret.
        secret: String,
        /// What is wrong with them, as a sentence.
        problem: &'static str,
    },
    /// A renamed role's password is in no version of its secret.
    #[error("secret \"{secret}\" does not hold the role's password")]
    Drifted {
        /// The secret.
        secret: String,
    },
    /// A renamed role's secret does not exist yet, or has no value.
    #[error("secret \"{secret}\" has no value yet")]
    NothingToRename {
        /// The secret.
        secret: String,
    },
    /// No version id could be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl Obstacle {
    /// The obstacle that a secret may not be written by us.
    pub(crate) fn not_writable(why: NotWritable, id: &SecretId) -> Obstacle {
        let secret = id.as_str().to_owned();
        match why {
            NotWritable::Owned(service) => Obstacle::Owned { secret, service },
            NotWritable::Deleted => AwsError::MarkedForDeletion { secret }.into(),
            NotWritable::Replica(primary_region) => Obstacle::Replica { secret, primary_region },
        }
    }

    /// Whether Secrets Manager could not be reached, or asked to be called less often.
    pub fn is_outage(&self) -> bool {
        matches!(self, Obstacle::Aws(error) if error.is_unreachable() || error.is_throttled())
    }
}

impl Report for Obstacle {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            Obstacle::Aws(error) => return error.sqlstate(),
            // object_not_in_prerequisite_state
            Obstacle::Owned { .. }
            | Obstacle::Replica { .. }
            | Obstacle::Superseded { .. }
            | Obstacle::OtherUser { .. }
            | Obstacle::NotUnderstood { .. }
            | Obstacle::Drifted { .. }
            | Obstacle::NothingToRename { .. } => "55000",
            // object_in_use
            Obstacle::Rotating { .. } => "55006",
            Obstacle::Missing { .. } => "42704",
            Obstacle::NotNew { .. } => "42710",
            Obstacle::NoRandomness(_) => "58000",
        })
    }

    fn detail(&self) -> Option<String> {
        match self {
            Obstacle::Aws(error) => error.detail(),
            Obstacle::Replica { primary_region, .. } => Some(format!("The original is in {primary_region}.")),
            Obstacle::Rotating { version_id, .. } => {
                Some(format!("AWSPENDING is at version {version_id}, which secretlink has not staged."))
            }
            Obstacle::Superseded { version_id, .. } => Some(format!(
                "Version {version_id} was made by a server that was promoted in place of this one."
            )),
            Obstacle::NotUnderstood { problem, .. } => Some((*problem).to_owned()),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Obstacle::Aws(error) => return error.hint(),
            Obstacle::Owned { .. } => {
                "Change the password by way of that service, or sync the role with another secret.".into()
            }
            Obstacle::Replica { .. } => "Sync the role with the original, by its ARN.".into(),
            Obstacle::Superseded { .. } => {
                "Shut this server down, or make it a standby of the other.".into()
            }
            Obstacle::Rotating { .. } => {
                "Wait until the rotation has ended, or remove AWSPENDING from that version.".into()
            }
            Obstacle::OtherUser { takes_turns: true, .. } => {
                "The role and that user take turns in this secret. Unsync the role, and change the password with rotate_secret.".into()
            }
            Obstacle::OtherUser { .. } => {
                "Sync the role with a secret of its own, or correct \"username\" in this one.".into()
            }
            Obstacle::NotUnderstood { .. } => {
                "Nothing was changed. Store a JSON object with a \"password\" in the secret, or nothing but the password.".into()
            }
            Obstacle::Missing { .. } => {
                "Create the secret, or turn secretlink.create_missing_secrets on and name the secret by its name."
                    .into()
            }
            Obstacle::NotNew { .. } => {
                "For a secret that exists, use CREATE ROLE, sync_role and ALTER ROLE ... PASSWORD.".into()
            }
            Obstacle::Drifted { .. } | Obstacle::NothingToRename { .. } => {
                "Set the role's password again.".into()
            }
            Obstacle::NoRandomness(_) => return None,
        })
    }
}
