//! What the SQL functions themselves can report. The areas below have their own enums: `AwsError`,
//! `ConnInfoError`, `ConnectError`, `QueryError`, `PasswordError`.

use secretlink_aws::AwsError;
use secretlink_cache::{SealError, Told};
use secretlink_core::{OutOfMemory, Report, SqlState};
use secretlink_remote::conninfo::ConnInfoError;
use secretlink_remote::error::ConnectError;
use std::time::Duration;
use thiserror::Error;

use crate::sync::error::PasswordError;

/// An error of a SQL function. Where contrib dblink has the same error, SQLSTATE and texts are its.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Options given to `connect_with_secret`.
    #[error(transparent)]
    Options(#[from] ConnInfoError),
    /// A connection string given to a dblink function, where every failure to connect is one.
    #[error("could not establish connection")]
    ConnectionString(#[source] ConnInfoError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// What AWS said to another backend that asked for the same secret.
    #[error(transparent)]
    Told(Told),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("secret \"{secret}\" was not read within {} ms", after.as_millis())]
    SecretAwaited { secret: String, after: Duration },

    #[error("permission denied to set parameter \"{0}\"")]
    SettingRefused(String),

    #[error("argument \"{0}\" must not be null")]
    NullArgument(&'static str),
    #[error("argument \"{0}\" must not be empty")]
    EmptyArgument(&'static str),
    #[error("port {0} is out of range")]
    PortOutOfRange(i32),
    #[error("connection name is too long")]
    ConnectionNameTooLong,
    #[error("option \"{0}\" is not allowed here")]
    PasswordInOptions(&'static str),
    #[error("secret \"{secret}\" has no {field} field")]
    FieldMissing { secret: String, field: &'static str, instead: &'static str },
    #[error("could not establish connection")]
    SecretOfOther { secret: String, username: String, error: ConnectError },
    #[error("user of the user mapping is not that of secret \"{secret}\"")]
    UserFixedBySecret { secret: String },

    #[error("invalid option \"{name}\"")]
    InvalidOption { name: String, hint: Option<String> },
    #[error("{0} requires a Boolean value")]
    NotBoolean(&'static str),
    #[error("permission denied to set option \"{0}\"")]
    OptionForSuperusers(&'static str),
    #[error("invalid value for option \"{name}\"")]
    InvalidOptionValue { name: &'static str, problem: &'static str },
    #[error("secret of the user mapping may not be used with server \"{server}\"")]
    SecretNotForServer { server: String },
    #[error("foreign server \"{0}\" of the connection does not exist any more")]
    ServerGone(String),

    #[error("connection \"{0}\" not available")]
    NotAvailable(String),
    #[error("connection not available")]
    UnnamedNotAvailable,
    #[error("duplicate connection name")]
    DuplicateName,
    #[error("connection is busy with another query")]
    Busy,
    #[error("connection has an asynchronous query whose results have not been read")]
    Pending,
    #[error("the result of the asynchronous query was read only in part")]
    ResultInterrupted,
    #[error("password is required")]
    PasswordNotGiven,
    #[error("password is required")]
    PasswordNotUsed,
    #[error("could not establish connection")]
    TooManyFiles,

    #[error("cursor \"{0}\" does not exist")]
    NoSuchCursor(String),
    #[error("statement returning results not allowed")]
    ResultsNotAllowed,
    #[error("remote query result rowtype does not match the specified FROM clause rowtype")]
    RowTypeMismatch,
    #[error("set-valued function called in context that cannot accept a set")]
    SetNotAccepted,
    #[error("materialize mode required, but it is not allowed in this context")]
    MaterializeNotAccepted,
    #[error("function returning record called in context that cannot accept type record")]
    RecordNotAccepted,
    #[error("return type must be a row type")]
    NotARowType,
    #[error("remote server sent a malformed row")]
    MalformedRow,
    #[error("remote server sent a malformed value")]
    MalformedValue,
    #[error("remote server sent a column in binary that cannot be read as such")]
    BinaryColumn,

    #[error("number of key attributes must be > 0")]
    NoKeyAttributes,
    #[error("invalid attribute number {0}")]
    InvalidAttributeNumber(i16),
    #[error("source key array length must match number of key attributes")]
    SourceKeyLength,
    #[error("target key array length must match number of key attributes")]
    TargetKeyLength,
    #[error("source row not found")]
    SourceRowNotFound,
    #[error("source criteria matched more than one record")]
    SourceRowAmbiguous,
    #[error("operator does not exist: {0} = unknown")]
    NotComparable(String),

    #[error("could not start the I/O thread: {0}")]
    IoThreadStart(#[source] std::io::Error),
    #[error("the I/O thread gave up on a request")]
    IoThreadPanicked,
}

impl Error {
    /// Whether it is a secret that is wrong, so that another version of it may be right.
    pub fn is_unusable_secret(&self) -> bool {
        match self {
            Error::FieldMissing { .. } => true,
            Error::Aws(error) => error.is_unusable(),
            _ => false,
        }
    }
}

impl Report for Error {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            Error::Aws(error) => return error.sqlstate(),
            Error::Options(error) => return error.sqlstate(),
            Error::Connect(error) | Error::SecretOfOther { error, .. } => return error.sqlstate(),
            Error::Password(error) => return error.sqlstate(),
            Error::OutOfMemory(error) => return error.sqlstate(),
            Error::Told(error) => return error.sqlstate(),
            Error::Seal(_) | Error::SecretAwaited { .. } => "58000",
            Error::ConnectionString(_) | Error::TooManyFiles => "08001",
            Error::SettingRefused(_)
            | Error::UserFixedBySecret { .. }
            | Error::OptionForSuperusers(_)
            | Error::SecretNotForServer { .. } => "42501",
            Error::ServerGone(_) => "42704",
            Error::InvalidOption { .. } => "HV00J",
            Error::NotBoolean(_) => "42601",
            Error::NullArgument(_) => "22004",
            Error::EmptyArgument(_)
            | Error::PortOutOfRange(_)
            | Error::PasswordInOptions(_)
            | Error::InvalidOptionValue { .. }
            | Error::NoKeyAttributes
            | Error::InvalidAttributeNumber(_)
            | Error::FieldMissing { .. } => "22023",
            Error::ConnectionNameTooLong => "42622",
            Error::NotAvailable(_) | Error::UnnamedNotAvailable => "08003",
            Error::DuplicateName => "42710",
            Error::Busy | Error::Pending => "55006",
            Error::ResultInterrupted => "55000",
            Error::PasswordNotGiven | Error::PasswordNotUsed | Error::ResultsNotAllowed => "2F003",
            Error::NoSuchCursor(_) => "34000",
            Error::RowTypeMismatch => "42804",
            Error::SourceKeyLength | Error::TargetKeyLength => "2202E",
            Error::SourceRowNotFound | Error::SourceRowAmbiguous => "21000",
            Error::NotComparable(_) => "42883",
            Error::SetNotAccepted
            | Error::MaterializeNotAccepted
            | Error::RecordNotAccepted
            | Error::BinaryColumn => "0A000",
            Error::NotARowType | Error::IoThreadPanicked => "XX000",
            Error::MalformedRow => "08P01",
            Error::MalformedValue => "22P03",
            Error::IoThreadStart(_) => "53000",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            Error::Aws(error) => return error.detail(),
            Error::Options(error) => return error.detail(),
            Error::Connect(error) | Error::SecretOfOther { error, .. } => return error.detail(),
            Error::Password(error) => return error.detail(),
            Error::OutOfMemory(error) => return error.detail(),
            Error::Told(error) => return error.detail(),
            Error::SecretAwaited { .. } => {
                "Another session is asking AWS for it and has had no answer yet.".into()
            }
            Error::ConnectionString(error) => error.to_string(),
            Error::TooManyFiles => "There are too many open files on the local server.".into(),
            Error::PasswordNotGiven => {
                "Non-superusers must provide a password in the connection string.".into()
            }
            Error::PasswordNotUsed => {
                "Non-superuser cannot connect if the server does not request a password.".into()
            }
            Error::ResultInterrupted => {
                "Reading it was interrupted, and the rows read until then are lost.".into()
            }
            Error::SettingRefused(_) => {
                "This session set it before secretlink was loaded, in place of the server's value.".into()
            }
            Error::PortOutOfRange(_) => "A port is a number from 1 to 65535.".into(),
            Error::ConnectionNameTooLong => "A connection name has at most 63 bytes.".into(),
            Error::PasswordInOptions(_) => "The password comes from the secret.".into(),
            Error::OptionForSuperusers(_) => {
                "Only superusers may set it, and change a server or user mapping that has it: they decide which secret is read and where its password goes.".into()
            }
            Error::SecretNotForServer { .. } => {
                "The owner of the server, who is not a superuser, decides where it leads.".into()
            }
            Error::IoThreadPanicked => "The server log says why.".into(),
            _ => return None,
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Aws(error) => return error.hint(),
            Error::Options(error) | Error::ConnectionString(error) => return error.hint(),
            Error::Connect(error) => return error.hint(),
            Error::Password(error) => return error.hint(),
            Error::Told(error) => return error.hint(),
            Error::TooManyFiles => {
                "Raise the server's max_files_per_process and/or \"ulimit -n\" limits.".into()
            }
            Error::PasswordNotUsed => "Target server's authentication method must be changed.".into(),
            Error::FieldMissing { field, instead, .. } => {
                format!("Add \"{field}\" to the secret, or {instead}.")
            }
            Error::SecretOfOther { secret, username, .. } => {
                format!("Secret \"{secret}\" is for user \"{username}\". Leave remote_user out, or use another secret.")
            }
            Error::UserFixedBySecret { .. } => {
                "Remove the option \"user\" from the mapping, or give it a password of its own.".into()
            }
            Error::InvalidOption { hint, .. } => return hint.clone(),
            Error::InvalidOptionValue { problem, .. } => (*problem).into(),
            Error::SecretNotForServer { .. } => {
                "Look at the server's options; then give it to a superuser, or give it a secret_id of its own.".into()
            }
            Error::ServerGone(_) => "Close the connection with dblink_disconnect.".into(),
            Error::SettingRefused(_) => "Start a session that does not set it.".into(),
            Error::NotComparable(_) => {
                "No operator matches the given name and argument types. You might need to add explicit type casts."
                    .into()
            }
            Error::BinaryColumn => "Declare the remote cursor without BINARY.".into(),
            Error::Busy => "Wait until the other query has ended.".into(),
            Error::Pending => {
                "Read them with dblink_get_result until there are none, or do without them: dblink_cancel_query."
                    .into()
            }
            Error::ResultInterrupted => {
                "Call dblink_get_result again for what comes after this result.".into()
            }
            _ => return None,
        })
    }
}
