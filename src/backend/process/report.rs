//! Raising errors and notices with every field as it should be.
//!
//! pgrx's `ErrorReport` carries message, detail and hint as UTF-8 and one of the SQLSTATEs that
//! Postgres itself knows. A remote server may use any SQLSTATE, has context lines, and speaks the
//! encoding of the database. So a report travels through pgrx as a place holder, and an error
//! context callback, which Postgres calls when it completes the report (elog.c, errfinish), puts
//! the real fields in. Core's own callbacks change fields of the report in the same way (errposition
//! in pcb_error_callback, parse_node.c).

use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use secretlink_core::{Report, SqlState};
use secretlink_remote::server_message::ServerMessage;
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};

use crate::backend::text;

/// A report in the encoding of the database.
pub struct RawReport {
    sqlstate: SqlState,
    message: CString,
    detail: Option<CString>,
    hint: Option<CString>,
    context: Vec<CString>,
}

impl RawReport {
    /// From one of our own errors.
    pub fn new(error: &dyn Report) -> RawReport {
        RawReport {
            sqlstate: error.sqlstate(),
            message: text::to_server(&error.to_string()),
            detail: error.detail().as_deref().map(text::to_server),
            hint: error.hint().as_deref().map(text::to_server),
            context: Vec::new(),
        }
    }

    /// From one of our own errors, where nothing may fail and no catalog may be read, as after a
    /// commit: only in ASCII is there nothing to convert.
    pub fn ascii(error: &dyn Report) -> RawReport {
        RawReport {
            sqlstate: error.sqlstate(),
            message: text::to_ascii(&error.to_string()),
            detail: error.detail().as_deref().map(text::to_ascii),
            hint: error.hint().as_deref().map(text::to_ascii),
            context: Vec::new(),
        }
    }

    /// From what a remote server said, in the encoding of the database already.
    pub fn remote(message: &ServerMessage, sqlstate: SqlState) -> RawReport {
        let optional = |field: &Option<Vec<u8>>| field.as_deref().map(text::verified);
        RawReport {
            sqlstate,
            message: text::verified(&message.message),
            detail: optional(&message.detail),
            hint: optional(&message.hint),
            context: message.context.iter().map(|c| text::verified(c)).collect(),
        }
    }

    /// Adds a CONTEXT line, below those there are.
    pub fn with_context(mut self, line: &str) -> RawReport {
        self.context.push(text::to_server(line));
        self
    }

    /// Raises ERROR, by a panic that pgrx turns into one after every Rust frame is unwound.
    pub fn raise(self) -> ! {
        arm(self);
        place_holder().report(pgrx::PgLogLevel::ERROR);
        unreachable!("a report at level ERROR does not return")
    }

    /// Sends a message below ERROR to the client and the log, as their levels have it.
    pub fn emit(self, level: pgrx::PgLogLevel) {
        arm(self);
        place_holder().report(level);
        disarm();
    }
}

fn place_holder() -> ErrorReport {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "secretlink", "secretlink")
}

/// `Result`s of this crate at the border to SQL.
pub trait OrRaise {
    /// The value.
    type Value;

    /// The value, or ERROR.
    fn or_raise(self) -> Self::Value;
}

impl<T, E: Report> OrRaise for Result<T, E> {
    type Value = T;

    fn or_raise(self) -> T {
        self.unwrap_or_else(|error| RawReport::new(&error).raise())
    }
}

/// The report under way and the callback that fills it in. One at a time: reports do not nest.
struct Armed {
    report: RefCell<Option<RawReport>>,
    callback: RefCell<pg_sys::ErrorContextCallback>,
}

thread_local! {
    static ARMED: &'static Armed = Box::leak(Box::new(Armed {
        report: RefCell::new(None),
        callback: RefCell::new(pg_sys::ErrorContextCallback {
            previous: std::ptr::null_mut(),
            callback: None,
            arg: std::ptr::null_mut(),
        }),
    }));
}

/// Puts our callback on top of the stack, to be called first when the next report is completed.
fn arm(report: RawReport) {
    ARMED.with(|armed| {
        armed.report.replace(Some(report));
        // SAFETY: only this thread runs Postgres. The entry is leaked memory, so it stays valid
        // until whoever catches the ERROR puts the stack back (PG_CATCH, or the main loop), and
        // it is not on the stack yet: a report is raised at once after `arm`, or disarmed.
        unsafe {
            armed.callback.replace(pg_sys::ErrorContextCallback {
                previous: pg_sys::error_context_stack,
                callback: Some(fill_in),
                arg: std::ptr::null_mut(),
            });
            pg_sys::error_context_stack = armed.callback.as_ptr();
        }
    });
}

fn disarm() {
    ARMED.with(|armed| {
        // SAFETY: `arm` put our entry on top, and reports leave the stack as it was.
        unsafe { pg_sys::error_context_stack = armed.callback.borrow().previous };
    });
}

// elog.c's field setters, which pgrx keeps to itself.
// SAFETY: declared as in elog.h. They work on the report being completed, and only error context
// callbacks call them.
unsafe extern "C-unwind" {
    fn errcode(sqlerrcode: c_int) -> c_int;
    fn errmsg_internal(fmt: *const c_char, ...) -> c_int;
    fn errdetail_internal(fmt: *const c_char, ...) -> c_int;
    fn errhint(fmt: *const c_char, ...) -> c_int;
    fn errcontext_msg(fmt: *const c_char, ...) -> c_int;
    fn errhidestmt(hide_stmt: bool) -> c_int;
}

/// The error context callback.
///
/// # Safety
/// For errfinish to call, with a report under way.
unsafe extern "C-unwind" fn fill_in(_arg: *mut c_void) {
    // No guard and no destructors: the setters below can only fail by running out of memory, where
    // elog.c gives up on the report by itself.
    ARMED.with(|armed| {
        // SAFETY: `report` is only replaced by `arm`, on this thread, when no report is being
        // completed; so nobody changes it while we read.
        let Some(report) = (unsafe { &*armed.report.as_ptr() }) else { return };
        // SAFETY: called by errfinish, hence with a report under way; "%s" with a C string each.
        unsafe {
            errcode(report.sqlstate.packed());
            errmsg_internal(c"%s".as_ptr(), report.message.as_ptr());
            if let Some(detail) = &report.detail {
                errdetail_internal(c"%s".as_ptr(), detail.as_ptr());
            }
            if let Some(hint) = &report.hint {
                errhint(c"%s".as_ptr(), hint.as_ptr());
            }
            for line in &report.context {
                errcontext_msg(c"%s".as_ptr(), line.as_ptr());
            }
        }
    });
}

/// While this lives, no report carries the statement that is running to the server's log: it may be
/// `ALTER USER ... PASSWORD '...'`. Postgres logs the statement of every ERROR, and that of a LOG message
/// too (`log_min_error_statement`).
///
/// Reports of core's are covered as well, such as that of a cancel. When an ERROR leaves, the entry stays
/// on the stack until whoever catches it puts the stack back, since pgrx raises it a second time.
pub struct HiddenStatement(());

thread_local! {
    static HIDING: &'static RefCell<pg_sys::ErrorContextCallback> =
        Box::leak(Box::new(RefCell::new(pg_sys::ErrorContextCallback {
            previous: std::ptr::null_mut(),
            callback: None,
            arg: std::ptr::null_mut(),
        })));
}

impl HiddenStatement {
    /// Begins. Not to be nested.
    pub fn begin() -> HiddenStatement {
        HIDING.with(|hiding| {
            // SAFETY: as in `arm`. The entry is not on the stack: whoever put it there took it away, or
            // an ERROR did.
            unsafe {
                hiding.replace(pg_sys::ErrorContextCallback {
                    previous: pg_sys::error_context_stack,
                    callback: Some(hide_statement),
                    arg: std::ptr::null_mut(),
                });
                pg_sys::error_context_stack = hiding.as_ptr();
            }
        });
        HiddenStatement(())
    }
}

impl Drop for HiddenStatement {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: `begin` put our entry on top, and what came above it has gone.
            HIDING.with(|hiding| unsafe { pg_sys::error_context_stack = hiding.borrow().previous });
        }
    }
}

/// An error context callback.
///
/// # Safety
/// For errfinish to call, with a report under way.
unsafe extern "C-unwind" fn hide_statement(_arg: *mut c_void) {
    // SAFETY: sets a field of that report.
    unsafe { errhidestmt(true) };
}

/// Says why a setting's value is refused, as a check hook does (guc.h, GUC_check_errdetail).
pub fn set_check_detail(detail: &str) {
    // The postmaster, where settings are checked too, has no catalogs to convert text with.
    let detail = text::to_ascii(detail);
    // SAFETY: what the macro does: a palloc'd copy that guc.c takes up when the hook returns false.
    unsafe { pg_sys::GUC_check_errdetail_string = pg_sys::pstrdup(detail.as_ptr()) };
}
