//! `NOTIFY secretlink`, when a role drifts or is repaired.
//!
//! Notifications belong to a database, and the worker that settles roles is connected to none, so that
//! it keeps nobody from dropping one. So another is started for each delivery, and ends with it.

use pgrx::{Spi, pg_guard, pg_sys};
use serde_json::json;

use crate::backend::catalog::roles;
use crate::backend::process::transaction::in_transaction;
use crate::backend::process::worker;
use crate::backend::text::Text;
use crate::settings;
use crate::sync::{states, target};

/// Starts a delivery if there is anything to tell.
pub(crate) fn start_if_needed() {
    if settings::rotation::database().is_none() {
        states::take_to_announce();
    } else if states::any_to_announce() {
        // Without a free place for a worker it is tried again next time.
        worker::start("secretlink notify", "secretlink_notify", 0);
    }
}

/// The worker's main function.
///
/// # Safety
/// For Postgres to call, as the main function of a background worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn secretlink_notify(_arg: pg_sys::Datum) {
    let Some(database) = settings::rotation::database() else { return };
    // Taken first: if there is no such database, the log says so once for each occasion.
    let announced = states::take_to_announce();
    worker::begin(Some(&database));
    in_transaction(|| {
        // SAFETY: a transaction is in progress; the snapshot lives as long as it.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
        for (oid, state) in announced {
            let Some(role) = roles::by_oid(oid) else { continue };
            let secret = target::of(&role).ok().flatten().map(|secret| secret.as_str().to_owned());
            let payload = json!({"role": role.display(), "secret": secret, "state": state.as_str()});
            // An ERROR ends this worker; of another result of a SELECT nothing could be told.
            let _ = Spi::run_with_args(
                "SELECT pg_catalog.pg_notify('secretlink', $1)",
                &[Text(payload.to_string()).into()],
            );
        }
        // SAFETY: the one pushed above.
        unsafe { pg_sys::PopActiveSnapshot() };
    });
}
