//! Text between SQL and Rust, in whatever encoding the database has.
//!
//! pgrx takes the bytes of a `text` for UTF-8. In a database of another encoding a password with an
//! accent would then reach AWS garbled, or not at all. AWS and conninfo speak UTF-8, so text is
//! converted at the border.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use secretlink_core::{OutOfMemory, Report, Secret, memory};
use std::ffi::{CStr, CString, c_char};

/// `text`, as UTF-8.
#[derive(Default)]
pub(crate) struct Text(pub String);

/// `json` given or returned as text, as UTF-8. Postgres checks what is given; what is returned must
/// be JSON.
#[derive(Default)]
pub(crate) struct JsonText(pub String);

/// `text` in the encoding of the database, for what goes to a remote session of that encoding.
#[derive(Default)]
pub(crate) struct ServerText(pub Vec<u8>);

/// `bytea`.
#[derive(Default)]
pub(crate) struct Bytes(pub Vec<u8>);

/// `text[]`, of however many dimensions, as UTF-8. What is beyond the hundredth is left out: nobody takes as many.
#[derive(Default)]
pub(crate) struct TextArray(pub Vec<Option<String>>);

/// How many texts an array may have.
const MAX_TEXTS: usize = 100;

/// `name`: that of a role, in the encoding of the database.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoleName(pub CString);

impl ServerText {
    /// The text as UTF-8.
    pub(crate) fn to_utf8(&self) -> String {
        from_server(self.0.clone())
    }

    /// The text as an identifier, cut to the length of one at a character's border; with a NOTICE about
    /// that if `warn`.
    pub(crate) fn into_identifier(self, warn: bool) -> CString {
        let mut buffer = self.0;
        buffer.push(0);
        // SAFETY: a C string of the given length (a text holds no NUL byte), cut in place.
        unsafe {
            pg_sys::truncate_identifier(buffer.as_mut_ptr().cast(), buffer.len() as i32 - 1, warn);
            std::ffi::CStr::from_ptr(buffer.as_ptr().cast()).to_owned()
        }
    }
}

impl RoleName {
    /// The name as UTF-8.
    pub(crate) fn display(&self) -> String {
        from_catalog(&self.0)
    }
}

/// How many times an argument, as what it says is passed on, is in memory at once: converted, parsed, put
/// together with others, in messages.
const COPIES: usize = 5;

/// The longest argument that the reserve has room for, which is not looked for each time.
const SHORT: usize = 256 * 1024;

/// Raises ERROR (53200) unless there is room for what is done with an argument of so many bytes. What is made of
/// arguments is Rust's, whose allocations end the process where they fail.
pub(crate) fn make_room(bytes: usize) {
    let room = memory::prepare().and_then(|()| match bytes {
        0..=SHORT => Ok(()),
        _ => memory::look_for(COPIES * bytes),
    });
    room.unwrap_or_else(|none| raise(none));
}

/// A copy of text of any length, or ERROR (53200) where there is no memory for it.
pub(crate) fn copied(bytes: &[u8]) -> Vec<u8> {
    memory::copy(bytes).unwrap_or_else(|none| raise(none))
}

/// A copy of a C string of any length, or ERROR (53200) where there is no memory for it.
pub(crate) fn copied_c_string(string: &CStr) -> CString {
    CString::from_vec_with_nul(copied(string.to_bytes_with_nul())).unwrap_or_default()
}

#[expect(clippy::unreachable, reason = "a report at level ERROR does not return")]
fn raise(none: OutOfMemory) -> ! {
    // By pgrx's own report: ours needs this file.
    ErrorReport::new(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "out of memory", "make_room")
        .set_detail(none.detail().unwrap_or_default())
        .report(pgrx::PgLogLevel::ERROR);
    unreachable!("a report at level ERROR does not return")
}

/// The bytes of a varlena, copied. Raises ERROR where there is no memory.
///
/// # Safety
/// `datum` must be a `text`, `json` or other varlena, and not null.
unsafe fn varlena_bytes(datum: pg_sys::Datum) -> Vec<u8> {
    // SAFETY: as the caller promised; a detoasted copy is palloc'd and freed with its context.
    unsafe {
        let packed = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        let len = pgrx::varsize_any_exhdr(packed);
        make_room(len);
        let bytes = std::slice::from_raw_parts(pgrx::vardata_any(packed).cast::<u8>(), len).to_vec();
        if !std::ptr::eq(packed, datum.cast_mut_ptr()) {
            pg_sys::pfree(packed.cast());
        }
        bytes
    }
}

fn varlena(bytes: &[u8]) -> pg_sys::Datum {
    // SAFETY: copies `bytes.len()` bytes into a new varlena; a length over 1 GB raises ERROR there.
    unsafe { pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32).into() }
}

/// UTF-8 from the encoding of the database. What cannot be converted raises ERROR there, and so does what there is
/// no room for: it may be several times as long.
fn from_server(bytes: Vec<u8>) -> String {
    // SAFETY: bytes of the given length; the result is the same pointer if there is nothing to
    // convert, else a palloc'd C string.
    let converted = unsafe {
        let source = bytes.as_ptr().cast::<c_char>();
        let result = pg_sys::pg_server_to_any(source, bytes.len() as i32, pg_sys::pg_enc::PG_UTF8 as i32);
        (!std::ptr::eq(result, source)).then(|| {
            let converted = copied(CStr::from_ptr(result).to_bytes());
            pg_sys::pfree(result.cast());
            make_room(converted.len());
            converted
        })
    };
    let bytes = converted.unwrap_or(bytes);
    // In a SQL_ASCII database nothing is checked or converted: then, and only then, it may not be UTF-8.
    String::from_utf8(bytes).unwrap_or_else(|e| {
        make_room(REPLACED * e.as_bytes().len());
        String::from_utf8_lossy(e.as_bytes()).into_owned()
    })
}

/// How many bytes stand for one that is not UTF-8.
const REPLACED: usize = char::REPLACEMENT_CHARACTER.len_utf8();

/// A password as clients send it: in UTF-8. What cannot be converted raises ERROR.
pub(crate) fn password_from_server(password: &[u8]) -> Secret {
    // ASCII is the same in every encoding, and what is not converted is not copied to memory of core's.
    if password.is_ascii() {
        return Secret::new(password);
    }
    Secret::new(from_server(password.to_vec()))
}

/// A name out of a shared catalog, as UTF-8. Without a database there is no encoding to convert from.
pub(crate) fn from_catalog(name: &CStr) -> String {
    // SAFETY: reads a global.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    if encoding == pg_sys::pg_enc::PG_UTF8 as i32 || encoding == pg_sys::pg_enc::PG_SQL_ASCII as i32 {
        return name.to_string_lossy().into_owned();
    }
    from_server(name.to_bytes().to_vec())
}

/// The encoding of the database from UTF-8, or ERROR (22P05) where it has no such character.
fn bytes_to_server(text: &str) -> Vec<u8> {
    // SAFETY: as in `from_server`.
    let converted = unsafe {
        let source = text.as_ptr().cast::<c_char>();
        let result = pg_sys::pg_any_to_server(source, text.len() as i32, pg_sys::pg_enc::PG_UTF8 as i32);
        (!std::ptr::eq(result, source)).then(|| std::ffi::CStr::from_ptr(result).to_bytes().to_vec())
    };
    converted.unwrap_or_else(|| text.as_bytes().to_vec())
}

/// For a report, or what is kept of one: never raises. Text that the database's encoding does not have is shown with `?`.
pub(crate) fn to_server(text: &str) -> CString {
    // SAFETY: reads a global.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    let utf8 = pg_sys::pg_enc::PG_UTF8 as i32;
    let source = c_string(text.as_bytes());
    if encoding == utf8 || text.is_ascii() {
        return source;
    }
    // SAFETY: reads globals.
    let has_catalogs = unsafe { pg_sys::IsTransactionState() && pg_sys::MyDatabaseId != pg_sys::InvalidOid };
    // A worker reports between its transactions, too, where a look into a catalog would end the server.
    if !has_catalogs {
        return c_string(&ascii(text.as_bytes()));
    }
    // As pg_any_to_server, but that raises ERROR.
    let length = source.as_bytes().len();
    let mut converted = vec![0u8; length * pg_sys::MAX_CONVERSION_GROWTH as usize + 1];
    // SAFETY: looks into the catalogs, which are there; both buffers have the length
    // given, and the conversion ends what it writes with a NUL byte.
    unsafe {
        let procedure = pg_sys::FindDefaultConversionProc(utf8, encoding);
        if procedure != pg_sys::InvalidOid {
            let done = pg_sys::pg_do_encoding_conversion_buf(
                procedure,
                utf8,
                encoding,
                source.as_ptr().cast_mut().cast(),
                length as i32,
                converted.as_mut_ptr(),
                converted.len() as i32,
                true,
            );
            if usize::try_from(done) == Ok(length)
                && let Ok(text) = std::ffi::CStr::from_bytes_until_nul(&converted)
            {
                return text.to_owned();
            }
        }
    }
    c_string(&ascii(text.as_bytes()))
}

/// For a report where nothing may fail and no catalog may be read: other characters become `?`.
pub(crate) fn to_ascii(text: &str) -> CString {
    c_string(&text.chars().map(|c| if c.is_ascii() { c as u8 } else { b'?' }).collect::<Vec<_>>())
}

/// For a report: bytes that claim to be in the database's encoding, reduced to ASCII if they are not.
pub(crate) fn verified(bytes: &[u8]) -> CString {
    // SAFETY: bytes of the given length; `true` means no ERROR.
    let valid = unsafe { pg_sys::pg_verifymbstr(bytes.as_ptr().cast(), bytes.len() as i32, true) };
    if valid { c_string(bytes) } else { c_string(&ascii(bytes)) }
}

fn ascii(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|b| if b.is_ascii() { *b } else { b'?' }).collect()
}

fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes.iter().copied().filter(|b| *b != 0).collect::<Vec<_>>()).unwrap_or_default()
}

impl FromDatum for Text {
    // SAFETY: the trait's contract: the datum is of the type this one stands for.
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Text> {
        // SAFETY: the caller promises a `text` datum.
        (!is_null).then(|| Text(from_server(unsafe { varlena_bytes(datum) })))
    }
}

impl FromDatum for JsonText {
    // SAFETY: the trait's contract: the datum is of the type this one stands for.
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<JsonText> {
        // SAFETY: the caller promises a `json` datum, which is stored as text.
        (!is_null).then(|| JsonText(from_server(unsafe { varlena_bytes(datum) })))
    }
}

impl FromDatum for ServerText {
    // SAFETY: the trait's contract: the datum is of the type this one stands for.
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<ServerText> {
        // SAFETY: the caller promises a `text` datum.
        (!is_null).then(|| ServerText(unsafe { varlena_bytes(datum) }))
    }
}

impl FromDatum for Bytes {
    // SAFETY: the trait's contract: the datum is of the type this one stands for.
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Bytes> {
        // SAFETY: the caller promises a `bytea` datum.
        (!is_null).then(|| Bytes(unsafe { varlena_bytes(datum) }))
    }
}

impl FromDatum for TextArray {
    // SAFETY: the trait's contract: the datum is of the type this one stands for.
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<TextArray> {
        // SAFETY: the caller promises a `text[]`; `text` is a varlena aligned as int.
        (!is_null).then(|| unsafe {
            let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
            let (text, align) = (pg_sys::TEXTOID, pg_sys::TYPALIGN_INT as c_char);
            pg_sys::deconstruct_array(array, text, -1, false, align, &mut values, &mut nulls, &mut count);
            let value = |i| (!*nulls.add(i)).then(|| from_server(varlena_bytes(*values.add(i))));
            TextArray((0..(count as usize).min(MAX_TEXTS)).map(value).collect())
        })
    }
}

impl FromDatum for RoleName {
    // SAFETY: the trait's contract: the datum is of the type this one stands for.
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<RoleName> {
        // SAFETY: the caller promises a `name` datum, which ends with a NUL byte.
        (!is_null).then(|| RoleName(unsafe { CStr::from_ptr(datum.cast_mut_ptr()) }.to_owned()))
    }
}

impl IntoDatum for RoleName {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let name = self.0.as_bytes();
        // SAFETY: a zeroed name, of which the last byte at least stays zero.
        unsafe {
            let copy = pg_sys::palloc0(size_of::<pg_sys::NameData>()).cast::<u8>();
            std::ptr::copy_nonoverlapping(
                name.as_ptr(),
                copy,
                name.len().min(size_of::<pg_sys::NameData>() - 1),
            );
            Some(pg_sys::Datum::from(copy))
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::NAMEOID
    }
}

impl IntoDatum for Text {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(varlena(&bytes_to_server(&self.0)))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

impl IntoDatum for JsonText {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(varlena(&bytes_to_server(&self.0)))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONOID
    }
}

impl IntoDatum for ServerText {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(varlena(&self.0))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

/// Makes a type an argument of the SQL type named. It must read that type's datums in `FromDatum`.
macro_rules! argument {
    ($type:ty, $sql:literal) => {
        pgrx::pgrx_sql_entity_graph::impl_sql_translatable!($type, $sql);

        // SAFETY: the datum is of the SQL type declared just above, which `FromDatum` reads.
        unsafe impl<'fcx> pgrx::callconv::ArgAbi<'fcx> for $type {
            unsafe fn unbox_arg_unchecked(arg: pgrx::callconv::Arg<'_, 'fcx>) -> Self {
                // SAFETY: as the trait demands of the caller. Only arguments of STRICT functions are
                // declared without Option, so NULL does not come here.
                unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or_default()
            }
        }
    };
}
pub(super) use argument;

macro_rules! result {
    ($type:ty) => {
        // SAFETY: returns a datum of the SQL type that the type is declared to be.
        unsafe impl BoxRet for $type {
            unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
                match self.into_datum() {
                    // SAFETY: just made for this call.
                    Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
                    None => fcinfo.return_null(),
                }
            }
        }
    };
}

argument!(Text, "text");
argument!(JsonText, "json");
argument!(ServerText, "text");
argument!(RoleName, "name");
argument!(Bytes, "bytea");
argument!(TextArray, "text[]");
result!(Text);
result!(JsonText);
result!(ServerText);
result!(RoleName);
