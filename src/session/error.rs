//! What a session can refuse.

use secretlink_core::{Report, SqlState};
use thiserror::Error;

use crate::backend::error::BackendError;

/// An error of `session`. Where contrib dblink has the same error, SQLSTATE and texts are its.
#[derive(Debug, Error)]
pub(crate) enum SessionError {
    /// An error of the rooms below.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// No connection has this name.
    #[error("connection \"{0}\" not available")]
    NotAvailable(String),
    /// The unnamed connection is not open.
    #[error("connection not available")]
    UnnamedNotAvailable,
    /// What stands for the name of a connection is none, and may have a password in it.
    #[error("connection not available")]
    NotAName,
    /// The session is in the middle of another query.
    #[error("connection is busy with another query")]
    Busy,
    /// Results of a query that was sent are still to be read.
    #[error("connection has an asynchronous query whose results have not been read")]
    Pending,
    /// Rows of a result were lost.
    #[error("the result of the asynchronous query was read only in part")]
    ResultInterrupted,
    /// The remote server let in somebody who is no superuser without a password.
    #[error("password is required")]
    PasswordNotUsed,
}

impl Report for SessionError {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            SessionError::Backend(error) => return error.sqlstate(),
            SessionError::NotAvailable(_) | SessionError::UnnamedNotAvailable | SessionError::NotAName => {
                "08003"
            }
            SessionError::Busy | SessionError::Pending => "55006",
            SessionError::ResultInterrupted => "55000",
            SessionError::PasswordNotUsed => "2F003",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            SessionError::Backend(error) => return error.detail(),
            SessionError::PasswordNotUsed => {
                "Non-superuser cannot connect if the server does not request a password.".into()
            }
            SessionError::ResultInterrupted => {
                "Reading it was interrupted, and the rows read until then are lost.".into()
            }
            _ => return None,
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            SessionError::Backend(error) => return error.hint(),
            SessionError::PasswordNotUsed => {
                "Target server's authentication method must be changed.".into()
            }
            SessionError::NotAName => {
                "This function takes the name of an open connection, not a connection string.".into()
            }
            SessionError::Busy => "Wait until the other query has ended.".into(),
            SessionError::Pending => {
                "Read them with dblink_get_result until there are none, or do without them: dblink_cancel_query."
                    .into()
            }
            SessionError::ResultInterrupted => {
                "Call dblink_get_result again for what comes after this result.".into()
            }
            _ => return None,
        })
    }
}
