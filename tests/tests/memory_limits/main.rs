//! Sizes that others decide, and memory that runs out: an ERROR each time, and nobody else is hurt.

mod first_error;
