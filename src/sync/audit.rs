//! Looks at every synced role within an interval, whether or not anybody has reason to doubt it.
//!
//! A secret whose current version is the one that was last verified is not read: the version's value never changes, and
//! the role's hash is the same. Any other is a doubt, which `settle.rs` settles.

use pgrx::{PgLogLevel, pg_sys};
use secretlink_aws::{AwsError, Client, SecretId};
use secretlink_core::side_by_side;
use secretlink_versions::is_at_rest;
use std::time::{Duration, Instant};

use super::error::{SyncError, sentence};
use super::notice::Notice;
use super::pace::{Answers, Pace};
use super::pass::{self, AT_ONCE};
use super::settle;
use super::{states, target};
use crate::backend::catalog::roles;
use crate::backend::process::report::RawReport;
use crate::backend::process::transaction::in_transaction;
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, server};
use crate::secrets::client;
use crate::settings;

/// The shortest time between two steps.
const SHORTEST: Duration = Duration::from_millis(200);
/// The longest time between two steps: a change of the interval counts soon.
const LONGEST: Duration = Duration::from_secs(60);

/// How far the looks have come.
pub(crate) struct Audit {
    /// When the round began.
    began: Instant,
    /// How many roles it has in all.
    all: usize,
    /// Roles that are still to be looked at.
    left: Vec<pg_sys::Oid>,
}

/// What a step has come to.
pub(crate) struct Step {
    /// How long to wait for the next.
    pub pause: Duration,
    /// Whether there are roles in doubt now that were not.
    pub found_doubts: bool,
}

/// A role to look at.
struct Subject {
    oid: pg_sys::Oid,
    role: String,
    secret: SecretId,
    /// The version that holds its password, as far as is known.
    version_id: Option<String>,
}

impl Audit {
    /// Begins a round. The roles are looked at in the course of the interval.
    pub(crate) fn begin() -> Audit {
        let left = pass::synced_roles();
        Audit { began: Instant::now(), all: left.len(), left }
    }

    /// Looks at the roles whose turn it is. Those that are not as they were are in doubt afterwards.
    ///
    /// # Errors
    /// If no call could even be tried.
    pub(crate) fn step(&mut self, pace: &mut Pace) -> Result<Step, SyncError> {
        let interval = settings::sync::audit_interval();
        if interval.is_zero() {
            return Ok(Step { pause: LONGEST, found_doubts: false });
        }
        let passed = self.began.elapsed();
        if passed >= interval && self.left.is_empty() {
            *self = Audit::begin();
            return Ok(Step { pause: SHORTEST, found_doubts: false });
        }
        // As many as the part of the interval that has passed.
        let due = (self.all as f64 * passed.as_secs_f64() / interval.as_secs_f64()) as usize;
        let looked_at = self.all - self.left.len();
        let now = due.saturating_sub(looked_at).min(AT_ONCE).min(self.left.len());
        let turn = self.left.split_off(self.left.len() - now);
        let found_doubts = look(in_transaction(|| turn.into_iter().filter_map(subject).collect()), pace)?;
        let pause = interval / u32::try_from(self.all).unwrap_or(u32::MAX).max(1);
        Ok(Step { pause: pause.clamp(SHORTEST, LONGEST), found_doubts })
    }
}

/// A role that is not in doubt already. In a transaction.
fn subject(oid: pg_sys::Oid) -> Option<Subject> {
    let role = roles::by_oid(oid)?;
    let secret = target::of(&role).ok()??;
    let hash = role.hash.as_ref()?;
    if states::is_in_doubt(oid) {
        return None;
    }
    let version_id = states::verified_version(oid, settle::digest(&[hash.expose()]));
    Some(Subject { oid, role: role.display(), secret, version_id })
}

/// Returns whether any is in doubt now.
fn look(subjects: Vec<Subject>, pace: &mut Pace) -> Result<bool, SyncError> {
    if subjects.is_empty() {
        return Ok(false);
    }
    let aws = client::current()?;
    let server = server::observer();
    // What is not known is read in full.
    let (known, unknown): (Vec<_>, Vec<_>) = subjects.into_iter().partition(|s| s.version_id.is_some());
    let mut found_doubts = !unknown.is_empty();
    for subject in unknown {
        states::doubt(subject.oid);
    }
    let asked = known.iter().map(|s| (s.secret.clone(), s.version_id.clone().unwrap_or_default())).collect();
    let found = io::run(WaitEvent::SecretsManager, async move {
        side_by_side(asked, |(id, version_id): (SecretId, String)| {
            let aws: Client = aws.clone();
            async move { aws.stages(&id).await.map(|stages| is_at_rest(&stages, server, &version_id)) }
        })
        .await
    })?;
    let mut answers = if known.is_empty() { Answers::Some } else { Answers::All };
    for (subject, found) in known.into_iter().zip(found) {
        match found {
            Ok(true) => {}
            Ok(false) | Err(AwsError::SecretNotFound { .. }) => {
                states::doubt(subject.oid);
                found_doubts = true;
            }
            Err(error) => {
                if error.is_throttled() {
                    answers = Answers::Throttled;
                } else if error.is_unreachable() && answers == Answers::All {
                    answers = Answers::Some;
                }
                let reason = sentence(&error.to_string());
                if states::failed(subject.oid, &reason) {
                    let secret = subject.secret.as_str().to_owned();
                    let notice = Notice::NotReconciled { role: subject.role, secret, reason };
                    RawReport::new(&notice).emit(PgLogLevel::LOG);
                }
            }
        }
    }
    pace.heard(answers);
    Ok(found_doubts)
}
