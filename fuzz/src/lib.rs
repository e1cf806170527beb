//! What the fuzz targets do with their bytes, and valid inputs to start from.
//!
//! One copy for both users: the libFuzzer targets in `fuzz_targets/`, and the bounded run of
//! `cargo test` (`crates/remote/tests/fuzz.rs`), which includes this file as a module. Hence paths
//! begin with `super`, not `crate`.

pub mod answer;
pub mod conninfo;
pub mod driven;
pub mod login;
pub mod rows;
pub mod server;
pub mod wire;

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// What `cargo fuzz run` calls it.
    pub name: &'static str,
    /// Panics if `data` shows a fault.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many runs of other targets one of this takes.
    pub cost: usize,
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    Target { name: "conninfo", run: conninfo::run, seeds: conninfo::seeds, cost: 1 },
    Target { name: "rows", run: rows::run, seeds: rows::seeds, cost: 1 },
    Target { name: "answer", run: answer::run, seeds: answer::seeds, cost: 1 },
    Target { name: "driven", run: driven::run, seeds: driven::seeds, cost: 100 },
    Target { name: "login", run: login::run, seeds: login::seeds, cost: 1 },
];

/// A current-thread runtime, as on the I/O thread; one for each thread, as making one is slow.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
