//! Who may do what: every way to read a secret, or to make its password go elsewhere, that was not
//! granted, fails.
//!
//! The tests share one stage; each has secrets, servers and roles of its own.

mod dump;
mod functions;
mod ground;
mod names;
mod overriding;
mod roles;
mod shadowing;
