//! Connecting: what a connection string says is done as libpq does it. Wherever libpq 15 knows the
//! keyword, contrib dblink is asked to do the same in the same backend.

mod authentication;
mod authority;
mod client_certificates;
mod conninfo;
mod failures;
mod home;
mod hostile_texts;
mod hostile_tls;
mod hosts;
mod lab;
mod min_sslmode;
mod private_files;
mod relay;
mod rules;
mod scram_keys;
mod server_certificates;
mod servers;
mod sockets;
mod sslmode;
mod tls_table;
