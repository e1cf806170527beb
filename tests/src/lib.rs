//! What the end-to-end tests, the demo and the benchmarks stand on: throw-away Postgres clusters,
//! the Secrets Manager stand-in moto, network faults, and a look into server processes.
//!
//! Everything started here ends with its value, and also when the process that started it dies
//! (see [`Guardian`]). The harness panics, with a message that says what was missing, where a test
//! could do nothing else; there are no errors to handle.

mod cluster;
mod db_error;
mod distance;
mod gateway;
mod guardian;
mod hostile_server;
mod http_message;
mod memory;
mod moto;
mod name_server;
mod never_answers;
mod os_user;
mod poll;
mod port;
mod postgres_bin;
mod private_file;
mod process;
mod proxy;
mod psql;
mod scripted_endpoint;
mod secrets_api;
mod secrets_relay;
mod server_relay;
mod stage;
mod temp_dir;
mod template;
mod tls;
mod token_verifier;
mod version_1;
mod witness;
mod workshop;

/// The messages of a server, as it should send them.
#[path = "../../fuzz/src/server.rs"]
pub mod server_messages;

pub use cluster::{Cluster, ClusterBuilder, SingleUser, StopMode};
pub use db_error::db_error;
pub use distance::Distance;
pub use gateway::Gateway;
pub use guardian::Guardian;
pub use hostile_server::{HostileServer, HostileSession};
pub use memory::MemoryHit;
pub use moto::Moto;
pub use name_server::NameServer;
pub use never_answers::NeverAnswers;
pub use os_user::OsUser;
pub use poll::eventually;
pub use port::free_port;
pub use postgres_bin::PostgresBin;
pub use private_file::private_file;
pub use process::{Process, backend_pid};
pub use proxy::{Mode, Proxy};
pub use psql::PsqlOutput;
pub use scripted_endpoint::ScriptedEndpoint;
pub use secrets_api::{ApiError, SecretsApi};
pub use secrets_relay::{Fault, SecretsRelay, SecretsRequest};
pub use server_relay::{Said, ServerRelay};
pub use stage::Stage;
pub use temp_dir::TempDir;
pub use tls::TlsFiles;
pub use token_verifier::{TokenVerifier, Verdict};
pub use version_1::{Issuer, version_1};
pub use witness::Witness;
pub use workshop::Workshop;

/// A password nobody can guess, made only of letters and digits.
pub fn random_password() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(24).collect()
}

/// A name that begins with `name` and that no other test uses, in lower case.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", random_password().to_lowercase())
}
