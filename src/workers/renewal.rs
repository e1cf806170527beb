//! Keeps cached secrets that are in use from growing old.

use pgrx::{PgLogLevel, pg_guard, pg_sys};
use std::time::Duration;

use super::doorbell;
use crate::backend::process::report::RawReport;
use crate::backend::process::worker;
use crate::secrets::cache;
use crate::settings;

/// The worker's main function. It ends by an ERROR or a signal, and is then started again.
///
/// # Safety
/// For Postgres to call, as the main function of a background worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn secretlink_renewal(_arg: pg_sys::Datum) {
    worker::begin(None);
    doorbell::CACHE.answer();
    loop {
        let more = match cache::renew() {
            Ok(more) => more,
            Err(error) => {
                RawReport::new(&error).emit(PgLogLevel::LOG);
                false
            }
        };
        worker::wait(if more { Duration::ZERO } else { pause() });
    }
}

/// The longest time for which nothing can be due.
const LONGEST: Duration = Duration::from_secs(10);

/// How long to wait between two looks: short beside the time that is left of a value when it is due.
fn pause() -> Duration {
    match settings::cache::timing().ttl {
        // Nothing is ever renewed: it is asked for each time.
        Duration::ZERO => LONGEST,
        ttl => (ttl / 20).clamp(Duration::from_millis(100), LONGEST),
    }
}
