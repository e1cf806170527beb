//! Finds out which version of a role's secret holds its password, and makes that one current.
//!
//! The secret is read without a lock, since AWS may take its time; whoever changes the role in between
//! counts its generation up, and then this look does not count. What is done about it, one short call,
//! is done under the role's lock.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use pgrx::{PgLogLevel, pg_sys};
use secretlink_aws::{AwsError, Client, SecretId};
use secretlink_core::channel::channel;
use secretlink_core::{Report, Secret};
use secretlink_versions::{
    Candidate, Obstacle, Origin, Username, Versions, clear, is_left_over, promote_found, read_all_versions,
    read_each, read_versions, unlabelled, writer,
};

use super::error::{sentence, sentences};
use super::notice::Notice;
use super::states::{self, State};
use super::target;
use crate::backend::catalog::roles::{self, Role};
use crate::backend::process::report::RawReport;
use crate::backend::process::transaction::{in_transaction, lock_role};
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, server};
use crate::secrets::error::SecretsError;
use crate::secrets::{cache, client};
use crate::sync::error::SyncError;
use crate::workers::doorbell;

/// How many secrets are read at the same time.
pub(crate) const AT_ONCE: usize = 16;

/// How often somebody who waits for secrets without an answer looks whether there is anything else to do.
const GLANCE: Duration = Duration::from_millis(200);
/// After so many looks without an answer it is worth while to begin anew with somebody else.
const GLANCES: u32 = 10;

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
    Elsewhere(Candidate),
    /// It is in this version, which a rotation of ours makes current, or gives up.
    Rotating(String),
    /// It is nowhere.
    Nowhere,
    /// It is there, but the secret is for another user.
    OtherUser(Username),
}

const MISSING: &str = "The secret does not exist.";
const LOST: &str = "The secret holds a password that was set at the primary before this one, and that was lost when this server was promoted.";
const NOWHERE: &str = "No version of the secret holds the role's password.";

/// How a role and its secret stand to each other, and why not better.
#[derive(Default)]
pub(crate) struct Look {
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
    pub(crate) fn drifted(reason: impl Into<String>) -> Look {
        Look { state: State::Drifted, reason: Some(reason.into()), ..Look::default() }
    }
}

impl Look {
    /// The same for a role that is being tied to the secret, whatever it was synced with before.
    pub(crate) fn of_tied(self) -> Look {
        match self.state {
            State::NeverSet => Look { state: State::NoSecret, ..Look::drifted(MISSING) },
            _ => self,
        }
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
    let found = versions.of_role(&name, |password| role.verify(password));
    match found {
        // A rename leaves the password as it is: if the name is another one, the version with the new
        // name may have lost its label. Else the secret is somebody else's, who has the same password.
        Some(found) if !found.may_be_of(&name) => {
            let renamed = |c: &Candidate| c.is_of(&name, |password| role.verify(password));
            let other = Finding::OtherUser(found.username);
            Ok(more()?.into_iter().find(renamed).map_or(other, Finding::Elsewhere))
        }
        Some(found) if versions.is_current(&found.version_id) => Ok(Finding::Current(found.version_id)),
        // At AWSPENDING. Who makes it current before it has logged in keeps the rotation from going back.
        Some(found) if Origin::of(&found.version_id) == Origin::Rotation => {
            Ok(Finding::Rotating(found.version_id))
        }
        Some(found) => Ok(Finding::Elsewhere(found)),
        None => {
            let is_roles = |c: &Candidate| c.may_be_of(&name) && role.verify(&c.password);
            if let Some(found) = more()?.into_iter().find(is_roles) {
                return Ok(Finding::Elsewhere(found));
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
pub(crate) fn look(role: &Role, secret: &SecretId) -> Result<Look, SyncError> {
    if role.hash.is_none() {
        return Ok(Look { state: State::NoPassword, ..Look::default() });
    }
    let id = secret.clone();
    let server = server::observer();
    let versions = client::call(|aws| async move { read_versions(&aws, &id, server).await })?;
    judge(role, secret, versions.as_ref())
}

/// The same, by what was read of the secret.
///
/// # Errors
/// If a version without a label cannot be read.
pub(crate) fn judge(role: &Role, secret: &SecretId, versions: Option<&Versions>) -> Result<Look, SyncError> {
    let Some(versions) = versions else {
        let state = missing(role.oid);
        let reason = (state == State::NoSecret).then(|| MISSING.to_owned());
        return Ok(Look { state, reason, ..Look::default() });
    };
    let holds = |state, version_id| Look { state, version_id: Some(version_id), ..Look::default() };
    Ok(match find(role, secret, versions)? {
        Finding::Current(version_id) => holds(State::InSync, version_id),
        Finding::Elsewhere(Candidate { version_id, .. }) | Finding::Rotating(version_id) => {
            holds(State::Pending, version_id)
        }
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
pub(crate) fn read_side_by_side(
    secrets: Vec<SecretId>,
) -> Result<Vec<Result<Option<Versions>, AwsError>>, SyncError> {
    read(&client::current()?, secrets)
}

/// Every synced role of the server.
pub(crate) fn synced_roles() -> Vec<pg_sys::Oid> {
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
pub(crate) fn tell_of_too_many(roles: usize) {
    let limit = states::capacity();
    if roles > limit {
        log(&Notice::TooManyRoles { roles, limit });
    }
}

/// How a pass over the roles in doubt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Each was looked at.
    Done,
    /// Some were being changed just then.
    SomeBusy,
}

/// Settles every role in doubt, as far as Secrets Manager can be reached. For the background worker:
/// there must be no transaction.
///
/// Secrets are read at the same time, and each role is settled as soon as its secret was read: one without
/// an answer keeps nobody waiting but for a place among those that are read. What had no answer, `silent`, comes
/// last the next time, so that it does not even do that again.
///
/// # Errors
/// If no call could even be tried.
pub(crate) fn settle_doubts(silent: &mut HashSet<pg_sys::Oid>) -> Result<Pass, SyncError> {
    let mut pass = Pass::Done;
    let mut doubts = doubts();
    if doubts.is_empty() {
        silent.clear();
        return Ok(pass);
    }
    doubts.sort_by_key(|doubt| silent.contains(&doubt.oid));
    let ids = doubts.iter().map(|doubt| doubt.secret.clone()).collect();
    let (aws, server) = (client::current()?.in_conversation(), server::observer());
    let thread = io::thread()?;
    let (sender, mut results) = channel(AT_ONCE, thread.waker().clone());
    // Dropped, it ends.
    let _reading = thread.submit(read_each(aws, ids, server, AT_ONCE, move |place, versions| {
        let sender = sender.clone();
        async move { sender.send((place, versions)).await.is_ok() }
    }));
    let (mut without_answer, mut left) = (0, doubts.len());
    let mut others = doubts.iter().filter(|doubt| !silent.contains(&doubt.oid)).count();
    let mut is_read = vec![false; doubts.len()];
    let mut glances = 0;
    while left > 0 {
        // Nobody is to wait for those that were silent before, nor long for others.
        if (others == 0 || glances == GLANCES) && doorbell::SYNC.is_rung() {
            let asked = doubts.iter().zip(&is_read).filter(|(_, is_read)| !**is_read).take(AT_ONCE);
            silent.extend(asked.map(|(doubt, _)| doubt.oid));
            break;
        }
        let arrived = io::recv_within(WaitEvent::SecretsManager, &mut results, GLANCE)?;
        let Some((place, versions)) = arrived else {
            glances = (glances + 1).min(GLANCES);
            continue;
        };
        glances = 0;
        left -= 1;
        is_read[place] = true;
        let doubt = &doubts[place];
        if !silent.remove(&doubt.oid) {
            others -= 1;
        }
        let settled = match versions {
            Ok(versions) => in_transaction(|| settle(doubt, versions.as_ref())),
            Err(error) => {
                not_reconciled(doubt, &error);
                if is_no_answer(&error) { Settled::NoAnswer } else { Settled::Yes }
            }
        };
        match settled {
            Settled::Yes => without_answer = 0,
            Settled::Busy => pass = Pass::SomeBusy,
            Settled::NoAnswer => {
                silent.insert(doubt.oid);
                without_answer += 1;
            }
        }
        // The others would not fare better, and would each take as long.
        if without_answer == AT_ONCE {
            break;
        }
    }
    Ok(pass)
}

/// How it went with one role.
enum Settled {
    Yes,
    /// A transaction is changing it.
    Busy,
    /// Secrets Manager did not answer, or asks to be asked less often.
    NoAnswer,
}

fn is_no_answer(error: &AwsError) -> bool {
    error.is_unreachable() || error.is_throttled()
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
                    states::found(oid, State::NoPassword, None, None);
                }
                Some((Err(error), _)) => {
                    states::failed(oid, &sentence(&error.to_string()));
                }
                // A role that a running transaction creates or ties to a secret is not to be seen yet. If that
                // has ended since the roles were read, it has rung, and the next pass sees the role.
                Some((Ok(None), _)) | None => {
                    if lock_role(oid, false) && !is_synced(oid) {
                        states::forget(oid);
                    }
                }
            }
        }
        doubts
    })
}

/// Whether a role is synced at this moment, or should be.
fn is_synced(role: pg_sys::Oid) -> bool {
    roles::by_oid(role).is_some_and(|role| !matches!(target::of(&role), Ok(None)))
}

fn read(client: &Client, ids: Vec<SecretId>) -> Result<Vec<Result<Option<Versions>, AwsError>>, SyncError> {
    Ok(io::run(WaitEvent::SecretsManager, read_all_versions(client.clone(), ids, server::observer()))?)
}

/// Settles one role by what was read of its secret. A transaction that is changing the role, or has since,
/// settles it itself or leaves it in doubt.
fn settle(doubt: &Doubt, versions: Option<&Versions>) -> Settled {
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
        (Some(role), Some(versions)) => match act(doubt, &role, versions) {
            Ok(()) => {}
            Err(SyncError::NotStaged { obstacle, .. }) => {
                not_reconciled(doubt, obstacle.as_ref());
                if obstacle.is_outage() {
                    return Settled::NoAnswer;
                }
            }
            Err(error) => {
                not_reconciled(doubt, &error);
                if matches!(&error, SyncError::Secrets(SecretsError::Aws(error)) if is_no_answer(error)) {
                    return Settled::NoAnswer;
                }
            }
        },
    }
    Settled::Yes
}

/// What it means that a role has no secret. One that a template names is made when the role's password is set, and
/// that may be never: only if it was there before is it gone.
fn missing(role: pg_sys::Oid) -> State {
    let was_there = || states::get(role).is_some_and(|known| known.version_id.is_some());
    if roles::label(role).is_some() || was_there() { State::NoSecret } else { State::NeverSet }
}

fn act(doubt: &Doubt, role: &Role, versions: &Versions) -> Result<(), SyncError> {
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

fn drifted(doubt: &Doubt, reason: Option<&str>) {
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

/// To the server's log. The worker has no client.
fn log(notice: &Notice) {
    RawReport::new(notice).emit(PgLogLevel::LOG);
}
