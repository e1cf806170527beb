//! Background workers, one file for each job.

mod notify;
mod reconcile;
mod refresh;

use crate::backend::worker;
use crate::gucs;

/// Registers what runs all the time. To be called while the library is preloaded.
pub fn init() {
    worker::register("secretlink", "secretlink_reconcile");
    if gucs::cache_size() > 0 {
        worker::register("secretlink cache", "secretlink_refresh");
    }
}
