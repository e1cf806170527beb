//! Random passwords.

use secretlink_core::Secret;
use secretlink_core::random::{self, NoRandomness};

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
        random::fill(&mut bytes)?;
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
}
