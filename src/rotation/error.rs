//! What rotation reports.

use secretlink_aws::AwsError;
use secretlink_core::{Report, SqlState};
use secretlink_rotation::{ScheduleError, Trouble};
use thiserror::Error;

use crate::backend::error::BackendError;
use crate::secrets::error::SecretsError;
use crate::settings::superusers::SettingRefused;

/// An error of a rotation, or of asking for one.
#[derive(Debug, Error)]
pub(crate) enum RotationError {
    /// The backend could not do its part.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A secret could not be asked for, or a setting was refused.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// A step of the run failed.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// The library is not preloaded, so there is no launcher.
    #[error("secretlink must be loaded with \"shared_preload_libraries\"")]
    NotPreloaded,
    /// The server is in recovery, where nothing can be written down.
    #[error("cannot rotate secrets during recovery")]
    Standby,
    /// The function of this name was called after its transaction had written.
    #[error("{0} cannot run in a transaction that has written")]
    HasWritten(&'static str),
    /// `secretlink.database` is empty, or `secretlink.rotation_workers` is 0.
    #[error("rotation is turned off")]
    TurnedOff,
    /// The server runs in single-user mode.
    #[error("single-user mode has no workers to rotate a secret")]
    SingleUser,
    /// `secretlink.database` names this database, which does not exist.
    #[error("database \"{0}\" does not exist")]
    NoDatabase(String),
    /// The database of `secretlink.database` lacks the extension.
    #[error("extension secretlink is not installed in database \"{0}\"")]
    NotInstalled(String),
    /// Workers cannot connect to the database of `secretlink.database`, as it was dropped.
    #[error("no background worker could connect to database \"{0}\"")]
    NotConnected(String),
    /// A schedule was asked for in another database than this one, which `secretlink.database` names.
    #[error("schedules of rotations are kept in database \"{0}\"")]
    OtherDatabase(String),
    /// No strategy has this name.
    #[error("strategy \"{0}\" does not exist")]
    NoSuchStrategy(String),
    /// Every place for a session that waits for a rotation is taken.
    #[error("too many rotations are being waited for")]
    TooMany,
    /// The launcher could not start a worker in time.
    #[error("no background worker could be started for the rotation")]
    NoWorker,
    /// The worker that had taken the request has gone without an answer.
    #[error("the background worker of the rotation has ended")]
    WorkerEnded,
    /// The text of a schedule, or of its duration, is not in AWS's syntax.
    #[error(transparent)]
    Schedule(ScheduleError),
    /// A schedule that can be read has no window, ever; with its text.
    #[error("schedule \"{0}\" has no window")]
    NoWindow(String),
    /// A number is out of range; with the name of its argument.
    #[error("{0} is out of range")]
    Count(&'static str),
    /// A run has ended in another worker, with this error, as the worker has written it down.
    #[error("{0}")]
    Ended(String),
    /// A scheduled rotation was due while no server ran, and its window is over.
    #[error("the window was missed while the server was not running")]
    Missed,
    /// The row of a run could not be written.
    #[error("the rotation could not be written down")]
    NotWrittenDown,
    /// The run's row is gone, as with the extension.
    #[error("what was written down of the rotation is gone")]
    Lost,
}

impl From<AwsError> for RotationError {
    fn from(error: AwsError) -> RotationError {
        RotationError::Secrets(error.into())
    }
}

impl From<SettingRefused> for RotationError {
    fn from(error: SettingRefused) -> RotationError {
        RotationError::Secrets(error.into())
    }
}

impl Report for RotationError {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            RotationError::Backend(error) => return error.sqlstate(),
            RotationError::Secrets(error) => return error.sqlstate(),
            RotationError::Trouble(trouble) => return trouble.sqlstate(),
            RotationError::Schedule(error) => return error.sqlstate(),
            RotationError::HasWritten(_) => "25001",
            RotationError::Standby => "25006",
            RotationError::NoDatabase(_) => "3D000",
            RotationError::NoSuchStrategy(_) | RotationError::NoWindow(_) | RotationError::Count(_) => {
                "22023"
            }
            RotationError::TooMany | RotationError::NoWorker => "53000",
            RotationError::WorkerEnded => "57P01",
            RotationError::NotWrittenDown => "58000",
            _ => "55000",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            RotationError::Backend(error) => return error.detail(),
            RotationError::Secrets(error) => return error.detail(),
            RotationError::Trouble(trouble) => return trouble.detail(),
            RotationError::Schedule(error) => return error.detail(),
            RotationError::HasWritten(_) => {
                "The rotation is a background worker's, which might have to wait for this transaction.".into()
            }
            RotationError::WorkerEnded => "Another one takes the rotation up, if it had begun.".into(),
            _ => return None,
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            RotationError::Backend(error) => return error.hint(),
            RotationError::Secrets(error) => return error.hint(),
            RotationError::Trouble(trouble) => return trouble.hint(),
            RotationError::Schedule(error) => return error.hint(),
            RotationError::NotPreloaded => {
                "Add secretlink to shared_preload_libraries in postgresql.conf, and restart the server."
                    .into()
            }
            RotationError::HasWritten(_) => "Call it in a transaction of its own.".into(),
            RotationError::SingleUser => "Start the server, or use ALTER ROLE ... PASSWORD.".into(),
            RotationError::TurnedOff => {
                "Set secretlink.database, and secretlink.rotation_workers above 0.".into()
            }
            RotationError::NoDatabase(_) => "Set secretlink.database to a database that exists.".into(),
            RotationError::NotInstalled(_) => {
                "Use CREATE EXTENSION secretlink there, or set secretlink.database to where it is installed."
                    .into()
            }
            RotationError::OtherDatabase(_) => "Connect to that database, or set secretlink.database.".into(),
            RotationError::NoSuchStrategy(_) => {
                "Strategies are single_user, alternating_users and managed.".into()
            }
            RotationError::TooMany => "Try again later.".into(),
            RotationError::NoWorker => "See the server's log, and max_worker_processes.".into(),
            RotationError::NotConnected(_) => "See the server's log. If that database was dropped, make it again, with the extension, or set secretlink.database; and rotate the secret again: that finds out which password is in force.".into(),
            RotationError::Lost => {
                "Rotate the secret again: that finds out which password is in force.".into()
            }
            RotationError::NotWrittenDown => "See the server's log.".into(),
            _ => return None,
        })
    }
}
