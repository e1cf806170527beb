//! What an IAM login needs, looked at without logging in.
//!
//! No token leaves this server: the session ends where a password would be sent. Who answers may be anybody.

use secretlink_aws::{AwsError, Check, Client, TokenSubject, is_dsql_cluster_id, region_of_host};
use secretlink_core::Report;
use secretlink_remote::connection::Connection;
use secretlink_remote::conninfo::{ConnInfo, Options, SslMode};
use secretlink_remote::error::{AttemptError, ConnectError};
use secretlink_remote::policy::{PasswordFrom, Policy};

use crate::backend::process::fd::ExternalFd;
use crate::backend::process::io;
use crate::backend::process::wait::WaitEvent;
use crate::connect::conninfo::GivenBy;
use crate::connect::credential::IamToken;
use crate::connect::error::ConnectionError;
use crate::connect::iam::TokenHost;
use crate::connect::login::{discreet, discreet_options};
use crate::connect::token_candidates::{UNTRUSTED, WITHOUT_TLS, database_of, resolve};
use crate::secrets::client;
use crate::secrets::error::SecretsError;
use crate::settings;

/// Whether the database answers with TLS.
const TLS: &str = "tls";

/// What the database asks for.
const AUTHENTICATION: &str = "authentication";

/// Looks at region, credentials, identity, token and database of an IAM login. What fails is a row.
///
/// # Errors
/// If the options make no sense or leave out host or user, or the I/O thread cannot be had.
pub(crate) fn check_iam_login(
    options: Options,
    region: Option<String>,
) -> Result<Vec<Check>, ConnectionError> {
    let service = options.get("service").map(str::to_owned);
    let mut info = resolve(options, GivenBy::Arguments)
        .map_err(|error| discreet_options(error, GivenBy::Arguments, service.as_deref()))?;
    let policy = settings::remote::policy(PasswordFrom::IamToken).map_err(SecretsError::from)?;
    let settings = settings::aws::current().map_err(SecretsError::from)?;
    info.connect_timeout = Some(info.connect_timeout.unwrap_or(settings.request_timeout));
    info.hosts.truncate(1);
    let Some(host) = info.hosts.first_mut() else { return Ok(Vec::new()) };
    // A password of the server's environment or of a password file is not for a server that takes tokens.
    host.password = None;
    let token = IamToken { region, ..IamToken::default() };
    let is_bare_id = is_dsql_cluster_id(&host.name);
    let database = database_of(host, &token);

    let (client, user) = (client::with(settings), info.user.clone());
    let of_aws =
        async move { check_token(&client, database, &user, is_bare_id, token.region.as_deref()).await };
    let mut checks = io::run(WaitEvent::SecretsManager, of_aws)?;
    let fd = ExternalFd::acquire()?;
    let (info, connected) = io::run(WaitEvent::Connect, async move {
        let connected = try_to_connect(&info, &policy).await;
        (info, connected)
    })?;
    drop(fd);
    checks.extend(match connected.map_err(|error| discreet(error.into())) {
        Ok(()) => [encrypted(&info), not_asked()],
        Err(ConnectionError::Remote(error)) => refused(&info, &error),
        Err(error) => [Check::failed(TLS, &error), not_looked_at()],
    });
    Ok(checks)
}

/// Goes as far with the database as is possible without a password.
async fn try_to_connect(info: &ConnInfo, policy: &Policy) -> Result<(), ConnectError> {
    Connection::connect(info, policy).await?.close().await;
    Ok(())
}

async fn check_token(
    client: &Client,
    database: Result<(TokenHost, u16), ConnectionError>,
    user: &str,
    is_bare_id: bool,
    region: Option<&str>,
) -> Vec<Check> {
    match database {
        Ok((host, port)) => {
            let login = TokenSubject::new(&host.name, port, user).map_err(AwsError::from);
            let by_host = !is_bare_id && region_of_host(&host.name).is_some();
            client.check_token(login, &host.region, by_host, region).await
        }
        Err(error) => {
            let skipped = |item| Check::unknown(item, "Not looked at without a region.");
            let rest = ["credentials", "identity", "token"].map(skipped);
            std::iter::once(Check::failed("region", &error)).chain(rest).collect()
        }
    }
}

/// What a failure says: it is good news that a password is missing.
fn refused(info: &ConnInfo, error: &ConnectError) -> [Check; 2] {
    let Some(last) = error.attempts.last() else { return [not_looked_at(), not_looked_at()] };
    let bad = |item, hint: &str| {
        let hint = Some(hint.to_owned()).filter(|hint| !hint.is_empty()).or_else(|| error.hint());
        Check { item, ok: Some(false), detail: last.to_string(), hint }
    };
    match &last.reason {
        AttemptError::NoPassword => {
            let detail =
                "The server asks for a password in clear text, as it must for a token. No token was sent.";
            [encrypted(info), Check::good(AUTHENTICATION, detail)]
        }
        AttemptError::Tls(_) => [bad(TLS, UNTRUSTED), not_looked_at()],
        AttemptError::TlsRefused => [bad(TLS, WITHOUT_TLS), not_looked_at()],
        // The database does not exist, perhaps, or has too many sessions.
        AttemptError::AfterLogin { .. } => [encrypted(info), not_asked()],
        AttemptError::Server(_)
        | AttemptError::TokenNotAsked(_)
        | AttemptError::UnsupportedMethod(_)
        | AttemptError::MethodNotAllowed(_)
        | AttemptError::NotAuthenticated
        | AttemptError::ChannelBinding(_) => [encrypted(info), bad(AUTHENTICATION, "")],
        AttemptError::Resolve(..) | AttemptError::Io(_) | AttemptError::Timeout => [
            bad(
                TLS,
                "Check host and port, the security group of the database, and whether it can be reached from this server.",
            ),
            not_looked_at(),
        ],
        _ => [bad(TLS, ""), not_looked_at()],
    }
}

/// What is known of a server with which there is TLS.
fn encrypted(info: &ConnInfo) -> Check {
    let name = info.hosts.first().map_or("", |host| host.certificate_name());
    match info.ssl.mode {
        SslMode::VerifyFull => {
            Check::good(TLS, format!("The server answers with TLS and proved to be {name}."))
        }
        mode => Check {
            hint: Some(
                "A token is a password in clear text to who answers. Leave sslmode out, for verify-full."
                    .into(),
            ),
            ..Check::unknown(
                TLS,
                format!(
                    "The server answers with TLS. With sslmode={} it need not prove to be {name}.",
                    mode.name()
                ),
            )
        },
    }
}

/// A server that lets anybody in.
fn not_asked() -> Check {
    let detail = "The server let the user in without asking for a password.";
    let hint =
        "RDS, Aurora and Aurora DSQL ask for one. Look whether host and hostaddr lead to another server.";
    Check::bad(AUTHENTICATION, detail, hint)
}

fn not_looked_at() -> Check {
    Check::unknown(AUTHENTICATION, "Not looked at without TLS.")
}
