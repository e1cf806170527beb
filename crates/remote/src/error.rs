//! What can go wrong with a remote server.

use secretlink_core::memory::OUT_OF_MEMORY;
use secretlink_core::{OutOfMemory, Report, SqlState, printable};
use secretlink_tls::Distrust;
use std::io;
use thiserror::Error;

use crate::framed::CONNECTION_FAILURE;
use crate::server_message::ServerMessage;
pub use crate::tls_error::TlsError;
use crate::tls_error::os_error;

/// No connection could be made. Shown as contrib dblink shows it: the message is always the same,
/// the reasons, one line for each address tried, are the detail.
#[derive(Debug, Error)]
#[error("could not establish connection")]
pub struct ConnectError {
    /// One for each address tried, in order; never empty.
    pub attempts: Vec<FailedAttempt>,
}

/// One address that did not work out.
#[derive(Debug, Error)]
#[error("{target}{}", shown(.reason))]
pub struct FailedAttempt {
    /// `connection to server at "host" (address), port N failed: `, as libpq words it; empty where
    /// the reason has nothing to do with an address.
    pub target: String,
    /// Why.
    pub reason: AttemptError,
}

/// Why one attempt failed.
#[derive(Debug, Error)]
#[allow(missing_docs)] // each variant's message is its documentation
pub enum AttemptError {
    #[error("could not translate host name \"{0}\" to address: {1}")]
    Resolve(String, io::Error),
    #[error("{}", os_error(.0))]
    Io(#[source] io::Error),
    #[error("out of memory")]
    OutOfMemory,
    #[error("timeout expired")]
    Timeout,
    #[error("{0}")]
    Server(Box<ServerMessage>),
    /// The server took the login for good and then refused the session, as where there are too many.
    #[error("{message}")]
    AfterLogin { message: Box<ServerMessage>, password_used: bool },
    #[error("server closed the connection unexpectedly")]
    Closed,
    #[error("unexpected message from the server during {0}")]
    Protocol(&'static str),
    #[error("server does not support SSL, but SSL was required")]
    TlsRefused,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no password supplied")]
    NoPassword,
    #[error("the server asked for the password over an unencrypted connection")]
    PasswordUnencrypted,
    #[error("the server asked for the password in cleartext over an unencrypted connection")]
    CleartextUnencrypted,
    #[error("the server asked for {0}, and an IAM token is none")]
    TokenNotAsked(&'static str),
    #[error("authentication method requirement failed: server requested {0}")]
    MethodNotAllowed(&'static str),
    #[error("authentication method requirement failed: server did not complete authentication")]
    NotAuthenticated,
    #[error("channel binding {0}")]
    ChannelBinding(&'static str),
    #[error("the server asked for {0} authentication, which is not supported")]
    UnsupportedMethod(&'static str),
    #[error("SCRAM authentication failed: {0}")]
    Scram(String),
    #[error(
        "SCRAM authentication failed: the server asks for {iterations} iterations, fewer than {min_iterations}"
    )]
    ScramIterations { iterations: u32, min_iterations: u32 },
    #[error("sslmode \"{mode}\" is weaker than \"{min}\", the weakest that is permitted")]
    SslModeTooWeak { mode: &'static str, min: &'static str },
    #[error("{0}")]
    SessionNotAcceptable(&'static str),
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// A reason in which what a server says, or its certificate, cannot pass for more than it is.
fn shown(reason: &AttemptError) -> String {
    match reason {
        // Their fields are quoted one by one, each on a line.
        AttemptError::Server(_) | AttemptError::AfterLogin { .. } => reason.to_string(),
        reason => printable(&reason.to_string()).into_owned(),
    }
}

impl From<ServerMessage> for AttemptError {
    fn from(message: ServerMessage) -> AttemptError {
        AttemptError::Server(Box::new(message))
    }
}

impl From<io::Error> for AttemptError {
    fn from(error: io::Error) -> AttemptError {
        // With TLS 1.3 a server that does not like our certificate says so after the handshake.
        let error = match error.downcast::<secretlink_tls::Error>() {
            Ok(error) => return AttemptError::Tls(error.into()),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::UnexpectedEof => AttemptError::Closed,
            io::ErrorKind::OutOfMemory => AttemptError::OutOfMemory,
            _ => AttemptError::Io(error),
        }
    }
}

impl From<OutOfMemory> for AttemptError {
    fn from(_: OutOfMemory) -> AttemptError {
        AttemptError::OutOfMemory
    }
}

impl ConnectError {
    /// A failure that is not about any address.
    pub(crate) fn single(reason: impl Into<AttemptError>) -> ConnectError {
        ConnectError { attempts: vec![FailedAttempt { target: String::new(), reason: reason.into() }] }
    }

    /// The error for a role that may not know what is in the files that the server's user can read: libpq opens
    /// those that a connection string names as that user. Whether there is such a file is told, as libpq tells
    /// it. `None` if there is nothing to keep back.
    pub fn without_file_contents(&self) -> Option<ConnectError> {
        const KEY: &str = "private key file";
        let private = |reason: &AttemptError| {
            let AttemptError::Tls(error) = reason else { return None };
            let (what, path) = match error {
                _ if error.is_out_of_memory() => return None,
                TlsError::File { what, path, .. } => (*what, path),
                TlsError::KeyEncrypted(path) | TlsError::KeyPassphrase(path) => (KEY, path),
                TlsError::KeyMismatch { path, .. } => (KEY, path),
                _ => return None,
            };
            Some(AttemptError::Tls(TlsError::PrivateFile { what, path: path.clone() }))
        };
        // Nobody tries another address after that.
        let FailedAttempt { target, reason } = self.attempts.last()?;
        Some(ConnectError {
            attempts: vec![FailedAttempt { target: target.clone(), reason: private(reason)? }],
        })
    }

    /// Whether no server was reached, and this was known at once: every address refused the connection, or there is
    /// none. A server that does not answer is not among these.
    pub fn is_nobody_there(&self) -> bool {
        self.attempts.iter().all(|attempt| match &attempt.reason {
            AttemptError::Resolve(..) => true,
            AttemptError::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NotFound
            ),
            _ => false,
        })
    }

    /// Whether the server said that user or password are wrong (28P01, 28000). A network error is
    /// never taken for one.
    pub fn is_authentication_failure(&self) -> bool {
        self.attempts.iter().any(|attempt| match &attempt.reason {
            AttemptError::Server(message) | AttemptError::AfterLogin { message, .. } => {
                message.sqlstate.is_some_and(|s| matches!(s.as_str(), "28P01" | "28000"))
            }
            _ => false,
        })
    }

    /// Whether the last server tried has no TLS, which was required.
    pub fn is_without_tls(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| matches!(attempt.reason, AttemptError::TlsRefused))
    }

    /// Whether no trust could be put in the last server tried: its certificate would not do, or there was
    /// nothing to verify it against.
    pub fn is_untrusted(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| matches!(attempt.reason, AttemptError::Tls(_)))
    }

    /// Whether the last server tried asked for the password and found it right, though it did not let the
    /// session begin.
    pub fn proved_password(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| {
            matches!(attempt.reason, AttemptError::AfterLogin { password_used: true, .. })
        })
    }
}

impl Report for ConnectError {
    fn sqlstate(&self) -> SqlState {
        match self.attempts.last().map(|attempt| &attempt.reason) {
            Some(AttemptError::OutOfMemory) => OUT_OF_MEMORY,
            Some(AttemptError::Tls(error)) if error.is_out_of_memory() => OUT_OF_MEMORY,
            _ => SqlState::new("08001"),
        }
    }

    fn detail(&self) -> Option<String> {
        Some(self.attempts.iter().map(|a| a.to_string()).collect::<Vec<_>>().join("\n"))
    }

    fn hint(&self) -> Option<String> {
        let hint = match &self.attempts.last()?.reason {
            AttemptError::PasswordUnencrypted => {
                "A password from a secret is sent over TLS only. Turn on ssl at the server, or ask for sslmode=disable by name."
            }
            AttemptError::CleartextUnencrypted => {
                "Turn on ssl at the server, or use scram-sha-256 in its pg_hba.conf."
            }
            AttemptError::ScramIterations { .. } => {
                "Set the password again at the server with scram_iterations at its default. A superuser can lower secretlink.min_scram_iterations for an old server."
            }
            AttemptError::SslModeTooWeak { .. } => "A superuser decides with secretlink.min_sslmode.",
            AttemptError::TokenNotAsked(_) => {
                "The role lacks rds_iam: GRANT rds_iam TO the role at the database, where IAM authentication must be enabled."
            }
            AttemptError::TlsRefused => "Turn on ssl at the server, or set sslmode=disable.",
            AttemptError::Tls(TlsError::NoRootFile(_) | TlsError::NoRootLocation) => {
                "Provide the file, use the system's trusted roots with sslrootcert=system, or change sslmode to disable server certificate verification."
            }
            AttemptError::Tls(TlsError::KeyPermissions(_)) => {
                "The file must have permissions u=rw (0600) or less if owned by the current user, or u=rw,g=r (0640) or less if owned by root."
            }
            AttemptError::Tls(TlsError::PrivateFile { .. }) => "The server log says why.",
            AttemptError::Tls(TlsError::NotVerified { because, .. }) => match because {
                Distrust::UnknownAuthority => {
                    "sslrootcert must name a file with the root certificate that the server's comes from."
                }
                Distrust::Expired => {
                    "Have the certificate that has expired renewed, be it the server's or an authority's, and see whether the clock of this server is right."
                }
                Distrust::NotYetValid => {
                    "See whether the clocks are right: here, and where the certificate was issued."
                }
                Distrust::Revoked => {
                    "The authority has taken the certificate back, as the list in sslcrl or sslcrldir says. Have another one issued."
                }
                Distrust::NoRevocationList => {
                    "With sslcrl or sslcrldir there must be a list of each authority in the chain, and none may be out of date."
                }
                Distrust::Unfit => {
                    "Have the certificate issued anew: with what is in it, or in an authority's above it, it may not be a server's."
                }
            },
            AttemptError::Tls(TlsError::PeerName { .. }) => {
                "Connect by a name that is in the server's certificate, or have it issued for this one."
            }
            AttemptError::Tls(TlsError::Handshake(reason))
                if ["protocol", "handshake failure", "cipher"].iter().any(|word| reason.contains(word)) =>
            {
                "Server and client must have a TLS version, a cipher suite and a curve in common. To connect without TLS, set sslmode=disable."
            }
            AttemptError::Tls(TlsError::File { .. } | TlsError::KeyMismatch { .. }) => {
                "The server offers TLS. Correct the file, name another one, or connect without TLS by sslmode=disable."
            }
            AttemptError::Tls(TlsError::KeyEncrypted(_)) => "Give its passphrase as sslpassword.",
            AttemptError::Tls(TlsError::KeyPassphrase(_)) => "Check sslpassword.",
            AttemptError::Tls(TlsError::KeyInEngine) => {
                "Give a file in sslkey, in PEM or DER format, whose name has no colon."
            }
            _ => return None,
        };
        Some(hint.to_string())
    }
}

/// A query did not get its result.
#[derive(Clone, Debug, Error)]
pub enum QueryError {
    /// The server reported an error.
    #[error("{}", String::from_utf8_lossy(&.0.message))]
    Server(Box<ServerMessage>),
    /// The connection broke; it is of no more use.
    #[error("connection to the remote server was lost: {0}")]
    Lost(String),
    /// `COPY … TO STDOUT` or `COPY … FROM STDIN`.
    #[error("COPY to or from the client is not supported")]
    Copy,
    /// The query string has no statement in it.
    #[error("query is empty")]
    Empty,
    /// Longer than a message can be.
    #[error("query of {0} bytes is too long to send")]
    TooLong(usize),
    /// Memory for what came back has run out.
    #[error("out of memory")]
    OutOfMemory,
}

impl Report for QueryError {
    fn sqlstate(&self) -> SqlState {
        match self {
            QueryError::Server(message) => message.sqlstate.unwrap_or(CONNECTION_FAILURE),
            QueryError::Lost(_) => CONNECTION_FAILURE,
            QueryError::Copy => SqlState::new("0A000"),
            QueryError::Empty => SqlState::new("42601"),
            QueryError::TooLong(_) => SqlState::new("54000"),
            QueryError::OutOfMemory => OUT_OF_MEMORY,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            QueryError::Server(message) => {
                message.hint.as_deref().map(|h| String::from_utf8_lossy(h).into_owned())
            }
            QueryError::Lost(_) => Some("You can connect again under the same name.".into()),
            QueryError::Copy => Some("Use a SELECT or INSERT statement instead.".into()),
            QueryError::Empty | QueryError::TooLong(_) | QueryError::OutOfMemory => None,
        }
    }
}
