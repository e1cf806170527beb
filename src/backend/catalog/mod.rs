//! What the catalogs hold: roles, foreign servers, relations; and when that changes.

pub(crate) mod changes;
pub(crate) mod foreign_servers;
pub(crate) mod relation;
pub(crate) mod role_hooks;
pub(crate) mod role_statements;
pub(crate) mod roles;
