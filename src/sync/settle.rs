//! Finds out which version of a role's secret holds its password, and makes that one current.
//!
//! The secret is read without a lock, since AWS may take its time; a transaction that changes the role in between
//! counts its generation up, and then this look does not count. What is done about it, one short call,
//! is done under the role's lock.

use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::{PgLogLevel, pg_sys};
use secretlink_aws::{AwsError, SecretId};
use secretlink_core::{Report, Secret};
use secretlink_versions::{Obstacle, Versions, clear, is_left_over, promote_found, writer};

use super::error::{sentence, sentences};
use super::look::{Finding, MISSING, NOWHERE, find, missing, other_user};
use super::notice::Notice;
use super::pace::Pace;
use super::states::{self, State};
use super::target;
use crate::backend::catalog::roles::{self, Role};
use crate::backend::process::report::RawReport;
use crate::backend::process::server;
use crate::backend::process::transaction::lock_role;
use crate::secrets::error::SecretsError;
use crate::secrets::{cache, client};
use crate::sync::error::SyncError;

/// Why a role has drifted from a secret that the primary before this server has written.
const LOST: &str = "The secret holds a password that was set at the primary before this one, and that was lost when this server was promoted.";

/// A role to look at.
pub(super) struct Doubt {
    /// The role.
    pub oid: pg_sys::Oid,
    /// The role's name, to be shown.
    pub role: String,
    /// The secret that it is synced with.
    pub secret: SecretId,
    /// How often the role was changed before its secret was read.
    pub generation: Option<u32>,
}

/// What came of settling one role.
pub(super) enum Settled {
    /// It is known how the role stands, or why that is not known.
    Yes,
    /// A transaction is changing it.
    Busy,
    /// Secrets Manager did not answer.
    NoAnswer,
    /// Secrets Manager asks to be asked less often.
    Throttled,
}

/// Notes that a role was not settled, since a call has failed.
pub(super) fn not_settled(doubt: &Doubt, error: &AwsError) -> Settled {
    not_reconciled(doubt, error);
    match () {
        () if error.is_throttled() => Settled::Throttled,
        () if error.is_unreachable() => Settled::NoAnswer,
        () => Settled::Yes,
    }
}

/// Settles one role by what was read of its secret. A transaction that is changing the role, or has since,
/// settles it itself or leaves it in doubt.
pub(super) fn settle(doubt: &Doubt, versions: Option<&Versions>, pace: &mut Pace) -> Settled {
    if !lock_role(doubt.oid, false)
        || !target::lock([&doubt.secret], false)
        || states::generation(doubt.oid) != doubt.generation
    {
        return Settled::Busy;
    }
    match (roles::by_oid(doubt.oid), versions) {
        (None, _) => {}
        (Some(role), _) if role.hash.is_none() => {
            states::found(doubt.oid, State::NoPassword, None, None);
        }
        (Some(_), None) => match missing(doubt.oid) {
            State::NeverSet => {
                states::found(doubt.oid, State::NeverSet, None, None);
            }
            state => drift(doubt, state, MISSING),
        },
        (Some(role), Some(versions)) => match act(doubt, &role, versions, pace) {
            Ok(()) => {}
            Err(SyncError::NotStaged { obstacle, .. }) => match &*obstacle {
                Obstacle::Aws(error) => return not_settled(doubt, error),
                obstacle => not_reconciled(doubt, obstacle),
            },
            Err(SyncError::Secrets(SecretsError::Aws(error))) => return not_settled(doubt, &error),
            Err(error) => not_reconciled(doubt, &error),
        },
    }
    Settled::Yes
}

fn act(doubt: &Doubt, role: &Role, versions: &Versions, pace: &mut Pace) -> Result<(), SyncError> {
    let found = find(role, &doubt.secret, versions)?;
    if let Err(superseded) = versions.check_server(&doubt.secret) {
        match found {
            Finding::Current(version_id) => in_sync(doubt, role, &version_id, true),
            _ => drifted(doubt, Some(&sentences(&superseded))),
        }
        return Ok(());
    }
    let (is_current, found) = match found {
        Finding::Current(version_id) if is_left_over(versions, &version_id) => (true, Err(version_id)),
        Finding::Current(version_id) => {
            in_sync(doubt, role, &version_id, true);
            return Ok(());
        }
        Finding::Elsewhere(candidate) => {
            // Its password is in force, whenever AWSCURRENT follows: renewals may have brought the one before
            // back into the cache.
            let client = client::current()?;
            let (version_id, text) = (&candidate.version_id, Some(candidate.text()));
            cache::changed(client.settings(), &doubt.secret, version_id, text);
            (false, Ok(candidate))
        }
        Finding::Rotating(version_id) => {
            states::found(doubt.oid, State::Pending, Some(&version_id), None);
            return Ok(());
        }
        Finding::Nowhere => {
            drifted(doubt, versions.is_lost().then_some(LOST));
            watch_writers(doubt, role, versions);
            return Ok(());
        }
        Finding::OtherUser(username) => {
            let obstacle = other_user(&doubt.secret, username);
            drifted(doubt, Some(&sentence(&obstacle.to_string())));
            watch_writers(doubt, role, versions);
            return Ok(());
        }
    };
    pace.write();
    let (id, then) = (doubt.secret.clone(), versions.clone());
    let acted = client::call(|aws| async move {
        let act = async {
            let version_id = match found {
                Ok(candidate) => promote_found(&aws, &id, &then, candidate).await?,
                Err(version_id) => version_id,
            };
            clear(&aws, &id, &then, version_id).await
        };
        Ok(act.await)
    })?;
    let version_id = acted.map_err(|error| not_done(doubt, error))?;
    in_sync(doubt, role, &version_id, is_current);
    Ok(())
}

fn not_done(doubt: &Doubt, obstacle: Obstacle) -> SyncError {
    let (role, secret) = (doubt.role.clone(), doubt.secret.as_str().to_owned());
    SyncError::NotStaged { role, secret, obstacle: Box::new(obstacle) }
}

fn in_sync(doubt: &Doubt, role: &Role, version_id: &str, was_current: bool) {
    // What somebody has read meanwhile may be from before a promotion, be it one that nobody waited for.
    cache::forget(doubt.secret.as_str());
    let was_drifted = states::found(doubt.oid, State::InSync, Some(version_id), None);
    if let Some(hash) = &role.hash {
        states::verified(doubt.oid, digest(&[hash.expose()]));
    }
    if !was_current || (was_drifted && !states::is_rewritten_often(doubt.oid)) {
        log(&Notice::Reconciled {
            role: doubt.role.clone(),
            secret: doubt.secret.as_str().into(),
            version_id: version_id.to_owned(),
        });
    }
}

pub(super) fn drifted(doubt: &Doubt, reason: Option<&str>) {
    drift(doubt, State::Drifted, reason.unwrap_or(NOWHERE));
}

fn drift(doubt: &Doubt, state: State, reason: &str) {
    let was_told = states::found(doubt.oid, state, None, Some(reason));
    if !was_told && !states::is_rewritten_often(doubt.oid) {
        let (role, secret) = (doubt.role.clone(), doubt.secret.as_str().into());
        log(&Notice::Drifted { role, secret, reason: reason.to_owned() });
    }
}

/// Says once of a role that drifts again and again who has written what it drifts from.
fn watch_writers(doubt: &Doubt, role: &Role, versions: &Versions) {
    let Some(current) = versions.current_id() else { return };
    let hash = role.hash.as_ref().map_or(&[][..], Secret::expose);
    if states::rewritten(doubt.oid, digest(&[current.as_bytes(), hash])) {
        let (name, secret) = (doubt.role.clone(), doubt.secret.as_str().into());
        let notice = Notice::Rewritten { role: name, secret, writer: writer(current, server::observer()) };
        RawReport::new(&notice).emit(PgLogLevel::WARNING);
    }
}

/// A number that stands for values: that two of them are told apart is all that it is for.
pub(crate) fn digest(values: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.hash(&mut hasher);
    // Zero stands for none.
    hasher.finish() | 1
}

fn not_reconciled(doubt: &Doubt, error: &dyn Report) {
    let reason = sentences(error);
    if states::failed(doubt.oid, &reason) {
        let secret = doubt.secret.as_str().into();
        log(&Notice::NotReconciled { role: doubt.role.clone(), secret, reason });
    }
}

/// Writes to the server's log. The worker has no client.
pub(super) fn log(notice: &Notice) {
    RawReport::new(notice).emit(PgLogLevel::LOG);
}
