//! Everything that touches Postgres's process: the only rooms where most `unsafe` is needed.

pub mod arguments;
pub mod catalog_changes;
mod column;
pub mod error_text;
pub mod fd;
pub mod foreign_server;
pub mod guc_scope;
pub mod io;
pub mod relation;
pub mod report;
pub mod role;
pub mod role_catalog;
pub mod role_hooks;
pub mod server;
pub mod shared_memory;
pub mod shared_words;
pub mod text;
pub mod transaction;
pub mod tuplestore;
mod wait;
pub mod worker;

pub use wait::WaitEvent;
