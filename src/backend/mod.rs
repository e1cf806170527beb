//! Everything that touches Postgres's process: the only rooms where most `unsafe` is needed.

pub(crate) mod catalog;
pub(crate) mod error;
pub(crate) mod process;
pub(crate) mod result;
pub(crate) mod text;
