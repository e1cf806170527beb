//! Raising errors and notices with every field as it should be.
//!
//! pgrx's `ErrorReport` carries message, detail and hint as UTF-8 and one of the SQLSTATEs that
//! Postgres itself knows. A remote server may use any SQLSTATE, has context lines, and speaks the
//! encoding of the database. So a report goes to elog.c directly, and an ERROR is caught there and then
//! as one of Postgres's own would be (see `caught.rs`), so that Rust is unwound.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use secretlink_core::{Report, SqlState, printable_lines};
use secretlink_remote::server_message::ServerMessage;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};

use crate::backend::text;

/// A report in the encoding of the database.
pub(crate) struct RawReport {
    sqlstate: SqlState,
    message: CString,
    detail: Option<CString>,
    hint: Option<CString>,
    context: Vec<CString>,
}

impl RawReport {
    /// A report of one of our own errors.
    pub(crate) fn new(error: &dyn Report) -> RawReport {
        RawReport {
            sqlstate: error.sqlstate(),
            message: shown(&error.to_string()),
            detail: error.detail().as_deref().map(shown),
            hint: error.hint().as_deref().map(shown),
            context: Vec::new(),
        }
    }

    /// A report of one of our own errors, where nothing may fail and no catalog may be read, as after a
    /// commit: only in ASCII is there nothing to convert.
    pub(crate) fn ascii(error: &dyn Report) -> RawReport {
        RawReport {
            sqlstate: error.sqlstate(),
            message: text::to_ascii(&error.to_string()),
            detail: error.detail().as_deref().map(text::to_ascii),
            hint: error.hint().as_deref().map(text::to_ascii),
            context: Vec::new(),
        }
    }

    /// A report of what a remote server said, in the encoding of the database already.
    pub(crate) fn remote(message: &ServerMessage, sqlstate: SqlState) -> RawReport {
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
    pub(crate) fn with_context(mut self, line: &str) -> RawReport {
        self.context.push(shown(line));
        self
    }

    /// Raises ERROR, which leaves when every Rust frame is unwound.
    #[expect(clippy::unreachable, reason = "a report at level ERROR does not return")]
    pub(crate) fn raise(self) -> ! {
        self.report(pgrx::PgLogLevel::ERROR as c_int);
        unreachable!("a report at level ERROR does not return")
    }

    /// Sends a message below ERROR to the client and the log, as their levels have it.
    ///
    /// A cancel or a timeout may act here: errfinish looks for interrupts when such a message is out. Its
    /// ERROR unwinds like any other. Nothing of this message is in reach of that ERROR's own report: no error
    /// context callback sets fields of ours, as it would be called for both.
    pub(crate) fn emit(self, level: pgrx::PgLogLevel) {
        self.report(level as c_int);
    }

    fn report(&self, level: c_int) {
        // SAFETY: what the macro ereport does, with "%s" and a C string each. An ERROR, or a FATAL of an
        // interrupt, leaves the closure, which has nothing to drop.
        unsafe {
            pg_guard_ffi_boundary(|| {
                if !errstart(level, std::ptr::null()) {
                    return;
                }
                errcode(self.sqlstate.packed());
                errmsg_internal(c"%s".as_ptr(), self.message.as_ptr());
                if let Some(detail) = &self.detail {
                    errdetail_internal(c"%s".as_ptr(), detail.as_ptr());
                }
                if let Some(hint) = &self.hint {
                    errhint(c"%s".as_ptr(), hint.as_ptr());
                }
                for line in &self.context {
                    errcontext_msg(c"%s".as_ptr(), line.as_ptr());
                }
                errfinish(SOURCE.as_ptr(), 0, c"secretlink".as_ptr());
            });
        }
    }
}

/// A text of ours, which may quote others.
fn shown(text: &str) -> CString {
    text::to_server(&printable_lines(text))
}

/// Where reports come from, as `log_error_verbosity = verbose` shows it.
pub(super) const SOURCE: &CStr = c"secretlink";

/// `Result`s of this crate at the border to SQL.
pub(crate) trait OrRaise {
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

// What pgrx keeps to itself of elog.c.
// SAFETY: declared as in elog.h.
unsafe extern "C-unwind" {
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
    fn errcode(sqlerrcode: c_int) -> c_int;
    fn errmsg_internal(fmt: *const c_char, ...) -> c_int;
    fn errdetail_internal(fmt: *const c_char, ...) -> c_int;
    fn errhint(fmt: *const c_char, ...) -> c_int;
    fn errcontext_msg(fmt: *const c_char, ...) -> c_int;
    fn errhidestmt(hide_stmt: bool) -> c_int;
}

/// While this lives, no report carries the statement that is running to the server's log: it may be
/// `ALTER USER ... PASSWORD '...'`. Postgres logs the statement of every ERROR, and that of a LOG message
/// too (`log_min_error_statement`).
///
/// Reports of core's are covered as well, such as that of a cancel. When an ERROR leaves, the entry stays
/// on the stack until the code that catches it puts the stack back: a panic of Rust's becomes an ERROR only when it
/// has unwound. Where one lives already, another changes nothing.
pub(crate) struct HiddenStatement {
    outermost: bool,
}

/// An entry of ours for the stack of error context callbacks. It is leaked memory, so that it stays valid
/// when an ERROR leaves it on the stack.
struct Entry(&'static RefCell<pg_sys::ErrorContextCallback>);

thread_local! {
    static HIDING: Entry = Entry(Box::leak(Box::new(RefCell::new(pg_sys::ErrorContextCallback {
        previous: std::ptr::null_mut(),
        callback: Some(hide_statement),
        arg: std::ptr::null_mut(),
    }))));
}

impl Entry {
    /// Puts the entry on top of the stack; false if it is on the stack already. Twice there, it would lead to
    /// itself, and completing a report would never end.
    fn push(&self) -> bool {
        // SAFETY: only this thread runs Postgres, and errfinish follows these same links: each is null or
        // an entry that lives, and so does ours.
        unsafe {
            let mut entry = pg_sys::error_context_stack;
            while !entry.is_null() {
                if entry == self.0.as_ptr() {
                    return false;
                }
                entry = (*entry).previous;
            }
            self.0.borrow_mut().previous = pg_sys::error_context_stack;
            pg_sys::error_context_stack = self.0.as_ptr();
        }
        true
    }

    fn remove(&self) {
        // SAFETY: as in `push`.
        unsafe {
            let mut link = &raw mut pg_sys::error_context_stack;
            while !(*link).is_null() {
                if *link == self.0.as_ptr() {
                    *link = (**link).previous;
                    return;
                }
                link = &raw mut (**link).previous;
            }
        }
    }
}

impl HiddenStatement {
    /// Begins.
    pub(crate) fn begin() -> HiddenStatement {
        HiddenStatement { outermost: HIDING.with(Entry::push) }
    }
}

impl Drop for HiddenStatement {
    fn drop(&mut self) {
        if self.outermost && !std::thread::panicking() {
            HIDING.with(Entry::remove);
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
pub(crate) fn set_check_detail(detail: &str) {
    // The postmaster, where settings are checked too, has no catalogs to convert text with.
    let detail = text::to_ascii(detail);
    // SAFETY: what the macro does: a palloc'd copy that guc.c takes up when the hook returns false.
    unsafe { pg_sys::GUC_check_errdetail_string = pg_sys::pstrdup(detail.as_ptr()) };
}
