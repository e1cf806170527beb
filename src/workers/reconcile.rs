//! Settles the roles whose secret is in doubt: all synced ones when the server starts, and later those
//! that a transaction could not settle itself, or that are not any more as they were.

use pgrx::{PgLogLevel, pg_guard, pg_sys};
use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{doorbell, notify};
use crate::backend::process::report::RawReport;
use crate::backend::process::worker;
use crate::settings;
use crate::settings::sync::PasswordSync;
use crate::sync::audit::Audit;
use crate::sync::pace::Pace;
use crate::sync::pass;
use crate::sync::states;

/// When to look again at a role that was being changed: most often by a transaction that woke us up, and
/// holds its locks for a moment more.
const SOON: Duration = Duration::from_secs(1);

/// The worker's main function. It ends by an ERROR or a signal, and is then started again.
///
/// # Safety
/// For Postgres to call, as the main function of a background worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn secretlink_reconcile(_arg: pg_sys::Datum) {
    worker::begin(None);
    doorbell::SYNC.answer();
    // The template that all synced roles were looked for with, once they were.
    let mut looked_with = None;
    // Those of them that still have to wait for a place.
    let mut unseen = Vec::new();
    // Those whose secret had no answer the last time.
    let mut silent = HashSet::new();
    // Everybody is looked at when the worker starts, and by and by from then on.
    let mut audit = None;
    // When the roles in doubt were looked at last, and how soon again at the latest.
    let mut looked = None::<Instant>;
    let mut again = Duration::ZERO;
    // Those that were being changed then, and when they are looked at again: nobody else's secret is read for that.
    let mut busy = HashSet::new();
    let mut busy_again = Instant::now();
    let mut pace = Pace::default();
    loop {
        if let Some(rest) = pace.rest() {
            notify::start_if_needed();
            worker::wait(rest.max(Duration::from_millis(1)));
            // Whatever has rung, before or meanwhile, is looked at then.
            looked = None;
            continue;
        }
        // A ring of the doorbell from here on is not forgotten while we wait for Secrets Manager.
        let mut is_due = doorbell::SYNC.take_rung();
        let mut next = settings::sync::reconcile_interval();
        is_due |= looked.is_none_or(|looked| looked.elapsed() >= again.min(next));
        if settings::sync::current().mode != PasswordSync::Off {
            match audit.get_or_insert_with(Audit::begin).step(&mut pace) {
                Ok(step) => {
                    is_due |= step.found_doubts;
                    next = next.min(step.pause);
                }
                Err(error) => RawReport::new(&error).emit(PgLogLevel::LOG),
            }
            if pace.rest().is_some() {
                continue;
            }
            let template = Some((settings::sync::secret_template(), settings::sync::cluster_name()));
            let is_first = looked_with != template;
            if states::take_overflowed() || is_first {
                unseen = pass::synced_roles();
                looked_with = template;
                is_due = true;
            }
            if is_first {
                pass::tell_of_too_many(unseen.len());
            }
            if is_due {
                again = settings::sync::reconcile_interval();
                let waiting = unseen.len();
                states::doubt_as_many(&mut unseen);
                if (1..waiting).contains(&unseen.len()) {
                    again = Duration::ZERO;
                }
            }
            if is_due || (!busy.is_empty() && busy_again <= Instant::now()) {
                let were_busy = std::mem::take(&mut busy);
                let only = (!is_due).then_some(&were_busy);
                match pass::settle_doubts(only, &mut silent, &mut pace) {
                    Ok(pass) => {
                        pace.heard(pass.answers);
                        busy = pass.busy;
                    }
                    Err(error) => RawReport::new(&error).emit(PgLogLevel::LOG),
                }
                busy_again = Instant::now() + SOON;
                if is_due {
                    looked = Some(Instant::now());
                }
            }
            if pace.rest().is_some() {
                continue;
            }
            if let Some(looked) = looked {
                next = next.min(again.saturating_sub(looked.elapsed()));
            }
            if !busy.is_empty() {
                next = next.min(busy_again.saturating_duration_since(Instant::now()));
            }
        }
        notify::start_if_needed();
        // It stays rung for the next round, which looks at the roles in doubt for that alone.
        worker::wait(if doorbell::SYNC.is_rung() { Duration::ZERO } else { next });
    }
}
