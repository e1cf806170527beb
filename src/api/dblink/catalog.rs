//! The functions of contrib dblink that need no connection: what they know is in the local catalogs.
//!
//! Source: PostgreSQL documentation, the dblink chapter, and contrib/dblink/dblink.c.

use pgrx::prelude::*;

use crate::backend::catalog::relation::{self, Column, KeyNumbers, KeyValues, Relation, literal};
use crate::backend::process::report::OrRaise;
use crate::backend::text::ServerText;
use crate::error::Error;

extension_sql!(
    "CREATE TYPE dblink_pkey_results AS (position int, colname text);",
    name = "dblink_pkey_results"
);

#[pg_extern(
    sql = r#"
CREATE FUNCTION dblink_get_pkey(relname text) RETURNS SETOF dblink_pkey_results
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#,
    requires = ["dblink_pkey_results"]
)]
fn dblink_get_pkey(
    relname: ServerText,
) -> TableIterator<'static, (name!(position, i32), name!(colname, ServerText))> {
    TableIterator::new((1..).zip(Relation::open(&relname).primary_key()))
}

#[pg_extern(volatile, parallel_restricted, strict)]
fn dblink_build_sql_insert(
    relname: ServerText,
    primary_key_attnums: KeyNumbers,
    num_primary_key_atts: i32,
    src_pk_att_vals_array: KeyValues,
    tgt_pk_att_vals_array: KeyValues,
) -> ServerText {
    let insert = || -> Result<ServerText, Error> {
        let relation = Relation::open(&relname);
        let key = key(&relation, &primary_key_attnums, num_primary_key_atts)?;
        let values = new_values(&relation, &key, &src_pk_att_vals_array, &tgt_pk_att_vals_array)?;
        let columns: Vec<_> = relation.columns().iter().map(Column::quoted).collect();
        Ok(ServerText(
            [
                b"INSERT INTO ",
                &relation.name()[..],
                b"(",
                &columns.join(&b","[..]),
                b") VALUES(",
                &values.join(&b","[..]),
                b")",
            ]
            .concat(),
        ))
    };
    insert().or_raise()
}

#[pg_extern(volatile, parallel_restricted, strict)]
fn dblink_build_sql_delete(
    relname: ServerText,
    primary_key_attnums: KeyNumbers,
    num_primary_key_atts: i32,
    tgt_pk_att_vals_array: KeyValues,
) -> ServerText {
    let delete = || -> Result<ServerText, Error> {
        let relation = Relation::open(&relname);
        let key = key(&relation, &primary_key_attnums, num_primary_key_atts)?;
        if tgt_pk_att_vals_array.0.len() != key.len() {
            return Err(Error::TargetKeyLength);
        }
        let condition = condition(&relation, &key, &tgt_pk_att_vals_array);
        Ok(ServerText([b"DELETE FROM ", &relation.name()[..], b" WHERE ", &condition].concat()))
    };
    delete().or_raise()
}

#[pg_extern(volatile, parallel_restricted, strict)]
fn dblink_build_sql_update(
    relname: ServerText,
    primary_key_attnums: KeyNumbers,
    num_primary_key_atts: i32,
    src_pk_att_vals_array: KeyValues,
    tgt_pk_att_vals_array: KeyValues,
) -> ServerText {
    let update = || -> Result<ServerText, Error> {
        let relation = Relation::open(&relname);
        let key = key(&relation, &primary_key_attnums, num_primary_key_atts)?;
        let values = new_values(&relation, &key, &src_pk_att_vals_array, &tgt_pk_att_vals_array)?;
        let assign = |(column, value): (&Column, &Vec<u8>)| [&column.quoted()[..], b" = ", value].concat();
        let assignments: Vec<_> = relation.columns().iter().zip(&values).map(assign).collect();
        let condition = condition(&relation, &key, &tgt_pk_att_vals_array);
        Ok(ServerText(
            [
                b"UPDATE ",
                &relation.name()[..],
                b" SET ",
                &assignments.join(&b", "[..]),
                b" WHERE ",
                &condition,
            ]
            .concat(),
        ))
    };
    update().or_raise()
}

/// NULL where no client sent a statement.
#[pg_extern(volatile, parallel_restricted)]
fn dblink_current_query() -> Option<ServerText> {
    relation::current_query()
}

/// The key's columns, as places in `relation.columns()`, of the numbers given: at most `count`.
fn key(relation: &Relation, numbers: &KeyNumbers, count: i32) -> Result<Vec<usize>, Error> {
    let count = usize::try_from(count).unwrap_or(0).min(numbers.0.len());
    if count == 0 {
        return Err(Error::NoKeyAttributes);
    }
    let place = |&number: &i16| {
        let place = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        place.filter(|&n| n < relation.columns().len()).ok_or(Error::InvalidAttributeNumber(number))
    };
    numbers.0[..count].iter().map(place).collect()
}

/// The values, as literals, of the row found by the source key, with the target key in its place.
fn new_values(
    relation: &Relation,
    key: &[usize],
    source: &KeyValues,
    target: &KeyValues,
) -> Result<Vec<Vec<u8>>, Error> {
    if source.0.len() != key.len() {
        return Err(Error::SourceKeyLength);
    }
    if target.0.len() != key.len() {
        return Err(Error::TargetKeyLength);
    }
    let row = relation.row(key, source)?;
    let value = |(column, value): (usize, &_)| {
        // Of a column given twice the first value counts.
        let replaced = key.iter().position(|&k| k == column).map(|n| &target.0[n]);
        literal(replaced.unwrap_or(value).as_deref())
    };
    Ok(row.iter().enumerate().map(value).collect())
}

/// What finds the target row on the other side.
fn condition(relation: &Relation, key: &[usize], target: &KeyValues) -> Vec<u8> {
    let conditions = key.iter().zip(&target.0).map(|(&column, value)| {
        let name = relation.columns()[column].quoted();
        match value {
            Some(value) => [&name[..], b" = ", &literal(Some(value))].concat(),
            None => [&name[..], b" IS NULL"].concat(),
        }
    });
    conditions.collect::<Vec<_>>().join(&b" AND "[..])
}
