//! The end of a transaction, and what holds while we work on it.

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{pg_guard, pg_sys};
use secretlink_core::fnv1a;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crate::backend::process::caught;
use crate::backend::process::server;

/// What is told of transactions. Levels are those of `GetCurrentTransactionNestLevel`: 1 is the
/// transaction itself.
#[derive(Clone, Copy)]
pub(crate) struct Callbacks {
    /// The transaction is about to commit. An ERROR aborts it.
    pub before_commit: fn(),
    /// The transaction has committed. Nothing may fail any more: an ERROR would be a PANIC (xact.c,
    /// AbortTransaction). Interrupts are held off.
    pub after_commit: fn(),
    /// The transaction was rolled back.
    pub after_abort: fn(),
    /// The transaction is about to be prepared for a two-phase commit. An ERROR aborts it.
    pub before_prepare: fn(),
    /// The subtransaction at this level is about to become part of its parent.
    pub subtransaction_committed: fn(i32),
    /// The subtransaction at this level was rolled back.
    pub subtransaction_aborted: fn(i32),
}

static CALLBACKS: OnceLock<Callbacks> = OnceLock::new();

/// Has these called in every process that is forked from here on. To be called once, while the library
/// is preloaded. pgrx's own callbacks would have to be registered anew in each transaction, and outlive
/// it after PREPARE TRANSACTION.
pub(crate) fn register(callbacks: Callbacks) {
    if CALLBACKS.set(callbacks).is_ok() {
        // SAFETY: functions of the right types that live as long as the process.
        unsafe {
            pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(on_subtransaction), std::ptr::null_mut());
        }
    }
}

/// # Safety
/// For Postgres to call, at the end of transactions.
#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    let Some(callbacks) = CALLBACKS.get() else { return };
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => (callbacks.before_commit)(),
        pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => (callbacks.before_prepare)(),
        pg_sys::XactEvent::XACT_EVENT_COMMIT => infallibly(callbacks.after_commit),
        // Nothing of ours is left to commit once a transaction could be prepared.
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => {
            infallibly(callbacks.after_abort);
        }
        _ => {}
    }
}

/// # Safety
/// For Postgres to call, at the end of subtransactions.
#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    _subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    let Some(callbacks) = CALLBACKS.get() else { return };
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => (callbacks.subtransaction_committed)(level()),
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => (callbacks.subtransaction_aborted)(level()),
        _ => {}
    }
}

/// A last line of defence: what is called here is written so as not to fail. If it does all the same,
/// the server must not go down with it, and the background worker finds what was left undone.
fn infallibly(work: fn()) {
    // SAFETY: reads globals of this process.
    let (held_off, callbacks) =
        unsafe { ((&raw const pg_sys::InterruptHoldoffCount).read_volatile(), pg_sys::error_context_stack) };
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        // What the ERROR left there must not act on a report that comes later.
        // SAFETY: the stack as it was, of callers that are still there.
        unsafe { pg_sys::error_context_stack = callbacks };
        // An ERROR lets interrupts in again (elog.c, errfinish). Xact.c, which goes on here, would then
        // count below zero when it does so itself, and the session could never be cancelled again.
        // SAFETY: the value from before.
        unsafe { (&raw mut pg_sys::InterruptHoldoffCount).write_volatile(held_off) };
        // SAFETY: an ERROR that pgrx caught has left its report on elog.c's stack or has not; resetting
        // that stack is right in both cases, as nobody else is completing a report here.
        unsafe { pg_sys::FlushErrorState() };
        caught::forget();
    }
}

/// How deep in subtransactions we are: 1 is the transaction itself.
pub(crate) fn level() -> i32 {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::GetCurrentTransactionNestLevel() }
}

/// Makes visible what the transaction has done so far.
pub(crate) fn see_own_changes() {
    // SAFETY: there is a transaction in progress, and no parallel workers.
    unsafe { pg_sys::CommandCounterIncrement() };
}

/// Makes visible what others have committed to the catalogs while we waited for a lock.
pub(crate) fn see_changes_of_others() {
    // SAFETY: in a transaction, and nothing that was read from a catalog is in use.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Has this commit wait as with `synchronous_commit = on` at least, for the disk of this server and of its
/// synchronous standbys. After a crash or a failover the server must not have forgotten a change that the
/// outside world was told of.
pub(crate) fn force_synchronous_commit() {
    // SAFETY: sets a flag of the current transaction; reads a setting, and changes it as SET LOCAL does, until
    // the end of the transaction, which for this purpose comes after the commit has waited.
    unsafe {
        pg_sys::ForceSyncCommit();
        if pg_sys::synchronous_commit < pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_REMOTE_FLUSH as c_int {
            pg_sys::set_config_option(
                c"synchronous_commit".as_ptr(),
                c"on".as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_LOCAL,
                true,
                0,
                false,
            );
        }
    }
}

/// `STATEMENT_TIMEOUT` of `TimeoutId` (timeout.h): the same in all versions.
const STATEMENT_TIMEOUT: c_int = 3;

// SAFETY: declared as in timeout.h, which pgrx does not cover.
unsafe extern "C-unwind" {
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
    fn get_timeout_active(id: c_int) -> bool;
    fn get_timeout_start_time(id: c_int) -> pg_sys::TimestampTz;
    fn get_timeout_finish_time(id: c_int) -> pg_sys::TimestampTz;
}

/// Keeps `statement_timeout` in force until dropped. Postgres ends it before it commits
/// (finish_xact_command), since a commit is not expected to take long: but ours waits for AWS, and a deferred
/// trigger may wait for a remote server, which may be the trigger's own server and wait for this very transaction.
pub(crate) struct StatementTimeout(());

thread_local! {
    /// When the timer would have fired that was ended last, before it did.
    static UNFIRED: Cell<pg_sys::TimestampTz> = const { Cell::new(0) };
    /// When the timer fires, or has fired, that was armed here last.
    static ARMED: Cell<pg_sys::TimestampTz> = const { Cell::new(0) };
    /// When the timer fired whose cancel an exception block has caught in its statement.
    static CAUGHT: Cell<pg_sys::TimestampTz> = const { Cell::new(0) };
    /// Whether exception blocks are looked at.
    static LOOKED_AT: Cell<bool> = const { Cell::new(false) };
}

/// Notes that what an exception block catches may be the statement's timeout: Postgres does not tell afterwards
/// whether the timer has fired or was ended before.
///
/// # Safety
/// For Postgres to call, at the end of subtransactions.
#[pg_guard]
unsafe extern "C-unwind" fn note_caught(
    event: pg_sys::SubXactEvent::Type,
    _subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    // SAFETY: reads the timer's state.
    unsafe {
        if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB
            && !get_timeout_active(STATEMENT_TIMEOUT)
            && Place::here() != Place::Commit
        {
            let end = get_timeout_finish_time(STATEMENT_TIMEOUT);
            if UNFIRED.get() != end {
                CAUGHT.set(end);
            }
        }
    }
}

/// Where in a client's statement we are.
#[derive(PartialEq)]
enum Place {
    /// The statement is being run.
    Statement,
    /// The statement has been run, and its transaction is being committed.
    Commit,
    /// A cursor is being read: at a commit, or in a statement of a client that names its portals.
    Cursor,
}

impl Place {
    fn here() -> Place {
        // SAFETY: reads the portals of the session. The one without a name is that of the client's statement:
        // cursors of functions have names. It is gone, or done, when its transaction is being committed.
        unsafe {
            let portal = pg_sys::GetPortalByName(c"".as_ptr());
            match portal.as_ref() {
                Some(portal) if portal.status == pg_sys::PortalStatus::PORTAL_ACTIVE => Place::Statement,
                _ if pg_sys::ActivePortal.is_null() => Place::Commit,
                _ => Place::Cursor,
            }
        }
    }
}

impl StatementTimeout {
    /// `None` if there is no limit, or one is in force: then we are inside a statement. Nor where there is no
    /// client, and so no statement of one.
    pub(crate) fn resume() -> Option<StatementTimeout> {
        // SAFETY: reads settings and the clock, and arms a timer whose handler cancels the statement. One that
        // has just fired shows by the cancel that is pending, and keeps its indicator.
        unsafe {
            let limit = i64::from(pg_sys::StatementTimeout);
            if limit == 0
                || pg_sys::MyProcPort.is_null()
                || get_timeout_active(STATEMENT_TIMEOUT)
                || (&raw const pg_sys::QueryCancelPending).read_volatile() != 0
            {
                return None;
            }
            let spent = pg_sys::GetCurrentTimestamp() - pg_sys::GetCurrentStatementStartTimestamp();
            let left = (limit - spent / 1000).clamp(0, i64::from(i32::MAX));
            // With nothing left it fires at once: a loop of short waits is to end, too.
            enable_timeout_after(STATEMENT_TIMEOUT, c_int::try_from(left).unwrap_or(c_int::MAX));
            ARMED.set(get_timeout_finish_time(STATEMENT_TIMEOUT));
        }
        Some(StatementTimeout(()))
    }

    /// Keeps the timer in force as [`StatementTimeout::resume`] does, for any wait: not where the timer of this
    /// statement has fired. It does so once, and an exception block that caught that may go on for as long as it
    /// likes.
    pub(crate) fn resume_unfired() -> Option<StatementTimeout> {
        // SAFETY: reads the timer's state and the clock.
        unsafe {
            if pg_sys::StatementTimeout == 0 {
                return None;
            }
            if !LOOKED_AT.replace(true) {
                pg_sys::RegisterSubXactCallback(Some(note_caught), std::ptr::null_mut());
            }
            if get_timeout_active(STATEMENT_TIMEOUT) {
                return None;
            }
            let place = Place::here();
            // Otherwise the timer may be that of an earlier statement.
            let is_of_this_statement = place != Place::Statement
                || get_timeout_start_time(STATEMENT_TIMEOUT) >= pg_sys::GetCurrentStatementStartTimestamp();
            let end = get_timeout_finish_time(STATEMENT_TIMEOUT);
            let is_over = end <= pg_sys::GetCurrentTimestamp();
            let has_fired = match place {
                // The statement's own timer was ended before the commit began: what has fired since is ours.
                // (Or it has fired and was caught in the statement, which Postgres does not tell afterwards.)
                Place::Commit => is_over && ARMED.get() == end,
                Place::Statement => is_over && UNFIRED.get() != end,
                Place::Cursor => is_over && (ARMED.get() == end || CAUGHT.get() == end),
            };
            if !is_of_this_statement || has_fired {
                return None;
            }
        }
        Self::resume()
    }
}

impl Drop for StatementTimeout {
    fn drop(&mut self) {
        // SAFETY: the timer was armed by `resume`. The indicator is kept: if the timer has fired and an
        // ERROR unwinds, it is what tells a timeout from a cancel; and if it has fired this moment, the cancel
        // is pending.
        unsafe {
            if get_timeout_active(STATEMENT_TIMEOUT) {
                UNFIRED.set(get_timeout_finish_time(STATEMENT_TIMEOUT));
                ARMED.set(0);
            }
            disable_timeout(STATEMENT_TIMEOUT, true);
        }
    }
}

/// Keeps others from staging, promoting or settling this role's secret until the end of the
/// transaction, which for this purpose comes after [`Callbacks::after_commit`].
///
/// Returns whether the lock was had; with `wait` it always is. Waiting can be interrupted.
pub(crate) fn lock_role(role: pg_sys::Oid, wait: bool) -> bool {
    lock(role.to_u32(), 1, wait)
}

/// Whether somebody else holds the lock of [`lock_role`] at this moment. On a standby nobody does.
pub(crate) fn is_role_locked(role: pg_sys::Oid) -> bool {
    if server::is_standby() {
        return false;
    }
    let was_had = lock_role(role, false);
    if was_had {
        // SAFETY: gives back what was just taken, once; if the transaction had it before, it keeps it.
        unsafe {
            pg_sys::LockRelease(&tag(role.to_u32(), 1), pg_sys::ExclusiveLock as pg_sys::LOCKMODE, false)
        };
    }
    !was_had
}

/// Keeps others from linking a role with this secret until the end of the transaction. Waiting can be
/// interrupted. (Two secrets may share a lock, which only costs a wait.)
pub(crate) fn lock_secret(secret: &str) {
    lock(hash(secret), 2, true);
}

/// Locks a secret as [`lock_role`] locks a role: the secret may have become another role's, by a label or a name,
/// while a transaction that changed the former one still promotes.
pub(crate) fn lock_versions(secret: &str, wait: bool) -> bool {
    lock(hash(secret), 3, wait)
}

/// A number for the name of a secret.
fn hash(secret: &str) -> u32 {
    let hash = fnv1a(secret.bytes());
    (hash ^ (hash >> 32)) as u32
}

/// A lock on an object, told by the kind, its last number, from those that core takes on roles.
fn tag(object: u32, kind: u16) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: pg_sys::AuthIdRelationId.to_u32(),
        locktag_field3: object,
        locktag_field4: kind,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}

/// The lock on a secret that is rotated, by the method of user locks. A session's lock by the method of all others is
/// given back when a transaction fails, but not when the process ends outside of one (xact.c; postinit.c,
/// `ShutdownPostgres`).
fn rotation_tag(arn: &str) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG { locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8, ..tag(hash(arn), 4) }
}

/// Takes such a lock until the end of the transaction.
fn lock(object: u32, kind: u16, wait: bool) -> bool {
    let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: a well-formed tag; the lock belongs to the transaction, which gives it back.
    let result = unsafe { pg_sys::LockAcquire(&tag(object, kind), mode, false, !wait) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Runs `work` in a transaction of its own. For background workers: in a session there is one already.
pub(crate) fn in_transaction<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: no transaction is in progress. If `work` raises ERROR, the worker ends, and with it the
    // transaction.
    unsafe { pg_sys::StartTransactionCommand() };
    let result = work();
    // SAFETY: the one begun above.
    unsafe { pg_sys::CommitTransactionCommand() };
    result
}

/// Runs `work` in a transaction of its own that sees the database, as [`in_transaction`] does. An ERROR is
/// reported to the log and rolls the transaction back, and the process goes on: `None`.
pub(crate) fn attempt<T>(work: impl FnOnce() -> T) -> Option<T> {
    let work = AssertUnwindSafe(|| {
        in_transaction(|| {
            // SAFETY: a transaction is in progress; the snapshot lives as long as it.
            unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
            let result = work();
            // SAFETY: the one pushed above.
            unsafe { pg_sys::PopActiveSnapshot() };
            result
        })
    });
    pgrx::PgTryBuilder::new(move || Some(work()))
        .catch_others(|error| {
            let (CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic { ereport: report, .. }) = &error;
            pgrx::log!("{}", report.message());
            // SAFETY: as a background worker's main loop does after an ERROR (bgworker.h); the report has been
            // taken off elog.c's stack.
            unsafe { pg_sys::AbortCurrentTransaction() };
            None
        })
        .execute()
}

/// Whether the current transaction has written anything.
pub(crate) fn has_written() -> bool {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId }
}

/// Keeps other workers from rotating this secret, named by its ARN, until [`unlock_rotation`] or the end of
/// the process. Returns whether the lock was had; it is not waited for. To be called in a transaction.
pub(crate) fn lock_rotation(arn: &str) -> bool {
    let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: a well-formed tag; the lock belongs to the session.
    let result = unsafe { pg_sys::LockAcquire(&rotation_tag(arn), mode, true, true) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Gives back what [`lock_rotation`] took.
pub(crate) fn unlock_rotation(arn: &str) {
    let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: a well-formed tag. Of a lock that is not held, a WARNING tells.
    unsafe { pg_sys::LockRelease(&rotation_tag(arn), mode, true) };
}
