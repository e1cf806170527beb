//! Logging in: one attempt after the other, until a candidate is taken or none is left.

use pgrx::PgLogLevel;
use secretlink_core::{Report, SqlState};
use secretlink_remote::connection::Connection;
use secretlink_remote::conninfo::{ConnInfoError, Options};
use secretlink_remote::policy::PasswordFrom;

use crate::backend::process::fd::ExternalFd;
use crate::backend::process::io;
use crate::backend::process::report::RawReport;
use crate::backend::process::user;
use crate::backend::process::wait::WaitEvent;
use crate::connect::conninfo::{GivenBy, Prepared};
use crate::connect::credential::{Credential, IamToken};
use crate::connect::error::ConnectionError;
use crate::connect::secret_candidates::SecretCandidates;
use crate::connect::token_candidates::TokenCandidates;
use crate::secrets::error::SecretsError;
use crate::secrets::watch::UsedSecret;
use crate::session::RemoteSession;
use crate::settings;
use crate::stats::{self, Counter};

/// Logs in with a credential. Returns the secret that was used, if one was.
///
/// # Errors
/// If the secret cannot be read, or no connection be made. If several candidates were tried, the error is
/// that of the first.
pub(crate) fn log_in(
    options: Options,
    given_by: GivenBy,
    credential: Credential,
) -> Result<(RemoteSession, Option<UsedSecret>), ConnectionError> {
    match credential {
        Credential::Given => {
            let service = options.get("service").map(str::to_owned);
            let info = options
                .resolve(&settings::remote::environment())
                .map_err(|error| given_by.refuse(discreet_conninfo(error, service.as_deref())))?;
            let attempt = || attempt(PasswordFrom::Given, || Ok(info.into())).and_then(Attempted::session);
            Ok((counted(attempt)?, None))
        }
        Credential::IamToken(token) => Ok((counted(|| with_token(options, given_by, &token))?, None)),
        Credential::Secret { id, overrides, iam_host } => {
            let (mut candidates, first) = SecretCandidates::begin(id, &overrides, options.has_credentials())?;
            let session = counted(|| {
                let mut candidate = first;
                loop {
                    let (options, environment) = (options.clone(), settings::remote::environment());
                    let prepare = move || candidate.into_conninfo(options, given_by, &environment);
                    match attempt(PasswordFrom::Secret, prepare) {
                        Ok(Attempted::Session(session)) => return Ok(*session),
                        Ok(Attempted::NeedsToken(options)) => {
                            let token = IamToken { iam_host, region: None, overrides };
                            return with_token(options, given_by, &token);
                        }
                        Err(error) => candidate = candidates.after(error)?,
                    }
                }
            })?;
            if candidates.are_others() {
                stats::count(Counter::ConnectionsRetried);
            }
            Ok((session, Some(candidates.used())))
        }
    }
}

/// Logs in with an IAM token.
fn with_token(
    options: Options,
    given_by: GivenBy,
    token: &IamToken,
) -> Result<RemoteSession, ConnectionError> {
    let service = options.get("service").map(str::to_owned);
    let begun = TokenCandidates::begin(options, given_by, token)
        .map_err(|error| discreet_options(error, given_by, service.as_deref()));
    let (mut candidates, mut candidate) = begun?;
    let mut is_first = true;
    loop {
        match attempt(PasswordFrom::IamToken, move || candidate.into_conninfo()).and_then(Attempted::session)
        {
            Ok(session) => {
                if !is_first {
                    stats::count(Counter::ConnectionsRetried);
                }
                return Ok(session);
            }
            Err(error) => candidate = candidates.after(error)?,
        }
        is_first = false;
    }
}

/// What came of an attempt that did not fail.
enum Attempted {
    /// A session.
    Session(Box<RemoteSession>),
    /// The secret asks for an IAM token in place of a password. The rest is in these options.
    NeedsToken(Options),
}

impl Attempted {
    fn session(self) -> Result<RemoteSession, ConnectionError> {
        match self {
            Attempted::Session(session) => Ok(*session),
            // Only a secret asks for a token.
            Attempted::NeedsToken(_) => Err(ConnectionError::PasswordNotGiven),
        }
    }
}

/// Tries to log in once. Everything from `prepare`, which may open what is sealed, to the end of the login is one
/// task of the I/O thread, so that no password comes back to the backend in between.
fn attempt(
    password_from: PasswordFrom,
    prepare: impl FnOnce() -> Result<Prepared, ConnectionError> + Send + 'static,
) -> Result<Attempted, ConnectionError> {
    let policy = settings::remote::policy(password_from).map_err(SecretsError::from)?;
    let fd = ExternalFd::acquire()?;
    let (warnings, connected) = io::run(WaitEvent::Connect, async move {
        let (info, other_user) = match prepare() {
            Ok(Prepared::Complete { info, other_user }) => (info, other_user),
            Ok(Prepared::NeedsToken(options)) => return (Vec::new(), Ok(Connected::NeedsToken(options))),
            Err(error) => return (Vec::new(), Err(error)),
        };
        let connected = Connection::connect(&info, &policy).await.map_err(|error| match other_user {
            Some((secret, username)) if error.is_authentication_failure() => {
                ConnectionError::SecretOfOther { secret, username, error }
            }
            _ => ConnectionError::from(error),
        });
        (info.warnings, connected.map(|connection| Connected::Connection(Box::new(connection))))
    })?;
    for warning in warnings {
        RawReport::new(&ConnInfoWarning(warning)).emit(PgLogLevel::WARNING);
    }
    match connected.map_err(discreet)? {
        Connected::Connection(connection) => {
            Ok(Attempted::Session(Box::new(RemoteSession::adopt(*connection, fd)?)))
        }
        Connected::NeedsToken(options) => Ok(Attempted::NeedsToken(options)),
    }
}

/// What comes back from the I/O thread.
enum Connected {
    Connection(Box<Connection>),
    NeedsToken(Options),
}

/// The error for the role that asks. A superuser may know what is in the server's files; for others that goes to the
/// log.
pub(super) fn discreet(error: ConnectionError) -> ConnectionError {
    let private = match &error {
        ConnectionError::Remote(error) => error.without_file_contents().map(ConnectionError::Remote),
        _ => None,
    };
    told_to_superusers(error, private)
}

/// The error about options that may name a service, for the role that asks, see [`discreet`].
pub(super) fn discreet_options(
    error: ConnectionError,
    given_by: GivenBy,
    service: Option<&str>,
) -> ConnectionError {
    match error {
        ConnectionError::Options(error) | ConnectionError::ConnectionString(error) => {
            given_by.refuse(discreet_conninfo(error, service))
        }
        error => error,
    }
}

/// The error about a connection string that names a service, for the role that asks, see [`discreet`].
fn discreet_conninfo(error: ConnInfoError, service: Option<&str>) -> ConnInfoError {
    let private = service.and_then(|service| error.without_file_contents(service));
    told_to_superusers(error, private)
}

fn told_to_superusers<E: Report>(error: E, private: Option<E>) -> E {
    match private {
        Some(private) if !user::is_superuser() => {
            RawReport::new(&error).emit(PgLogLevel::LOG_SERVER_ONLY);
            private
        }
        _ => error,
    }
}

/// What libpq would print on stderr about a conninfo that it can use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ConnInfoWarning(String);

impl Report for ConnInfoWarning {
    fn sqlstate(&self) -> SqlState {
        SqlState::new("01000")
    }
}

/// Counts a connection as made or failed. An ERROR that unwinds, such as that of a cancel, leaves it as
/// failed.
fn counted(
    connect: impl FnOnce() -> Result<RemoteSession, ConnectionError>,
) -> Result<RemoteSession, ConnectionError> {
    struct Attempt {
        made: bool,
    }

    impl Drop for Attempt {
        fn drop(&mut self) {
            stats::count(if self.made { Counter::ConnectionsOpened } else { Counter::ConnectionsFailed });
        }
    }

    let mut attempt = Attempt { made: false };
    let session = connect()?;
    attempt.made = true;
    Ok(session)
}
