//! TLS by OpenSSL, for PostgreSQL servers and for AWS.
//!
//! It is the library that Postgres itself and libpq have loaded, with the same configuration. This crate
//! holds what every use of it needs: contexts and streams that leave nothing of what was read in memory,
//! a bound on what a server may send besides data, errors in plain words, and a queue of errors that is
//! left as it was found.

#![warn(unreachable_pub)]

mod errors;
mod files;
mod more;
mod own_errors;
mod stream;

pub use errors::{Distrust, Error, NO_MEMORY, reason};
pub use files::{MAX_FILE, UnfitFile, check_default_roots, check_hashed_names, has_hashed_names};
pub use more::{
    AlternativeName, alternative_name, certificate_was_requested, default_certificate_directory,
    note_requests_for_certificate, server_end_point,
};
pub use own_errors::OwnErrors;
pub use stream::TlsStream;

use openssl::error::ErrorStack;
use openssl::ssl::{
    SslContext, SslContextBuilder, SslMethod, SslMode as Mode, SslOptions as Settings, SslSessionCacheMode,
};

/// Overwrites what has been decrypted once it has been read (`SSL_OP_CLEANSE_PLAINTEXT`, since OpenSSL
/// 3.0): whatever a server sends may be secret. The crate `openssl` has no name for it.
const CLEANSE_PLAINTEXT: Settings = Settings::from_bits_retain(1 << 1);

/// A context for clients that trusts nobody yet, and verifies nothing.
///
/// # Errors
/// If there is no memory.
pub fn client_context() -> Result<SslContextBuilder, ErrorStack> {
    let _errors = OwnErrors::new();
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    // A message can be sent in parts, and what is left of it from another place in memory.
    builder.set_mode(Mode::ENABLE_PARTIAL_WRITE | Mode::ACCEPT_MOVING_WRITE_BUFFER | Mode::AUTO_RETRY);
    builder.set_options(
        // As libpq.
        Settings::NO_SSLV2
            | Settings::NO_SSLV3
            | Settings::NO_COMPRESSION
            | CLEANSE_PLAINTEXT
            // Postgres has not renegotiated since 9.5; a server that asks for it over and over is refused.
            | Settings::NO_RENEGOTIATION
            // A server that ends without saying so is a lost connection anyhow: what is cut short shows by
            // the length of its messages.
            | Settings::IGNORE_UNEXPECTED_EOF,
    );
    // Sessions are not resumed, as in libpq.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    // Header and content of a record with one call of the system.
    builder.set_read_ahead(true);
    more::never_ask_for_passphrases(&mut builder);
    Ok(builder)
}
