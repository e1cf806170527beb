//! Secrets as the backend sees them: the client that asks AWS, the cache in front of it, reading and writing.

pub(crate) mod cache;
pub(crate) mod client;
pub(crate) mod error;
pub(crate) mod read;
pub(crate) mod watch;
pub(crate) mod write;
