//! Background workers, one file for each job.

pub(crate) mod doorbell;
mod notify;
mod reconcile;
mod renewal;
mod rotation;

use pgrx::bgworkers::BgWorkerStartTime;

use crate::backend::process::worker;
use crate::settings;

/// Registers what runs all the time. To be called while the library is preloaded.
pub(crate) fn init() {
    doorbell::init();
    // It changes secrets: on a standby only from its promotion on.
    worker::register("secretlink", "secretlink_reconcile", BgWorkerStartTime::RecoveryFinished);
    // The launcher of rotations does, too. It is connected to no database: its workers are, as long as they have to.
    worker::register("secretlink rotation", "secretlink_rotation", BgWorkerStartTime::RecoveryFinished);
    if settings::cache::size() > 0 {
        // It serves all who can connect.
        worker::register("secretlink cache", "secretlink_renewal", BgWorkerStartTime::ConsistentState);
    }
}
