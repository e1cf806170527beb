//! The set-up of the demo and the benchmarks.

use crate::cluster::{Cluster, ClusterBuilder};
use crate::moto::Moto;
use std::sync::OnceLock;
use std::thread;

/// A Postgres with the extension, a second one to connect to, and a Secrets Manager.
#[derive(Debug)]
pub struct Stage {
    /// The Postgres with the extension.
    pub local: Cluster,
    /// The Postgres to connect to, with the demo's tables in `testdb`.
    pub remote: Cluster,
    /// The Secrets Manager.
    pub moto: Moto,
}

impl Stage {
    /// Start all three. The library is loaded at its first use.
    pub fn start() -> Self {
        Self::start_with(|local| local)
    }

    /// Start all three, with the library loaded with the server, and roles that can log in over TCP.
    pub fn preloaded() -> Self {
        Self::start_with(|local| {
            local
                .preload(true)
                .tcp()
                .auth("host", "all", "scram-sha-256")
                .conf("secretlink.advertised_host = '127.0.0.1'")
        })
    }

    fn start_with(make: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        thread::scope(|scope| {
            let remote = scope.spawn(|| Cluster::remote().demo_tables().start());
            let moto = Moto::start();
            let local = make(Cluster::local(&moto)).start();
            let remote = remote.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Self { local, remote, moto }
        })
    }

    /// The one that the tests of a process share. Never dropped: guardians end its servers when the
    /// process ends.
    pub fn shared() -> &'static Self {
        static STAGE: OnceLock<Stage> = OnceLock::new();
        STAGE.get_or_init(Self::start)
    }
}
