//! What SQL sees. Thin: each function reads its arguments, calls one of the rooms below, and turns
//! a `Result` into a value or an ERROR.

mod cache;
mod check;
mod connections;
mod dblink;
pub(crate) mod error;
mod foreign_data_wrapper;
mod iam;
mod installation;
mod passwords;
mod remote_connections;
mod rotation;
mod secrets;
mod stats;

use secretlink_remote::conninfo::Options;

use self::error::ArgumentError;
use crate::backend::text::Text;
use crate::error::Error;

/// An argument that must be given.
fn required(argument: Option<Text>, name: &'static str) -> Result<String, ArgumentError> {
    match argument {
        None => Err(ArgumentError::Null(name)),
        Some(Text(text)) if text.is_empty() => Err(ArgumentError::Empty(name)),
        Some(Text(text)) => Ok(text),
    }
}

/// A port that was given.
fn port_number(port: i32) -> Result<u16, ArgumentError> {
    u16::try_from(port).ok().filter(|port| *port > 0).ok_or(ArgumentError::PortOutOfRange(port))
}

/// The options of a connection string, and over them what is given as arguments: keyword, argument, value.
fn options_with(
    options: Option<Text>,
    given: impl IntoIterator<Item = (&'static str, &'static str, Option<String>)>,
) -> Result<Options, Error> {
    let mut options = match options {
        Some(Text(options)) => Options::parse(&options)?,
        None => Options::default(),
    };
    for keyword in ["password", "scram_client_key", "scram_server_key"] {
        if options.has(keyword) {
            return Err(ArgumentError::PasswordInOptions(keyword).into());
        }
    }
    for (keyword, argument, value) in given {
        match value {
            // To libpq this is a local socket or the operating system's user, which nobody means.
            Some(value) if value.is_empty() => return Err(ArgumentError::Empty(argument).into()),
            Some(value) => options.set(keyword, &value)?,
            None => {}
        }
    }
    Ok(options)
}

/// An argument that may be left out: NULL. An empty text is more likely a mistake than a wish.
fn optional(argument: Option<Text>, name: &'static str) -> Result<Option<String>, ArgumentError> {
    argument.map(|text| required(Some(text), name)).transpose()
}

/// A count as SQL has it.
fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
