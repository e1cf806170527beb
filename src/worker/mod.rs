//! Background workers, one file for each job.

mod notify;
mod reconcile;

use crate::backend::worker;

/// Registers what runs all the time. To be called while the library is preloaded.
pub fn init() {
    worker::register("secretlink", "secretlink_reconcile");
}
