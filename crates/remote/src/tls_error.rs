//! Why TLS could not be set up.

use std::io;

use secretlink_tls::Distrust;
use thiserror::Error;

/// TLS could not be set up.
#[derive(Debug, Error)]
#[allow(missing_docs)] // each variant's message is its documentation
pub enum TlsError {
    #[error("root certificate file \"{0}\" does not exist")]
    NoRootFile(String),
    #[error("location of root certificate file could not be determined")]
    NoRootLocation,
    #[error("could not read {what} \"{path}\": {reason}")]
    File { what: &'static str, path: String, reason: String },
    /// What is in the file is not for the role that named it.
    #[error("could not use {what} \"{path}\"")]
    PrivateFile { what: &'static str, path: String },
    #[error("private key file \"{0}\" has group or world access")]
    KeyPermissions(String),
    #[error("private key file \"{0}\" is encrypted")]
    KeyEncrypted(String),
    #[error("could not decrypt private key file \"{0}\"")]
    KeyPassphrase(String),
    #[error("private keys in an OpenSSL engine are not supported")]
    KeyInEngine,
    #[error("certificate does not match private key file \"{path}\": {reason}")]
    KeyMismatch { path: String, reason: String },
    #[error("sslcertmode value \"require\" needs a client certificate, and there is none")]
    NoClientCertificate,
    #[error("server did not request an SSL certificate")]
    CertificateNotRequested,
    #[error("server did not show a certificate")]
    NoServerCertificate,
    #[error("server certificate{found} does not match host name \"{host}\"")]
    PeerName { found: String, host: String },
    #[error("SSL certificate's name contains embedded null")]
    PeerNameWithNul,
    #[error("certificate contains IP address with invalid length {0}")]
    PeerAddressLength(usize),
    #[error("direct SSL connection was established without ALPN protocol negotiation extension")]
    NoAlpn,
    #[error("could not set up SSL: {0}")]
    Setup(String),
    #[error("SSL error: {0}")]
    Handshake(String),
    #[error("SSL error: certificate verify failed: {reason}")]
    NotVerified { reason: String, because: Distrust },
    #[error("SSL error: {}", os_error(.0))]
    Io(#[source] io::Error),
}

impl TlsError {
    /// Whether there was no memory, for OpenSSL or for the file that it was to read.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        match self {
            TlsError::File { reason, .. }
            | TlsError::KeyMismatch { reason, .. }
            | TlsError::Setup(reason)
            | TlsError::Handshake(reason)
            | TlsError::NotVerified { reason, .. } => {
                // The latter is what the operating system's error and a result of verification say.
                [secretlink_tls::NO_MEMORY, "out of memory"].contains(&reason.as_str())
            }
            _ => false,
        }
    }
}

impl From<secretlink_tls::Error> for TlsError {
    fn from(error: secretlink_tls::Error) -> TlsError {
        match error {
            secretlink_tls::Error::Refused(reason) => TlsError::Handshake(reason),
            secretlink_tls::Error::NotVerified { reason, because } => {
                TlsError::NotVerified { reason, because }
            }
            secretlink_tls::Error::Io(error) => TlsError::Io(error),
        }
    }
}

/// An operating system error without Rust's "(os error N)".
pub(crate) fn os_error(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}
