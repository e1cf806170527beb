//! As whom AWS is asked, by which way, and `check`.

mod check;
mod ground;
mod private_endpoints;
mod proxies;
mod roles;
