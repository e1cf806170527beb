//! No secret in any output, and none left in memory.
//!
//! The password of each trial is a random marker that is nowhere else. It reaches the servers under
//! test in ways that they do not repeat by themselves: as a secret, or as a bind parameter.
//!
//! The trials share their servers; each has a session, secrets and remote roles of its own.

mod arguments;
mod connecting;
mod ground;
mod interrupts;
mod memory;
mod trial;
mod values;
mod watch;
