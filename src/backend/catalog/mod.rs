//! What the catalogs hold: roles, foreign servers, relations; and when that changes.

pub mod changes;
pub mod foreign_servers;
pub mod relation;
pub mod role_hooks;
pub mod role_statements;
pub mod roles;
