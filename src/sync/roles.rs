//! What the SQL functions of password sync do.

use pgrx::{PgLogLevel, pg_sys};
use secretlink_aws::SecretId;
use secretlink_core::Report;
use secretlink_versions::{Obstacle, check_versions, random_password};

use super::error::{SyncError, sentence, sentences};
use super::notice::Notice;
use super::settle::Look;
use super::states::{self, RoleState, State};
use super::target::{self, Owners};
use super::{changes, settle, turn};
use crate::backend::catalog::roles::{self, Role};
use crate::backend::process::report::RawReport;
use crate::backend::text::{RoleName, to_server};
use crate::secrets::client;
use crate::secrets::error::SecretsError;
use crate::settings;
use crate::settings::sync::PasswordSync;
use crate::workers::doorbell;

/// Lengths of a made-up password.
const PASSWORD_LENGTHS: std::ops::RangeInclusive<i32> = 16..=256;

fn preloaded() -> Result<(), SyncError> {
    if states::are_shared() { Ok(()) } else { Err(SyncError::NotPreloaded) }
}

/// The role of this name, if the current user may administer it.
fn administered(name: &RoleName) -> Result<Role, SyncError> {
    let oid = roles::oid_of(name);
    let role = roles::by_oid(oid).ok_or_else(|| SyncError::NotSynced(name.display()))?;
    if roles::may_administer(oid) { Ok(role) } else { Err(SyncError::NotAdmin(role.display())) }
}

/// Ties a role to a secret.
///
/// # Errors
/// If the library is not preloaded, the user has no rights over the role, or the secret is not one
/// that may be written.
pub fn sync(name: &RoleName, secret: &str) -> Result<(), SyncError> {
    preloaded()?;
    let role = administered(name)?;
    turn::alone_with(role.oid);
    let id = SecretId::parse(secret)?;
    target::check_label(role.oid, secret)?;
    if settings::sync::current().mode != PasswordSync::Off {
        check_secret(&role, &id)?;
    }
    set_label(role.oid, Some(secret));
    Ok(())
}

/// Says at once what would only show when the password is changed next.
fn check_secret(role: &Role, secret: &SecretId) -> Result<(), SyncError> {
    let settings = settings::sync::current();
    let (name, shown) = (role.display(), secret.as_str().to_owned());
    match may_be_written(secret.clone())? {
        Ok(()) => {}
        Err(Obstacle::Missing { .. }) if settings.create_missing && secret.region().is_none() => {
            RawReport::new(&Notice::WillBeCreated { secret: shown }).emit(PgLogLevel::NOTICE);
            return Ok(());
        }
        Err(obstacle) if settings.mode == PasswordSync::Warn && obstacle.is_outage() => {
            let reason = sentence(&obstacle.to_string());
            RawReport::new(&Notice::NotSeen { role: name, secret: shown, reason }).emit(PgLogLevel::WARNING);
            return Ok(());
        }
        Err(obstacle) => {
            let obstacle = Box::new(obstacle);
            return Err(SyncError::NotStaged { role: name, secret: shown, obstacle });
        }
    }
    let look = settle::look(role, secret)?;
    if let Some(obstacle) = look.obstacle {
        not_for_role(role, secret, obstacle);
    } else if look.state == State::Drifted {
        RawReport::new(&Notice::NotTheSame { role: name, secret: shown }).emit(PgLogLevel::NOTICE);
    }
    Ok(())
}

/// Says why a secret cannot be a role's, with what would stand in the way of its next password.
fn not_for_role(role: &Role, secret: &SecretId, obstacle: Obstacle) {
    tell_not_for_role(role, secret, &target::knowing_clones(&role.display(), obstacle));
}

fn tell_not_for_role(role: &Role, secret: &SecretId, why: &dyn Report) {
    let (role, secret, hint) = (role.display(), secret.as_str().to_owned(), why.hint());
    let notice = Notice::NotForRole { role, secret, reason: sentences(why), hint };
    RawReport::new(&notice).emit(PgLogLevel::WARNING);
}

/// Asks Secrets Manager what stands in the way of a new version, if anything.
fn may_be_written(secret: SecretId) -> Result<Result<(), Obstacle>, SyncError> {
    Ok(client::call(|aws| async move { Ok(check_versions(&aws, &secret).await) })?)
}

/// Unties a role from its secret. Where a template would name one, an empty label says that none is
/// meant.
///
/// # Errors
/// If the user has no rights over the role.
pub fn unsync(name: &RoleName) -> Result<(), SyncError> {
    let role = administered(name)?;
    turn::alone_with(role.oid);
    let templated = target::by_template(&role.name)?.is_some();
    set_label(role.oid, templated.then_some(""));
    Ok(())
}

fn set_label(role: pg_sys::Oid, label: Option<&str>) {
    roles::set_label(role, label.map(to_server).as_deref());
    changes::labelled(role);
}

/// How a role and its secret stand to each other, by asking Secrets Manager.
///
/// # Errors
/// If the role is not synced.
pub fn check(name: &RoleName) -> Result<State, SyncError> {
    let oid = roles::oid_of(name);
    let not_synced = || SyncError::NotSynced(name.display());
    let role = roles::by_oid(oid).ok_or_else(not_synced)?;
    let secret = target::of(&role)?.ok_or_else(not_synced)?;
    if let Some(rival) = Owners::read().rival(oid) {
        tell_not_for_role(&role, &secret, &rival);
        return Ok(seen(oid, State::Drifted));
    }
    let state = match settle::look(&role, &secret) {
        Ok(Look { state, obstacle }) => {
            if let Some(obstacle) = obstacle {
                not_for_role(&role, &secret, obstacle);
            }
            state
        }
        Err(SyncError::Secrets(SecretsError::Aws(error))) => {
            let (role, secret) = (role.display(), secret.as_str().to_owned());
            let reason = sentence(&error.to_string());
            RawReport::new(&Notice::NotSeen { role, secret, reason }).emit(PgLogLevel::WARNING);
            return Ok(State::Unknown);
        }
        Err(error) => return Err(error),
    };
    Ok(seen(oid, state))
}

/// The worker makes sure of what was seen, and does what is to be done: a change of this very role may be
/// under way.
fn seen(oid: pg_sys::Oid, state: State) -> State {
    if states::get(oid).is_none_or(|known| known.state != state) {
        states::doubt(oid);
        doorbell::SYNC.ring();
    }
    state
}

/// Whether a role is synced with the secret of this name.
pub fn is_in_use(secret: &str) -> bool {
    SecretId::parse(secret)
        .is_ok_and(|secret| target::Owners::read().others(pg_sys::InvalidOid, &secret).next().is_some())
}

/// A row of `role_sync`.
pub struct Row {
    /// The role.
    pub role: RoleName,
    /// Its secret, if it could be told.
    pub secret: Option<String>,
    /// What is known of it.
    pub known: RoleState,
}

/// Why nothing is known of a role, if there are too many of them.
const UNACCOUNTED: &str = "No account is kept of it: secretlink.max_synced_roles is too small.";

/// Every synced role, those in doubt first.
pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    let is_full = states::is_full();
    for (role, label) in roles::with_password_or_label() {
        let (secret, problem) = match target::by_label(&role, label) {
            Ok(None) => continue,
            Ok(Some(secret)) => (Some(secret.as_str().to_owned()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let known = states::get(role.oid);
        let unaccounted = (is_full && known.is_none()).then(|| UNACCOUNTED.to_owned());
        let mut known = known.unwrap_or_default();
        if role.hash.is_none() {
            known.state = State::NoPassword;
        }
        known.last_error = problem.or(known.last_error).or(unaccounted);
        rows.push(Row { role: RoleName(role.name), secret, known });
    }
    let is_settled = |row: &Row| matches!(row.known.state, State::InSync | State::NoPassword);
    rows.sort_by(|a, b| is_settled(a).cmp(&is_settled(b)).then_with(|| a.role.0.cmp(&b.role.0)));
    rows
}

/// Makes a role with a random password, and a secret for it when the transaction commits.
///
/// # Errors
/// If the library is not preloaded, the length is out of range, or there is such a secret already.
pub fn create_with_secret(name: &RoleName, secret: &str, length: i32) -> Result<(), SyncError> {
    preloaded()?;
    let id = SecretId::parse(secret)?;
    let length = usize::try_from(length)
        .ok()
        .filter(|_| PASSWORD_LENGTHS.contains(&length))
        .ok_or(SyncError::PasswordLength(length))?;
    if settings::sync::current().mode == PasswordSync::Off {
        // Nobody would ever know the password.
        return Err(SyncError::SyncIsOff);
    }
    target::check_label(pg_sys::InvalidOid, secret)?;
    match may_be_written(id)? {
        Ok(()) | Err(Obstacle::Missing { .. }) => {}
        Err(obstacle) => {
            let (role, secret, obstacle) = (name.display(), secret.to_owned(), Box::new(obstacle));
            return Err(SyncError::NotStaged { role, secret, obstacle });
        }
    }
    let password = random_password(length).map_err(SyncError::from)?;
    let verifier = roles::verifier_of(name, &password).map_err(SyncError::from)?;
    changes::expect_password(password);
    let oid =
        roles::create_with_verifier(name, &verifier).ok_or_else(|| SyncError::NotCreated(name.display()))?;
    set_label(oid, Some(secret));
    changes::secret_wanted(oid);
    Ok(())
}
