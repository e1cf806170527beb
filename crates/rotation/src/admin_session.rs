//! The session that gives a role its new password: the login of the secret itself, or its master's.

use secretlink_core::Secret;
use secretlink_remote::connection::Connection;
use secretlink_remote::verifier::{DEFAULT_ITERATIONS, MAX_ITERATIONS};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

use crate::Trouble;
use crate::statement::literal;

/// The first number of the advisory lock on a role: "slro".
const LOCK: u32 = 0x736c_726f;
/// How long to wait between two tries to get it.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// A session that may change the role's password.
pub(crate) struct AdminSession {
    /// Nobody locks it: it makes the session one that a run can have while others look at the run.
    connection: Mutex<Box<Connection>>,
    /// The server's `server_version_num`.
    pub version: u32,
    /// How many rounds its verifiers have.
    pub iterations: NonZeroU32,
}

impl AdminSession {
    /// Takes over a session whose login is over, and looks at the server. `role` is the one that must be
    /// able to log in afterwards.
    ///
    /// # Errors
    /// If passwords cannot be changed there, or would be of no use.
    pub(crate) async fn begin(connection: Box<Connection>, role: &str) -> Result<AdminSession, Trouble> {
        let host = connection.facts().host.clone();
        let mut session =
            AdminSession { connection: Mutex::new(connection), version: 0, iterations: DEFAULT_ITERATIONS };
        // A clone acts as its base role, which may not alter it. The search_path may have anybody's
        // operators in it. A change that the server could forget would be worse than none. A session that blocks
        // the statement keeps one of the few rotation workers busy.
        let prepare = "SET search_path TO pg_catalog, pg_temp; SET ROLE NONE; SET lock_timeout TO '10s'; \
             SET statement_timeout TO '60s'; SET default_transaction_read_only TO off; \
             SELECT current_setting('server_version_num'), pg_is_in_recovery(), \
                 coalesce(current_setting('scram_iterations', true), ''), \
                 CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') \
                     THEN set_config('synchronous_commit', 'on', false) END";
        let rows = session.rows("prepare the session", prepare).await?;
        let field = |place: usize| rows.last().and_then(|row| row.get(place)?.clone()).unwrap_or_default();
        session.version = field(0).parse().unwrap_or_default();
        session.iterations =
            field(2).parse().map_or(DEFAULT_ITERATIONS, |asked: NonZeroU32| asked.min(MAX_ITERATIONS));
        if field(1) == "t" {
            return Err(Trouble::Standby { host });
        }
        let valid = format!(
            "SELECT coalesce(rolvaliduntil <= now(), false) FROM pg_roles WHERE rolname = {}",
            literal(role)
        );
        if session.value("look at the role", &valid).await?.as_deref() == Some("t") {
            return Err(Trouble::Expired { role: role.to_owned() });
        }
        Ok(session)
    }

    /// Keeps other rotations of the role away until the session ends, and with it whatever it has sent:
    /// the next holder of the lock knows that nothing of the former holder can arrive any more.
    ///
    /// # Errors
    /// [`Trouble::Busy`] if somebody else keeps it beyond `deadline`.
    pub(crate) async fn lock(&mut self, role: &str, deadline: Instant) -> Result<(), Trouble> {
        // FNV-1a.
        let hash = role
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let sql = format!("SELECT pg_try_advisory_lock({}, {})", LOCK.cast_signed(), hash.cast_signed());
        while self.value("lock the role", &sql).await?.as_deref() != Some("t") {
            if Instant::now() + LOCK_POLL > deadline {
                return Err(Trouble::Busy { role: role.to_owned() });
            }
            sleep(LOCK_POLL).await;
        }
        Ok(())
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a query for text.
    pub(crate) async fn rows(
        &mut self,
        what: &'static str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, Trouble> {
        let rows =
            self.connection().rows(sql.as_bytes()).await.map_err(|e| Trouble::of_statement(what, e))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(rows.into_iter().map(|row| row.into_iter().map(|value| value.map(text)).collect()).collect())
    }

    /// Runs a query for one value.
    pub(crate) async fn value(&mut self, what: &'static str, sql: &str) -> Result<Option<String>, Trouble> {
        let rows = self.rows(what, sql).await?;
        Ok(rows.into_iter().next_back().and_then(|row| row.into_iter().next_back()?))
    }

    /// Runs statements, all of them or none.
    ///
    /// # Errors
    /// [`Trouble::Refused`] if none was carried out; [`Trouble::Lost`] if that is not known.
    pub(crate) async fn set(&mut self, statements: &Secret) -> Result<(), Trouble> {
        let done = self.connection().rows(statements.expose()).await;
        done.map(drop).map_err(|e| Trouble::of_statement("set the password", e))
    }

    /// Ends the session and lets go of the lock.
    pub(crate) async fn close(self) {
        self.connection.into_inner().unwrap_or_else(PoisonError::into_inner).close().await;
    }
}
