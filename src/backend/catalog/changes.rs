//! When to look again at what was read from the catalogs about foreign servers.

use pgrx::pg_sys::{self, SysCacheIdentifier};
use std::ffi::c_int;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// What decides about a server, who may use it, and as whom.
const CACHES: [SysCacheIdentifier::Type; 4] = [
    SysCacheIdentifier::FOREIGNSERVEROID,
    SysCacheIdentifier::USERMAPPINGOID,
    SysCacheIdentifier::AUTHOID,
    SysCacheIdentifier::AUTHMEMROLEMEM,
];

static CHANGES: AtomicU64 = AtomicU64::new(0);

/// A number that is another one after servers, user mappings, roles or their memberships may have
/// changed. To be read before the catalogs are.
pub(crate) fn count() -> u64 {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        for cache in CACHES {
            // SAFETY: a function of the right type that lives as long as the process; there are places
            // for far more of them (inval.c, MAX_SYSCACHE_CALLBACKS).
            unsafe {
                pg_sys::CacheRegisterSyscacheCallback(
                    cache as c_int,
                    Some(on_change),
                    pg_sys::Datum::from(0),
                );
            }
        }
    });
    // A function that runs for long, or in a transaction that takes no locks, would not hear of what
    // others have committed.
    // SAFETY: in a transaction, as functions are, and nothing that was read from a catalog is in use.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    CHANGES.load(Ordering::Relaxed)
}

/// Only counts: it is called in the middle of anything.
///
/// # Safety
/// For Postgres to call.
unsafe extern "C-unwind" fn on_change(_arg: pg_sys::Datum, _cache: c_int, _hash: pg_sys::uint32) {
    CHANGES.fetch_add(1, Ordering::Relaxed);
}
