//! What remote servers say, in this server's log.
//!
//! The fields of a remote error or notice reach the client as they are: he may parse them, and contrib dblink
//! does the same. In the log, which somebody reads in a terminal and somebody else's tools line by line, control
//! characters are escaped. Line ends stay: Postgres marks what follows them as part of the same message.

use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::ptr::null_mut;

use crate::backend::process::report::SOURCE;

/// The fields that hold text of others.
const FIELDS: usize = 5;

thread_local! {
    /// The hook that was there before.
    static PREVIOUS: Cell<pg_sys::emit_log_hook_type> = const { Cell::new(None) };
    /// The report that is being written with its texts escaped.
    static ESCAPED: Cell<*mut pg_sys::ErrorData> = const { Cell::new(null_mut()) };
}

// SAFETY: declared as in elog.h and palloc.h, without the guard that pgrx puts around each call: an ERROR goes where
// one in elog.c itself would go, and nothing here has a destructor.
unsafe extern "C-unwind" {
    fn EmitErrorReport();
    fn MemoryContextAllocExtended(context: pg_sys::MemoryContext, size: usize, flags: i32) -> *mut u8;
}

/// Has the hook called in this process and in those that are forked from it.
pub(crate) fn init() {
    // SAFETY: a hook of the right type that lives as long as the process; only this thread runs Postgres.
    unsafe {
        PREVIOUS.set(pg_sys::emit_log_hook);
        pg_sys::emit_log_hook = Some(write_escaped);
    }
}

/// # Safety
/// For elog.c to call, with the report that is about to be written.
unsafe extern "C-unwind" fn write_escaped(report: *mut pg_sys::ErrorData) {
    // SAFETY: the report on top of elog.c's stack. While it is written once more by itself, nobody else changes it,
    // and afterwards it is as it was, but for the log, which has it.
    unsafe {
        if ESCAPED.get() != report
            && is_ours(report)
            && fields(report).into_iter().any(|field| has_control(*field))
        {
            let originals = fields(report).map(|field| *field);
            for field in fields(report) {
                *field = escaped(*field, (*report).assoc_context);
            }
            let to_client = std::mem::replace(&mut (*report).output_to_client, false);
            ESCAPED.set(report);
            EmitErrorReport();
            ESCAPED.set(null_mut());
            (*report).output_to_client = to_client;
            (*report).output_to_server = false;
            for (field, original) in fields(report).into_iter().zip(originals) {
                *field = original;
            }
        } else if let Some(previous) = PREVIOUS.get() {
            previous(report);
        }
    }
}

/// # Safety
/// A report.
unsafe fn is_ours(report: *mut pg_sys::ErrorData) -> bool {
    // SAFETY: a C string, or null.
    unsafe { !(*report).funcname.is_null() && CStr::from_ptr((*report).funcname) == SOURCE }
}

/// # Safety
/// A report.
unsafe fn fields(report: *mut pg_sys::ErrorData) -> [*mut *mut c_char; FIELDS] {
    // SAFETY: fields of what was promised to be one.
    unsafe {
        [
            &raw mut (*report).message,
            &raw mut (*report).detail,
            &raw mut (*report).detail_log,
            &raw mut (*report).hint,
            &raw mut (*report).context,
        ]
    }
}

/// How many bytes at the start of a text are one control character; 0 if there is none. Line ends and tabs are
/// not meant. In the encodings of servers no byte below 0x80 is part of another character.
fn control(text: &[u8], is_utf8: bool) -> usize {
    match text {
        [b'\n' | b'\t', ..] => 0,
        [0..=0x1f | 0x7f, ..] => 1,
        [0xc2, 0x80..=0x9f, ..] if is_utf8 => 2,
        _ => 0,
    }
}

fn is_utf8() -> bool {
    // SAFETY: reads a global.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 }
}

/// # Safety
/// A C string, or null.
unsafe fn has_control(text: *const c_char) -> bool {
    if text.is_null() {
        return false;
    }
    // SAFETY: as promised.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    let is_utf8 = is_utf8();
    (0..bytes.len()).any(|at| control(&bytes[at..], is_utf8) > 0)
}

/// A copy with control characters as `\\x1b`, in this memory; a few words where there is none to be had.
///
/// # Safety
/// A C string, or null, and a memory context.
unsafe fn escaped(text: *mut c_char, context: pg_sys::MemoryContext) -> *mut c_char {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // SAFETY: as promised.
    if unsafe { !has_control(text) } {
        return text;
    }
    // SAFETY: not null, or there would be no control character in it.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    let is_utf8 = is_utf8();
    let mut length = 1;
    let mut at = 0;
    while at < bytes.len() {
        let control = control(&bytes[at..], is_utf8);
        length += if control > 0 { 4 * control } else { 1 };
        at += control.max(1);
    }
    let flags = (pg_sys::MCXT_ALLOC_NO_OOM | pg_sys::MCXT_ALLOC_HUGE) as i32;
    // SAFETY: a memory context; null instead of an ERROR if there is no memory.
    let copy = unsafe { MemoryContextAllocExtended(context, length, flags) };
    if copy.is_null() {
        return c"(text with control characters left out)".as_ptr().cast_mut();
    }
    let mut to = 0;
    let mut put = |byte: u8| {
        // SAFETY: as many bytes are put as were counted.
        unsafe { copy.add(to).write(byte) };
        to += 1;
    };
    let mut at = 0;
    while at < bytes.len() {
        let control = control(&bytes[at..], is_utf8);
        for byte in &bytes[at..at + control.max(1)] {
            if control > 0 {
                for shown in [b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]] {
                    put(shown);
                }
            } else {
                put(*byte);
            }
        }
        at += control.max(1);
    }
    put(0);
    copy.cast()
}
