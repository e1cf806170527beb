//! Arguments that a SQL function does not take.

use secretlink_core::{Report, SqlState};
use thiserror::Error;

/// What is wrong with an argument.
#[derive(Debug, Error)]
pub(crate) enum ArgumentError {
    /// NULL where something must be given.
    #[error("argument \"{0}\" must not be null")]
    Null(&'static str),
    /// An empty text where something must be given.
    #[error("argument \"{0}\" must not be empty")]
    Empty(&'static str),
    /// A number that is no port.
    #[error("port {0} is out of range")]
    PortOutOfRange(i32),
    /// A name that Postgres would cut.
    #[error("connection name is too long")]
    ConnectionNameTooLong,
    /// Options that say what a secret is to say.
    #[error("option \"{0}\" is not allowed here")]
    PasswordInOptions(&'static str),
}

impl Report for ArgumentError {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            ArgumentError::Null(_) => "22004",
            ArgumentError::Empty(_)
            | ArgumentError::PortOutOfRange(_)
            | ArgumentError::PasswordInOptions(_) => "22023",
            ArgumentError::ConnectionNameTooLong => "42622",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            ArgumentError::PortOutOfRange(_) => "A port is a number from 1 to 65535.".into(),
            ArgumentError::ConnectionNameTooLong => "A connection name has at most 63 bytes.".into(),
            ArgumentError::PasswordInOptions(_) => {
                "A password has no place here: it comes from the secret, or is an IAM token.".into()
            }
            ArgumentError::Null(_) | ArgumentError::Empty(_) => return None,
        })
    }
}
