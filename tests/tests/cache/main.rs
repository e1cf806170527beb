//! The server's cache of secrets, on real servers: what it saves, what it must not hide, and what becomes
//! of it when something breaks.

mod away;
mod functions;
mod ground;
mod hits;
mod interrupted;
mod load;
mod memory;
mod password_changes;
mod reconnecting;
mod renewal;
mod rotation;
mod sharing;
mod storm;
