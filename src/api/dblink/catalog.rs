//! The functions of contrib dblink that need no connection: what they know is in the local catalogs.
//!
//! Source: PostgreSQL documentation, the dblink chapter, and contrib/dblink/dblink.c.

use pgrx::prelude::*;

use crate::backend::catalog::relation::{self, KeyNumbers, KeyValues, Relation};
use crate::backend::process::report::OrRaise;
use crate::backend::text::ServerText;
use crate::dblink::local_tables;

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
    local_tables::insert(
        &relname,
        &primary_key_attnums,
        num_primary_key_atts,
        &src_pk_att_vals_array,
        &tgt_pk_att_vals_array,
    )
    .or_raise()
}

#[pg_extern(volatile, parallel_restricted, strict)]
fn dblink_build_sql_delete(
    relname: ServerText,
    primary_key_attnums: KeyNumbers,
    num_primary_key_atts: i32,
    tgt_pk_att_vals_array: KeyValues,
) -> ServerText {
    local_tables::delete(&relname, &primary_key_attnums, num_primary_key_atts, &tgt_pk_att_vals_array)
        .or_raise()
}

#[pg_extern(volatile, parallel_restricted, strict)]
fn dblink_build_sql_update(
    relname: ServerText,
    primary_key_attnums: KeyNumbers,
    num_primary_key_atts: i32,
    src_pk_att_vals_array: KeyValues,
    tgt_pk_att_vals_array: KeyValues,
) -> ServerText {
    local_tables::update(
        &relname,
        &primary_key_attnums,
        num_primary_key_atts,
        &src_pk_att_vals_array,
        &tgt_pk_att_vals_array,
    )
    .or_raise()
}

/// NULL where no client sent a statement.
#[pg_extern(volatile, parallel_restricted)]
fn dblink_current_query() -> Option<ServerText> {
    relation::current_query()
}
