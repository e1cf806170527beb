//! SQL about rows of local tables, for the functions of contrib dblink that write it.

use secretlink_core::OutOfMemory;
use secretlink_core::memory::{concat, join};
use std::ffi::CString;

use crate::backend::catalog::relation::{Column, KeyNumbers, KeyValues, Relation, literal};
use crate::backend::text::ServerText;
use crate::dblink::error::DblinkError;

/// An INSERT of the row found by the source key, with the target key in its place.
///
/// # Errors
/// If the key does not fit the table or the values, or there is not one such row.
pub(crate) fn insert(
    relname: &ServerText,
    numbers: &KeyNumbers,
    count: i32,
    source: &KeyValues,
    target: &KeyValues,
) -> Result<ServerText, DblinkError> {
    let relation = Relation::open(relname);
    let key = key(&relation, numbers, count)?;
    let values = new_values(&relation, &key, source, target)?;
    let columns: Vec<_> = relation.columns().iter().map(Column::quoted).collect();
    Ok(ServerText(concat(&[
        b"INSERT INTO ",
        &relation.name()[..],
        b"(",
        &columns.join(&b","[..]),
        b") VALUES(",
        &join(&values, b",")?,
        b")",
    ])?))
}

/// A DELETE of the row with the target key.
///
/// # Errors
/// If the key does not fit the table or the values, or there is not one such row.
pub(crate) fn delete(
    relname: &ServerText,
    numbers: &KeyNumbers,
    count: i32,
    target: &KeyValues,
) -> Result<ServerText, DblinkError> {
    let relation = Relation::open(relname);
    let key = key(&relation, numbers, count)?;
    if target.0.len() != key.len() {
        return Err(DblinkError::TargetKeyLength);
    }
    let condition = condition(&relation, &key, target)?;
    Ok(ServerText(concat(&[b"DELETE FROM ", &relation.name()[..], b" WHERE ", &condition])?))
}

/// An UPDATE that makes the row with the target key what the row found by the source key is.
///
/// # Errors
/// If the key does not fit the table or the values, or there is not one such row.
pub(crate) fn update(
    relname: &ServerText,
    numbers: &KeyNumbers,
    count: i32,
    source: &KeyValues,
    target: &KeyValues,
) -> Result<ServerText, DblinkError> {
    let relation = Relation::open(relname);
    let key = key(&relation, numbers, count)?;
    let values = new_values(&relation, &key, source, target)?;
    let assign = |(column, value): (&Column, &Vec<u8>)| concat(&[&column.quoted()[..], b" = ", value]);
    let assignments: Vec<_> = relation.columns().iter().zip(&values).map(assign).collect::<Result<_, _>>()?;
    // A large value is there once at a time, and once in what it goes into.
    drop(values);
    let assignments = join(&{ assignments }, b", ")?;
    let condition = condition(&relation, &key, target)?;
    Ok(ServerText(concat(&[
        b"UPDATE ",
        &relation.name()[..],
        b" SET ",
        &assignments,
        b" WHERE ",
        &condition,
    ])?))
}

/// The key's columns, as places in `relation.columns()`, of the numbers given: at most `count`.
fn key(relation: &Relation, numbers: &KeyNumbers, count: i32) -> Result<Vec<usize>, DblinkError> {
    let count = usize::try_from(count).unwrap_or(0).min(numbers.0.len());
    if count == 0 {
        return Err(DblinkError::NoKeyAttributes);
    }
    let place = |&number: &i16| {
        let place = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        place.filter(|&n| n < relation.columns().len()).ok_or(DblinkError::InvalidAttributeNumber(number))
    };
    numbers.0[..count].iter().map(place).collect()
}

/// The values, as literals, of the row found by the source key, with the target key in its place.
fn new_values(
    relation: &Relation,
    key: &[usize],
    source: &KeyValues,
    target: &KeyValues,
) -> Result<Vec<Vec<u8>>, DblinkError> {
    if source.0.len() != key.len() {
        return Err(DblinkError::SourceKeyLength);
    }
    if target.0.len() != key.len() {
        return Err(DblinkError::TargetKeyLength);
    }
    let row = relation.row(key, source)?;
    let value = |(column, value): (usize, &_)| {
        // Of a column given twice the first value counts.
        let replaced = key.iter().position(|&k| k == column).map(|n| &target.0[n]);
        literal(replaced.unwrap_or(value).as_deref())
    };
    Ok(row.iter().enumerate().map(value).collect::<Result<_, _>>()?)
}

/// What finds the target row on the other side.
fn condition(relation: &Relation, key: &[usize], target: &KeyValues) -> Result<Vec<u8>, OutOfMemory> {
    let condition = |(&column, value): (&usize, &Option<CString>)| {
        let name = relation.columns()[column].quoted();
        match value {
            Some(value) => concat(&[&name[..], b" = ", &literal(Some(value))?]),
            None => concat(&[&name[..], b" IS NULL"]),
        }
    };
    join(&key.iter().zip(&target.0).map(condition).collect::<Result<Vec<_>, _>>()?, b" AND ")
}
