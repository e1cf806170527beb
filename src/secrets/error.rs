//! Why a secret could not be read or written.

use secretlink_aws::AwsError;
use secretlink_cache::{SealError, SharedError};
use secretlink_core::{Report, SqlState};
use std::time::Duration;
use thiserror::Error;

use crate::backend::error::BackendError;
use crate::settings::superusers::SettingRefused;

/// An error of `secrets`.
#[derive(Debug, Error)]
pub(crate) enum SecretsError {
    /// An error of the rooms below.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A setting that hides the right value.
    #[error(transparent)]
    Setting(#[from] SettingRefused),
    /// A call failed, or could not be made.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// What AWS said to another backend that asked for the same secret.
    #[error(transparent)]
    Shared(SharedError),
    /// A cached value could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Another backend asks for the secret, and has had no answer for too long.
    #[error("secret \"{secret}\" was not read within {} ms", after.as_millis())]
    Awaited {
        /// The secret.
        secret: String,
        /// For how long it was waited for.
        after: Duration,
    },
}

impl Report for SecretsError {
    fn sqlstate(&self) -> SqlState {
        match self {
            SecretsError::Backend(error) => error.sqlstate(),
            SecretsError::Setting(error) => error.sqlstate(),
            SecretsError::Aws(error) => error.sqlstate(),
            SecretsError::Shared(error) => error.sqlstate(),
            SecretsError::Seal(_) | SecretsError::Awaited { .. } => SqlState::new("58000"),
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            SecretsError::Backend(error) => error.detail(),
            SecretsError::Setting(error) => error.detail(),
            SecretsError::Aws(error) => error.detail(),
            SecretsError::Shared(error) => error.detail(),
            SecretsError::Seal(_) => None,
            SecretsError::Awaited { .. } => {
                Some("Another session is asking AWS for it and has had no answer yet.".into())
            }
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            SecretsError::Backend(error) => error.hint(),
            SecretsError::Setting(error) => error.hint(),
            SecretsError::Aws(error) => error.hint(),
            SecretsError::Shared(error) => error.hint(),
            SecretsError::Seal(_) | SecretsError::Awaited { .. } => None,
        }
    }
}
