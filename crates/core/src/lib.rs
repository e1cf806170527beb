//! What every part of secretlink shares and what knows neither Postgres's backend nor AWS.
//!
//! Everything under `crates/` may run on the I/O thread. None of it can call Postgres, because
//! none of it depends on pgrx: the compiler keeps the rule, not a reviewer.

#![warn(unreachable_pub)]

pub mod channel;
pub mod file;
mod fnv;
pub mod io_thread;
pub mod memory;
mod printable;
pub mod random;
pub mod report;
pub mod secret;
pub mod shared_task;
mod side_by_side;
pub mod waker;

pub use fnv::fnv1a;
pub use memory::OutOfMemory;
pub use printable::{printable, printable_lines};
pub use report::{Report, SqlState};
pub use secret::Secret;
pub use side_by_side::{in_turn, side_by_side};
