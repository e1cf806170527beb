//! What contrib dblink does with a session, and with local tables.

pub(crate) mod collect;
pub(crate) mod cursor;
pub(crate) mod error;
pub(crate) mod local_tables;
