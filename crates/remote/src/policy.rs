//! What is asked of a connection besides where it leads.

use crate::conninfo::SslMode;

/// The lowest iteration count that RFC 7677 allows a server. PostgreSQL's own default is the same.
pub const MIN_SCRAM_ITERATIONS: u32 = 4096;

/// What the caller decides, besides the conninfo.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The client encoding of the session, a name Postgres knows. dblink: that of the local database.
    pub client_encoding: String,
    /// Where the password is from, and so what it may be used for.
    pub password_from: PasswordFrom,
    /// The weakest `sslmode` with which a connection is made at all.
    pub min_sslmode: SslMode,
    /// The lowest iteration count with which SCRAM makes a proof of a password: who gets one, and may be
    /// anybody where the server's certificate is not verified, can try passwords against it, the faster the
    /// lower the count is.
    pub min_scram_iterations: u32,
}

/// Where a password is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFrom {
    /// The caller: a connection string, the environment, a password file.
    Given,
    /// A secret: the password is sent over TLS only, unless `sslmode=disable` was asked for by name.
    Secret,
    /// A signature: an IAM token is sent over TLS only, and only where a password is asked for in clear text.
    IamToken,
}
