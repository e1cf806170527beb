//! How a remote server's rows become a result of SQL.

pub(crate) mod arguments;
pub(crate) mod column;
pub(crate) mod error_text;
pub(crate) mod guc_scope;
pub(crate) mod tuplestore;
