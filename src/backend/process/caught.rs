//! ERRORs that a guard of pgrx's has caught, kept whole on their way through Rust.
//!
//! pgrx puts a guard around each function of Postgres's. The guard turns an ERROR into a panic that
//! carries SQLSTATE, message, detail and hint: a SQLSTATE that Postgres itself does not use becomes
//! XX000, text that is not UTF-8 is damaged, and the names of constraint, table, column and data type
//! are lost, as are the context lines. So what pgrx carries is a place holder here, and the ERROR
//! itself waits in `KEPT`:
//!
//! 1. The guard copies the ERROR with `CopyErrorData`. The linker puts [`__wrap_CopyErrorData`] in its
//!    place (`build.rs`): the copy is kept, and pgrx is given a place holder with a number.
//! 2. pgrx unwinds Rust and reports what it carries, at the outermost frame of ours, by `errfinish`. In
//!    its place is [`__wrap_errfinish`]: if it is given a place holder, it throws what was kept, by
//!    `ReThrowError`, as a `PG_CATCH` block in C would.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::catch_unwind;
use std::ptr::null_mut;

/// The name of the source file in a place holder. Its line number tells which one it is.
const PLACE_HOLDER: &CStr = c"secretlink: an error that is kept";

/// How many ERRORs are kept. One is under way at a time, but for a destructor that runs code which meets
/// another; an ERROR that somebody caught and did not throw again makes room for the eighth after it.
const PLACES: usize = 8;

/// How much memory is had from the beginning, for ERRORs about a lack of it.
const RESERVE: usize = 32 * 1024;

struct Errors {
    /// Where the copies are.
    memory: Cell<pg_sys::MemoryContext>,
    /// The number of the last ERROR kept.
    last: Cell<c_int>,
    /// The ERRORs under way and their numbers; null where there is none.
    kept: [Cell<(c_int, *mut pg_sys::ErrorData)>; PLACES],
    /// The ERROR that was thrown again, until the one who catches it has read it.
    thrown: Cell<*mut pg_sys::ErrorData>,
    /// Tells when that is.
    read: Cell<*mut pg_sys::MemoryContextCallback>,
    /// A copy is being made.
    copying: Cell<bool>,
}

thread_local! {
    static ERRORS: Errors = const { Errors {
        memory: Cell::new(null_mut()),
        last: Cell::new(0),
        kept: [const { Cell::new((0, null_mut())) }; PLACES],
        thrown: Cell::new(null_mut()),
        read: Cell::new(null_mut()),
        copying: Cell::new(false),
    } };
}

// SAFETY: declared as in elog.h. The linker resolves the first two names to Postgres's own functions.
unsafe extern "C-unwind" {
    fn __real_CopyErrorData() -> *mut pg_sys::ErrorData;
    fn __real_errfinish(file: *const c_char, line: c_int, function: *const c_char);
    fn FreeErrorData(error: *mut pg_sys::ErrorData);
    fn FlushErrorState();
    fn MemoryContextReset(context: pg_sys::MemoryContext);
    fn palloc0(size: usize) -> *mut c_void;
    fn ReThrowError(error: *mut pg_sys::ErrorData) -> !;
    fn MemoryContextRegisterResetCallback(
        context: pg_sys::MemoryContext,
        callback: *mut pg_sys::MemoryContextCallback,
    );
}

/// Takes the memory that is needed when there is none. To be called when the library is loaded.
pub(crate) fn init() {
    // SAFETY: makes a context that lives as long as the process, or raises ERROR, and in it one struct.
    unsafe {
        let memory = pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"secretlink errors".as_ptr(),
            RESERVE,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        let size = size_of::<pg_sys::MemoryContextCallback>();
        let read = pg_sys::MemoryContextAllocZero(pg_sys::TopMemoryContext, size);
        ERRORS.with(|errors| {
            errors.memory.set(memory);
            errors.read.set(read.cast());
        });
    }
}

/// Forgets the ERRORs under way. For the one who has caught one and does not throw it again.
pub(crate) fn forget() {
    ERRORS.with(|errors| {
        errors.kept.iter().for_each(|place| free(place.take_error()));
        errors.clear();
    });
}

/// A place for an ERROR and its number.
trait Place {
    fn take_error(&self) -> *mut pg_sys::ErrorData;
}

impl Place for Cell<(c_int, *mut pg_sys::ErrorData)> {
    fn take_error(&self) -> *mut pg_sys::ErrorData {
        self.replace((0, null_mut())).1
    }
}

fn free(error: *mut pg_sys::ErrorData) {
    if !error.is_null() {
        // SAFETY: a copy of ours, which was taken from where it was known.
        unsafe { FreeErrorData(error) };
    }
}

/// A copy of the ERROR on top of elog.c's stack, and a place holder.
///
/// # Safety
/// As for [`Errors::keep`]; and to be called under a guard.
unsafe fn copy() -> (*mut pg_sys::ErrorData, *mut pg_sys::ErrorData) {
    // SAFETY: as the caller promised.
    unsafe { (__real_CopyErrorData(), place_holder(0)) }
}

/// What pgrx carries, and gives back with `FreeErrorData`.
///
/// # Safety
/// As for [`copy`].
unsafe fn place_holder(number: c_int) -> *mut pg_sys::ErrorData {
    // SAFETY: as the caller promised. All zeros is an ErrorData without texts.
    unsafe {
        let error = palloc0(size_of::<pg_sys::ErrorData>()).cast::<pg_sys::ErrorData>();
        (*error).elevel = pgrx::PgLogLevel::ERROR as c_int;
        (*error).filename = PLACE_HOLDER.as_ptr();
        (*error).lineno = number;
        error
    }
}

impl Errors {
    /// Keeps the ERROR on top of elog.c's stack, and makes a place holder for it.
    ///
    /// # Safety
    /// There must be one, it must have been caught, and our memory must be the current context.
    unsafe fn keep(&self) -> *mut pg_sys::ErrorData {
        if self.copying.replace(true) {
            // The copy of another ERROR failed: that there is no memory is what is kept instead, and what
            // was kept so far is given up for it.
            // SAFETY: nobody knows the copies any more.
            unsafe { MemoryContextReset(self.memory.get()) };
            self.kept.iter().for_each(|place| place.set((0, null_mut())));
            self.thrown.set(null_mut());
            // SAFETY: as the caller promised.
            return unsafe { self.add(copy()) };
        }
        // SAFETY: as the caller promised. The guard that called us has not put the stack of handlers right
        // yet, so that a failure must not get there. If the copy fails, this guard comes here once more
        // and keeps why.
        let copied = catch_unwind(|| unsafe { pg_guard_ffi_boundary(|| copy()) });
        self.copying.set(false);
        match copied {
            Ok(copy) => self.add(copy),
            // SAFETY: there is a place for it in memory that was just emptied.
            Err(_) => unsafe { place_holder(self.last.get()) },
        }
    }

    /// Makes an ERROR known, and returns its place holder.
    fn add(
        &self,
        (error, place_holder): (*mut pg_sys::ErrorData, *mut pg_sys::ErrorData),
    ) -> *mut pg_sys::ErrorData {
        let number = self.last.get().wrapping_add(1) & c_int::MAX;
        self.last.set(number);
        let place = self.place(number);
        free(place.take_error());
        place.set((number, error));
        // SAFETY: just made.
        unsafe { (*place_holder).lineno = number };
        place_holder
    }

    /// Gives all memory back if nothing is kept: newer releases of Postgres copy more of an ERROR
    /// (names of files and functions) than they free.
    fn clear(&self) {
        if self.thrown.get().is_null() && self.kept.iter().all(|place| place.get().1.is_null()) {
            // SAFETY: nobody knows anything in there. The first block stays.
            unsafe { MemoryContextReset(self.memory.get()) };
        }
    }

    fn place(&self, number: c_int) -> &Cell<(c_int, *mut pg_sys::ErrorData)> {
        &self.kept[number as usize % PLACES]
    }

    /// The ERROR of this number, if it is still there.
    fn take(&self, number: c_int) -> *mut pg_sys::ErrorData {
        let place = self.place(number);
        if place.get().0 == number { place.take_error() } else { null_mut() }
    }
}

/// What pgrx's guard calls for `CopyErrorData`: keeps the ERROR and returns a place holder.
///
/// # Safety
/// As `CopyErrorData`: for the one who has just caught an ERROR.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the linker makes the name of that of the function in whose place it is")]
pub(crate) unsafe extern "C-unwind" fn __wrap_CopyErrorData() -> *mut pg_sys::ErrorData {
    ERRORS.with(|errors| {
        // SAFETY: an ERROR was caught, as the caller promises.
        unsafe {
            if errors.memory.get().is_null() {
                return __real_CopyErrorData();
            }
            let callers = pg_sys::MemoryContextSwitchTo(errors.memory.get());
            let place_holder = errors.keep();
            pg_sys::MemoryContextSwitchTo(callers);
            place_holder
        }
    })
}

/// What pgrx calls for `errfinish`: throws what was kept, if it reports a place holder.
///
/// # Safety
/// As `errfinish`: for the one who has begun a report. No Rust frame above may have anything to drop.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the linker makes the name of that of the function in whose place it is")]
pub(crate) unsafe extern "C-unwind" fn __wrap_errfinish(
    file: *const c_char,
    line: c_int,
    function: *const c_char,
) {
    // SAFETY: null or a C string.
    let is_place_holder = !file.is_null() && unsafe { CStr::from_ptr(file) } == PLACE_HOLDER;
    let error = if is_place_holder { ERRORS.with(|errors| errors.take(line)) } else { null_mut() };
    if error.is_null() {
        // SAFETY: as the caller promised.
        return unsafe { __real_errfinish(file, line, function) };
    }
    // SAFETY: what the report of the place holder has taken is given back, and nothing of it is used from
    // here on; with it goes the callback, if it was still registered. ReThrowError copies the ERROR into
    // the ErrorContext, which is reset when the one who catches it has read it.
    unsafe {
        FlushErrorState();
        let read = ERRORS.with(|errors| {
            free(errors.thrown.replace(error));
            errors.read.get()
        });
        (*read).func = Some(on_read);
        MemoryContextRegisterResetCallback(pg_sys::ErrorContext, read);
        ReThrowError(error)
    }
}

/// # Safety
/// For Postgres to call, when it resets the ErrorContext.
unsafe extern "C-unwind" fn on_read(_arg: *mut c_void) {
    ERRORS.with(|errors| {
        free(errors.thrown.replace(null_mut()));
        errors.clear();
    });
}
