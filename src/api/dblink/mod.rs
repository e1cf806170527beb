//! The functions of contrib dblink: same names, overloads, results, texts and SQLSTATEs.
//!
//! Source: PostgreSQL documentation, the dblink chapter, and contrib/dblink/dblink.c.

mod catalog;
mod connect;
mod cursor;
mod query;

use secretlink_remote::conninfo::{ConnInfo, Environment, Options};

use crate::backend::role;
use crate::backend::text::ServerText;
use crate::connections::{self, ConnectionName, Session, Target};
use crate::error::Error;

/// An open connection of that name.
fn named(connname: ServerText) -> Result<Target, Error> {
    let name = ConnectionName::find(connname);
    connections::named(&name).ok_or_else(|| Error::not_available(&name))
}

/// An open connection of that name, or else one made for this call alone, with the name taken for a
/// connection string.
fn named_or_made(name_or_connstr: ServerText) -> Result<Target, Error> {
    let name = ConnectionName::find(ServerText(name_or_connstr.0.clone()));
    match connections::named(&name) {
        Some(target) => Ok(target),
        None => Ok(connections::transient(Session::open(conninfo(name_or_connstr)?, false)?)),
    }
}

/// A connection string, checked by contrib dblink's rule: who is not a superuser gives a password
/// in it, so that none is picked up from the server's own files and environment.
fn conninfo(connstr: ServerText) -> Result<ConnInfo, Error> {
    let options = Options::parse(&connstr.to_utf8()).map_err(Error::ConnectionString)?;
    if !role::is_superuser() && !options.has_password() {
        return Err(Error::PasswordNotGiven);
    }
    options.resolve(&Environment::from_process()).map_err(Error::ConnectionString)
}

fn ok() -> ServerText {
    ServerText(b"OK".to_vec())
}
