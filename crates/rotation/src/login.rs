//! Trying a password.

use secretlink_remote::connection::Connection;
use secretlink_remote::conninfo::{Environment, Options, SslMode};
use secretlink_remote::error::ConnectError;
use secretlink_remote::policy::Policy;

use crate::{Account, Trouble};

/// What the machine says about connections.
#[derive(Clone)]
pub struct Surroundings {
    /// libpq's variables and files.
    pub environment: Environment,
    /// What every connection has to keep to.
    pub policy: Policy,
}

/// What a server says to a password.
pub(crate) enum Verdict {
    /// The password is right.
    Accepted(Box<Connection>),
    /// The password is right, but there is no session to be had, as beyond the role's CONNECTION LIMIT.
    Proven(ConnectError),
    /// The password is wrong.
    Refused(ConnectError),
    /// The server lets the role in without asking for a password.
    NotAsked,
    /// The server was not reached, or not in the mood.
    Unknown(ConnectError),
}

/// Logs in.
///
/// # Errors
/// If the secret's fields make no sense for a connection.
pub(crate) async fn log_in(account: &Account, surroundings: &Surroundings) -> Result<Verdict, Trouble> {
    let mut options = Options::default();
    for (keyword, value) in [
        ("host", account.host.as_str()),
        // The environment's would be that of another host.
        ("hostaddr", ""),
        ("port", &account.port.to_string()),
        ("dbname", &account.dbname),
        ("user", &account.username),
        (
            "sslmode",
            match account.ssl {
                // As AWS's functions do: the certificate must be right.
                Some(true) => "verify-full",
                Some(false) => "disable",
                None => surroundings.environment.min_sslmode().max(SslMode::Require).name(),
            },
        ),
        ("connect_timeout", "10"),
        ("application_name", "secretlink rotation"),
        ("target_session_attrs", "any"),
    ] {
        options.set(keyword, value)?;
    }
    if account.ssl == Some(true) && surroundings.environment.var("PGSSLROOTCERT").is_none() {
        options.set("sslrootcert", "system")?;
    }
    options.set_password(account.password.clone());
    let info = options.resolve(&surroundings.environment)?;
    Ok(match Connection::connect(&info, &surroundings.policy).await {
        Ok(connection) if connection.facts().password_used => Verdict::Accepted(Box::new(connection)),
        Ok(connection) => {
            connection.close().await;
            Verdict::NotAsked
        }
        Err(error) if error.proved_password() => Verdict::Proven(error),
        Err(error) if error.is_authentication_failure() => Verdict::Refused(error),
        Err(error) => Verdict::Unknown(error),
    })
}
