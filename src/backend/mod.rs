//! Everything that touches Postgres's process: the only rooms where most `unsafe` is needed.

pub mod arguments;
mod column;
pub mod error_text;
pub mod fd;
pub mod foreign_server;
pub mod guc_scope;
pub mod io;
pub mod relation;
pub mod report;
pub mod role;
pub mod text;
pub mod tuplestore;
mod wait;

pub use wait::WaitEvent;
