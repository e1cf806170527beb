//! What this server is called, and how it was started.

use pgrx::pg_sys;
use secretlink_remote::verifier;
use secretlink_versions::Issuer;
use std::ffi::CStr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::backend::text::from_catalog;

/// `cluster_name`, empty if unset.
pub(crate) fn cluster_name() -> Vec<u8> {
    // SAFETY: a C string of guc.c's, or null.
    unsafe {
        let name = pg_sys::cluster_name;
        if name.is_null() { Vec::new() } else { CStr::from_ptr(name).to_bytes().to_vec() }
    }
}

/// `scram_iterations`, which PostgreSQL 16 is the first to have.
pub(crate) fn scram_iterations() -> NonZeroU32 {
    // SAFETY: a C string; an unknown name gives null, and a known one a C string.
    unsafe {
        let value = pg_sys::GetConfigOption(c"scram_iterations".as_ptr(), true, false);
        let value = (!value.is_null()).then(|| CStr::from_ptr(value).to_str().ok()?.parse().ok());
        value.flatten().unwrap_or(verifier::DEFAULT_ITERATIONS)
    }
}

/// The port that clients connect to.
pub(crate) fn port() -> u16 {
    // SAFETY: reads a setting.
    u16::try_from(unsafe { pg_sys::PostPortNumber }).unwrap_or_default()
}

/// The operating system's host name.
pub(crate) fn host_name() -> String {
    let mut name = [0u8; 256];
    // SAFETY: a buffer of the length given. A name that fills it may lack its NUL byte.
    let failed = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0;
    match CStr::from_bytes_until_nul(&name) {
        Ok(name) if !failed => name.to_string_lossy().into_owned(),
        _ => String::new(),
    }
}

/// The current database.
pub(crate) fn database_name() -> String {
    // SAFETY: a catalog look-up, callable in any transaction; null or a palloc'd C string.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        if name.is_null() { String::new() } else { from_catalog(CStr::from_ptr(name)) }
    }
}

/// The encoding of the current database, by the name that Postgres gives it.
pub(crate) fn encoding() -> String {
    // SAFETY: returns a static C string.
    unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) }.to_string_lossy().into_owned()
}

/// Whether there is a database of this name. In a transaction.
pub(crate) fn has_database(name: &CStr) -> bool {
    // SAFETY: a catalog look-up with a C string.
    unsafe { pg_sys::get_database_oid(name.as_ptr(), true) != pg_sys::InvalidOid }
}

/// Shows this instead of the statement that is running, in `pg_stat_activity`, and in the server's log if
/// this process crashes.
pub(crate) fn show_activity(text: &CStr) {
    // SAFETY: a C string, which is copied.
    unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()) };
}

/// Whether the library is being loaded by way of `shared_preload_libraries`.
pub(crate) fn is_preloading() -> bool {
    // SAFETY: reads a global.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Whether this server is run by `pg_upgrade`, which puts everything back as it was.
pub(crate) fn is_binary_upgrade() -> bool {
    // SAFETY: reads a global.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Whether this server is a standby.
pub(crate) fn is_standby() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Who this server is, as far as the ids of its versions tell. `None` on a standby, which writes none.
pub(crate) fn issuer() -> Option<Issuer> {
    if is_standby() {
        return None;
    }
    // SAFETY: both read shared memory. The timeline is known once recovery is over, which it is; in 14 the
    // look at that has fetched it into this process. That of the last checkpoint would be the old one for a
    // while after a promotion.
    unsafe {
        let system = pg_sys::GetSystemIdentifier();
        #[cfg(feature = "pg14")]
        let timeline = pg_sys::ThisTimeLineID;
        #[cfg(not(feature = "pg14"))]
        let timeline = pg_sys::GetWALInsertionTimeLine();
        Some(Issuer { system, timeline })
    }
}

/// Who looks at the versions of a secret. A standby, which writes none, is superseded by nobody.
pub(crate) fn observer() -> Issuer {
    // SAFETY: reads shared memory.
    let system = unsafe { pg_sys::GetSystemIdentifier() };
    issuer().unwrap_or(Issuer { system, timeline: u32::MAX })
}

/// How long the machine has been running, the time it slept included: the same for all processes.
pub(crate) fn uptime() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in the struct. Linux has had this clock since 2.6.39; without it the time stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What the clock says.
pub(crate) fn clock() -> pg_sys::TimestampTz {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Whether this process is a child of a postmaster: `postgres --single` has none.
pub(crate) fn has_postmaster() -> bool {
    // SAFETY: reads a global.
    unsafe { pg_sys::IsUnderPostmaster }
}

/// The id of this process.
pub(crate) fn process_id() -> i32 {
    // SAFETY: reads a global.
    unsafe { pg_sys::MyProcPid }
}

/// Has `work` called when this process ends in order.
pub(crate) fn at_exit(work: unsafe extern "C-unwind" fn(i32, pg_sys::Datum)) {
    // SAFETY: a function of the right type; it is called while shared memory is still there.
    unsafe { pg_sys::before_shmem_exit(Some(work), pg_sys::Datum::from(0)) };
}
