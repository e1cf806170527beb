//! The process that the code runs in: waiting, raising, transactions, memory that processes share, and
//! background workers.

pub(crate) mod caught;
pub(crate) mod fd;
pub(crate) mod io;
pub(crate) mod log_text;
pub(crate) mod panics;
pub(crate) mod report;
pub(crate) mod server;
pub(crate) mod shared_block;
pub(crate) mod shared_memory;
pub(crate) mod shared_slots;
pub(crate) mod short_text;
pub(crate) mod transaction;
pub(crate) mod user;
pub(crate) mod wait;
pub(crate) mod worker;
