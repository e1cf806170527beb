//! What the SQL functions of password sync do.

use pgrx::{PgLogLevel, pg_sys};
use secretlink_aws::{AwsError, SecretId};
use secretlink_core::Report;
use secretlink_versions::{Obstacle, check_versions, random_password};

use super::error::{SyncError, sentence, sentences};
use super::look::{self, Look};
use super::notice::Notice;
use super::pass;
use super::states::{self, RoleState, State};
use super::target::{self, Owners};
use super::{changes, turn};
use crate::backend::catalog::roles::{self, Role};
use crate::backend::process::report::RawReport;
use crate::backend::process::wait::{self, WaitEvent};
use crate::backend::process::{server, transaction};
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

/// Before a lock is tried that a standby has not, whose error would be about locks.
fn not_on_a_standby() -> Result<(), SyncError> {
    if server::is_standby() { Err(SyncError::Standby) } else { Ok(()) }
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
/// If the library is not preloaded, the server is a standby, the user has no rights over the role, or the
/// secret is not one that may be written.
pub(crate) fn sync(name: &RoleName, secret: &str) -> Result<(), SyncError> {
    preloaded()?;
    not_on_a_standby()?;
    let role = administered(name)?;
    turn::alone_with(role.oid);
    let id = SecretId::parse(secret)?;
    target::check_label(role.oid, secret)?;
    let generation = states::generation(role.oid);
    let look = match settings::sync::current().mode {
        PasswordSync::Off => None,
        _ => check_secret(&role, &id)?,
    };
    set_label(role.oid, Some(secret), look.is_some());
    if let Some(look) = look {
        // The view shows it at once. Whether the transaction commits or not, the worker looks again.
        states::seen(role.oid, generation, &known(look));
        states::doubt(role.oid);
    }
    Ok(())
}

/// Says at once what would only show when the password is changed next. Returns how the two stand, if that
/// could be seen.
fn check_secret(role: &Role, secret: &SecretId) -> Result<Option<Look>, SyncError> {
    let settings = settings::sync::current();
    let (name, shown) = (role.display(), secret.as_str().to_owned());
    let mut will_be_made = false;
    match may_be_written(secret.clone())? {
        Ok(()) => {}
        Err(Obstacle::Missing { .. }) if settings.create_missing && secret.region().is_none() => {
            will_be_made = true;
        }
        Err(obstacle) if settings.mode == PasswordSync::Warn && obstacle.is_outage() => {
            let reason = sentence(&obstacle.to_string());
            RawReport::new(&Notice::NotSeen { role: name, secret: shown, reason }).emit(PgLogLevel::WARNING);
            return Ok(None);
        }
        Err(obstacle) => {
            let obstacle = Box::new(obstacle);
            return Err(SyncError::NotStaged { role: name, secret: shown, obstacle });
        }
    }
    let look = look::look(role, secret)?.of_tied();
    if let Some(obstacle) = look.obstacle.clone() {
        not_for_role(role, secret, obstacle);
    } else if will_be_made {
        RawReport::new(&Notice::WillBeCreated { secret: shown }).emit(PgLogLevel::NOTICE);
    } else if look.state == State::Drifted {
        RawReport::new(&Notice::NotTheSame { role: name, secret: shown }).emit(PgLogLevel::NOTICE);
    }
    Ok(Some(look))
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
    let server = server::observer();
    Ok(client::call(|aws| async move { Ok(check_versions(&aws, &secret, server).await) })?)
}

/// Unties a role from its secret. Where a template would name one, an empty label says that none is
/// meant.
///
/// # Errors
/// If the server is a standby, or the user has no rights over the role.
pub(crate) fn unsync(name: &RoleName) -> Result<(), SyncError> {
    not_on_a_standby()?;
    let role = administered(name)?;
    turn::alone_with(role.oid);
    if matches!(target::of(&role), Ok(None)) {
        RawReport::new(&Notice::NotSynced { role: role.display() }).emit(PgLogLevel::NOTICE);
        return Ok(());
    }
    let templated = target::by_template(&role.name)?.is_some();
    set_label(role.oid, templated.then_some(""), false);
    Ok(())
}

fn set_label(role: pg_sys::Oid, label: Option<&str>, is_seen: bool) {
    roles::set_label(role, label.map(to_server).as_deref());
    changes::labelled(role, is_seen);
}

/// How a role and its secret stand to each other, by asking Secrets Manager.
///
/// # Errors
/// If the role is not synced.
pub(crate) fn check(name: &RoleName) -> Result<State, SyncError> {
    let oid = roles::oid_of(name);
    let not_synced = || SyncError::NotSynced(name.display());
    let role = roles::by_oid(oid).ok_or_else(not_synced)?;
    let secret = target::of(&role)?.ok_or_else(not_synced)?;
    let before = Before::of(oid);
    if role.hash.is_some()
        && let Some(rival) = Owners::read().rival(oid)
    {
        tell_not_for_role(&role, &secret, &rival);
        return Ok(before.seen(in_use(&rival)).state);
    }
    match look::look(&role, &secret) {
        Ok(look) => {
            if let Some(obstacle) = look.obstacle.clone() {
                not_for_role(&role, &secret, obstacle);
            }
            Ok(before.seen(known(look)).state)
        }
        Err(SyncError::Secrets(SecretsError::Aws(error))) => {
            let (role, secret) = (role.display(), secret.as_str().to_owned());
            let reason = sentence(&error.to_string());
            let known = before.not_seen(&reason);
            RawReport::new(&Notice::NotSeen { role, secret, reason }).emit(PgLogLevel::WARNING);
            Ok(known.state)
        }
        Err(error) => Err(error),
    }
}

/// What [`check`] finds, of every synced role. Their secrets are read some at a time. Once Secrets Manager is
/// out of reach for all of these, the others are not asked for: each would take as long.
///
/// # Errors
/// If no call could even be tried.
pub(crate) fn check_all() -> Result<Vec<Row>, SyncError> {
    let all = roles::with_password_or_label();
    let owners = Owners::of(all.iter().cloned());
    let (mut rows, mut to_ask) = (Vec::new(), Vec::new());
    for (role, label) in all {
        let secret = match target::by_label(&role, label) {
            Ok(None) => continue,
            Ok(Some(secret)) => secret,
            Err(error) => {
                let known = Before::of(role.oid).not_seen(&sentence(&error.to_string()));
                rows.push(Row { role: RoleName(role.name), secret: None, known });
                continue;
            }
        };
        let found = match owners.rival(role.oid) {
            _ if role.hash.is_none() => RoleState { state: State::NoPassword, ..RoleState::default() },
            Some(rival) => in_use(&rival),
            None => {
                to_ask.push((role.oid, secret));
                continue;
            }
        };
        let known = Before::of(role.oid).seen(found);
        rows.push(Row { role: RoleName(role.name), secret: Some(secret.as_str().to_owned()), known });
    }
    let mut outage = None;
    for chunk in to_ask.chunks(pass::AT_ONCE) {
        let before: Vec<_> = chunk.iter().map(|(oid, _)| Before::of(*oid)).collect();
        // A role that was dropped meanwhile is synced no more.
        transaction::see_changes_of_others();
        let roles: Vec<_> = chunk.iter().map(|(oid, _)| roles::by_oid(*oid)).collect();
        let found = match &outage {
            None => look::read_side_by_side(chunk.iter().map(|(_, secret)| secret.clone()).collect())?,
            Some(error) => chunk.iter().map(|_| Err(AwsError::clone(error))).collect(),
        };
        if let Some(Err(error)) = found.first()
            && found.iter().all(|found| found.as_ref().is_err_and(AwsError::is_unreachable))
        {
            outage = Some(error.clone());
        }
        for (((_, secret), before), (role, versions)) in
            chunk.iter().zip(before).zip(roles.into_iter().zip(found))
        {
            wait::stop_if_asked();
            let Some(role) = role else { continue };
            let look = versions
                .map_err(SyncError::from)
                .and_then(|versions| look::judge(&role, secret, versions.as_ref()));
            let known = match look {
                Ok(look) => before.seen(known(look)),
                Err(error) => before.not_seen(&sentence(&error.to_string())),
            };
            rows.push(Row { role: RoleName(role.name), secret: Some(secret.as_str().to_owned()), known });
        }
    }
    rows.sort_by(|a, b| a.role.0.cmp(&b.role.0));
    Ok(rows)
}

/// What a look has found.
fn known(look: Look) -> RoleState {
    let Look { state, version_id, reason, .. } = look;
    RoleState { state, version_id, synced_at: None, last_error: reason }
}

/// The state of a role whose secret is another role's.
fn in_use(rival: &SyncError) -> RoleState {
    known(Look::drifted(sentence(&rival.to_string())))
}

/// A role before somebody looks at its secret.
struct Before {
    oid: pg_sys::Oid,
    generation: Option<u32>,
}

impl Before {
    fn of(oid: pg_sys::Oid) -> Before {
        Before { oid, generation: states::generation(oid) }
    }

    /// What was seen is what `role_sync` shows from now on; the worker makes sure of it, and does what is to be
    /// done. While a transaction changes this very role, it is that transaction which says how the role stands.
    fn seen(self, known: RoleState) -> RoleState {
        if changes::touches(self.oid) {
            return known;
        }
        // The worker, which settles a role in a moment, has the lock, too. Others may have it for long.
        for _ in 0..10 {
            if !transaction::is_role_locked(self.oid) {
                if states::seen(self.oid, self.generation, &known) {
                    doorbell::SYNC.ring();
                }
                break;
            }
            wait::sleep(20, WaitEvent::SecretsManager);
        }
        known
    }

    /// Keeps what was known, with the reason why nothing could be seen.
    fn not_seen(self, reason: &str) -> RoleState {
        if self.generation.is_none() {
            states::doubt(self.oid);
        }
        states::failed(self.oid, reason);
        RoleState { last_error: Some(reason.to_owned()), ..RoleState::default() }
    }
}

/// Whether a role is synced with the secret of this name.
pub(crate) fn is_in_use(secret: &str) -> bool {
    SecretId::parse(secret)
        .is_ok_and(|secret| target::Owners::read().others(pg_sys::InvalidOid, &secret).next().is_some())
}

/// A row of `role_sync`.
pub(crate) struct Row {
    /// The role.
    pub role: RoleName,
    /// The role's secret, if it could be told.
    pub secret: Option<String>,
    /// What is known of it.
    pub known: RoleState,
}

/// Why nothing is known of a role, if there are too many of them.
const UNACCOUNTED: &str = "No account is kept of it: secretlink.max_synced_roles is too small.";

/// Every synced role, those in doubt first.
pub(crate) fn all() -> Vec<Row> {
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
    let is_lasting = |row: &Row| row.known.state.is_lasting();
    rows.sort_by(|a, b| is_lasting(a).cmp(&is_lasting(b)).then_with(|| a.role.0.cmp(&b.role.0)));
    rows
}

/// Makes a role with a random password, and a secret for it when the transaction commits.
///
/// # Errors
/// If the library is not preloaded, the length is out of range, or there is such a secret already.
pub(crate) fn create_with_secret(name: &RoleName, secret: &str, length: i32) -> Result<(), SyncError> {
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
    set_label(oid, Some(secret), false);
    changes::secret_wanted(oid);
    Ok(())
}
