//! Results of functions declared `SETOF record`.

use pgrx::pg_sys;
use secretlink_remote::row::RowBatch;
use std::ffi::c_char;
use std::ptr;

use crate::error::Error;

/// Where the rows of one call go.
///
/// The tuplestore lives in the query's memory, hence survives us; everything else is in memory that
/// ends with the call, so nothing leaks when an ERROR leaves from a type's input function.
pub struct RowSink {
    fcinfo: pg_sys::FunctionCallInfo,
    result: *mut pg_sys::ReturnSetInfo,
    store: *mut pg_sys::Tuplestorestate,
    attinmeta: *mut pg_sys::AttInMetadata,
    values: Vec<*mut c_char>,
    /// Reset after each row.
    row_context: pg_sys::MemoryContext,
}

impl RowSink {
    /// Checks that the caller can take a set, and announces one. Until rows come it is empty.
    ///
    /// # Errors
    /// If the function is called where no set can be taken (0A000).
    ///
    /// # Safety
    /// `fcinfo` must be that of the running call of a set-returning function.
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Result<RowSink, Error> {
        // SAFETY: fcinfo is valid as promised; its resultinfo is null or a Node.
        unsafe {
            let result = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            if result.is_null() || (*result).type_ != pg_sys::NodeTag::T_ReturnSetInfo {
                return Err(Error::SetNotAccepted);
            }
            if (*result).allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize as i32 == 0 {
                return Err(Error::MaterializeNotAccepted);
            }
            (*result).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            (*result).setResult = ptr::null_mut();
            (*result).setDesc = ptr::null_mut();
            let row_context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"secretlink row".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            Ok(RowSink {
                fcinfo,
                result,
                store: ptr::null_mut(),
                attinmeta: ptr::null_mut(),
                values: Vec::new(),
                row_context,
            })
        }
    }

    /// A result set of `columns` columns begins. If there was one before, it is forgotten: of
    /// several statements the last one's result counts.
    ///
    /// # Errors
    /// If the caller's column definition list is missing (0A000) or has another number of columns
    /// (42804).
    pub fn begin(&mut self, columns: usize) -> Result<(), Error> {
        // SAFETY: fcinfo is still that of the running call; the descriptor is copied.
        unsafe {
            let mut desc = ptr::null_mut();
            match pg_sys::get_call_result_type(self.fcinfo, ptr::null_mut(), &mut desc) {
                pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE => {}
                pg_sys::TypeFuncClass::TYPEFUNC_RECORD => return Err(Error::RecordNotAccepted),
                _ => return Err(Error::NotARowType),
            }
            if usize::try_from((*desc).natts) != Ok(columns) {
                return Err(Error::RowTypeMismatch);
            }
            self.start_store(pg_sys::CreateTupleDescCopy(desc));
        }
        Ok(())
    }

    /// The result of a statement without rows: one row with its command tag.
    pub fn status(&mut self, tag: &[u8]) {
        let mut tag = super::text::verified(tag).into_bytes_with_nul();
        // SAFETY: the one attribute is initialised before the descriptor is used; the tag is a C
        // string that lives through the call.
        unsafe {
            let desc = pg_sys::CreateTemplateTupleDesc(1);
            pg_sys::TupleDescInitEntry(desc, 1, c"status".as_ptr(), pg_sys::TEXTOID, -1, 0);
            self.start_store(desc);
            self.values[0] = tag.as_mut_ptr().cast();
            self.put_row();
        }
    }

    /// Forgets what came so far: the result is empty.
    pub fn discard(&mut self) {
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

    /// # Safety
    /// `desc` must be a complete tuple descriptor in memory that lasts as long as the call.
    unsafe fn start_store(&mut self, desc: pg_sys::TupleDesc) {
        self.discard();
        // SAFETY: the new store is made in the query's memory, as the executor wants it (execSRF.c).
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo((*(*self.result).econtext).ecxt_per_query_memory);
            let desc = pg_sys::CreateTupleDescCopy(desc);
            let random_access = (*self.result).allowedModes
                & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random as i32
                != 0;
            self.store = pg_sys::tuplestore_begin_heap(random_access, false, pg_sys::work_mem);
            (*self.result).setResult = self.store;
            (*self.result).setDesc = desc;
            pg_sys::MemoryContextSwitchTo(previous);
            self.attinmeta = pg_sys::TupleDescGetAttInMetadata(desc);
            self.values = vec![ptr::null_mut(); (*desc).natts as usize];
        }
    }

    /// Adds a batch of rows, each value by its type's input function.
    ///
    /// # Errors
    /// If a row does not keep to the protocol or has another number of columns than announced.
    pub fn put(&mut self, mut batch: RowBatch) -> Result<(), Error> {
        loop {
            let values = &mut self.values;
            let columns = batch.next_row(|column, value| {
                if let Some(slot) = values.get_mut(column) {
                    *slot = value.map_or(ptr::null_mut(), |v| v.as_mut_ptr().cast());
                }
            });
            match columns.map_err(|_| Error::MalformedRow)? {
                None => return Ok(()),
                Some(columns) if columns == self.values.len() && !self.store.is_null() => {
                    // SAFETY: every slot was set by the row just read, and points into the batch,
                    // which is not touched until the next round.
                    unsafe { self.put_row() }
                }
                Some(_) => return Err(Error::MalformedRow),
            }
        }
    }

    /// # Safety
    /// `self.values` must hold null or a C string for each column of the store.
    unsafe fn put_row(&mut self) {
        // SAFETY: the store and its metadata belong together (`start_store`), and the values are as
        // promised. What input functions allocate goes with the row.
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo(self.row_context);
            let tuple = pg_sys::BuildTupleFromCStrings(self.attinmeta, self.values.as_mut_ptr());
            pg_sys::tuplestore_puttuple(self.store, tuple);
            pg_sys::MemoryContextSwitchTo(previous);
            pg_sys::MemoryContextReset(self.row_context);
        }
    }
}
