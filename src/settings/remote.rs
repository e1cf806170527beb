//! Settings of connections to remote servers.

use pgrx::PostgresGucEnum;
use secretlink_remote::conninfo::{Environment, SslMode};
use secretlink_remote::policy::{MIN_SCRAM_ITERATIONS, PasswordFrom, Policy};

use super::kind::{Choice, Context, Given, GivenChoice, Number, settings};
use super::superusers::{self, SettingRefused};
use crate::backend::process::server;

settings! {
    MIN_SSLMODE: GivenChoice<2, MinSslMode> = GivenChoice(Choice::new(
        c"secretlink.min_sslmode",
        Context::Superusers,
        c"Weakest sslmode with which a connection to a remote server is made.",
        c"A weaker mode that is asked for is an error; a weaker default is raised to the value of this setting. Only verify-ca and verify-full know a false server.",
        MinSslMode::Disable,
    ));
    MIN_ITERATIONS: Number = Number::new(
        c"secretlink.min_scram_iterations",
        Context::Superusers,
        c"Lowest iteration count of SCRAM that is accepted of a remote server.",
        c"With a lower count, the proof that a server gets makes the password easier to guess. RFC 7677 allows no less than the default.",
        MIN_SCRAM_ITERATIONS as i32,
        1..=i32::MAX,
    );
}

/// The setting that is for superusers only: who decides how well a connection is protected could have a
/// password sent to a false server. A lower count of iterations is not anybody's way around, as the built-in
/// one is taken where the server's is hidden.
pub(super) static FOR_SUPERUSERS: [&dyn Given; 1] = [&MIN_SSLMODE];

/// `secretlink.min_sslmode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub(crate) enum MinSslMode {
    /// Any.
    #[name = c"disable"]
    Disable,
    /// See libpq.
    #[name = c"allow"]
    Allow,
    /// See libpq.
    #[name = c"prefer"]
    Prefer,
    /// TLS.
    #[name = c"require"]
    Require,
    /// TLS with a server that a known authority vouches for.
    #[name = c"verify-ca"]
    VerifyCa,
    /// TLS with a server that a known authority vouches for by its name.
    #[name = c"verify-full"]
    VerifyFull,
}

fn min_sslmode() -> SslMode {
    match MIN_SSLMODE.get() {
        MinSslMode::Disable => SslMode::Disable,
        MinSslMode::Allow => SslMode::Allow,
        MinSslMode::Prefer => SslMode::Prefer,
        MinSslMode::Require => SslMode::Require,
        MinSslMode::VerifyCa => SslMode::VerifyCa,
        MinSslMode::VerifyFull => SslMode::VerifyFull,
    }
}

/// What every connection of this backend has to keep to, with a password from there.
///
/// # Errors
/// If a setting for superusers was set by somebody who may not, in a way that hides the right value (42501).
pub(crate) fn policy(password_from: PasswordFrom) -> Result<Policy, SettingRefused> {
    superusers::none_refused(|name| name == MIN_SSLMODE.name())?;
    Ok(Policy {
        client_encoding: server::encoding(),
        password_from,
        min_sslmode: min_sslmode(),
        min_scram_iterations: MIN_ITERATIONS.get(),
    })
}

/// What completes a connection string: the environment of this process, and the settings.
pub(crate) fn environment() -> Environment {
    Environment::from_process().with_min_sslmode(min_sslmode())
}
