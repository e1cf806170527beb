//! AWS Secrets Manager inside Postgres: read secrets and connect with them, in SQL.
//!
//! `api` holds what SQL sees, `backend` what touches Postgres's process, and the crates under
//! `crates/` everything that runs on the I/O thread and knows no Postgres. See
//! `docs/architecture.md`.

#![warn(unreachable_pub)]

mod api;
mod backend;
mod check;
mod connect;
mod connections;
mod dblink;
mod error;
mod rotation;
mod secrets;
mod session;

mod settings;
mod stats;
mod sync;
mod workers;

use pgrx::prelude::*;
use secretlink_core::memory::{self, Allocator};

use crate::backend::catalog::role_hooks;
use crate::backend::process::{caught, log_text, panics, server};

/// Wipes every Rust allocation when it is freed, so that buffers in which a secret passed through
/// the HTTP client, the TLS library or the SDK do not outlive it. Has a reserve for when there is no more
/// memory.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/finalize.sql", name = "finalize", finalize);

/// Called when the library is loaded, in the postmaster if it is preloaded. Starts no thread: threads
/// do not survive `fork`.
#[allow(non_snake_case)]
#[pg_guard]
pub(crate) extern "C-unwind" fn _PG_init() {
    // Where there is no room, each process tries again before it begins anything.
    let _ = memory::grow_stack();
    panics::init();
    caught::init();
    log_text::init();
    settings::init();
    if server::is_preloading() {
        if server::is_binary_upgrade() {
            // Labels are put back; that is all.
            role_hooks::register_labels();
        } else {
            stats::init();
            secrets::cache::init();
            sync::init();
            rotation::registry::init();
            rotation::restored::note();
            workers::init();
        }
    } else {
        stats::init();
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[path = "../pgrx-tests/mod.rs"]
#[allow(clippy::expect_used, clippy::panic, clippy::unreachable, clippy::unwrap_used)]
mod in_backend_tests;

/// What `cargo pgrx test` asks for.
#[cfg(test)]
pub(crate) mod pg_test {
    /// Called once before the tests.
    pub(crate) fn setup(_options: Vec<&str>) {}

    /// Lines for the test server's postgresql.conf.
    #[must_use]
    pub(crate) fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
