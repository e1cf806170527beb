//! Secrets as the backend sees them: the client that asks AWS, the cache in front of it, reading and writing.

pub mod cache;
pub mod client;
pub mod error;
pub mod read;
pub mod watch;
pub mod write;
