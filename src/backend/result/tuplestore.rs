//! Results of functions declared `SETOF record`.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use secretlink_remote::column::Column;
use secretlink_remote::row::{MalformedRow, RowBatch};
use std::ffi::CStr;
use std::ptr;

use crate::backend::error::BackendError;
use crate::backend::result::column::{self, ColumnReader, MalformedValue};
use crate::backend::text;

/// Where the rows of one call go.
///
/// The tuplestore lives in the query's memory, hence survives us; everything else is in memory that
/// ends with the call, so nothing leaks when an ERROR leaves from a type's input function.
pub(crate) struct RowSink {
    fcinfo: pg_sys::FunctionCallInfo,
    result: *mut pg_sys::ReturnSetInfo,
    store: *mut pg_sys::Tuplestorestate,
    /// What the caller expects, once it has been asked for; it lasts as long as the call.
    expected: pg_sys::TupleDesc,
    /// The row type in the query's memory, made once: an answer may have any number of results.
    announced: pg_sys::TupleDesc,
    /// The row type of the present result.
    desc: pg_sys::TupleDesc,
    columns: Vec<ColumnReader>,
    /// What the types' functions keep for themselves. Reset with each result.
    reader_context: pg_sys::MemoryContext,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    /// Reset after each row.
    row_context: pg_sys::MemoryContext,
}

// SAFETY: declared as in tuplestore.h, once more, without the guard that pgrx puts around each call.
unsafe extern "C-unwind" {
    fn tuplestore_putvalues(
        store: *mut pg_sys::Tuplestorestate,
        desc: pg_sys::TupleDesc,
        values: *const pg_sys::Datum,
        nulls: *const bool,
    );
    fn MemoryContextReset(context: pg_sys::MemoryContext);
}

/// What is wrong with a row.
enum Malformed {
    Row,
    Value,
}

impl From<MalformedRow> for Malformed {
    fn from(_: MalformedRow) -> Malformed {
        Malformed::Row
    }
}

impl From<MalformedValue> for Malformed {
    fn from(_: MalformedValue) -> Malformed {
        Malformed::Value
    }
}

impl RowSink {
    /// Checks that the caller can take a set, and announces one. Until rows come it is empty.
    ///
    /// # Errors
    /// If the function is called where no set can be taken (0A000).
    ///
    /// # Safety
    /// `fcinfo` must be that of the running call of a set-returning function.
    pub(crate) unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Result<RowSink, BackendError> {
        // SAFETY: fcinfo is valid as promised; its resultinfo is null or a Node.
        unsafe {
            let result = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            if result.is_null() || (*result).type_ != pg_sys::NodeTag::T_ReturnSetInfo {
                return Err(BackendError::SetNotAccepted);
            }
            if (*result).allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize as i32 == 0 {
                return Err(BackendError::MaterializeNotAccepted);
            }
            (*result).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            (*result).setResult = ptr::null_mut();
            (*result).setDesc = ptr::null_mut();
            let context = |name: &'static CStr| {
                pg_sys::AllocSetContextCreateInternal(
                    pg_sys::CurrentMemoryContext,
                    name.as_ptr(),
                    pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                    pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                    pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
                )
            };
            Ok(RowSink {
                fcinfo,
                result,
                store: ptr::null_mut(),
                expected: ptr::null_mut(),
                announced: ptr::null_mut(),
                desc: ptr::null_mut(),
                columns: Vec::new(),
                reader_context: context(c"secretlink columns"),
                values: Vec::new(),
                nulls: Vec::new(),
                row_context: context(c"secretlink row"),
            })
        }
    }

    /// The types of the caller's columns, 0 where values are better not sent in binary; empty if
    /// there is no column definition list.
    pub(crate) fn local_types(&mut self) -> Vec<u32> {
        self.expected_desc().map(|desc| attributes(&desc).map(column::wanted).collect()).unwrap_or_default()
    }

    /// What the caller's column definition list says.
    fn expected_desc(&mut self) -> Result<pg_sys::TupleDesc, BackendError> {
        if !self.expected.is_null() {
            return Ok(self.expected);
        }
        let mut desc = ptr::null_mut();
        // SAFETY: fcinfo is still that of the running call.
        match unsafe { pg_sys::get_call_result_type(self.fcinfo, ptr::null_mut(), &mut desc) } {
            pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE => {
                self.expected = desc;
                Ok(desc)
            }
            pg_sys::TypeFuncClass::TYPEFUNC_RECORD => Err(BackendError::RecordNotAccepted),
            _ => Err(BackendError::NotARowType),
        }
    }

    /// A result set begins. If there was one before, it is forgotten: of several statements the last
    /// one's result counts.
    ///
    /// # Errors
    /// If the caller's column definition list is missing (0A000) or has another number of columns
    /// (42804).
    pub(crate) fn begin(&mut self, columns: &[Column]) -> Result<(), BackendError> {
        let expected = self.expected_desc()?;
        // SAFETY: a descriptor of the call's own.
        unsafe {
            if usize::try_from((*expected).natts) != Ok(columns.len()) {
                return Err(BackendError::RowTypeMismatch);
            }
            if self.announced.is_null() {
                self.announced = self.announce(expected);
            }
            self.start_store(self.announced, columns)
        }
    }

    /// The result of a statement without rows: one row with its command tag.
    pub(crate) fn status(&mut self, tag: &[u8]) -> Result<(), BackendError> {
        let tag = text::verified(tag);
        // SAFETY: the one attribute is initialised before the descriptor is used; the tag is a C
        // string that lives through the call.
        unsafe {
            let desc = pg_sys::CreateTemplateTupleDesc(1);
            pg_sys::TupleDescInitEntry(desc, 1, c"status".as_ptr(), pg_sys::TEXTOID, -1, 0);
            self.start_store(self.announce(desc), &[])?;
            let mut value = pg_sys::Datum::from(pg_sys::cstring_to_text(tag.as_ptr()));
            let mut is_null = false;
            // PostgreSQL 18 takes pointers to const: a raw pointer is good for all.
            pg_sys::tuplestore_putvalues(self.store, self.desc, &raw mut value, &raw mut is_null);
        }
        Ok(())
    }

    /// Forgets what came so far: the result is empty.
    pub(crate) fn discard(&mut self) {
        if !self.store.is_null() {
            // SAFETY: the store is ours and nobody has seen it yet.
            unsafe {
                (*self.result).setResult = ptr::null_mut();
                (*self.result).setDesc = ptr::null_mut();
                pg_sys::tuplestore_end(self.store);
            }
            self.store = ptr::null_mut();
        }
    }

    /// A copy for the executor, in the query's memory.
    ///
    /// # Safety
    /// `desc` must be a complete tuple descriptor.
    unsafe fn announce(&self, desc: pg_sys::TupleDesc) -> pg_sys::TupleDesc {
        // SAFETY: the query's memory outlives the call.
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo((*(*self.result).econtext).ecxt_per_query_memory);
            // Known by a number, for a caller that takes the row as one value.
            let copy = pg_sys::BlessTupleDesc(pg_sys::CreateTupleDescCopy(desc));
            pg_sys::MemoryContextSwitchTo(previous);
            copy
        }
    }

    /// # Safety
    /// `desc` must be a complete tuple descriptor in the query's memory, and there must not be more columns
    /// than it has attributes.
    unsafe fn start_store(
        &mut self,
        desc: pg_sys::TupleDesc,
        columns: &[Column],
    ) -> Result<(), BackendError> {
        self.discard();
        self.columns.clear();
        // SAFETY: nothing refers to what is there any more.
        unsafe { pg_sys::MemoryContextReset(self.reader_context) };
        // SAFETY: the new store is made in the query's memory, as the executor wants it (execSRF.c).
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo((*(*self.result).econtext).ecxt_per_query_memory);
            self.desc = desc;
            let random_access = (*self.result).allowedModes
                & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random as i32
                != 0;
            self.store = pg_sys::tuplestore_begin_heap(random_access, false, pg_sys::work_mem);
            (*self.result).setResult = self.store;
            (*self.result).setDesc = self.desc;
            pg_sys::MemoryContextSwitchTo(self.reader_context);
            let readers = columns.iter().zip(attributes(&desc)).map(|(c, a)| ColumnReader::new(c, a));
            let readers = readers.collect::<Option<_>>();
            pg_sys::MemoryContextSwitchTo(previous);
            self.columns = readers.ok_or(BackendError::BinaryColumn)?;
        }
        self.values = vec![pg_sys::Datum::from(0); columns.len()];
        self.nulls = vec![true; columns.len()];
        Ok(())
    }

    /// Adds a batch of rows.
    ///
    /// # Errors
    /// If a row or a value does not keep to the protocol, or a row has another number of columns than
    /// announced.
    pub(crate) fn put(&mut self, mut batch: RowBatch) -> Result<(), BackendError> {
        if self.store.is_null() {
            return Err(BackendError::MalformedRow);
        }
        // SAFETY: an ERROR from a type's function leaves `put_all` and what it calls without running
        // destructors, and none of these has one to run.
        let put = unsafe {
            pg_guard_ffi_boundary(|| {
                let previous = pg_sys::MemoryContextSwitchTo(self.row_context);
                let put = self.put_all(&mut batch);
                pg_sys::MemoryContextSwitchTo(previous);
                put
            })
        };
        put.map_err(|malformed| match malformed {
            Malformed::Row => BackendError::MalformedRow,
            Malformed::Value => BackendError::MalformedValue,
        })
    }

    /// # Safety
    /// To be called under a guard, with a store, in the memory of the row.
    unsafe fn put_all(&mut self, batch: &mut RowBatch) -> Result<(), Malformed> {
        loop {
            let (columns, values, nulls) = (&mut self.columns, &mut self.values, &mut self.nulls);
            let mut malformed = false;
            let read = batch.next_row(|number, value| {
                if let (Some(column), Some(datum), Some(null)) =
                    (columns.get_mut(number), values.get_mut(number), nulls.get_mut(number))
                {
                    // SAFETY: under the guard. The batch is not touched until the row is copied.
                    match unsafe { column.read(value) } {
                        Ok(Some(made)) => (*datum, *null) = (made, false),
                        Ok(None) => *null = true,
                        Err(MalformedValue) => malformed = true,
                    }
                }
            });
            match read? {
                None => return Ok(()),
                Some(_) if malformed => return Err(Malformed::Value),
                Some(count) if count == self.columns.len() => {}
                Some(_) => return Err(Malformed::Row),
            }
            // SAFETY: values and nulls are as many as the store's descriptor has attributes; the row
            // is copied. What type functions allocated goes with it.
            unsafe {
                tuplestore_putvalues(self.store, self.desc, self.values.as_ptr(), self.nulls.as_ptr());
                MemoryContextReset(self.row_context);
            }
        }
    }
}

/// The attributes of a descriptor.
fn attributes(desc: &pg_sys::TupleDesc) -> impl Iterator<Item = &pg_sys::FormData_pg_attribute> {
    // SAFETY: a descriptor is followed by as many attributes as it says.
    (0..unsafe { (**desc).natts }).map(|number| unsafe { &*attribute(*desc, number) })
}

/// # Safety
/// The descriptor must have more than `number` attributes.
#[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16", feature = "pg17")))]
unsafe fn attribute(desc: pg_sys::TupleDesc, number: i32) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: the caller promises that there are as many.
    unsafe { pg_sys::TupleDescAttr(desc, number) }
}

/// # Safety
/// The descriptor must have more than `number` attributes.
#[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16", feature = "pg17"))]
unsafe fn attribute(desc: pg_sys::TupleDesc, number: i32) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: the caller promises that there are as many.
    unsafe { (*desc).attrs.as_ptr().add(number as usize) }
}
