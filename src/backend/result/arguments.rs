//! The arguments of functions that are declared in SQL by hand, because one serves several overloads.

use pgrx::{FromDatum, pg_sys};

use crate::backend::text::ServerText;

/// The arguments of one call of a STRICT function: none is NULL.
#[derive(Clone, Copy)]
pub(crate) struct Arguments(pg_sys::FunctionCallInfo);

impl Arguments {
    /// # Safety
    /// `fcinfo` must be that of the running call, and outlive this.
    pub(crate) unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Arguments {
        Arguments(fcinfo)
    }

    /// How many there are.
    pub(crate) fn count(self) -> usize {
        // SAFETY: fcinfo is valid, as `of` was promised.
        usize::try_from(unsafe { (*self.0).nargs }).unwrap_or(0)
    }

    /// Whether the argument at `n`, from 0, is declared boolean.
    fn is_bool(self, n: usize) -> bool {
        // SAFETY: as above; an `n` out of range gives InvalidOid.
        i32::try_from(n)
            .is_ok_and(|n| unsafe { pg_sys::get_fn_expr_argtype((*self.0).flinfo, n) } == pg_sys::BOOLOID)
    }

    /// dblink's `fail`, which is true unless the last argument is a boolean that says otherwise; and the
    /// number of arguments without it.
    pub(crate) fn trailing_fail(self) -> (bool, usize) {
        match self.count().checked_sub(1) {
            Some(last) if self.is_bool(last) => (self.flag(last), last),
            _ => (true, self.count()),
        }
    }

    /// The argument at `n`, which must be declared `text`.
    pub(crate) fn text(self, n: usize) -> ServerText {
        self.get(n).unwrap_or_else(|| ServerText(Vec::new()))
    }

    /// The argument at `n`, which must be declared `boolean`.
    pub(crate) fn flag(self, n: usize) -> bool {
        self.get(n).unwrap_or_default()
    }

    /// The argument at `n`, which must be declared `int`.
    pub(crate) fn int(self, n: usize) -> i32 {
        self.get(n).unwrap_or_default()
    }

    fn get<T: FromDatum>(self, n: usize) -> Option<T> {
        if n >= self.count() {
            return None;
        }
        // SAFETY: there is such an argument, and the callers name the type it is declared with.
        unsafe { pgrx::fcinfo::pg_getarg(self.0, n) }
    }
}
