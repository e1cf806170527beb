//! What a SQL function can report: an error of the room that it calls.

use secretlink_aws::AwsError;
use secretlink_core::{Report, SqlState};
use secretlink_remote::conninfo::ConnInfoError;
use thiserror::Error;

use crate::api::error::ArgumentError;
use crate::backend::error::BackendError;
use crate::connect::error::ConnectionError;
use crate::dblink::error::DblinkError;
use crate::rotation::error::RotationError;
use crate::secrets::error::SecretsError;
use crate::session::error::SessionError;
use crate::sync::error::SyncError;

/// An error of a SQL function. Each room has an enum of its own, and `Error` only wraps them.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// An argument that makes no sense.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// An error of `backend`.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// An error of `connect`.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// An error of `dblink`.
    #[error(transparent)]
    Dblink(#[from] DblinkError),
    /// An error of `rotation`.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// An error of `secrets`.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// An error of `session`.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// An error of `sync`.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

impl Error {
    fn room(&self) -> &dyn Report {
        match self {
            Error::Argument(error) => error,
            Error::Backend(error) => error,
            Error::Connection(error) => error,
            Error::Dblink(error) => error,
            Error::Rotation(error) => error,
            Error::Secrets(error) => error,
            Error::Session(error) => error,
            Error::Sync(error) => error,
        }
    }
}

impl From<AwsError> for Error {
    fn from(error: AwsError) -> Error {
        Error::Secrets(error.into())
    }
}

impl From<ConnInfoError> for Error {
    fn from(error: ConnInfoError) -> Error {
        Error::Connection(error.into())
    }
}

impl Report for Error {
    fn sqlstate(&self) -> SqlState {
        self.room().sqlstate()
    }

    fn detail(&self) -> Option<String> {
        self.room().detail()
    }

    fn hint(&self) -> Option<String> {
        self.room().hint()
    }
}
