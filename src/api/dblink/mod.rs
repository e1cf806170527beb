//! The functions of contrib dblink: same names, overloads, results, texts and SQLSTATEs.
//!
//! Source: PostgreSQL documentation, the dblink chapter, and contrib/dblink/dblink.c.

mod asynchronous;
mod catalog;
mod connect;
mod cursor;
mod notify;
mod query;

use secretlink_remote::conninfo::{Environment, Options};

use crate::backend::role;
use crate::backend::text::ServerText;
use crate::connections::{self, ConnectionName, Session, Target};
use crate::error::Error;
use crate::foreign_server::{self, Destination};
use crate::secret_conninfo::{self, Given};

/// An open connection of that name.
fn named(connname: ServerText) -> Result<Target, Error> {
    let name = ConnectionName::find(connname);
    connections::named(&name).ok_or_else(|| Error::not_available(&name))
}

/// An open connection of that name, which is to run something.
fn named_for_query(connname: ServerText) -> Result<Target, Error> {
    let name = ConnectionName::find(connname);
    connections::named_for_query(&name)?.ok_or_else(|| Error::not_available(&name))
}

/// An open connection of that name, or else one made for this call alone, with the name taken for a
/// connection string.
fn named_or_made(name_or_connstr: ServerText) -> Result<Target, Error> {
    let name = ConnectionName::find(ServerText(name_or_connstr.0.clone()));
    match connections::named_for_query(&name)? {
        Some(target) => Ok(target),
        None => Ok(connections::transient(Destination::read(name_or_connstr)?.connect()?)),
    }
}

impl Destination {
    /// Checked by contrib dblink's rule: who is not a superuser gives a password, so that none is picked
    /// up from the server's own files and environment.
    fn read(connstr: ServerText) -> Result<Destination, Error> {
        let text = connstr.to_utf8();
        let destination = match foreign_server::find(connstr).map_err(Error::ConnectionString)? {
            Some(destination) => destination,
            None => match Options::parse(&text) {
                Ok(options) => Destination { options, secret_id: None },
                // As in contrib: what cannot be understood gives no password.
                Err(_) if !role::is_superuser() => return Err(Error::PasswordNotGiven),
                Err(error) => return Err(Error::ConnectionString(error)),
            },
        };
        let given = destination.options.has_credentials() || destination.secret_id.is_some();
        match role::is_superuser() || given {
            true => Ok(destination),
            false => Err(Error::PasswordNotGiven),
        }
    }

    fn connect(self) -> Result<Session, Error> {
        match self.secret_id {
            Some(secret_id) => {
                let info = secret_conninfo::fetch(secret_id.clone(), self.options, Given::Server);
                Session::open(info.map_err(as_connection_string)?, Some(secret_id))
            }
            None => {
                let info = self.options.resolve(&Environment::from_process());
                Session::open(info.map_err(Error::ConnectionString)?, None)
            }
        }
    }
}

/// Where options stand for a connection string, what is wrong with them is reported as it would be there.
fn as_connection_string(error: Error) -> Error {
    match error {
        Error::Options(error) => Error::ConnectionString(error),
        error => error,
    }
}

fn ok() -> ServerText {
    ServerText(b"OK".to_vec())
}
