//! Background workers: how they are registered, how they wait, how they are told to reload or end.

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::{check_for_interrupts, pg_sys};
use std::ffi::{CStr, c_int};
use std::time::Duration;

/// How soon a worker that has failed is started again.
const RESTART: Duration = Duration::from_secs(5);

// SAFETY: declared as in interrupt.h, tcopprot.h and port.h, but for pqsignal's result, which nobody
// reads. pgrx's own declarations are guarded, which a signal handler must not be; and from
// PostgreSQL 18 on pqsignal is a macro.
unsafe extern "C-unwind" {
    fn SignalHandlerForConfigReload(signal: c_int);
    fn die(signal: c_int);
    #[cfg_attr(
        not(any(feature = "pg14", feature = "pg15", feature = "pg16", feature = "pg17")),
        link_name = "pqsignal_be"
    )]
    fn pqsignal(signal: c_int, handler: unsafe extern "C-unwind" fn(c_int));
}

/// Registers a worker that runs from `start` on. To be called while the library is preloaded.
pub(crate) fn register(name: &str, function: &str, start: BgWorkerStartTime) {
    BackgroundWorkerBuilder::new(name)
        .set_type(name)
        .set_library("secretlink")
        .set_function(function)
        .enable_spi_access()
        .set_start_time(start)
        .set_restart_time(Some(RESTART))
        .load();
}

/// Starts a worker that does one job and ends. `argument` is what its main function is given. Returns false
/// if there is no free place for a worker.
pub(crate) fn start(name: &str, function: &str, argument: usize) -> bool {
    BackgroundWorkerBuilder::new(name)
        .set_type(name)
        .set_library("secretlink")
        .set_function(function)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .set_argument(Some(pg_sys::Datum::from(argument)))
        .load_dynamic()
        .is_ok()
}

/// Begins a worker, before all else: takes signals and connects to a database, or to none, in which case
/// only the catalogs that the whole server shares can be read, and no DROP DATABASE has to wait.
pub(crate) fn begin(database: Option<&CStr>) {
    // SAFETY: a worker's first steps, as in bgworker.h; the handlers are Postgres's own. `die` makes
    // the next look for interrupts end the worker, whatever it waits for.
    unsafe {
        pqsignal(libc::SIGHUP, SignalHandlerForConfigReload);
        pqsignal(libc::SIGTERM, die);
        pg_sys::BackgroundWorkerUnblockSignals();
        let database = database.map_or(std::ptr::null(), CStr::as_ptr);
        pg_sys::BackgroundWorkerInitializeConnection(database, std::ptr::null(), 0);
    }
}

/// The latch of this process.
pub(crate) fn latch() -> *mut pg_sys::Latch {
    // SAFETY: reads a global, which was set when the worker began.
    unsafe { pg_sys::MyLatch }
}

/// Waits until somebody sets the latch or the time is over; reads the configuration again if asked to.
pub(crate) fn wait(timeout: Duration) {
    // A wait for the I/O thread resets the latch, too: a reload may have been asked for meanwhile.
    let timeout = if reload_pending() { Duration::ZERO } else { timeout };
    // SAFETY: waits as latch.h prescribes. The postmaster's death ends the process.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX),
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check_for_interrupts!();
    if reload_pending() {
        // SAFETY: clears the flag of a signal handler; settings are read outside any transaction.
        unsafe {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

fn reload_pending() -> bool {
    // SAFETY: reads a flag that a signal handler sets.
    unsafe { (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0 }
}
