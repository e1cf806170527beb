//! Password sync: `ALTER USER` in Postgres and the secret never disagree.
//!
//! Most tests share one server and have roles and secrets of their own; the relay in front of Secrets
//! Manager mistreats the requests for one secret alone. What stops a server has its own.

mod audit;
mod cache;
mod changes;
mod checking;
mod company;
mod connections;
mod contents;
mod crashes;
mod creation;
mod dump;
mod encodings;
mod endings;
mod failover;
mod faults;
mod ground;
mod hashed;
mod hooks;
mod interrupts;
mod labels;
mod many_roles;
mod origins;
mod ownership;
mod pace;
mod preload;
mod random;
mod refusals;
mod renaming;
mod session;
mod standby;
mod synced_role;
mod template;
mod thousand;
mod transactions;
mod upgrade;
mod visibility;
mod waiting;
mod worker;
