//! Connection strings: what libpq accepts, with libpq's meaning, as a typed [`ConnInfo`].
//!
//! Three steps: [`Options::parse`] reads a string in either syntax, [`Options::resolve`] fills in
//! what was left out (service file, environment, built-in defaults, password file) and checks all
//! of it, and the result says everything the connecting code needs. The rules are those of libpq 15
//! (`src/interfaces/libpq/fe-connect.c`) with the keywords that 16 to 19 added (PostgreSQL
//! documentation, "Database Connection Control Functions").
//!
//! One thing differs on purpose: libpq's messages repeat pieces of the string, and with a forgotten
//! quote such a piece is part of the password. Here a message repeats only what cannot be one.

mod environment;
mod error;
mod foreign_options;
mod hosts;
mod keywords;
mod options;
mod parse;
mod passfile;
mod require_auth;
mod resolve;
mod scram_keys;
mod servicefile;
mod ssl;
mod ssl_mode;
mod string;
mod uri;
mod value;

#[cfg(test)]
mod tests;

pub use environment::Environment;
pub use error::{ConnInfoError, Place, UriProblem};
pub use foreign_options::{OptionOf, foreign_options};
pub use hosts::{Host, HostAddress};
pub use keywords::closest_match;
pub use options::Options;
pub use require_auth::{AuthMethod, RequireAuth};
pub use resolve::{ChannelBinding, ConnInfo, Keepalives, TargetSessionAttrs};
pub use scram_keys::ScramKeys;
pub use ssl::{RootCert, SslCertMode, SslOptions, TlsVersion};
pub use ssl_mode::SslMode;
