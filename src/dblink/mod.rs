//! What contrib dblink does with a session, and with local tables.

pub mod collect;
pub mod cursor;
pub mod error;
pub mod local_tables;
