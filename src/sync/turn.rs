//! Transactions that change the same role take turns.

use pgrx::pg_sys;
use std::ffi::CStr;

use crate::backend::process::report::HiddenStatement;
use crate::backend::process::server;
use crate::backend::process::transaction;

/// What is shown instead of the statement, which has the password in it and lasts longer than Postgres
/// expects.
pub(super) const ACTIVITY: &CStr = c"<password change of a synced role>";

/// Waits until nobody else is changing this role, before Postgres reads what it is to change. Without, the
/// second of two statements would wait inside Postgres until the first has staged, and then fail (XX000,
/// tuple concurrently updated). Returns whether the role is ours now, until the end of the transaction.
pub(super) fn alone_with(role: pg_sys::Oid) -> bool {
    // Nobody changes a role on a standby, and such locks cannot be had there.
    if server::is_standby() {
        return false;
    }
    // The statement may have a password in it, and a cancel or a deadlock would write it to the log.
    let _hidden = HiddenStatement::begin();
    lock([role].iter());
    true
}

/// Waits until nobody else is changing these roles or their labels: the second of two transactions sees
/// what the first has done, and has the last word.
pub(super) fn lock<'a>(roles: impl Iterator<Item = &'a pg_sys::Oid>) {
    // They come by OID, so that two transactions do not wait for each other.
    for role in roles {
        if !transaction::lock_role(*role, false) {
            server::show_activity(ACTIVITY);
            transaction::lock_role(*role, true);
        }
    }
    transaction::see_changes_of_others();
}
