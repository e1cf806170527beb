//! What OpenSSL says, in words that can be read.

use std::io;

use openssl::error::ErrorStack;
use openssl::ssl::{self, SslRef, SslVerifyMode};
use openssl::x509::X509VerifyResult;
use openssl_sys as ffi;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// OpenSSL refuses, in its words; those that libpq shows.
    #[error("SSL error: {0}")]
    Refused(String),
    /// The server's certificate was not accepted. In OpenSSL's words, behind those that libpq shows.
    #[error("SSL error: certificate verify failed: {reason}")]
    NotVerified {
        /// What OpenSSL says.
        reason: String,
        /// What of that can be done something about.
        because: Distrust,
    },
    /// What the stream below said.
    #[error(transparent)]
    Io(io::Error),
}

/// Why a certificate was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// A certificate in the chain has expired.
    Expired,
    /// A certificate in the chain is not valid yet.
    NotYetValid,
    /// A certificate in the chain has been revoked.
    Revoked,
    /// No list, in date and genuine, says whether the certificate has been revoked.
    NoRevocationList,
    /// The certificate comes from nobody who is trusted.
    UnknownAuthority,
    /// Something else is wrong with one in the chain, such as what it may be used for.
    Unfit,
}

impl Distrust {
    fn of(result: X509VerifyResult) -> Distrust {
        match result.as_raw() {
            ffi::X509_V_ERR_CERT_HAS_EXPIRED => Distrust::Expired,
            ffi::X509_V_ERR_CERT_NOT_YET_VALID => Distrust::NotYetValid,
            ffi::X509_V_ERR_CERT_REVOKED => Distrust::Revoked,
            ffi::X509_V_ERR_UNABLE_TO_GET_CRL
            | ffi::X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE
            | ffi::X509_V_ERR_CRL_SIGNATURE_FAILURE
            | ffi::X509_V_ERR_CRL_NOT_YET_VALID
            | ffi::X509_V_ERR_CRL_HAS_EXPIRED
            | ffi::X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD
            | ffi::X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD
            | ffi::X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER
            | ffi::X509_V_ERR_KEYUSAGE_NO_CRL_SIGN
            | ffi::X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION
            | ffi::X509_V_ERR_DIFFERENT_CRL_SCOPE
            | ffi::X509_V_ERR_CRL_PATH_VALIDATION_ERROR => Distrust::NoRevocationList,
            ffi::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
            | ffi::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
            | ffi::X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
            | ffi::X509_V_ERR_CERT_SIGNATURE_FAILURE
            | ffi::X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
            | ffi::X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
            | ffi::X509_V_ERR_CERT_UNTRUSTED
            | ffi::X509_V_ERR_CERT_REJECTED => Distrust::UnknownAuthority,
            _ => Distrust::Unfit,
        }
    }
}

/// The reason if there was no memory.
pub const NO_MEMORY: &str = "malloc failure";

/// The reason that OpenSSL gives first, as libpq shows it; or that there was no memory, if it says so at all: what
/// failed for want of it may come first.
pub fn reason(errors: &ErrorStack) -> String {
    let first = errors.errors().first();
    if errors.errors().iter().any(|error| error.reason() == Some(NO_MEMORY)) {
        return NO_MEMORY.to_owned();
    }
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
        return match session.verify_result() {
            result if verified && result != X509VerifyResult::OK => {
                Error::NotVerified { reason: result.error_string().to_owned(), because: Distrust::of(result) }
            }
            _ => Error::Refused(reason(errors)),
        };
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
