//! What OpenSSL says, in words that can be read.

use std::io;

use openssl::error::ErrorStack;
use openssl::ssl::{self, SslRef, SslVerifyMode};
use openssl::x509::X509VerifyResult;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// In OpenSSL's words, those that libpq shows.
    #[error("SSL error: {0}")]
    Refused(String),
    /// What the stream below said.
    #[error(transparent)]
    Io(io::Error),
}

/// How the reason begins when a certificate was not accepted.
pub const NOT_VERIFIED: &str = "certificate verify failed: ";

/// The reason that OpenSSL gives first, as libpq shows it.
pub fn reason(errors: &ErrorStack) -> String {
    let first = errors.errors().first();
    match first.and_then(|error| error.reason()) {
        Some(reason) => reason.to_owned(),
        // The operating system's, as of a file that cannot be read, have no text in OpenSSL.
        None => first.map_or_else(|| "no reason given".to_owned(), |error| format!("error {}", error.code())),
    }
}

/// Why a handshake failed.
pub(crate) fn of_handshake(error: ssl::Error, session: &SslRef) -> Error {
    if let Some(errors) = error.ssl_error() {
        // Of what is not to be verified there is a result, too.
        let verified = session.verify_mode().contains(SslVerifyMode::PEER);
        return Error::Refused(match session.verify_result() {
            result if verified && result != X509VerifyResult::OK => {
                format!("{NOT_VERIFIED}{}", result.error_string())
            }
            _ => reason(errors),
        });
    }
    match error.into_io_error() {
        Ok(error) if error.kind() != io::ErrorKind::UnexpectedEof => Error::Io(error),
        _ => Error::Refused("server closed the connection during the handshake".to_owned()),
    }
}

/// An error of a stream after the handshake, in words that can be read: OpenSSL's own name the place in
/// its source. With TLS 1.3 a server that does not like our certificate says so then.
pub(crate) fn of_stream(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|error| error.downcast_ref::<ssl::Error>()) {
        Some(said) => {
            let reason = said.ssl_error().map_or_else(|| "the connection is broken".to_owned(), reason);
            io::Error::new(error.kind(), Error::Refused(reason))
        }
        None => error,
    }
}
