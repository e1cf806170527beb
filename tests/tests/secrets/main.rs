//! Reading and writing secrets through SQL, and what every failure of AWS looks like there.
//!
//! The tests share one stage; each has secrets and roles of its own.

mod credentials;
mod describing;
mod encodings;
mod failures;
mod foreign_servers;
mod functions;
mod reading;
mod session;
mod settings;
mod writing;
