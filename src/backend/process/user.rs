//! Who is asking.

use pgrx::pg_sys;
use secretlink_remote::conninfo::ScramKeys;

/// Whether the current user is a superuser.
pub(crate) fn is_superuser() -> bool {
    // SAFETY: reads the current user's catalog entry; callable in any transaction.
    unsafe { pg_sys::superuser() }
}

/// The current user: in a `SECURITY DEFINER` function, the function's owner.
pub(crate) fn current() -> pg_sys::Oid {
    // SAFETY: reads a variable.
    unsafe { pg_sys::GetUserId() }
}

/// The SCRAM keys that the client has proved to know when it logged in, if it did so by SCRAM.
#[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16", feature = "pg17"))]
pub(crate) fn scram_keys() -> Option<ScramKeys> {
    // PostgreSQL 18 is the first to keep them.
    None
}

/// The SCRAM keys that the client has proved to know when it logged in, if it did so by SCRAM.
#[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16", feature = "pg17")))]
pub(crate) fn scram_keys() -> Option<ScramKeys> {
    use pg_sys::libpq::be::{MyProcPort, Port};
    use secretlink_core::Secret;
    use std::ffi::{c_char, c_int, c_void};

    /// What follows in a Port from the last field on that pgrx shows (libpq-be.h).
    #[repr(C)]
    struct Rest {
        application_name: *mut c_char,
        hba: *mut c_void,
        keepalives: [c_int; 8],
        client_key: [u8; 32],
        server_key: [u8; 32],
        has_keys: u8,
    }
    // SAFETY: null in a process without a client, or a Port that lives as long as the process. Its
    // fields from application_name on are laid out as in Rest, by C's rules for both.
    unsafe {
        let port: *const Port = MyProcPort;
        if port.is_null() {
            return None;
        }
        let rest = &*port.byte_add(std::mem::offset_of!(Port, application_name)).cast::<Rest>();
        (rest.has_keys != 0)
            .then(|| ScramKeys { client: Secret::new(rest.client_key), server: Secret::new(rest.server_key) })
    }
}
