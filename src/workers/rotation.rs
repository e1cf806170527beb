//! Rotation: a launcher, which is connected to no database, and workers, which are as long as there is
//! something to rotate.

use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::time::Duration;

use super::doorbell;
use crate::backend::process::{server, worker};
use crate::rotation::drive::Worker;
use crate::rotation::error::RotationError;
use crate::rotation::{history, plans, registry, restored};
use crate::settings;

/// How long the launcher waits for a worker that has just been started.
const SOON: Duration = Duration::from_millis(200);

/// How long after a worker that was ended, or that has found nothing left to do, the next one begins, in
/// microseconds.
const PAUSE: i64 = 1_000_000;

/// How long nobody looks for work at most, in microseconds.
const LONGEST_IDLE: i64 = 600_000_000;

/// How long nobody looks again whether the database is there, and the extension in it, in microseconds. Who asks for
/// a rotation, or makes a schedule, does not wait for that.
const NOTHING_THERE: i64 = 60_000_000;

thread_local! {
    /// Whether this worker has come to its end in order.
    static FINISHED: Cell<bool> = const { Cell::new(false) };
    /// Whether this worker is connected to its database.
    static CONNECTED: Cell<bool> = const { Cell::new(false) };
}

/// The launcher's main function. It ends by an ERROR or a signal, and is then started again.
///
/// # Safety
/// For Postgres to call, as the main function of a background worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn secretlink_rotation(_arg: pg_sys::Datum) {
    worker::begin(None);
    doorbell::ROTATION.answer();
    loop {
        doorbell::ROTATION.take_rung();
        let next = launch();
        worker::wait(if doorbell::ROTATION.is_rung() { Duration::ZERO } else { next });
    }
}

/// Starts a worker if there is work for one. Returns how long to wait.
fn launch() -> Duration {
    let most = settings::rotation::workers();
    let idle = settings::sync::reconcile_interval();
    if most == 0 || settings::rotation::database().is_none() {
        return idle;
    }
    let work = registry::work();
    let until = u64::try_from(work.look_at - server::clock()).map(Duration::from_micros);
    let is_due = until.is_err();
    if work.queued == 0 && !is_due && work.backlog <= work.workers {
        return until.unwrap_or_default().min(idle).max(Duration::from_millis(1));
    }
    // They are started one after the other: each looks first what there is.
    if work.starting || work.workers >= most {
        registry::give_up_waiting();
        return if work.starting { SOON } else { idle };
    }
    if work.queued == 0 && work.workers > 0 && work.backlog <= work.workers {
        // The worker that runs takes it.
        return SOON;
    }
    registry::note_start();
    if !worker::start("secretlink rotation worker", "secretlink_rotation_worker", 0) {
        registry::worker_did_not_start();
        registry::give_up_waiting();
        return Duration::from_secs(1);
    }
    SOON
}

/// A worker's main function. It does what there is, and ends.
///
/// # Safety
/// For Postgres to call, as the main function of a background worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn secretlink_rotation_worker(_arg: pg_sys::Datum) {
    let Some(database) = settings::rotation::database() else { return };
    server::at_exit(worker_ends);
    registry::worker_begins();
    worker::begin(Some(&database));
    CONNECTED.set(true);
    // What comes up from here on is not forgotten.
    registry::set_look_at(pg_sys::TimestampTz::MAX);
    let rotation = if history::prepare_session() { Worker::begin() } else { None };
    let Some(rotation) = rotation else {
        let error = RotationError::NotInstalled(database.to_string_lossy().into_owned());
        registry::answer_all(&error);
        registry::set_backlog(0);
        registry::look_at_latest(server::clock() + NOTHING_THERE);
        FINISHED.set(true);
        return;
    };
    loop {
        // Reads the configuration again if asked to.
        worker::wait(Duration::ZERO);
        rotation.answer_orphans();
        if history::is_stuck() {
            return;
        }
        if let Some((id, request)) = registry::claim() {
            rotation.serve(id, &request);
            continue;
        }
        // Of those that others are at, none is ours.
        if history::due(rotation.tables()).into_iter().any(|row| rotation.take_up(row)) {
            continue;
        }
        if !restored::leave_schedules_to_the_original(rotation.tables()) {
            break;
        }
        let (plans, all) = plans::due(rotation.tables(), rotation.issuer());
        registry::set_backlog(all);
        if all > 1 {
            doorbell::ROTATION.ring();
        }
        if !plans.iter().any(|plan| rotation.follow(plan)) {
            break;
        }
    }
    // What has just been taken up may have been waited for.
    rotation.answer_orphans();
    let keep = settings::rotation::history_keep();
    let runs = history::next(rotation.tables(), keep);
    let next = runs.into_iter().chain(plans::next(rotation.tables(), rotation.issuer())).min();
    // What is due now, another worker is at. And a schedule may come that this worker could not see yet.
    let now = server::clock();
    registry::look_at_latest(next.unwrap_or(now + LONGEST_IDLE).clamp(now + PAUSE, now + LONGEST_IDLE));
    FINISHED.set(true);
}

/// # Safety
/// For Postgres to call, at exit. It uses neither argument.
#[pg_guard]
unsafe extern "C-unwind" fn worker_ends(_code: i32, _arg: pg_sys::Datum) {
    // What it was at is taken up, but not in a circle without a pause. All that comes before the launcher is woken.
    if !CONNECTED.get() {
        if let Some(database) = settings::rotation::database() {
            let database = database.to_string_lossy().into_owned();
            registry::answer_all(&RotationError::NotConnected(database));
        }
        registry::set_look_at(server::clock() + NOTHING_THERE);
    } else if !FINISHED.get() {
        registry::look_at_latest(server::clock() + PAUSE);
    }
    registry::worker_ends(FINISHED.get());
}
