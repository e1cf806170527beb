//! Values in shared memory are encrypted.
//!
//! The key is in the memory of each process, inherited from the one that made it, and never in shared
//! memory. So a value is readable in the memory of the process that uses it, for that moment, and nowhere else:
//! not in an old page of shared memory that went to swap, nor in what a debugger or dump sees of it. It
//! also means that the thread which copies a value out of the cache, under a lock and open to signals,
//! never handles the plain text.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secretlink_core::Secret;
use secretlink_core::random::{self, NoRandomness};
use std::fmt;

/// Something is wrong with a seal, or with the system's random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The operating system gave no random numbers.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// What was to be opened was not sealed with this key, or for this purpose.
    #[error("a cached secret is damaged")]
    Broken,
}

/// Seals and opens. AES-256-GCM with a random nonce for each value.
pub struct Sealer(LessSafeKey);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// A new key, which nobody else has.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn new() -> Result<Sealer, SealError> {
        let mut key = vec![0; AES_256_GCM.key_len()];
        random::fill(&mut key)?;
        let key = Secret::new(key);
        let unbound = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| NoRandomness)?;
        Ok(Sealer(LessSafeKey::new(unbound)))
    }

    /// Encrypts `value` for the holder of `purpose`, which is checked when it is opened.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn seal(&self, purpose: &[u8], mut value: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        random::fill(&mut nonce)?;
        let sealing = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(sealing, Aad::from(purpose), &mut value)
            .map_err(|_| SealError::Broken)?;
        value.extend_from_slice(&nonce);
        Ok(value)
    }

    /// Decrypts what [`Sealer::seal`] made.
    ///
    /// # Errors
    /// [`SealError::Broken`].
    pub fn open(&self, purpose: &[u8], mut sealed: Vec<u8>) -> Result<Secret, SealError> {
        let nonce = sealed.split_off(sealed.len().checked_sub(NONCE_LEN).ok_or(SealError::Broken)?);
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| SealError::Broken)?;
        let length = self
            .0
            .open_in_place(nonce, Aad::from(purpose), &mut sealed)
            .map_err(|_| SealError::Broken)?
            .len();
        sealed.truncate(length);
        Ok(Secret::new(sealed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_for_its_purpose_and_only_with_its_key() {
        let sealer = Sealer::new().unwrap();
        let sealed = sealer.seal(b"a", b"hunter2".to_vec()).unwrap();
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        assert_ne!(sealed, sealer.seal(b"a", b"hunter2".to_vec()).unwrap(), "each has its own nonce");
        assert_eq!(sealer.open(b"a", sealed.clone()).unwrap().expose(), b"hunter2");
        assert_eq!(sealer.open(b"b", sealed.clone()), Err(SealError::Broken));
        assert_eq!(Sealer::new().unwrap().open(b"a", sealed.clone()), Err(SealError::Broken));
        let mut damaged = sealed;
        damaged[0] ^= 1;
        assert_eq!(sealer.open(b"a", damaged), Err(SealError::Broken));
        assert_eq!(sealer.open(b"a", vec![1, 2, 3]), Err(SealError::Broken));
        assert_eq!(format!("{sealer:?}"), "Sealer");
    }
}
