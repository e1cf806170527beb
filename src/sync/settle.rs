//! Finds out which version of a role's secret holds its password, and makes that one current.
//!
//! The secret is read without a lock, since AWS may take its time; whoever changes the role in between
//! counts its generation up, and then this look does not count. What is done about it, one short call,
//! is done under the role's lock.

use pgrx::{PgLogLevel, pg_sys};
use secretlink_aws::{AwsError, Client, SecretId};
use secretlink_core::Report;
use secretlink_versions::{
    Candidate, Obstacle, Origin, Username, Versions, clear_pending, promote_found, read_all_versions,
    read_versions, unlabelled,
};

use super::error::sentence;
use super::notice::Notice;
use super::states::{self, State};
use super::target;
use crate::backend::catalog::roles::{self, Role};
use crate::backend::process::io;
use crate::backend::process::report::RawReport;
use crate::backend::process::transaction::{in_transaction, lock_role};
use crate::backend::process::wait::WaitEvent;
use crate::secrets::{cache, client};
use crate::sync::error::SyncError;

/// How many secrets are read at the same time.
pub const AT_ONCE: usize = 16;

/// A role to look at.
struct Doubt {
    oid: pg_sys::Oid,
    role: String,
    secret: SecretId,
    generation: Option<u32>,
}

/// What a secret was found to hold.
enum Finding {
    /// The password is in this version, which is `AWSCURRENT`.
    Current(String),
    /// It is in this version, which is not.
    Elsewhere(String),
    /// It is in this version, which a rotation of ours makes current, or gives up.
    Rotating(String),
    /// It is nowhere.
    Nowhere,
    /// It is there, but the secret is for another user.
    OtherUser(Username),
}

const MISSING: &str = "The secret does not exist.";
const NOWHERE: &str = "No version of the secret holds the role's password.";

/// How a role and its secret stand to each other, and why not better.
#[derive(Default)]
pub struct Look {
    /// The state.
    pub state: State,
    /// The version that holds the role's password.
    pub version_id: Option<String>,
    /// Why the two are not in sync, as a sentence.
    pub reason: Option<String>,
    /// What keeps the secret from being the role's, if that is it.
    pub obstacle: Option<Obstacle>,
}

impl Look {
    /// That no version is the role's.
    pub fn drifted(reason: impl Into<String>) -> Look {
        Look { state: State::Drifted, reason: Some(reason.into()), ..Look::default() }
    }
}

/// That a secret is for another user than the role.
fn other_user(secret: &SecretId, username: Username) -> Obstacle {
    let secret = secret.as_str().to_owned();
    match username {
        Ok(username) => {
            Obstacle::OtherUser { secret, username: username.unwrap_or_default(), takes_turns: false }
        }
        Err(problem) => Obstacle::NotUnderstood { secret, problem },
    }
}

/// Looks for the version that is a role's, at the labels first.
fn find(role: &Role, secret: &SecretId, versions: &Versions) -> Result<Finding, SyncError> {
    let (id, then) = (secret.clone(), versions.clone());
    let more = || client::call(|aws| async move { unlabelled(&aws, &id, &then).await });
    let name = role.display();
    let elsewhere = |candidate: Candidate| Finding::Elsewhere(candidate.version_id);
    let found = versions.of_role(&name, |password| role.verify(password));
    match found {
        // A rename leaves the password as it is: if the name is another one, the version with the new
        // name may have lost its label. Else the secret is somebody else's, who has the same password.
        Some(found) if !found.may_be_of(&name) => {
            let renamed = |c: &Candidate| c.is_of(&name, |password| role.verify(password));
            let other = Finding::OtherUser(found.username);
            Ok(more()?.into_iter().find(renamed).map_or(other, elsewhere))
        }
        Some(found) if versions.is_current(&found.version_id) => Ok(Finding::Current(found.version_id)),
        // At AWSPENDING. Who makes it current before it has logged in keeps the rotation from going back.
        Some(found) if Origin::of(&found.version_id) == Origin::Rotation => {
            Ok(Finding::Rotating(found.version_id))
        }
        Some(found) => Ok(elsewhere(found)),
        None => {
            let is_roles = |c: &Candidate| c.may_be_of(&name) && role.verify(&c.password);
            if let Some(found) = more()?.into_iter().find(is_roles) {
                return Ok(elsewhere(found));
            }
            // That it is for another user, or no secret of a user, says more than that its password is
            // another one.
            let username = versions.problem(&name).map_or_else(|| versions.username(), Err);
            Ok(if !secretlink_versions::may_be_of(&username, &name) {
                Finding::OtherUser(username)
            } else {
                Finding::Nowhere
            })
        }
    }
}

/// How a role and its secret stand to each other now. Changes nothing.
///
/// # Errors
/// If the secret cannot be read.
pub fn look(role: &Role, secret: &SecretId) -> Result<Look, SyncError> {
    if role.hash.is_none() {
        return Ok(Look { state: State::NoPassword, ..Look::default() });
    }
    let id = secret.clone();
    let versions = client::call(|aws| async move { read_versions(&aws, &id).await })?;
    judge(role, secret, versions.as_ref())
}

/// The same, by what was read of the secret.
///
/// # Errors
/// If a version without a label cannot be read.
pub fn judge(role: &Role, secret: &SecretId, versions: Option<&Versions>) -> Result<Look, SyncError> {
    let Some(versions) = versions else { return Ok(Look::drifted(MISSING)) };
    let holds = |state, version_id| Look { state, version_id: Some(version_id), ..Look::default() };
    Ok(match find(role, secret, versions)? {
        Finding::Current(version_id) => holds(State::InSync, version_id),
        Finding::Elsewhere(version_id) | Finding::Rotating(version_id) => holds(State::Pending, version_id),
        Finding::Nowhere => Look::drifted(NOWHERE),
        Finding::OtherUser(username) => {
            let obstacle = other_user(secret, username);
            Look { obstacle: Some(obstacle.clone()), ..Look::drifted(sentence(&obstacle.to_string())) }
        }
    })
}

/// The secrets that are read at the same time, in their order.
///
/// # Errors
/// If no call could even be tried.
pub fn read_side_by_side(
    secrets: Vec<SecretId>,
) -> Result<Vec<Result<Option<Versions>, AwsError>>, SyncError> {
    read(&client::current()?, secrets)
}

/// Every synced role of the server.
pub fn synced_roles() -> Vec<pg_sys::Oid> {
    in_transaction(|| {
        roles::with_password_or_label()
            .into_iter()
            .filter_map(|(role, label)| {
                let synced = matches!(target::by_label(&role, label), Ok(Some(_)));
                synced.then_some(role.oid)
            })
            .collect()
    })
}

/// Says in the log that there are more synced roles than account is kept of, if so.
pub fn tell_of_too_many(roles: usize) {
    let limit = states::capacity();
    if roles > limit {
        log(&Notice::TooManyRoles { roles, limit });
    }
}

/// How a pass over the roles in doubt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Each was looked at.
    Done,
    /// Some were being changed just then.
    SomeBusy,
}

/// Settles every role in doubt, as far as Secrets Manager can be reached. For the background worker:
/// there must be no transaction.
///
/// # Errors
/// If no call could even be tried.
pub fn settle_doubts() -> Result<Pass, SyncError> {
    let mut pass = Pass::Done;
    let doubts = doubts();
    for chunk in doubts.chunks(AT_ONCE) {
        let client = client::current()?;
        let found = read(&client, chunk.iter().map(|doubt| doubt.secret.clone()).collect())?;
        let mut any_answer = false;
        for (doubt, versions) in chunk.iter().zip(found) {
            match versions {
                Ok(versions) => {
                    any_answer = true;
                    if !in_transaction(|| settle(doubt, versions.as_ref())) {
                        pass = Pass::SomeBusy;
                    }
                }
                Err(error) => {
                    any_answer |= !error.is_unreachable();
                    not_reconciled(doubt, &error);
                }
            }
        }
        // The others would not fare better, and would each take as long.
        if !any_answer {
            break;
        }
    }
    Ok(pass)
}

/// The roles in doubt with their secrets. A role that is gone, or not synced any more, is forgotten.
fn doubts() -> Vec<Doubt> {
    let in_doubt = states::in_doubt();
    if in_doubt.is_empty() {
        return Vec::new();
    }
    in_transaction(|| {
        let all = roles::with_password_or_label();
        let owners = target::Owners::of(all.iter().cloned());
        let mut roles: std::collections::HashMap<_, _> =
            all.into_iter().map(|(role, label)| (role.oid, (role, label))).collect();
        let mut doubts = Vec::new();
        for oid in in_doubt {
            let secret = roles.remove(&oid).map(|(role, label)| (target::by_label(&role, label), role));
            match secret {
                Some((Ok(Some(secret)), role)) if role.hash.is_some() => {
                    let generation = states::generation(oid);
                    let doubt = Doubt { oid, role: role.display(), secret, generation };
                    match owners.rival(oid) {
                        // A transaction that is changing it finds out for itself.
                        Some(_) if !lock_role(oid, false) => {}
                        Some(rival) => drifted(&doubt, Some(&sentence(&rival.to_string()))),
                        None => doubts.push(doubt),
                    }
                }
                Some((Ok(Some(_)), _)) => {
                    states::settled(oid, State::NoPassword, None, None);
                }
                Some((Err(error), _)) => {
                    states::failed(oid, &sentence(&error.to_string()));
                }
                // A role that a running transaction creates is not to be seen yet.
                Some((Ok(None), _)) | None => {
                    if lock_role(oid, false) {
                        states::forget(oid);
                    }
                }
            }
        }
        doubts
    })
}

fn read(client: &Client, ids: Vec<SecretId>) -> Result<Vec<Result<Option<Versions>, AwsError>>, SyncError> {
    Ok(io::run(WaitEvent::SecretsManager, read_all_versions(client.clone(), ids))?)
}

/// Settles one role by what was read of its secret. `false` if a transaction is changing the role, or has
/// since: it settles the role itself or leaves it in doubt.
fn settle(doubt: &Doubt, versions: Option<&Versions>) -> bool {
    if !lock_role(doubt.oid, false)
        || !target::lock([&doubt.secret], false)
        || states::generation(doubt.oid) != doubt.generation
    {
        return false;
    }
    match (roles::by_oid(doubt.oid), versions) {
        (None, _) => {}
        (Some(role), _) if role.hash.is_none() => {
            states::settled(doubt.oid, State::NoPassword, None, None);
        }
        (Some(_), None) => drifted(doubt, Some(MISSING)),
        (Some(role), Some(versions)) => {
            if let Err(error) = act(doubt, &role, versions) {
                not_reconciled(doubt, &error);
            }
        }
    }
    true
}

fn act(doubt: &Doubt, role: &Role, versions: &Versions) -> Result<(), SyncError> {
    let found = find(role, &doubt.secret, versions)?;
    let (id, then) = (doubt.secret.clone(), versions.clone());
    let (version_id, is_current) = match found {
        Finding::Current(version_id) => (version_id, true),
        Finding::Elsewhere(version_id) => (version_id, false),
        Finding::Rotating(version_id) => {
            states::settled(doubt.oid, State::Pending, Some(&version_id), None);
            return Ok(());
        }
        Finding::Nowhere => {
            drifted(doubt, None);
            return Ok(());
        }
        Finding::OtherUser(username) => {
            let obstacle = other_user(&doubt.secret, username);
            drifted(doubt, Some(&sentence(&obstacle.to_string())));
            return Ok(());
        }
    };
    let version = version_id.clone();
    client::call(|aws| async move {
        if !is_current {
            promote_found(&aws, &id, &then, &version).await?;
        }
        clear_pending(&aws, &id, &then, &version).await
    })?;
    // What somebody has read meanwhile may be from before a promotion, be it one that nobody waited for.
    cache::forget(doubt.secret.as_str());
    let was_drifted = states::settled(doubt.oid, State::InSync, Some(&version_id), None);
    if !is_current || was_drifted {
        log(&Notice::Reconciled {
            role: doubt.role.clone(),
            secret: doubt.secret.as_str().into(),
            version_id,
        });
    }
    Ok(())
}

fn drifted(doubt: &Doubt, reason: Option<&str>) {
    let reason = reason.unwrap_or(NOWHERE);
    if !states::settled(doubt.oid, State::Drifted, None, Some(reason)) {
        let (role, secret) = (doubt.role.clone(), doubt.secret.as_str().into());
        log(&Notice::Drifted { role, secret, reason: reason.to_owned() });
    }
}

fn not_reconciled(doubt: &Doubt, error: &dyn Report) {
    let reason = sentence(&error.to_string());
    if states::failed(doubt.oid, &reason) {
        let secret = doubt.secret.as_str().into();
        log(&Notice::NotReconciled { role: doubt.role.clone(), secret, reason });
    }
}

/// To the server's log. The worker has no client.
fn log(notice: &Notice) {
    RawReport::new(notice).emit(PgLogLevel::LOG);
}
