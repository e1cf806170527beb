//! What SQL sees. Thin: each function reads its arguments, calls one of the rooms below, and turns
//! a `Result` into a value or an ERROR.

mod cache;
mod check;
mod connections;
mod dblink;
mod foreign_data_wrapper;
mod iam;
mod passwords;
mod remote_connections;
mod secrets;
mod stats;

use crate::backend::text::Text;
use crate::error::Error;

/// An argument that must be given.
fn required(argument: Option<Text>, name: &'static str) -> Result<String, Error> {
    match argument {
        None => Err(Error::NullArgument(name)),
        Some(Text(text)) if text.is_empty() => Err(Error::EmptyArgument(name)),
        Some(Text(text)) => Ok(text),
    }
}

/// A port that was given.
fn port_number(port: i32) -> Result<u16, Error> {
    u16::try_from(port).ok().filter(|port| *port > 0).ok_or(Error::PortOutOfRange(port))
}

/// An argument that may be left out: NULL. An empty text is more likely a mistake than a wish.
fn optional(argument: Option<Text>, name: &'static str) -> Result<Option<String>, Error> {
    argument.map(|text| required(Some(text), name)).transpose()
}

/// A count as SQL has it.
fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
