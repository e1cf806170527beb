//! Why there is no session.

use secretlink_aws::AwsError;
use secretlink_core::{Report, SqlState};
use secretlink_remote::conninfo::ConnInfoError;
use secretlink_remote::error::ConnectError;
use thiserror::Error;

use crate::backend::error::BackendError;
use crate::secrets::error::SecretsError;
use crate::session::error::SessionError;

/// An error of `connect`. Where contrib dblink has the same error, SQLSTATE and texts are its.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    /// An error of the session that was made.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A secret could not be read.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The remote server, or the way to it.
    #[error(transparent)]
    Remote(#[from] ConnectError),
    /// Options given to `connect_with_secret`.
    #[error(transparent)]
    Options(#[from] ConnInfoError),
    /// A connection string given to a dblink function, where every failure to connect is one.
    #[error("could not establish connection")]
    ConnectionString(#[source] ConnInfoError),
    /// What was given is the name of nothing.
    #[error("there is no connection and no foreign server of that name")]
    NoSuchConnection,
    /// The name of nothing, where a connection is to be made.
    #[error("there is no foreign server of that name")]
    NoSuchServer,
    /// Servers of our wrapper have no tables.
    #[error("foreign tables are not supported by secretlink_fdw")]
    ForeignTable,
    /// Somebody who is no superuser gives no password.
    #[error("password is required")]
    PasswordNotGiven,

    /// A field that is needed is neither in the secret nor given.
    #[error("secret \"{secret}\" has no {field} field")]
    FieldMissing {
        /// The secret.
        secret: String,
        /// The field.
        field: &'static str,
        /// What to do instead of adding it.
        instead: &'static str,
    },
    /// The password of a secret that names another user was refused.
    #[error("could not establish connection")]
    SecretOfOther {
        /// The secret.
        secret: String,
        /// The user that it names.
        username: String,
        /// What the remote server said.
        error: ConnectError,
    },
    /// A login with an IAM token failed.
    #[error("could not establish connection")]
    TokenLogin {
        /// What the remote server said.
        error: ConnectError,
        /// What to do about it.
        hint: String,
    },
    /// A token would be sent without TLS.
    #[error("sslmode value \"{sslmode}\" is too weak to send an IAM token")]
    TokenNeedsTls {
        /// The mode that was asked for.
        sslmode: &'static str,
    },
    /// A token would be sent where there is no TLS.
    #[error("an IAM token is not sent over a Unix-domain socket")]
    TokenOverSocket,
    /// A foreign server says both what to log in with.
    #[error("options \"secret_id\" and \"iam_auth\" exclude each other")]
    SecretAndToken,
    /// A user mapping names another user than the secret.
    #[error("user of the user mapping is not that of secret \"{secret}\"")]
    UserFixedBySecret {
        /// The secret.
        secret: String,
    },

    /// An option that a foreign server or user mapping does not have.
    #[error("invalid option \"{name}\"")]
    InvalidOption {
        /// The option.
        name: String,
        /// What was meant, perhaps.
        hint: Option<String>,
    },
    /// An option that is on or off.
    #[error("{0} requires a Boolean value")]
    NotBoolean(&'static str),
    /// An option that only superusers set.
    #[error("permission denied to set option \"{0}\"")]
    OptionForSuperusers(&'static str),
    /// An option whose value makes no sense.
    #[error("invalid value for option \"{name}\"")]
    InvalidOptionValue {
        /// The option.
        name: &'static str,
        /// What is wrong with the value.
        problem: &'static str,
    },
    /// A user mapping's secret would go where the server's owner says.
    #[error("secret of the user mapping may not be used with server \"{server}\"")]
    SecretNotForServer {
        /// The server.
        server: String,
    },
    /// A foreign server was dropped.
    #[error("foreign server \"{0}\" of the connection does not exist any more")]
    ServerGone(String),
}

impl ConnectionError {
    /// Whether a secret is wrong, so that another version of it may be right.
    pub(crate) fn is_unusable_secret(&self) -> bool {
        match self {
            ConnectionError::FieldMissing { .. } => true,
            ConnectionError::Secrets(SecretsError::Aws(error)) => error.is_unusable(),
            _ => false,
        }
    }
}

impl From<BackendError> for ConnectionError {
    fn from(error: BackendError) -> ConnectionError {
        ConnectionError::Session(error.into())
    }
}

impl From<AwsError> for ConnectionError {
    fn from(error: AwsError) -> ConnectionError {
        ConnectionError::Secrets(error.into())
    }
}

impl Report for ConnectionError {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            ConnectionError::Session(error) => return error.sqlstate(),
            ConnectionError::Secrets(error) => return error.sqlstate(),
            ConnectionError::Remote(error)
            | ConnectionError::SecretOfOther { error, .. }
            | ConnectionError::TokenLogin { error, .. } => {
                return error.sqlstate();
            }
            ConnectionError::Options(error) => return error.sqlstate(),
            ConnectionError::ConnectionString(_) | ConnectionError::NoSuchServer => "08001",
            ConnectionError::NoSuchConnection => "08003",
            ConnectionError::ForeignTable => "0A000",
            ConnectionError::PasswordNotGiven => "2F003",
            ConnectionError::FieldMissing { .. }
            | ConnectionError::InvalidOptionValue { .. }
            | ConnectionError::TokenNeedsTls { .. }
            | ConnectionError::TokenOverSocket
            | ConnectionError::SecretAndToken => "22023",
            ConnectionError::UserFixedBySecret { .. }
            | ConnectionError::OptionForSuperusers(_)
            | ConnectionError::SecretNotForServer { .. } => "42501",
            ConnectionError::InvalidOption { .. } => "HV00J",
            ConnectionError::NotBoolean(_) => "42601",
            ConnectionError::ServerGone(_) => "42704",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            ConnectionError::Session(error) => return error.detail(),
            ConnectionError::Secrets(error) => return error.detail(),
            ConnectionError::Remote(error)
            | ConnectionError::SecretOfOther { error, .. }
            | ConnectionError::TokenLogin { error, .. } => {
                return error.detail();
            }
            ConnectionError::Options(error) => return error.detail(),
            ConnectionError::ConnectionString(error) => error.to_string(),
            ConnectionError::PasswordNotGiven => {
                "Non-superusers must provide a password in the connection string.".into()
            }
            ConnectionError::OptionForSuperusers(_) => {
                "Only superusers may set it, and change a server or user mapping that has it: they decide which secret is read and where its password goes.".into()
            }
            ConnectionError::SecretNotForServer { .. } => {
                "The owner of the server, who is not a superuser, decides where it leads.".into()
            }
            _ => return None,
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ConnectionError::Session(error) => return error.hint(),
            ConnectionError::Secrets(error) => return error.hint(),
            ConnectionError::Remote(error) => return error.hint(),
            ConnectionError::Options(error) | ConnectionError::ConnectionString(error) => return error.hint(),
            ConnectionError::NoSuchConnection => {
                "Open the connection first, with dblink_connect or connect_with_secret, or give a connection string such as \"host=... dbname=... user=... password=...\".".into()
            }
            ConnectionError::NoSuchServer => {
                "A connection string has the form \"host=... dbname=... user=... password=...\".".into()
            }
            ConnectionError::ForeignTable => {
                "Query the server with dblink, by the server's name; for foreign tables, make a server of postgres_fdw.".into()
            }
            ConnectionError::FieldMissing { field, instead, .. } => {
                format!("Add \"{field}\" to the secret, or {instead}.")
            }
            ConnectionError::TokenLogin { hint, .. } => hint.clone(),
            ConnectionError::TokenNeedsTls { .. } => {
                "A token is a password in clear text to any server that answers. Leave sslmode out, for verify-full, or ask for verify-ca or require.".into()
            }
            ConnectionError::TokenOverSocket => "Set host to the database's name.".into(),
            ConnectionError::SecretAndToken => {
                "For a user that the secret names, put \"iam_auth\": true into the secret, in place of the option.".into()
            }
            ConnectionError::SecretOfOther { secret, username, .. } => {
                format!("Secret \"{secret}\" is for user \"{username}\". Leave remote_user out, or use another secret.")
            }
            ConnectionError::UserFixedBySecret { .. } => {
                "Remove the option \"user\" from the mapping, or give it a password of its own.".into()
            }
            ConnectionError::InvalidOption { hint, .. } => return hint.clone(),
            ConnectionError::InvalidOptionValue { problem, .. } => (*problem).into(),
            ConnectionError::SecretNotForServer { .. } => {
                "Look at the server's options; then give it to a superuser, or give it a secret_id of its own.".into()
            }
            ConnectionError::ServerGone(_) => "Close the connection with dblink_disconnect.".into(),
            _ => return None,
        })
    }
}
