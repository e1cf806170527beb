//! What can be wrong with a connection string, without repeating a secret.

use std::fmt;
use std::path::PathBuf;

use secretlink_core::{Report, SqlState};

use crate::tls_error::os_error;

/// Where in a connection string something is wrong, in words that cannot hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The position in bytes, from 1.
    pub byte: usize,
    /// The keyword before that position.
    pub after: Option<&'static str>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}", self.byte)?;
        match self.after {
            Some(keyword) => write!(f, ", after the value of \"{keyword}\""),
            None => Ok(()),
        }
    }
}

/// What is wrong with a connection string or with what completes it.
///
/// Wording as in libpq's fe-connect.c where people know it. A variant holds text of the string only
/// if that was found not to be part of a secret: see [`super`].
#[derive(Debug, thiserror::Error)]
pub enum ConnInfoError {
    /// The string, or one value, is longer than anything sensible.
    #[error("connection info string is too long (maximum {maximum} bytes)")]
    TooLong {
        /// What would have been accepted, in bytes.
        maximum: usize,
    },
    /// No C string, and so no libpq and no startup packet, can hold a zero byte.
    #[error("connection info string contains a null byte")]
    NullByte,
    /// A keyword that is none, and that reads like one.
    #[error("invalid connection option \"{name}\"")]
    UnknownKeyword {
        /// The name as it was written.
        name: String,
    },
    /// A keyword that is none, and that may be a piece of a value.
    #[error("invalid connection option {place}")]
    UnknownWord {
        /// The place where the word starts.
        place: Place,
        /// The keyword it is but for its case.
        meant: Option<&'static str>,
    },
    /// A keyword given to [`super::Options::set`] that is none and does not read like one.
    #[error("invalid connection option")]
    UnknownName,
    /// A word of a string that no "=" follows.
    #[error("missing \"=\" {} in connection info string", match keyword {
        Some(keyword) => format!("after \"{keyword}\""),
        None => place.to_string(),
    })]
    MissingEquals {
        /// Where the word starts.
        place: Place,
        /// The word, if it is a keyword.
        keyword: Option<&'static str>,
    },
    /// A value whose closing quote is missing.
    #[error("unterminated quoted string in connection info string")]
    UnterminatedQuote {
        /// The position of the opening quote, in bytes, from 1.
        byte: usize,
    },
    /// A URI that breaks a rule.
    #[error("{problem}, at byte {byte}")]
    Uri {
        /// The rule.
        problem: UriProblem,
        /// Where, in bytes, from 1.
        byte: usize,
    },
    /// A parameter of a URI that is none, and that reads like one.
    #[error("invalid URI query parameter: \"{name}\"")]
    UnknownParameter {
        /// The name as it was written, percent-decoded.
        name: String,
    },
    /// A value that is not UTF-8 where text is needed.
    #[error("value of connection option \"{keyword}\" is not valid UTF-8")]
    NotUtf8 {
        /// Whose value.
        keyword: &'static str,
    },
    /// A value that holds a password in the manner of a connection string.
    #[error("value of connection option \"{keyword}\" contains a connection string with a password")]
    EmbeddedPassword {
        /// Whose value.
        keyword: &'static str,
    },
    /// A value outside its list.
    #[error("invalid {keyword} value{}", shown(": ", value))]
    InvalidValue {
        /// Whose value.
        keyword: &'static str,
        /// The value, if it is harmless.
        value: Option<String>,
    },
    /// A value that is not an integer.
    #[error("invalid integer value{} for connection option \"{keyword}\"", shown(" ", value))]
    InvalidInteger {
        /// Whose value.
        keyword: &'static str,
        /// The value, if it is harmless.
        value: Option<String>,
    },
    /// A port that is a number, but not between 1 and 65535.
    #[error("invalid port number: \"{port}\"")]
    InvalidPort {
        /// The number.
        port: i32,
    },
    /// A host name that no host can have.
    #[error("host name number {number} {problem}")]
    InvalidHostName {
        /// Which of several, from 1.
        number: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// `hostaddr` is not an IP address.
    #[error("could not parse network address{}", shown(" ", value))]
    InvalidAddress {
        /// The value, if it is harmless.
        value: Option<String>,
    },
    /// A socket path that does not fit into a `sockaddr_un`.
    #[error("Unix-domain socket path is too long (maximum {maximum} bytes)")]
    SocketPathTooLong {
        /// The longest path in bytes.
        maximum: usize,
    },
    /// More hosts than anybody means.
    #[error("too many hosts in connection info string (maximum {maximum})")]
    TooManyHosts {
        /// What would have been accepted.
        maximum: usize,
    },
    /// `host` and `hostaddr` list different numbers of hosts.
    #[error("could not match {names} host names to {addresses} hostaddr values")]
    HostCount {
        /// How many in `host`.
        names: usize,
        /// How many in `hostaddr`.
        addresses: usize,
    },
    /// `port` lists neither one port nor one for each host.
    #[error("could not match {ports} port numbers to {hosts} hosts")]
    PortCount {
        /// How many in `port`.
        ports: usize,
        /// How many hosts.
        hosts: usize,
    },
    /// `sslmode=verify-full` with nothing but an address to verify.
    #[error("host name must be specified for a verified SSL connection")]
    NoHostToVerify,
    /// An `sslmode` too weak for what another option asks for.
    #[error("weak sslmode \"{mode}\" may not be used with {with} (use {instead})")]
    WeakSslMode {
        /// The mode.
        mode: &'static str,
        /// The other option and its value.
        with: &'static str,
        /// The modes that are strong enough.
        instead: &'static str,
    },
    /// An `sslmode` weaker than is permitted on this server.
    #[error("sslmode \"{mode}\" is weaker than \"{min}\", the weakest that is permitted")]
    SslModeTooWeak {
        /// The mode.
        mode: &'static str,
        /// The weakest one that is permitted.
        min: &'static str,
    },
    /// The lowest TLS version is above the highest.
    #[error("invalid SSL protocol version range")]
    SslProtocolRange,
    /// The lowest protocol version is above the highest.
    #[error("invalid protocol version range")]
    ProtocolRange,
    /// `require_auth` names a method twice.
    #[error("require_auth method \"{method}\" is specified more than once")]
    DuplicateAuthMethod {
        /// The method.
        method: &'static str,
    },
    /// `require_auth` mixes methods with excluded methods.
    #[error("require_auth methods with and without \"!\" cannot be mixed")]
    MixedAuthMethods,
    /// One of the two keys of SCRAM without the other.
    #[error("scram_client_key and scram_server_key go together")]
    ScramKeyMissing,
    /// A key of SCRAM that is none.
    #[error("value of connection option \"{keyword}\" is not a key of 32 bytes in base64")]
    InvalidScramKey {
        /// Which key.
        keyword: &'static str,
    },
    /// A value that libpq could honour and secretlink cannot.
    #[error("connection option \"{keyword}\" is not supported{}", shown(" with the value ", value))]
    Unsupported {
        /// Whose value.
        keyword: &'static str,
        /// The value, if it is the value that matters and it is harmless.
        value: Option<String>,
    },
    /// Neither the string nor the operating system says who connects.
    #[error("no user name specified for the connection, and the operating system knows none")]
    NoUser,
    /// The service is in none of the service files.
    #[error("definition of service \"{service}\" not found")]
    ServiceNotFound {
        /// The service's name.
        service: String,
    },
    /// The service file asked for by name does not exist.
    #[error("service file \"{}\" not found", path.display())]
    ServiceFileNotFound {
        /// The file's path.
        path: PathBuf,
    },
    /// The service file exists and cannot be read.
    #[error("could not read service file \"{}\": {}", path.display(), os_error(source))]
    ServiceFileUnreadable {
        /// The file's path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What the service file says of a service is of no use, and not for the role that named it.
    #[error("could not use service \"{service}\"")]
    ServicePrivate {
        /// The service's name.
        service: String,
    },
    /// A line of the service file makes no sense.
    #[error("{problem} in service file \"{}\", line {line}", path.display())]
    ServiceFileLine {
        /// What is wrong.
        problem: &'static str,
        /// The file's path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// The rules that a URI can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriProblem {
    /// `[` without `]`.
    #[error("end of string reached when looking for matching \"]\" in IPv6 host address in URI")]
    UnclosedBracket,
    /// `[]`.
    #[error("IPv6 host address may not be empty in URI")]
    EmptyBrackets,
    /// Something after `]` that cannot follow.
    #[error("unexpected character in URI (expected \":\" or \"/\")")]
    AfterBracket,
    /// A second `@`, or one in the path: libpq would take a piece of the password for the host or
    /// the database, and name it in its messages.
    #[error("unexpected \"@\" in URI")]
    StrayAt,
    /// The text is not a port. libpq shows the text, which is the password in `postgres://user:password`.
    #[error("invalid port number in URI")]
    Port,
    /// A `%` without two hexadecimal digits.
    #[error("invalid percent-encoded token in URI")]
    PercentToken,
    /// `%00`.
    #[error("forbidden value %00 in percent-encoded value in URI")]
    PercentZero,
    /// A parameter without `=`.
    #[error("missing key/value separator \"=\" in URI query parameter{}", shown(" ", .0))]
    MissingSeparator(Option<&'static str>),
    /// A parameter with a second `=`.
    #[error("extra key/value separator \"=\" in URI query parameter{}", shown(" ", .0))]
    ExtraSeparator(Option<&'static str>),
    /// A parameter that is none and does not read like one.
    #[error("invalid URI query parameter")]
    UnknownParameter,
}

/// `text` in quotes after `lead`, or nothing.
fn shown(lead: &str, text: &Option<impl fmt::Display>) -> String {
    match text {
        Some(text) => format!("{lead}\"{text}\""),
        None => String::new(),
    }
}

impl ConnInfoError {
    /// The error for a role that may not know what is in the files that the server's user can read, and named a
    /// service: libpq opens service files as that user. Whether there is such a service is told. `None` if
    /// there is nothing to keep back.
    pub fn without_file_contents(&self, service: &str) -> Option<ConnInfoError> {
        match self {
            Self::ServiceNotFound { .. } | Self::ServiceFileNotFound { .. } | Self::ServicePrivate { .. } => {
                None
            }
            _ => Some(Self::ServicePrivate { service: service.to_owned() }),
        }
    }
}

impl Report for ConnInfoError {
    fn sqlstate(&self) -> SqlState {
        const INVALID_PARAMETER_VALUE: SqlState = SqlState::new("22023");
        const FEATURE_NOT_SUPPORTED: SqlState = SqlState::new("0A000");
        const PROGRAM_LIMIT_EXCEEDED: SqlState = SqlState::new("54000");
        const UNDEFINED_FILE: SqlState = SqlState::new("58P01");
        const IO_ERROR: SqlState = SqlState::new("58030");
        match self {
            Self::TooLong { .. } | Self::TooManyHosts { .. } => PROGRAM_LIMIT_EXCEEDED,
            Self::Unsupported { .. } => FEATURE_NOT_SUPPORTED,
            Self::ServiceFileNotFound { .. } => UNDEFINED_FILE,
            Self::ServiceFileUnreadable { .. } => IO_ERROR,
            _ => INVALID_PARAMETER_VALUE,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::UnterminatedQuote { byte } => Some(format!("The quote at byte {byte} is never closed.")),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::UnknownKeyword { name } | Self::UnknownParameter { name } => {
                let keyword = super::keywords::closest(name)?;
                return Some(format!("Perhaps you meant the option \"{keyword}\"."));
            }
            Self::UnknownWord { meant: Some(keyword), .. } => {
                return Some(format!("Perhaps you meant the option \"{keyword}\"."));
            }
            Self::UnknownWord { .. } | Self::MissingEquals { .. } => {
                "Put a value that contains spaces in single quotes."
            }
            Self::UnterminatedQuote { .. } => "Inside quotes, write ' as \\' and \\ as \\\\.",
            Self::Uri { problem, .. } => match problem {
                UriProblem::StrayAt | UriProblem::Port | UriProblem::UnknownParameter => {
                    "In a user name, password or database name, write \"@\" as %40, \":\" as %3A, \
                     \"/\" as %2F, \"?\" as %3F and \"%\" as %25."
                }
                UriProblem::PercentToken => "Write \"%\" as %25.",
                UriProblem::ExtraSeparator(_) => "In a value, write \"=\" as %3D and \"&\" as %26.",
                _ => return None,
            },
            Self::ServicePrivate { .. } => "The server log says why.",
            Self::SslModeTooWeak { .. } => "A superuser decides with secretlink.min_sslmode.",
            Self::EmbeddedPassword { .. } => "Give each option under its own keyword.",
            Self::Unsupported { keyword: "gssencmode", .. } => {
                "GSSAPI is not supported; use TLS (\"sslmode\") to encrypt the connection."
            }
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}
