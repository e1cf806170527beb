//! The process that the code runs in: waiting, raising, transactions, memory that processes share, and
//! background workers.

pub mod caught;
pub mod fd;
pub mod io;
pub mod log_text;
pub mod panics;
pub mod report;
pub mod server;
pub mod shared_block;
pub mod shared_memory;
pub mod shared_slots;
pub mod short_text;
pub mod transaction;
pub mod user;
pub mod wait;
pub mod worker;
