//! Settings of this session that follow the remote one while its result is read.

use pgrx::pg_sys;
use secretlink_remote::connection::ResultShape;
use std::ffi::{CStr, CString};

/// DateStyle and IntervalStyle set as in the remote session, until dropped.
///
/// When an ERROR leaves in between, the transaction's end undoes them anyway (AtEOXact_GUC).
pub(crate) struct GucScope {
    nest_level: Option<i32>,
}

impl GucScope {
    /// Sets what differs.
    pub(crate) fn follow(shape: &ResultShape) -> GucScope {
        let mut scope = GucScope { nest_level: None };
        for (name, value) in [(c"DateStyle", &shape.date_style), (c"IntervalStyle", &shape.interval_style)] {
            // A style with a NUL byte in it does not exist.
            if let Some(value) = value.as_deref().and_then(|v| CString::new(v).ok()) {
                scope.set(name, &value);
            }
        }
        scope
    }

    fn set(&mut self, name: &CStr, value: &CStr) {
        // SAFETY: both are C strings; GetConfigOption's result is valid until the next change.
        let current = unsafe { pg_sys::GetConfigOption(name.as_ptr(), true, false) };
        // SAFETY: not null, hence a C string of guc.c's.
        if !current.is_null() && unsafe { CStr::from_ptr(current) } == value {
            return;
        }
        // SAFETY: opens a nest level, closed in `drop` or at the end of the transaction.
        self.nest_level.get_or_insert_with(|| unsafe { pg_sys::NewGUCNestLevel() });
        // SAFETY: C strings again. Set as dblink and postgres_fdw do: for this nest level only.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
}

impl Drop for GucScope {
    fn drop(&mut self) {
        if let Some(level) = self.nest_level
            && !std::thread::panicking()
        {
            // SAFETY: the level was opened by `set` and is the innermost, as scopes end in order.
            // While an ERROR unwinds, the end of the (sub)transaction does this.
            unsafe { pg_sys::AtEOXact_GUC(true, level) };
        }
    }
}
