//! Random passwords and version ids.

use ring::rand::{SecureRandom, SystemRandom};
use secretlink_core::Secret;

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system has no random numbers")]
pub struct NoRandomness;

/// What a password is made of: 64 characters, so that six random bits choose one without bias, and
/// none that a URI, a shell, a connection string or `.pgpass` would need quoted.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A password of `length` characters, each worth six bits. From three on, a digit, a capital and a small
/// letter are among them.
///
/// # Errors
/// If there are no random numbers to be had.
pub fn random_password(length: usize) -> Result<Secret, NoRandomness> {
    loop {
        let mut bytes = vec![0; length];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        for byte in &mut bytes {
            *byte = ALPHABET[usize::from(*byte & 63)];
        }
        // Passwordcheck, for one, refuses what has letters only.
        let has = |kind: fn(&u8) -> bool| bytes.iter().any(kind);
        if length < 3 || has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
        {
            return Ok(Secret::new(bytes));
        }
    }
}

/// How a version that was staged here is told from others.
const PREFIX: &str = "secretlink-";

/// A new version id.
///
/// # Errors
/// If there are no random numbers to be had.
pub(crate) fn version_id() -> Result<String, NoRandomness> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(format!("{PREFIX}{}", uuid::Builder::from_random_bytes(bytes).into_uuid()))
}

/// Whether a version was staged by this extension, and not by somebody else's rotation.
pub(crate) fn is_ours(version_id: &str) -> bool {
    version_id.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_different() {
        let one = random_password(32).unwrap();
        assert_eq!(one.expose().len(), 32);
        assert!(one.expose().iter().all(|c| ALPHABET.contains(c)));
        assert_ne!(one, random_password(32).unwrap());
        for _ in 0..1000 {
            let short = random_password(3).unwrap();
            assert!(short.expose().iter().any(u8::is_ascii_digit));
        }
    }

    #[test]
    fn version_ids_are_what_secrets_manager_takes() {
        let id = version_id().unwrap();
        // API reference, PutSecretValue, ClientRequestToken: 32 to 64 characters.
        assert!((32..=64).contains(&id.len()), "{id}");
        assert!(is_ours(&id));
        assert!(!is_ours("EXAMPLE1-90ab-cdef-fedc-ba987SECRET1"));
    }
}
