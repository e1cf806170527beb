//! What Postgres's process, its catalogs and a result can refuse.

use secretlink_core::{OutOfMemory, Report, SqlState};
use thiserror::Error;

/// An error of `backend`. Where contrib dblink has the same error, SQLSTATE and texts are its.
#[derive(Debug, Error)]
pub(crate) enum BackendError {
    /// The I/O thread could not be started.
    #[error("could not start the I/O thread: {0}")]
    IoThreadStart(#[source] std::io::Error),
    /// The I/O thread has ended, or a panic there has ended the work.
    #[error("the I/O thread gave up on a request")]
    IoThreadPanicked,
    /// Memory to begin with is lacking.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The process may open no more files.
    #[error("could not establish connection")]
    TooManyFiles,

    /// A function that returns rows was called where none can go.
    #[error("set-valued function called in context that cannot accept a set")]
    SetNotAccepted,
    /// A function that returns rows was called where they cannot be kept.
    #[error("materialize mode required, but it is not allowed in this context")]
    MaterializeNotAccepted,
    /// A function that returns rows of any kind was called without a list of columns.
    #[error("function returning record called in context that cannot accept type record")]
    RecordNotAccepted,
    /// The rows have no type that rows can have.
    #[error("return type must be a row type")]
    NotARowType,
    /// The remote result has other columns than the query expects.
    #[error("remote query result rowtype does not match the specified FROM clause rowtype")]
    RowTypeMismatch,
    /// A row does not have the columns that were announced.
    #[error("remote server sent a malformed row")]
    MalformedRow,
    /// A value is not what its type sends.
    #[error("remote server sent a malformed value")]
    MalformedValue,
    /// A column came in binary of which only the text can be read.
    #[error("remote server sent a column in binary that cannot be read as such")]
    BinaryColumn,

    /// No local row has the key.
    #[error("source row not found")]
    SourceRowNotFound,
    /// Several local rows have the key.
    #[error("source criteria matched more than one record")]
    SourceRowAmbiguous,
    /// A column of the key has a type without an equality operator.
    #[error("operator does not exist: {0} = unknown")]
    NotComparable(String),
}

impl Report for BackendError {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            BackendError::OutOfMemory(error) => return error.sqlstate(),
            BackendError::IoThreadStart(_) => "53000",
            BackendError::IoThreadPanicked | BackendError::NotARowType => "XX000",
            BackendError::TooManyFiles => "08001",
            BackendError::SetNotAccepted
            | BackendError::MaterializeNotAccepted
            | BackendError::RecordNotAccepted
            | BackendError::BinaryColumn => "0A000",
            BackendError::RowTypeMismatch => "42804",
            BackendError::MalformedRow => "08P01",
            BackendError::MalformedValue => "22P03",
            BackendError::SourceRowNotFound | BackendError::SourceRowAmbiguous => "21000",
            BackendError::NotComparable(_) => "42883",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            BackendError::OutOfMemory(error) => return error.detail(),
            BackendError::IoThreadPanicked => "The server log says why.".into(),
            BackendError::TooManyFiles => "There are too many open files on the local server.".into(),
            _ => return None,
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            BackendError::OutOfMemory(error) => return error.hint(),
            BackendError::TooManyFiles => {
                "Raise the server's max_files_per_process and/or \"ulimit -n\" limits.".into()
            }
            BackendError::BinaryColumn => "Declare the remote cursor without BINARY.".into(),
            BackendError::NotComparable(_) => {
                "No operator matches the given name and argument types. You might need to add explicit type casts."
                    .into()
            }
            _ => return None,
        })
    }
}
