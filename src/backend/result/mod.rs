//! From a remote server's rows to a result of SQL.

pub mod arguments;
pub mod column;
pub mod error_text;
pub mod guc_scope;
pub mod tuplestore;
