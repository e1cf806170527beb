//! Asking for a rotation, in a session.

use secretlink_aws::{Check, SecretId};
use secretlink_remote::policy::{PasswordFrom, Policy};
use secretlink_rotation::{Limits, Order, Strategy, Surroundings};
use std::cell::Cell;
use std::time::{Duration, Instant};

use super::error::RotationError;
use super::registry::{self, RotationRequest, Waiting};
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, server, transaction};
use crate::secrets::client;
use crate::secrets::error::SecretsError;
use crate::settings;

thread_local! {
    static EXIT_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// The strategy of this name.
///
/// # Errors
/// If there is none.
pub(crate) fn strategy(name: Option<String>) -> Result<Option<Strategy>, RotationError> {
    match name {
        None => Ok(None),
        Some(name) => match Strategy::parse(&name) {
            Some(strategy) => Ok(Some(strategy)),
            None => Err(RotationError::NoSuchStrategy(name)),
        },
    }
}

/// Whether this server rotates at all.
///
/// # Errors
/// Why not.
pub(crate) fn check_server() -> Result<(), RotationError> {
    if !registry::is_shared() {
        return Err(RotationError::NotPreloaded);
    }
    if server::is_standby() {
        return Err(RotationError::Standby);
    }
    if !server::has_postmaster() {
        return Err(RotationError::SingleUser);
    }
    let Some(database) = settings::rotation::database().filter(|_| settings::rotation::workers() > 0) else {
        return Err(RotationError::TurnedOff);
    };
    match server::has_database(&database) {
        true => Ok(()),
        false => Err(RotationError::NoDatabase(database.to_string_lossy().into_owned())),
    }
}

/// Has a worker rotate a secret, and waits for it. Returns the version that is current then.
///
/// # Errors
/// Why it was not rotated, or why that cannot be asked for.
pub(crate) fn rotate(
    secret: &str,
    strategy: Option<Strategy>,
    master: Option<String>,
) -> Result<String, RotationError> {
    SecretId::parse(secret)?.check_form()?;
    if let Some(master) = &master {
        SecretId::parse(master)?.check_form()?;
    }
    check_server()?;
    if transaction::has_written() {
        // The worker's ALTER ROLE, or the role's own login, could have to wait for it.
        return Err(RotationError::HasWritten("rotate_secret"));
    }
    if !EXIT_CALLBACK.replace(true) {
        server::at_exit(at_exit);
    }
    let waiting = Waiting::begin(&RotationRequest { secret: secret.to_owned(), strategy, master })?;
    waiting.answer().map_err(|error| SecretsError::Shared(error).into())
}

/// What a login depends on besides the secret.
///
/// # Errors
/// If a setting for superusers hides the right value.
pub(crate) fn surroundings() -> Result<Surroundings, RotationError> {
    // What is said to the server is ASCII, but for names, which come as UTF-8.
    let policy = Policy { client_encoding: "UTF8".into(), ..settings::remote::policy(PasswordFrom::Secret)? };
    Ok(Surroundings { environment: settings::remote::environment(), policy })
}

/// Looks at everything that a rotation of a secret needs, and changes nothing.
///
/// # Errors
/// Only if nothing could be looked at.
pub(crate) fn check(
    secret: &str,
    strategy: Option<Strategy>,
    master: Option<String>,
) -> Result<Vec<Check>, RotationError> {
    let order = Order {
        secret: SecretId::parse(secret)?,
        strategy,
        master: master.as_deref().map(SecretId::parse).transpose()?,
    };
    let mut checks = vec![match check_server() {
        Ok(()) => Check::good("this server", "It rotates secrets."),
        Err(error) => Check::failed("this server", &error),
    }];
    let Some(issuer) = server::issuer() else { return Ok(checks) };
    let limits = Limits {
        password_length: settings::rotation::password_length(),
        exclude: String::new(),
        min_age: Duration::ZERO,
        deadline: Instant::now() + settings::rotation::timeout(),
    };
    let surroundings = surroundings()?;
    let aws = client::current()?;
    let work = secretlink_rotation::check(aws, surroundings, limits, issuer, order);
    checks.extend(io::run(WaitEvent::RotationStep, work)?);
    Ok(checks)
}

/// # Safety
/// For Postgres to call, at exit. It uses neither argument.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: i32, _arg: pgrx::pg_sys::Datum) {
    registry::leave_all();
}
