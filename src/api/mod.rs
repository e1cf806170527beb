//! What SQL sees. Thin: each function reads its arguments, calls one of the rooms below, and turns
//! a `Result` into a value or an ERROR.

mod cache;
mod check;
mod connections;
mod dblink;
mod foreign_data_wrapper;
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

/// A count as SQL has it.
fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
