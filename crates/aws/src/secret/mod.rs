//! What a secret is called, what is in it, and what of that leads to a database.

pub(crate) mod database;
pub(crate) mod document;
pub(crate) mod id;
pub(crate) mod value;
pub(crate) mod version;
pub(crate) mod writable;
