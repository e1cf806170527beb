//! Who is asking.

use pgrx::pg_sys;

/// Whether the current user is a superuser.
pub fn is_superuser() -> bool {
    // SAFETY: reads the current user's catalog entry; callable in any transaction.
    unsafe { pg_sys::superuser() }
}
