//! The cache of secrets: what is kept and for how long, who fetches and who waits.
//!
//! All of it works on plain memory, which may be shared by the processes of a server, and knows neither
//! Postgres nor AWS. The owner of the memory takes a lock around each call; no call blocks.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod chain;
mod key;
mod policy;
mod seal;
mod shared_error;
mod store;
mod table;

pub use key::{Key, Subject};
pub use policy::{Moment, Timing};
pub use seal::{SealError, Sealer};
pub use shared_error::SharedError;
pub use store::{
    Answer, Ask, Asking, Contents, Failure, Finish, Found, Listed, Look, Named, Store, Ticket, Wanted,
};

#[cfg(test)]
mod tests;
