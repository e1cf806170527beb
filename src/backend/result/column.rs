//! How a column's values on the wire become Datums.
//!
//! This is where a large result spends its time. So values of the most common types are made here,
//! in place where that is possible, and not by their types' functions; and what is called is called
//! past pgrx's guards, which cost more than most of these functions: [`super::tuplestore`] puts one
//! guard around a whole batch. So nothing here may have a destructor while Postgres is called.

use pgrx::pg_sys;
use secretlink_remote::binary_type::BinaryType;
use secretlink_remote::column::Column;
use secretlink_remote::row::Value;
use std::ffi::{CStr, c_char};

/// Values of eight bytes are passed by value.
const _: () = assert!(size_of::<pg_sys::Datum>() == 8);

/// A value that is none of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedValue;

/// Makes the values of one column.
pub(crate) struct ColumnReader {
    how: How,
    /// The type's input or receive function.
    function: pg_sys::FmgrInfo,
    io_param: pg_sys::Oid,
    typmod: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// The type's input function.
    Input,
    /// Text without a length limit: the bytes are the value.
    Text,
    /// The type's receive function.
    Receive,
    Bool,
    Int2,
    /// An int4 or an oid.
    Int4,
    Int8,
    Float4,
    Float8,
    /// The receive function, but for NaN, of which there are many and which text knows one of.
    Float4Array,
    Float8Array,
    Date,
    Time,
    /// A timestamp or a timestamptz.
    Timestamp,
    Uuid,
    Bytea,
    Numeric,
}

// SAFETY: declared as in fmgr.h, once more, without the guard that pgrx puts around each call.
unsafe extern "C-unwind" {
    fn InputFunctionCall(
        function: *mut pg_sys::FmgrInfo,
        text: *mut c_char,
        io_param: pg_sys::Oid,
        typmod: i32,
    ) -> pg_sys::Datum;
    fn ReceiveFunctionCall(
        function: *mut pg_sys::FmgrInfo,
        message: pg_sys::StringInfo,
        io_param: pg_sys::Oid,
        typmod: i32,
    ) -> pg_sys::Datum;
    fn cstring_to_text_with_len(bytes: *const c_char, len: i32) -> *mut pg_sys::text;
}

/// text, varchar, char(n), name: of a BINARY cursor, which sends all its columns so.
const TEXT_EITHER_WAY: [u32; 4] = [25, 1043, 1042, 19];

/// The type in whose binary form values of a local column are wanted, 0 for none.
pub(crate) fn wanted(attribute: &pg_sys::FormData_pg_attribute) -> u32 {
    let oid = attribute.atttypid;
    // Only numeric has a modifier that its receive function heeds just as its input function does and
    // that is common.
    let plain = attribute.atttypmod == -1 || oid == pg_sys::NUMERICOID;
    if plain && BinaryType::of(oid.to_u32()).is_some() { oid.to_u32() } else { 0 }
}

impl ColumnReader {
    /// For a column that is put into one with this attribute. `None` if its values come in a form
    /// that cannot be read.
    ///
    /// # Safety
    /// The attribute's type must exist.
    pub(crate) unsafe fn new(
        column: &Column,
        attribute: &pg_sys::FormData_pg_attribute,
    ) -> Option<ColumnReader> {
        let mut reader = ColumnReader {
            how: How::Input,
            function: pg_sys::FmgrInfo::default(),
            io_param: pg_sys::InvalidOid,
            typmod: attribute.atttypmod,
        };
        let mut function = pg_sys::InvalidOid;
        if column.binary && !TEXT_EITHER_WAY.contains(&column.type_oid) {
            if column.type_oid == 0 || wanted(attribute) != column.type_oid {
                return None;
            }
            reader.how = How::of_binary(attribute);
            // SAFETY: looks up a type that exists, into two locals.
            unsafe {
                pg_sys::getTypeBinaryInputInfo(attribute.atttypid, &mut function, &mut reader.io_param);
            }
        } else {
            let unlimited = attribute.atttypmod == -1;
            if matches!(attribute.atttypid, pg_sys::TEXTOID | pg_sys::VARCHAROID) && unlimited {
                reader.how = How::Text;
            }
            // SAFETY: as above.
            unsafe { pg_sys::getTypeInputInfo(attribute.atttypid, &mut function, &mut reader.io_param) };
        }
        // SAFETY: the function was just found. What it keeps for itself is in the current context,
        // and so is what is kept for it there.
        unsafe { pg_sys::fmgr_info(function, &mut reader.function) };
        Some(reader)
    }

    /// Makes a value; `None` stands for NULL, given or returned.
    ///
    /// # Safety
    /// For [`super::tuplestore`]: under a guard, and the datum may point into the value, hence is
    /// valid as long as its batch is not touched.
    pub(crate) unsafe fn read(
        &mut self,
        value: Option<Value<'_>>,
    ) -> Result<Option<pg_sys::Datum>, MalformedValue> {
        let Some(value) = value else {
            if self.how == How::Input {
                // SAFETY: as below. A domain may have something against NULL.
                unsafe {
                    InputFunctionCall(&mut self.function, std::ptr::null_mut(), self.io_param, self.typmod)
                };
            }
            return Ok(None);
        };
        let datum = match self.how {
            // SAFETY: the function is that of the type; the text ends with a NUL byte.
            How::Input => unsafe {
                let text = value.with_nul().as_mut_ptr().cast();
                InputFunctionCall(&mut self.function, text, self.io_param, self.typmod)
            },
            How::Text => text(value.with_margins()),
            // SAFETY: the function is that of the type.
            How::Receive => unsafe { self.receive(value.with_nul())? },
            How::Bool => pg_sys::Datum::from(array::<1>(&value)? != [0]),
            How::Int2 => pg_sys::Datum::from(i16::from_be_bytes(array(&value)?)),
            How::Int4 => pg_sys::Datum::from(i32::from_be_bytes(array(&value)?)),
            How::Int8 => pg_sys::Datum::from(i64::from_be_bytes(array(&value)?)),
            How::Float4 => float4(array(&value)?),
            How::Float8 => float8(array(&value)?),
            How::Float4Array => {
                let bytes = value.with_nul();
                each_element(bytes, |element: [u8; 4]| {
                    f32::from_be_bytes(element).is_nan().then_some(f32::NAN.to_be_bytes())
                });
                // SAFETY: the function is that of the type.
                unsafe { self.receive(bytes)? }
            }
            How::Float8Array => {
                let bytes = value.with_nul();
                each_element(bytes, |element: [u8; 8]| {
                    f64::from_be_bytes(element).is_nan().then_some(f64::NAN.to_be_bytes())
                });
                // SAFETY: the function is that of the type.
                unsafe { self.receive(bytes)? }
            }
            How::Date => date(array(&value)?)?,
            How::Time => time(array(&value)?)?,
            How::Timestamp => timestamp(array(&value)?)?,
            How::Uuid => {
                array::<16>(&value)?;
                // Passed by reference, aligned to one byte.
                pg_sys::Datum::from(value.with_nul().as_mut_ptr())
            }
            How::Bytea => varlena(value.with_margins()),
            How::Numeric => {
                let with_margins = value.with_margins();
                match numeric(with_margins) {
                    Some(datum) => datum,
                    None => {
                        let bytes = with_margins.get_mut(1..).ok_or(MalformedValue)?;
                        // SAFETY: the function is that of the type.
                        unsafe { self.receive(bytes)? }
                    }
                }
            }
        };
        Ok(Some(datum))
    }

    /// Makes a value by the type's receive function.
    ///
    /// # Safety
    /// As [`ColumnReader::read`].
    unsafe fn receive(&mut self, with_nul: &mut [u8]) -> Result<pg_sys::Datum, MalformedValue> {
        let len = i32::try_from(with_nul.len()).map_err(|_| MalformedValue)?;
        let mut message = pg_sys::StringInfoData {
            data: with_nul.as_mut_ptr().cast(),
            len: len - 1,
            maxlen: len,
            cursor: 0,
        };
        // SAFETY: the function is that of the type; the message is one as fmgr.c and array_recv make
        // them, with a NUL byte behind its end.
        let datum =
            unsafe { ReceiveFunctionCall(&mut self.function, &mut message, self.io_param, self.typmod) };
        if message.cursor == message.len { Ok(datum) } else { Err(MalformedValue) }
    }
}

impl How {
    fn of_binary(attribute: &pg_sys::FormData_pg_attribute) -> How {
        match attribute.atttypid {
            pg_sys::BOOLOID => How::Bool,
            pg_sys::INT2OID => How::Int2,
            pg_sys::INT4OID | pg_sys::OIDOID => How::Int4,
            pg_sys::INT8OID => How::Int8,
            pg_sys::FLOAT4OID => How::Float4,
            pg_sys::FLOAT8OID => How::Float8,
            pg_sys::FLOAT4ARRAYOID => How::Float4Array,
            pg_sys::FLOAT8ARRAYOID => How::Float8Array,
            pg_sys::DATEOID => How::Date,
            pg_sys::TIMEOID => How::Time,
            pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => How::Timestamp,
            pg_sys::UUIDOID => How::Uuid,
            pg_sys::BYTEAOID => How::Bytea,
            pg_sys::NUMERICOID if attribute.atttypmod == -1 => How::Numeric,
            _ => How::Receive,
        }
    }
}

fn array<const N: usize>(value: &Value<'_>) -> Result<[u8; N], MalformedValue> {
    value.bytes().try_into().map_err(|_| MalformedValue)
}

/// The longest varlena with a header of one byte, that included (VARATT_SHORT_MAX).
const SHORT_MAX: usize = 0x7f;

/// The header of a short varlena (SET_VARSIZE_1B).
fn short_header(len: usize) -> u8 {
    if cfg!(target_endian = "little") { (len as u8) << 1 | 1 } else { len as u8 | 0x80 }
}

/// The text that ends with the first NUL byte, as an input function sees it.
fn text(with_margins: &mut [u8]) -> pg_sys::Datum {
    let text = with_margins.get(1..).and_then(|text| CStr::from_bytes_until_nul(text).ok());
    let len = text.map_or(0, |text| text.to_bytes().len());
    varlena(with_margins.get_mut(..len + 2).unwrap_or_default())
}

/// The bytes between the margins as a varlena.
fn varlena(with_margins: &mut [u8]) -> pg_sys::Datum {
    // The two margins are one more byte than the header.
    let len = with_margins.len().saturating_sub(1);
    match with_margins {
        // A short one may begin anywhere.
        [header, ..] if len <= SHORT_MAX => {
            *header = short_header(len);
            pg_sys::Datum::from(with_margins.as_mut_ptr())
        }
        [_, value @ .., _] => {
            // SAFETY: copies the value into new memory of the current context.
            unsafe { cstring_to_text_with_len(value.as_ptr().cast(), value.len() as i32).into() }
        }
        _ => pg_sys::Datum::from(0),
    }
}

fn float4(bytes: [u8; 4]) -> pg_sys::Datum {
    let value = f32::from_be_bytes(bytes);
    let value = if value.is_nan() { f32::NAN } else { value };
    pg_sys::Datum::from(value.to_bits())
}

fn float8(bytes: [u8; 8]) -> pg_sys::Datum {
    let value = f64::from_be_bytes(bytes);
    let value = if value.is_nan() { f64::NAN } else { value };
    pg_sys::Datum::from(value.to_bits())
}

/// Days since 2000; source: datatype/timestamp.h.
fn date(bytes: [u8; 4]) -> Result<pg_sys::Datum, MalformedValue> {
    const MIN: i32 = -2_451_545;
    const END: i32 = 2_147_483_494 + MIN;
    match i32::from_be_bytes(bytes) {
        days @ (i32::MIN | i32::MAX | MIN..END) => Ok(pg_sys::Datum::from(days)),
        _ => Err(MalformedValue),
    }
}

/// Microseconds since midnight.
fn time(bytes: [u8; 8]) -> Result<pg_sys::Datum, MalformedValue> {
    match i64::from_be_bytes(bytes) {
        time @ 0..=86_400_000_000 => Ok(pg_sys::Datum::from(time)),
        _ => Err(MalformedValue),
    }
}

/// Microseconds since 2000; source: datatype/timestamp.h.
fn timestamp(bytes: [u8; 8]) -> Result<pg_sys::Datum, MalformedValue> {
    const MIN: i64 = -211_813_488_000_000_000;
    const END: i64 = 9_223_371_331_200_000_000;
    match i64::from_be_bytes(bytes) {
        time @ (i64::MIN | i64::MAX | MIN..END) => Ok(pg_sys::Datum::from(time)),
        _ => Err(MalformedValue),
    }
}

/// Replaces elements of an array as it is sent, of a type with values of `N` bytes. What is no array
/// is for its receive function to find.
fn each_element<const N: usize>(bytes: &mut [u8], replace: impl Fn([u8; N]) -> Option<[u8; N]>) {
    let Some((dimensions, _)) = bytes.split_first_chunk::<4>() else { return };
    // Number of dimensions, flags, element type; for each dimension its length and lower bound.
    let begin = (u32::from_be_bytes(*dimensions) as usize).saturating_mul(8).saturating_add(12);
    let mut rest = bytes.get_mut(begin..).unwrap_or_default();
    while let Some((len, behind)) = rest.split_first_chunk_mut::<4>() {
        // -1 is NULL.
        let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0);
        let Some((element, behind)) = behind.split_at_mut_checked(len) else { return };
        if let Ok(element) = <&mut [u8; N]>::try_from(element)
            && let Some(other) = replace(*element)
        {
            *element = other;
        }
        rest = behind;
    }
}

/// A numeric in the short form in which nearly all are stored (NumericShort in numeric.c), made in
/// place of what was sent: groups of four decimal digits, without leading and trailing zeros. `None` for any other,
/// and for what is malformed; then nothing has changed.
fn numeric(with_margins: &mut [u8]) -> Option<pg_sys::Datum> {
    let value = with_margins.get(1..with_margins.len() - 1)?;
    let (header, digits) = value.split_first_chunk::<8>()?;
    let [count, weight, sign, scale] =
        [0, 2, 4, 6].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
    let negative = match sign {
        0 => 0,
        0x4000 => 0x2000,
        _ => return None,
    };
    let (groups, []) = digits.as_chunks::<2>() else { return None };
    if usize::from(count) != groups.len() || scale > 0x3f {
        return None;
    }
    // A sum of few digits more than the scale shows would have to be cut.
    let weight = i32::from(weight as i16);
    let after_point = i32::from(count) - 1 - weight;
    let hidden = 4 * after_point - i32::from(scale);
    let mut leading = 0;
    let mut len = 0;
    for (at, group) in groups.iter().enumerate() {
        let group = u16::from_be_bytes(*group);
        if group > 9999 {
            return None;
        }
        if group != 0 {
            len = at + 1;
        } else if len == 0 {
            leading += 1;
        }
    }
    let last = groups.last().map_or(0, |group| u16::from_be_bytes(*group));
    match hidden {
        ..=0 => {}
        1 if last % 10 == 0 => {}
        2 if last % 100 == 0 => {}
        3 if last % 1000 == 0 => {}
        _ => return None,
    }
    if len == 0 {
        leading = 0;
    }
    let (weight, negative) = if len == 0 { (0, 0) } else { (weight - leading as i32, negative) };
    if !(-0x40..=0x3f).contains(&weight) || 3 + 2 * (len - leading) > SHORT_MAX {
        return None;
    }
    let weight = (weight & 0x3f) as u16 | if weight < 0 { 0x40 } else { 0 };
    let stored = 0x8000 | negative | scale << 7 | weight;
    // The free byte, what was sent before the groups, and the leading zeros.
    let first = 1 + 8 + 2 * leading;
    let end = 1 + 8 + 2 * len.max(leading);
    for group in with_margins.get_mut(first..end)?.as_chunks_mut::<2>().0 {
        *group = u16::from_be_bytes(*group).to_ne_bytes();
    }
    let begin = first - 3;
    let made = with_margins.get_mut(begin..end)?;
    let len = made.len();
    if let [varlena, a, b, ..] = made {
        *varlena = short_header(len);
        [*a, *b] = stored.to_ne_bytes();
    }
    Some(pg_sys::Datum::from(made.as_mut_ptr()))
}
