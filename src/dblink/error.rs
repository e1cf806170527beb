//! What the functions of contrib dblink refuse.

use secretlink_core::{OutOfMemory, Report, SqlState};
use thiserror::Error;

use crate::backend::error::BackendError;
use crate::session::error::SessionError;

/// An error of `dblink`. SQLSTATEs and texts are those of contrib dblink.
#[derive(Debug, Error)]
pub(crate) enum DblinkError {
    /// An error of the session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A connection has this name already.
    #[error("duplicate connection name")]
    DuplicateName,
    /// `dblink_fetch` found nothing to fetch from.
    #[error("cursor \"{0}\" does not exist")]
    NoSuchCursor(String),
    /// `dblink_exec` ran something that returns rows.
    #[error("statement returning results not allowed")]
    ResultsNotAllowed,
    /// A key of no columns.
    #[error("number of key attributes must be > 0")]
    NoKeyAttributes,
    /// A number that no column has.
    #[error("invalid attribute number {0}")]
    InvalidAttributeNumber(i16),
    /// The values to find the local row by are not as many as the key's columns.
    #[error("source key array length must match number of key attributes")]
    SourceKeyLength,
    /// The values of the remote row's key are not as many as the key's columns.
    #[error("target key array length must match number of key attributes")]
    TargetKeyLength,
}

impl From<BackendError> for DblinkError {
    fn from(error: BackendError) -> DblinkError {
        DblinkError::Session(error.into())
    }
}

impl From<OutOfMemory> for DblinkError {
    fn from(none: OutOfMemory) -> DblinkError {
        BackendError::from(none).into()
    }
}

impl Report for DblinkError {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            DblinkError::Session(error) => return error.sqlstate(),
            DblinkError::DuplicateName => "42710",
            DblinkError::NoSuchCursor(_) => "34000",
            DblinkError::ResultsNotAllowed => "2F003",
            DblinkError::NoKeyAttributes | DblinkError::InvalidAttributeNumber(_) => "22023",
            DblinkError::SourceKeyLength | DblinkError::TargetKeyLength => "2202E",
        })
    }

    fn detail(&self) -> Option<String> {
        match self {
            DblinkError::Session(error) => error.detail(),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            DblinkError::Session(error) => error.hint(),
            _ => None,
        }
    }
}
