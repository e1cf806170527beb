//! A request for a secret that is under way on behalf of all backends.

use pgrx::{PgLogLevel, pg_guard, pg_sys};
use secretlink_cache::{Ask, Contents, Failure, Finish, Key, SharedError, Ticket};
use std::cell::Cell;

use super::memory;
use super::notice::Notice;
use crate::backend::process::report::RawReport;
use crate::backend::process::server;
use crate::secrets::error::SecretsError;

/// Gives the request up when it is dropped, as an ERROR does.
pub(crate) struct Flight(Cell<Option<Ticket>>);

thread_local! {
    static EXIT_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

impl Flight {
    /// Takes over what the store has begun.
    pub(crate) fn begin(ticket: Ticket) -> Flight {
        let flight = Flight(Cell::new(Some(ticket)));
        if !EXIT_CALLBACK.replace(true) {
            server::at_exit(at_exit);
        }
        flight
    }

    /// The request has ended. Tells those who wait, and the log what is new. `None` if there is no cache.
    pub(crate) fn land(
        self,
        key: &Key,
        came: &Result<Contents, SecretsError>,
        ask: &Ask<'_>,
    ) -> Option<Finish> {
        let ticket = self.0.take()?;
        let outcome = came.as_ref().map_err(|error| Failure {
            unreachable: matches!(error, SecretsError::Aws(error) if error.is_unreachable() || error.is_throttled()),
            report: SharedError::bytes_of(error),
        });
        let now = memory::now();
        let finish = memory::with(|store| store.finish(ticket, outcome, ask, now));
        memory::wake_all();
        if let Some(notice) =
            finish.as_ref().and_then(|finish| Notice::of(key, came, finish, ask.timing, now))
        {
            RawReport::new(&notice).emit(PgLogLevel::LOG);
        }
        finish
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(ticket) = self.0.take() {
            memory::with(|store| store.abandon(ticket));
            memory::wake_all();
        }
    }
}

/// # Safety
/// For Postgres to call, at exit. It uses neither argument.
#[pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: i32, _arg: pg_sys::Datum) {
    memory::with(|store| store.abandon_all(server::process_id()));
    memory::wake_all();
}
