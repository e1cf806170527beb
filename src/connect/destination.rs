//! Where to connect, and with what: what a connection string says, a foreign server named in its place, or a
//! secret.

use secretlink_aws::SettingsOverrides;
use secretlink_remote::conninfo::Options;

use crate::backend::process::user;
use crate::backend::text::ServerText;
use crate::connect::conninfo::GivenBy;
use crate::connect::credential::{Credential, IamToken};
use crate::connect::error::ConnectionError;
use crate::connect::foreign_server::{self, ServerLogin};
use crate::connect::login;
use crate::connect::recipe::{Made, Recipe, Way};
use crate::session::name::is_like_connection_string;

/// Where to connect, and as whom.
pub(crate) struct Destination {
    options: Options,
    given_by: GivenBy,
    credential: Credential,
    way: Option<Way>,
}

impl Destination {
    /// What a connection string says, or the foreign server of that name. Checked by contrib dblink's rule:
    /// who is not a superuser gives a password, so that none is picked up from the server's own files and
    /// environment.
    ///
    /// # Errors
    /// If that is broken, or the connection string makes no sense; and what can be wrong with a server.
    pub(crate) fn read(connstr: ServerText) -> Result<Destination, ConnectionError> {
        let text = connstr.to_utf8();
        if let Some(said) = foreign_server::find(connstr)? {
            return Destination::of_server(said);
        }
        match Options::parse(&text) {
            // Not even the beginning of a connection string: the name of something that is not there.
            Err(_) if !is_like_connection_string(&text) => Err(ConnectionError::NoSuchServer),
            Ok(options) => {
                let (given_by, credential) = (GivenBy::ConnectionString, Credential::Given);
                Destination { options, given_by, credential, way: None }.checked()
            }
            // As in contrib: what cannot be understood gives no password.
            Err(_) if !user::is_superuser() => Err(ConnectionError::PasswordNotGiven),
            Err(error) => Err(ConnectionError::ConnectionString(error)),
        }
    }

    /// Where a foreign server leads.
    ///
    /// # Errors
    /// As [`Destination::read`].
    pub(crate) fn of_server(said: ServerLogin) -> Result<Destination, ConnectionError> {
        let ServerLogin { options, credential, by } = said;
        Destination { options, given_by: GivenBy::Server, credential, way: Some(Way::Server(by)) }.checked()
    }

    /// Where a secret leads, with what the caller of `connect_with_secret` gives besides.
    pub(crate) fn with_secret(id: String, options: Options) -> Destination {
        // A password is not kept.
        let keep = !options.has_secrets();
        let way = keep.then(|| Way::Secret { id: id.clone(), options: options.clone() });
        let credential = Credential::Secret { id, overrides: SettingsOverrides::default(), iam_host: None };
        Destination { options, given_by: GivenBy::Arguments, credential, way }
    }

    /// Where the options lead, to log in there with an IAM token: what the caller of `connect_with_iam` gives.
    pub(crate) fn with_iam(options: Options, region: Option<String>) -> Destination {
        // The passphrase of a key is not kept.
        let keep = !options.has_secrets();
        let way = keep.then(|| Way::Iam { options: options.clone(), region: region.clone() });
        let credential = Credential::IamToken(IamToken { region, ..IamToken::default() });
        Destination { options, given_by: GivenBy::Arguments, credential, way }
    }

    /// Where a session was made that has gone. What a foreign server says is read again.
    ///
    /// # Errors
    /// As [`Destination::read`].
    pub(crate) fn again(way: &Way) -> Result<Destination, ConnectionError> {
        match way {
            Way::Secret { id, options } => Ok(Destination::with_secret(id.clone(), options.clone())),
            Way::Iam { options, region } => Ok(Destination::with_iam(options.clone(), region.clone())),
            Way::Server(server) => Destination::of_server(server.ask_again()?),
        }
    }

    fn checked(self) -> Result<Destination, ConnectionError> {
        let gives_none = matches!(self.credential, Credential::Given) && !self.options.has_credentials();
        match gives_none && !user::is_superuser() {
            true => Err(ConnectionError::PasswordNotGiven),
            false => Ok(self),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// If the secret cannot be read, or no connection be made.
    pub(crate) fn connect(self) -> Result<Made, ConnectionError> {
        let (session, secret) = login::log_in(self.options, self.given_by, self.credential)?;
        Ok(Made { session, recipe: Recipe { way: self.way, secret } })
    }
}
