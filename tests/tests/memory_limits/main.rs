//! Sizes that others decide, and memory that runs out: an ERROR each time, and nobody else is hurt.

mod arguments;
mod endpoint;
mod first_error;
mod ground;
mod local_rows;
mod messages;
mod squeeze;
