//! Where to connect: what a connection string says, or a foreign server named in its place.

use secretlink_aws::Identity;
use secretlink_remote::conninfo::{Environment, Options};

use crate::backend::process::user;
use crate::backend::text::ServerText;
use crate::connect::conninfo::Given;
use crate::connect::foreign_server::{self, Said, ServerUse};
use crate::connect::login;
use crate::connections::{self, Session};
use crate::error::Error;

/// Where to connect, and as whom.
pub struct Destination {
    options: Options,
    secret: Option<(String, Identity)>,
    server: Option<ServerUse>,
}

impl Destination {
    /// Checked by contrib dblink's rule: who is not a superuser gives a password, so that none is picked
    /// up from the server's own files and environment.
    ///
    /// # Errors
    /// If that is broken, or the connection string makes no sense; and what can be wrong with a server.
    pub fn read(connstr: ServerText) -> Result<Destination, Error> {
        let text = connstr.to_utf8();
        if let Some(said) = foreign_server::find(connstr)? {
            return Destination::of_server(said);
        }
        match Options::parse(&text) {
            Ok(options) => Destination { options, secret: None, server: None }.checked(),
            // As in contrib: what cannot be understood gives no password.
            Err(_) if !user::is_superuser() => Err(Error::PasswordNotGiven),
            Err(error) => Err(Error::ConnectionString(error)),
        }
    }

    /// Where a foreign server leads.
    ///
    /// # Errors
    /// As [`Destination::read`].
    pub fn of_server(said: Said) -> Result<Destination, Error> {
        Destination { options: said.options, secret: said.secret, server: Some(said.by) }.checked()
    }

    fn checked(self) -> Result<Destination, Error> {
        match user::is_superuser() || self.options.has_credentials() || self.secret.is_some() {
            true => Ok(self),
            false => Err(Error::PasswordNotGiven),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// If the secret cannot be read, or no connection be made.
    pub fn connect(self) -> Result<Session, Error> {
        let session = match self.secret {
            Some((secret_id, identity)) => login::open(&secret_id, &identity, self.options, Given::Server)
                .map_err(as_connection_string)?,
            None => {
                let info = self.options.resolve(&Environment::from_process());
                let info = info.map_err(Error::ConnectionString)?;
                connections::counted(|| Session::open(info, false))?
            }
        };
        Ok(match self.server {
            Some(server) => session.made_by(server),
            None => session,
        })
    }
}

/// Where options stand for a connection string, what is wrong with them is reported as it would be there.
fn as_connection_string(error: Error) -> Error {
    match error {
        Error::Options(error) => Error::ConnectionString(error),
        error => error,
    }
}
