//! Processes of a server that are no ordinary backends.

mod other_backends;
mod single_user;
