//! Everything that touches Postgres's process: the only rooms where most `unsafe` is needed.

pub mod catalog;
pub mod error;
pub mod process;
pub mod result;
pub mod text;
