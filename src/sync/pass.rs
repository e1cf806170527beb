//! The worker's pass over the roles in doubt.

use std::collections::HashSet;
use std::time::Duration;

use pgrx::pg_sys;
use secretlink_core::channel::channel;
use secretlink_versions::read_each;

use super::error::sentence;
use super::notice::Notice;
use super::pace::{Answers, Pace};
use super::settle::{Doubt, Settled, drifted, log, not_settled, settle};
use super::states::{self, State};
use super::target;
use crate::backend::catalog::roles;
use crate::backend::process::transaction::{in_transaction, lock_role};
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, server};
use crate::secrets::client;
use crate::sync::error::SyncError;
use crate::workers::doorbell;

/// How many secrets are read at the same time.
pub(crate) const AT_ONCE: usize = 16;

/// How often somebody who waits for secrets without an answer looks whether there is anything else to do.
const GLANCE: Duration = Duration::from_millis(200);
/// After so many looks without an answer it is worth while to begin anew with somebody else.
const GLANCES: u32 = 10;

/// How a pass over the roles in doubt went.
#[derive(Debug)]
pub(crate) struct Pass {
    /// How Secrets Manager has answered. The pass ends early when it asks to be asked less often.
    pub answers: Answers,
    /// Roles that were being changed just then.
    pub busy: HashSet<pg_sys::Oid>,
}

/// Settles every role in doubt, or those of them that are in `only`, as far as Secrets Manager can be reached. For the
/// background worker: there must be no transaction.
///
/// Secrets are read at the same time, and each role is settled as soon as its secret was read: one without
/// an answer keeps nobody waiting but for a place among those that are read. What had no answer, `silent`, comes
/// last the next time, so that it does not even do that again.
///
/// # Errors
/// If no call could even be tried.
pub(crate) fn settle_doubts(
    only: Option<&HashSet<pg_sys::Oid>>,
    silent: &mut HashSet<pg_sys::Oid>,
    pace: &mut Pace,
) -> Result<Pass, SyncError> {
    let (mut doubts, busy) = doubts(only);
    let mut pass = Pass { answers: Answers::Some, busy };
    if doubts.is_empty() {
        if only.is_none() {
            silent.clear();
        }
        return Ok(pass);
    }
    doubts.sort_by_key(|doubt| silent.contains(&doubt.oid));
    let ids = doubts.iter().map(|doubt| doubt.secret.clone()).collect();
    let (aws, server) = (client::current()?.in_conversation(), server::observer());
    let thread = io::thread()?;
    let (sender, mut results) = channel(AT_ONCE, thread.waker().clone());
    // Dropped, it ends.
    let _reading =
        thread.submit(read_each(aws, ids, server, AT_ONCE, pace.between_reads(), move |place, versions| {
            let sender = sender.clone();
            async move { sender.send((place, versions)).await.is_ok() }
        }));
    let (mut without_answer, mut left) = (0, doubts.len());
    let mut all_answered = true;
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
            Ok(versions) => {
                // Not under the role's lock, as the settling is.
                pace.wait_for_write();
                in_transaction(|| settle(doubt, versions.as_ref(), pace))
            }
            Err(error) => not_settled(doubt, &error),
        };
        match settled {
            Settled::Yes => without_answer = 0,
            Settled::Busy => {
                pass.busy.insert(doubt.oid);
            }
            Settled::NoAnswer => {
                all_answered = false;
                silent.insert(doubt.oid);
                without_answer += 1;
            }
            // Nor would the others be answered.
            Settled::Throttled => {
                silent.insert(doubt.oid);
                pass.answers = Answers::Throttled;
                return Ok(pass);
            }
        }
        // The others would not fare better, and would each take as long.
        if without_answer == AT_ONCE {
            break;
        }
    }
    if all_answered && left == 0 {
        pass.answers = Answers::All;
    }
    Ok(pass)
}

/// The roles in doubt with their secrets, and others that a transaction was changing just then: it rings before it
/// lets go of its locks. A role that is gone, or not synced any more, is forgotten.
fn doubts(only: Option<&HashSet<pg_sys::Oid>>) -> (Vec<Doubt>, HashSet<pg_sys::Oid>) {
    let mut in_doubt = states::in_doubt();
    in_doubt.retain(|oid| only.is_none_or(|only| only.contains(oid)));
    if in_doubt.is_empty() {
        return (Vec::new(), HashSet::new());
    }
    in_transaction(|| {
        let all = roles::with_password_or_label();
        let owners = target::Owners::of(all.iter().cloned());
        let mut roles: std::collections::HashMap<_, _> =
            all.into_iter().map(|(role, label)| (role.oid, (role, label))).collect();
        let (mut doubts, mut busy) = (Vec::new(), HashSet::new());
        for oid in in_doubt {
            let secret = roles.remove(&oid).map(|(role, label)| (target::by_label(&role, label), role));
            match secret {
                Some((Ok(Some(secret)), role)) if role.hash.is_some() => {
                    let generation = states::generation(oid);
                    let doubt = Doubt { oid, role: role.display(), secret, generation };
                    match owners.rival(oid) {
                        Some(_) if !lock_role(oid, false) => {
                            busy.insert(oid);
                        }
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
                // A role that a running transaction creates or ties to a secret is not to be seen yet.
                Some((Ok(None), _)) | None if !lock_role(oid, false) => {
                    busy.insert(oid);
                }
                Some((Ok(None), _)) | None => {
                    if !is_synced(oid) {
                        states::forget(oid);
                    }
                }
            }
        }
        (doubts, busy)
    })
}

/// Whether a role is synced at this moment, or should be.
fn is_synced(role: pg_sys::Oid) -> bool {
    roles::by_oid(role).is_some_and(|role| !matches!(target::of(&role), Ok(None)))
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
