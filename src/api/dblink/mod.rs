//! The functions of contrib dblink: same names, overloads, results, texts and SQLSTATEs.
//!
//! Source: PostgreSQL documentation, the dblink chapter, and contrib/dblink/dblink.c.

mod asynchronous;
mod catalog;
mod connect;
mod cursor;
mod notify;
mod query;

use crate::backend::text::ServerText;
use crate::connect::destination::Destination;
use crate::connect::error::ConnectionError;
use crate::connections::{self, Target};
use crate::error::Error;
use crate::session::name::ConnectionName;

/// An open connection of that name.
fn named(connname: ServerText) -> Result<Target, Error> {
    Ok(connections::get(&ConnectionName::find(connname))?)
}

/// An open connection of that name, which is to run something.
fn named_for_query(connname: ServerText) -> Result<Target, Error> {
    Ok(named(connname)?.for_query()?)
}

/// The connection without a name, which is to run something.
fn unnamed_for_query() -> Result<Target, Error> {
    Ok(connections::get(&ConnectionName::Unnamed)?.for_query()?)
}

/// An open connection of that name, or else one made for this call alone, with the name taken for a
/// connection string.
fn named_or_made(name_or_connstr: ServerText) -> Result<Target, Error> {
    let name = ConnectionName::find(ServerText(name_or_connstr.0.clone()));
    match connections::find(&name) {
        Some(target) => Ok(target.for_query()?),
        None => {
            let destination = Destination::read(name_or_connstr).map_err(|error| match error {
                ConnectionError::NoSuchServer => ConnectionError::NoSuchConnection,
                error => error,
            })?;
            Ok(connections::transient(destination.connect()?))
        }
    }
}

fn ok() -> ServerText {
    ServerText(b"OK".to_vec())
}

/// What a function returns that may fail with no more than a NOTICE.
fn ok_or_error(worked: bool) -> ServerText {
    if worked { ok() } else { ServerText(b"ERROR".to_vec()) }
}
