//! After the end of a transaction that has changed roles: promotion of what was staged.

use pgrx::{PgLogLevel, pg_sys};
use secretlink_aws::{Client, SecretId};
use secretlink_core::{Secret, side_by_side};
use secretlink_versions::{Staged, promote};
use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::changes;
use super::error::sentence;
use super::notice::Notice;
use super::states::{self, State};
use crate::backend::process::io;
use crate::backend::process::report::{HiddenStatement, RawReport};
use crate::backend::process::server;
use crate::backend::process::wait::WaitEvent;
use crate::secrets::cache;
use crate::workers::doorbell;

/// What is to be done when the transaction has committed.
#[derive(Default)]
pub(crate) struct AfterCommit {
    /// Versions to make current.
    pub promotions: Vec<Promotion>,
    /// Roles of which it is known how they stand.
    pub standings: Vec<Standing>,
    /// Roles for the worker to look at.
    pub doubted: Vec<pg_sys::Oid>,
    /// Roles that were tied to a secret, and are for the worker to look at, too.
    pub tied: Vec<pg_sys::Oid>,
    /// Roles that are gone or not synced any more.
    pub forgotten: Vec<pg_sys::Oid>,
    /// What promotes, made while failing was possible.
    pub with: Option<(Client, Duration)>,
}

/// A version to make current.
pub(crate) struct Promotion {
    /// The role that it is for.
    pub oid: pg_sys::Oid,
    /// The role's name.
    pub role: String,
    /// The secret.
    pub secret: SecretId,
    /// The version.
    pub staged: Staged,
    /// What was written.
    pub value: Option<Secret>,
}

/// How a role and its secret stand to each other once the transaction has committed.
pub(crate) struct Standing {
    /// The role.
    pub oid: pg_sys::Oid,
    /// The state.
    pub state: State,
    /// The version that holds the role's password.
    pub version_id: Option<String>,
    /// Why there is none.
    pub error: Option<String>,
}

thread_local! {
    static AFTER_COMMIT: RefCell<Option<AfterCommit>> = const { RefCell::new(None) };
    /// Roles for which something may have been written to Secrets Manager.
    static BEGUN: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
}

/// Notes that something may be written to the secrets of these roles from here on.
pub(crate) fn begin(roles: Vec<pg_sys::Oid>) {
    for role in &roles {
        states::begin(*role);
    }
    BEGUN.set(roles);
}

/// What [`after_commit`] is to do.
pub(crate) fn if_committed(after: AfterCommit) {
    AFTER_COMMIT.set(Some(after));
}

/// Promotes what was staged. Interrupts are held off, and nothing here may raise ERROR: it would be a
/// PANIC. So reports are in ASCII, which needs no conversion, and the wait calls no Postgres.
pub(crate) fn after_commit() {
    let Some(after) = AFTER_COMMIT.take() else { return };
    BEGUN.take();
    let _hidden = HiddenStatement::begin();
    let mut for_worker = !after.doubted.is_empty() || !after.tied.is_empty();
    for oid in after.forgotten {
        states::forget(oid);
    }
    for oid in after.doubted {
        states::doubt(oid);
    }
    for oid in after.tied {
        states::tied(oid);
    }
    for standing in after.standings {
        states::found(
            standing.oid,
            standing.state,
            standing.version_id.as_deref(),
            standing.error.as_deref(),
        );
        for_worker |= !standing.state.is_lasting();
    }
    if let Some((client, timeout)) = after.with
        && !after.promotions.is_empty()
    {
        for_worker |= !promote_all(&client, timeout, after.promotions);
    }
    if for_worker || states::any_to_announce() {
        doorbell::SYNC.ring();
    }
}

/// Returns whether everything got through.
fn promote_all(client: &Client, timeout: Duration, promotions: Vec<Promotion>) -> bool {
    // The new passwords are in force from now on, whenever AWSCURRENT follows.
    for Promotion { secret, staged, value, .. } in &promotions {
        cache::changed(client.settings(), secret, &staged.version_id, value.as_ref());
    }
    let deadline = Instant::now() + timeout;
    let aws = client.until(deadline);
    let server = server::observer();
    let requests = promotions.iter().map(|p| (p.secret.clone(), p.staged.clone())).collect();
    let results = io::run_uninterrupted(WaitEvent::SecretsManager, deadline, async move {
        side_by_side(requests, |(secret, staged): (SecretId, Staged)| {
            let aws = aws.clone();
            async move { promote(&aws, &secret, server, &staged.version_id, staged.current.as_deref()).await }
        })
        .await
    });
    let mut results = results.map(Vec::into_iter);
    let mut all = true;
    for promotion in promotions {
        let (role, secret) = (promotion.role, promotion.secret.as_str().to_owned());
        let version_id = promotion.staged.version_id;
        let error = match results.as_mut().and_then(Iterator::next) {
            Some(Ok(())) => {
                // What somebody has read in between says otherwise.
                cache::changed(client.settings(), &promotion.secret, &version_id, promotion.value.as_ref());
                states::found(promotion.oid, State::InSync, Some(&version_id), None);
                RawReport::ascii(&Notice::Promoted { role, secret, version_id }).emit(PgLogLevel::LOG);
                continue;
            }
            Some(Err(error)) => error.to_string(),
            None => "it took too long, or was cancelled".to_owned(),
        };
        all = false;
        states::found(promotion.oid, State::Pending, Some(&version_id), Some(&error));
        let notice = Notice::NotPromoted { role, secret, version_id, reason: sentence(&error) };
        RawReport::ascii(&notice).emit(PgLogLevel::WARNING);
    }
    all
}

/// The transaction was rolled back: nothing is to be promoted. What was staged, or may have been, is
/// for the worker to clear.
pub(crate) fn after_abort() {
    let touched = !changes::is_empty();
    changes::clear();
    AFTER_COMMIT.take();
    let begun = BEGUN.take();
    for role in &begun {
        // What the worker may have read of the secret in the meantime does not count.
        states::doubt_twice(*role);
    }
    // `sync_role` may have shown how a role stands to a secret that is not the role's now.
    if touched || !begun.is_empty() {
        doorbell::SYNC.ring();
    }
}
