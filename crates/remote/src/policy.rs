//! What is asked of a connection besides where it leads.

/// What the caller decides, besides the conninfo.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The client encoding of the session, a name Postgres knows. dblink: that of the local database.
    pub client_encoding: String,
    /// The password comes from a secret: it is sent over TLS only, unless `sslmode=disable` was
    /// asked for by name.
    pub protect_password: bool,
}
