//! Settings, one file a subject, and snapshots of them for the I/O thread, where no setting may be read.

pub(crate) mod aws;
pub(crate) mod cache;
mod kind;
pub(crate) mod remote;
pub(crate) mod rotation;
pub(crate) mod superusers;
pub(crate) mod sync;

/// Defines the settings and reserves their prefix.
pub(crate) fn init() {
    superusers::guarded(&[&aws::FOR_SUPERUSERS[..], &remote::FOR_SUPERUSERS].concat(), || {
        aws::define();
        cache::define();
        remote::define();
        rotation::define();
        sync::define();
        reserve_prefix();
    });
}

/// Makes a misspelt setting of ours an error, from PostgreSQL 15 on. Before, the function is called otherwise.
fn reserve_prefix() {
    #[cfg(not(feature = "pg14"))]
    // SAFETY: a C string that lives for ever.
    unsafe {
        pgrx::pg_sys::MarkGUCPrefixReserved(c"secretlink".as_ptr());
    }
    #[cfg(feature = "pg14")]
    // SAFETY: a C string that lives for ever.
    unsafe {
        pgrx::pg_sys::EmitWarningsOnPlaceholders(c"secretlink".as_ptr());
    }
}
