//! Random bytes of the operating system.

use ring::rand::{SecureRandom, SystemRandom};

use crate::{Report, SqlState};

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not get random numbers from the operating system")]
pub struct NoRandomness;

impl Report for NoRandomness {
    fn sqlstate(&self) -> SqlState {
        SqlState::new("58000")
    }
}

/// Fills `bytes` with random ones, good enough for keys and passwords.
///
/// # Errors
/// If there are none to be had.
pub fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    SystemRandom::new().fill(bytes).map_err(|_| NoRandomness)
}
