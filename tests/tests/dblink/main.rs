//! The dblink functions next to those of contrib dblink: the same statements run with both, each in
//! a session and against a remote database of its own, and what they say must be the same.

mod asynchronous;
mod binary;
mod catalog;
mod cluster;
mod connections;
mod cursors;
mod errors;
mod foreign_servers;
mod functions;
mod liar;
mod local_errors;
mod notices;
mod notify;
mod outcome;
mod pair;
mod random_value;
mod results;
mod slow_consumer;
mod values;
