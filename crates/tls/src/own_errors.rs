//! The queue of errors that OpenSSL keeps for each thread.

use crate::more;

/// Keeps the thread's queue of OpenSSL's errors to what is reported while this value lives. The backend's
/// own thread shares the queue with Postgres, its libpq and other extensions: none is to take the errors of
/// another for its own.
pub struct OwnErrors(());

impl OwnErrors {
    /// Forgets what was reported before.
    #[allow(clippy::new_without_default)]
    pub fn new() -> OwnErrors {
        more::clear_errors();
        OwnErrors(())
    }
}

impl Drop for OwnErrors {
    fn drop(&mut self) {
        more::clear_errors();
    }
}
