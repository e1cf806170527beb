//! Secrets as the backend sees them: the client that asks AWS, and the cache in front of it.

pub mod cache;
pub mod client;
pub mod error;
pub mod watch;
