//! The foreign data wrapper, and what checks the options of its servers and user mappings.

use pgrx::prelude::*;
use secretlink_remote::conninfo::OptionOf;

use crate::backend::catalog::foreign_servers::OptionList;
use crate::backend::process::report::OrRaise;
use crate::connect::error::ConnectionError;
use crate::connect::foreign_server;

/// contrib dblink's validator, for wrappers made with it.
#[pg_extern(volatile, parallel_safe, strict)]
fn dblink_fdw_validator(options: OptionList, catalog: pg_sys::Oid) {
    foreign_server::validate_for_dblink(&options.0, option_of(catalog)).or_raise();
}

/// The validator of `secretlink_fdw`.
#[pg_extern(volatile, parallel_safe, strict)]
fn secretlink_fdw_validator(options: OptionList, catalog: pg_sys::Oid) {
    match catalog {
        pg_sys::ForeignTableRelationId => Err(ConnectionError::ForeignTable),
        catalog => foreign_server::validate(&options.0, option_of(catalog)),
    }
    .or_raise();
}

/// What Postgres asks how foreign tables are read, for IMPORT FOREIGN SCHEMA too: they are not.
#[pg_extern(sql = r#"
CREATE FUNCTION secretlink_fdw_handler() RETURNS fdw_handler
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn secretlink_fdw_handler(_fcinfo: pg_sys::FunctionCallInfo) {
    Err(ConnectionError::ForeignTable).or_raise()
}

extension_sql!(
    "CREATE FOREIGN DATA WRAPPER secretlink_fdw
        HANDLER secretlink_fdw_handler VALIDATOR secretlink_fdw_validator;",
    name = "secretlink_fdw",
    requires = [secretlink_fdw_handler, secretlink_fdw_validator]
);

/// Whose options are in a catalog; `None` for those of wrappers, tables and columns.
fn option_of(catalog: pg_sys::Oid) -> Option<OptionOf> {
    match catalog {
        pg_sys::ForeignServerRelationId => Some(OptionOf::Server),
        pg_sys::UserMappingRelationId => Some(OptionOf::UserMapping),
        _ => None,
    }
}
