//! Postgres's account of file descriptors.

use pgrx::pg_sys;

use crate::backend::error::BackendError;

/// One descriptor that is not a file of Postgres's, counted while this lives. fd.c wants to know of
/// long-lived ones, so that its own files and ours do not exceed the limit together.
pub(crate) struct ExternalFd(());

impl ExternalFd {
    /// # Errors
    /// If there are too many.
    pub(crate) fn acquire() -> Result<ExternalFd, BackendError> {
        // SAFETY: a plain counter, which may close some of fd.c's own virtual descriptors.
        if unsafe { pg_sys::AcquireExternalFD() } {
            Ok(ExternalFd(()))
        } else {
            Err(BackendError::TooManyFiles)
        }
    }
}

impl Drop for ExternalFd {
    fn drop(&mut self) {
        // SAFETY: gives back what `acquire` took; only decrements a counter.
        unsafe { pg_sys::ReleaseExternalFD() }
    }
}
