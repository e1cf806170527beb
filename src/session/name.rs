//! How a connection is called.

use crate::backend::text::ServerText;
use crate::session::error::SessionError;

/// A connection's name. The one connection without a name comes before all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConnectionName {
    /// The connection without a name.
    Unnamed,
    /// A name in the encoding of the database, cut to the length of an identifier as contrib dblink does.
    Named(Vec<u8>),
}

impl ConnectionName {
    /// The name for a new connection, with a NOTICE if it is cut.
    pub(crate) fn create(name: ServerText) -> ConnectionName {
        ConnectionName::Named(name.into_identifier(true).into_bytes())
    }

    /// The name of a connection that should exist.
    pub(crate) fn find(name: ServerText) -> ConnectionName {
        ConnectionName::Named(name.into_identifier(false).into_bytes())
    }

    /// The name in the encoding of the database, if there is one.
    pub(crate) fn into_text(self) -> Option<ServerText> {
        match self {
            ConnectionName::Unnamed => None,
            ConnectionName::Named(name) => Some(ServerText(name)),
        }
    }

    fn shown(&self) -> Option<String> {
        self.clone().into_text().map(|name| name.to_utf8())
    }

    /// What a CONTEXT line says of the connection. `doing` is the line up to it.
    pub(crate) fn describe(&self, doing: &str) -> String {
        match self.shown() {
            Some(name) => format!("{doing} on dblink connection named \"{name}\""),
            None => format!("{doing} on unnamed dblink connection"),
        }
    }

    /// What a message calls the connection.
    pub(crate) fn subject(&self) -> String {
        match self.shown() {
            Some(name) => format!("connection \"{name}\""),
            None => "unnamed connection".into(),
        }
    }

    /// The error that a connection of this name is not open.
    pub(crate) fn not_available(&self) -> SessionError {
        match self.shown() {
            None => SessionError::UnnamedNotAvailable,
            // There may be a password in it.
            Some(text) if is_like_connection_string(&text) => SessionError::NotAName,
            Some(name) => SessionError::NotAvailable(name),
        }
    }
}

/// Whether a text could be a connection string, with a mistake in it perhaps. It may then have a password in
/// it, and no message may repeat it.
pub(crate) fn is_like_connection_string(text: &str) -> bool {
    text.contains('=') || text.starts_with("postgresql://") || text.starts_with("postgres://")
}
