//! Rotation: passwords of roles of other servers and of this one, changed by background workers.
//!
//! Most tests share two servers and have roles and secrets of their own; the relay in front of Secrets
//! Manager mistreats the requests for one secret alone.

mod alternating;
mod company;
mod crashes;
mod failover;
mod ground;
mod logins;
mod managed;
mod oracle;
mod refusals;
mod rival;
mod schedules;
mod secrecy;
mod single_user;
mod storm;
mod taken_away;
