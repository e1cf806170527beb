//! Relations of the local database, and rows of theirs, for the functions that write SQL about them.

use pgrx::{FromDatum, PgTupleDesc, pg_sys};
use secretlink_core::OutOfMemory;
use secretlink_core::memory::{append, concat, copy};
use std::ffi::{CStr, CString, c_char};
use std::ptr;

use crate::backend::error::BackendError;
use crate::backend::text::{self, ServerText, argument};

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

/// More columns than any key has (htup_details.h, MaxTupleAttributeNumber). Numbers beyond are left out, and so
/// are values but for one, which makes them too many.
const MAX_KEY: usize = 1664;

/// `int2vector`: numbers of columns, counted from 1 without those dropped.
#[derive(Default)]
pub(crate) struct KeyNumbers(pub Vec<i16>);

/// `text[]`, of however many dimensions, in the encoding of the database.
#[derive(Default)]
pub(crate) struct KeyValues(pub Vec<Option<CString>>);

/// A column that was not dropped.
pub(crate) struct Column {
    name: CString,
    type_oid: pg_sys::Oid,
}

impl Column {
    /// The name, quoted if need be.
    pub(crate) fn quoted(&self) -> Vec<u8> {
        // SAFETY: a C string; the result is that pointer or a palloc'd C string.
        unsafe { CStr::from_ptr(pg_sys::quote_identifier(self.name.as_ptr())) }.to_bytes().to_vec()
    }
}

/// A relation that is open and locked, and that the current user may read.
pub(crate) struct Relation {
    relation: pg_sys::Relation,
    columns: Vec<Column>,
}

impl Relation {
    /// Opens it by a name as it stands in SQL. Raises ERROR where there is none, where it has no
    /// columns to speak of (an index), and where the user has not SELECT on it.
    pub(crate) fn open(name: &ServerText) -> Relation {
        // SAFETY: the name is copied into a varlena; everything comes from the function before.
        // When an ERROR leaves, the resource owner closes the relation.
        let relation = unsafe {
            let text = pg_sys::cstring_to_text_with_len(name.0.as_ptr().cast(), name.0.len() as i32);
            let range = pg_sys::makeRangeVarFromNameList(pg_sys::textToQualifiedNameList(text));
            let relation = pg_sys::table_openrv(range, LOCK);
            let select = pg_sys::ACL_SELECT as pg_sys::AclMode;
            let verdict = pg_sys::pg_class_aclcheck((*relation).rd_id, pg_sys::GetUserId(), select);
            if verdict != pg_sys::AclResult::ACLCHECK_OK {
                let class = (*relation).rd_rel;
                let kind = pg_sys::get_relkind_objtype((*class).relkind);
                pg_sys::aclcheck_error(verdict, kind, (*class).relname.data.as_ptr());
            }
            relation
        };
        // SAFETY: valid while the relation is open, and only read here.
        let attributes = unsafe { PgTupleDesc::from_pg_unchecked((*relation).rd_att) };
        let mut columns = Vec::new();
        for attribute in attributes.iter().filter(|attribute| !attribute.attisdropped) {
            // SAFETY: a name ends with a NUL byte.
            let name = unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) }.to_owned();
            columns.push(Column { name, type_oid: attribute.atttypid });
        }
        Relation { relation, columns }
    }

    /// The columns in their order; dropped ones are left out.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The name to use in SQL: quoted, and with the schema if `search_path` does not lead to it.
    pub(crate) fn name(&self) -> Vec<u8> {
        // SAFETY: the relation is open.
        let visible = unsafe { pg_sys::RelationIsVisible((*self.relation).rd_id) };
        self.qualified(!visible)
    }

    fn qualified(&self, with_schema: bool) -> Vec<u8> {
        // SAFETY: the relation is open; a schema that has gone is given as null, which is allowed.
        unsafe {
            let class = (*self.relation).rd_rel;
            let schema =
                if with_schema { pg_sys::get_namespace_name((*class).relnamespace) } else { ptr::null_mut() };
            let name = pg_sys::quote_qualified_identifier(schema, (*class).relname.data.as_ptr());
            CStr::from_ptr(name).to_bytes().to_vec()
        }
    }

    /// Names of the columns of the primary key, in the key's order.
    pub(crate) fn primary_key(&self) -> Vec<ServerText> {
        // SAFETY: the relation is open. An index entry is read between finding and releasing it, and
        // has as many numbers as it says.
        unsafe {
            let indexes = pg_sys::RelationGetIndexList(self.relation);
            let count = if indexes.is_null() { 0 } else { (*indexes).length };
            for n in 0..count as usize {
                let index = (*(*indexes).elements.add(n)).oid_value;
                let entry =
                    pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::INDEXRELID as i32, index.into());
                if entry.is_null() {
                    continue;
                }
                let form = pg_sys::GETSTRUCT(entry).cast::<pg_sys::FormData_pg_index>();
                let key = (*form).indisprimary.then(|| {
                    let numbers = (&raw const (*form).indkey.values).cast::<i16>();
                    (0..(*form).indnkeyatts as usize)
                        .map(|i| {
                            let name = pg_sys::SPI_fname((*self.relation).rd_att, (*numbers.add(i)).into());
                            copied(name).map_or_else(Vec::new, CString::into_bytes)
                        })
                        .map(ServerText)
                        .collect()
                });
                pg_sys::ReleaseSysCache(entry);
                if let Some(key) = key {
                    return key;
                }
            }
        }
        Vec::new()
    }

    /// The one row with these values in these columns, as text.
    ///
    /// # Errors
    /// If there is none or there are more, or a column's type cannot be compared.
    pub(crate) fn row(
        &self,
        key: &[usize],
        values: &KeyValues,
    ) -> Result<Vec<Option<CString>>, BackendError> {
        let names: Vec<_> = self.columns.iter().map(Column::quoted).collect();
        let mut sql =
            [b"SELECT ", &names.join(&b", "[..])[..], b" FROM ", &self.qualified(true), b" WHERE "].concat();
        for (i, (&column, value)) in key.iter().zip(&values.0).enumerate() {
            if i > 0 {
                sql.extend_from_slice(b" AND ");
            }
            match value {
                Some(value) => {
                    append(&mut sql, &equals(&names[column], self.columns[column].type_oid, value)?)?;
                }
                None => sql.extend([&names[column][..], b" IS NULL"].concat()),
            }
        }
        append(&mut sql, b"\0")?;
        // SAFETY: a C string, put together from others. What SPI returned is read before SPI_finish, which
        // frees it; an ERROR ends SPI's level too.
        unsafe {
            pg_sys::SPI_connect();
            // Two are as good as more. Not read-only: what this very statement has written counts.
            let status = pg_sys::SPI_execute(sql.as_ptr().cast(), false, 2);
            let found = if status == pg_sys::SPI_OK_SELECT as i32 { pg_sys::SPI_processed } else { 0 };
            let row = match found {
                0 => Err(BackendError::SourceRowNotFound),
                1 => {
                    let table = pg_sys::SPI_tuptable;
                    let tuple = *(*table).vals;
                    let value = |n| copied(pg_sys::SPI_getvalue(tuple, (*table).tupdesc, n));
                    Ok((1..=self.columns.len() as i32).map(value).collect())
                }
                _ => Err(BackendError::SourceRowAmbiguous),
            };
            pg_sys::SPI_finish();
            row
        }
    }
}

impl Drop for Relation {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: open since `open`. While an ERROR unwinds, the resource owner does this.
            unsafe { pg_sys::relation_close(self.relation, LOCK) };
        }
    }
}

/// A value as a SQL literal, or NULL.
///
/// # Errors
/// If there is no memory for it.
pub(crate) fn literal(value: Option<&CStr>) -> Result<Vec<u8>, OutOfMemory> {
    // SAFETY: a C string in, a palloc'd one out.
    value.map_or_else(
        || Ok(b"NULL".to_vec()),
        |v| unsafe {
            let quoted = pg_sys::quote_literal_cstr(v.as_ptr());
            let literal = copy(CStr::from_ptr(quoted).to_bytes());
            // It has room for twice the value.
            pg_sys::pfree(quoted.cast());
            literal
        },
    )
}

/// The text of the statement that the client sent.
pub(crate) fn current_query() -> Option<ServerText> {
    // SAFETY: null or a C string, set for as long as the statement runs.
    unsafe { copied(pg_sys::debug_query_string) }.map(|sql| ServerText(sql.into_bytes()))
}

/// A comparison by the equality of the column's type, whatever operators `search_path` leads to.
fn equals(column: &[u8], type_oid: pg_sys::Oid, value: &CStr) -> Result<Vec<u8>, BackendError> {
    let value = literal(Some(value))?;
    // SAFETY: looks into the catalogs, as a running function may. Names are palloc'd C strings; the
    // operator's entry is read between finding and releasing it.
    unsafe {
        let bytes = |s: *mut c_char| CStr::from_ptr(s).to_bytes().to_vec();
        let operator = (*pg_sys::lookup_type_cache(type_oid, pg_sys::TYPECACHE_EQ_OPR as i32)).eq_opr;
        let entry = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::OPEROID as i32, operator.into());
        if !entry.is_null() {
            let form = *pg_sys::GETSTRUCT(entry).cast::<pg_sys::FormData_pg_operator>();
            pg_sys::ReleaseSysCache(entry);
            // Those of an extension, such as citext's, are exactly matched by a cast: other operators
            // of the name, in a schema where others may create them, are no better.
            if form.oprnamespace != pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE) {
                let schema = pg_sys::get_namespace_name(form.oprnamespace);
                if !schema.is_null() && pg_sys::get_typtype(form.oprleft) as u8 != pg_sys::TYPTYPE_PSEUDO {
                    let schema = bytes(pg_sys::quote_identifier(schema).cast_mut());
                    let name = CStr::from_ptr(form.oprname.data.as_ptr()).to_bytes();
                    let cast = bytes(pg_sys::format_type_be_qualified(form.oprleft));
                    return Ok(concat(&[
                        b"CAST(",
                        column,
                        b" AS ",
                        &cast,
                        b") OPERATOR(",
                        &schema,
                        b".",
                        name,
                        b") CAST(",
                        &value,
                        b" AS ",
                        &cast,
                        b")",
                    ])?);
                }
            }
        }
        let mut name = ptr::null_mut();
        for part in [c"pg_catalog", c"="] {
            name = pg_sys::lappend(name, pg_sys::makeString(part.as_ptr().cast_mut()).cast());
        }
        let built_in = pg_sys::oper(ptr::null_mut(), name, type_oid, pg_sys::UNKNOWNOID, true, -1);
        // One that takes a cast first would run the function of that cast, which may be anybody's.
        let fits = built_in.as_ref().is_some_and(|_| {
            let form = *pg_sys::GETSTRUCT(built_in).cast::<pg_sys::FormData_pg_operator>();
            pg_sys::ReleaseSysCache(built_in);
            pg_sys::IsBinaryCoercible(type_oid, form.oprleft)
        });
        if !fits {
            let name = ServerText(bytes(pg_sys::format_type_be(type_oid)));
            return Err(BackendError::NotComparable(name.to_utf8()));
        }
    }
    Ok(concat(&[column, b" OPERATOR(pg_catalog.=) ", &value])?)
}

/// A copy, or ERROR if there is no room for it.
///
/// # Safety
/// `string` must be null or a C string.
unsafe fn copied(string: *const c_char) -> Option<CString> {
    // SAFETY: as the caller promised.
    (!string.is_null()).then(|| text::copied_c_string(unsafe { CStr::from_ptr(string) }))
}

impl FromDatum for KeyNumbers {
    // SAFETY: the trait's contract: the datum is of the type this one stands for.
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<KeyNumbers> {
        // SAFETY: the caller promises an `int2vector`: an array of one dimension without NULLs, whose
        // numbers begin where the struct ends.
        (!is_null).then(|| unsafe {
            let vector = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::int2vector>();
            let count = if (*vector).ndim == 1 { (*vector).dim1 } else { 0 };
            let numbers = (&raw const (*vector).values).cast::<i16>();
            KeyNumbers((0..(count as usize).min(MAX_KEY)).map(|i| *numbers.add(i)).collect())
        })
    }
}

impl FromDatum for KeyValues {
    // SAFETY: the trait's contract: the datum is of the type this one stands for.
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<KeyValues> {
        // SAFETY: the caller promises a `text[]`; `text` is a varlena aligned as int.
        (!is_null).then(|| unsafe {
            let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            let (mut values, mut nulls, mut count) = (ptr::null_mut(), ptr::null_mut(), 0);
            let (text, align) = (pg_sys::TEXTOID, pg_sys::TYPALIGN_INT as c_char);
            pg_sys::deconstruct_array(array, text, -1, false, align, &mut values, &mut nulls, &mut count);
            let value = |i| {
                let text = (*values.add(i)).cast_mut_ptr::<pg_sys::text>();
                (!*nulls.add(i)).then(|| {
                    let string = pg_sys::text_to_cstring(text);
                    let value = text::copied_c_string(CStr::from_ptr(string));
                    pg_sys::pfree(string.cast());
                    value
                })
            };
            KeyValues((0..(count as usize).min(MAX_KEY + 1)).map(value).collect())
        })
    }
}

argument!(KeyNumbers, "int2vector");
argument!(KeyValues, "text[]");
