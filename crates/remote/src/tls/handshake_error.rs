//! What OpenSSL says, in words that can be read.

use std::io;

use openssl::error::ErrorStack;
use openssl::ssl::{self, ErrorCode, SslRef, SslVerifyMode};
use openssl::x509::X509VerifyResult;

use crate::error::TlsError;

/// The reason that OpenSSL gives first, as libpq shows it.
pub(super) fn reason(errors: &ErrorStack) -> String {
    let first = errors.errors().first();
    match first.and_then(|error| error.reason()) {
        Some(reason) => reason.to_owned(),
        // The operating system's, as of a file that cannot be read, have no text in OpenSSL.
        None => {
            first.map_or_else(|| "no reason given".to_owned(), |error| format!("error {:#x}", error.code()))
        }
    }
}

/// Why a handshake failed.
pub(super) fn of_handshake(error: ssl::Error, session: &SslRef) -> TlsError {
    if let Some(errors) = error.ssl_error() {
        // Of what is not to be verified there is a result, too.
        let verified = session.verify_mode().contains(SslVerifyMode::PEER);
        return TlsError::Handshake(match session.verify_result() {
            result if verified && result != X509VerifyResult::OK => {
                format!("certificate verify failed: {}", result.error_string())
            }
            _ => reason(errors),
        });
    }
    match error.into_io_error() {
        Ok(error) if error.kind() != io::ErrorKind::UnexpectedEof => TlsError::Io(error),
        _ => TlsError::Handshake("server closed the connection during the handshake".to_owned()),
    }
}

/// What OpenSSL said of a stream after the handshake, if `error` comes from it: with TLS 1.3 a server that
/// does not like our certificate says so then.
pub(super) fn of_stream(error: &io::Error) -> Option<TlsError> {
    let error = error.get_ref()?.downcast_ref::<ssl::Error>()?;
    match (error.ssl_error(), error.code()) {
        (Some(errors), _) => Some(TlsError::Handshake(reason(errors))),
        (None, ErrorCode::ZERO_RETURN) => None,
        (None, _) => Some(TlsError::Handshake("broken stream".to_owned())),
    }
}
