//! Random passwords.

use secretlink_core::Secret;
use secretlink_core::random::{self, NoRandomness};

/// What a password is made of: 64 characters, so that six random bits choose one without bias, and
/// none that a URI, a shell, a connection string or `.pgpass` would need quoted.
pub const PASSWORD_CHARACTERS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A password of `length` characters, each worth six bits. From three on, a digit, a capital and a small
/// letter are among them.
///
/// # Errors
/// If there are no random numbers to be had.
pub fn random_password(length: usize) -> Result<Secret, NoRandomness> {
    random_password_of(length, |_| true)
}

/// A password of `length` characters, all of them allowed. Each kind of which there are any, digits,
/// capitals and small letters, is among them from three on.
///
/// # Errors
/// If there are no random numbers to be had, or hardly any character is allowed.
pub fn random_password_of(length: usize, allowed: impl Fn(u8) -> bool) -> Result<Secret, NoRandomness> {
    let characters: Vec<u8> = PASSWORD_CHARACTERS.iter().copied().filter(|&byte| allowed(byte)).collect();
    if characters.len() < 2 {
        return Err(NoRandomness);
    }
    let kinds = [u8::is_ascii_digit, u8::is_ascii_uppercase, u8::is_ascii_lowercase];
    loop {
        let mut password = Vec::with_capacity(length);
        while password.len() < length {
            let mut bytes = [0; 64];
            random::fill(&mut bytes)?;
            // What is beyond the allowed ones is thrown away, so that each is as likely as any other.
            let chosen = bytes.iter().filter_map(|byte| characters.get(usize::from(*byte & 63)));
            password.extend(chosen.take(length - password.len()));
            bytes.fill(0);
        }
        // Passwordcheck, for one, refuses what has letters only.
        if length < 3 || kinds.iter().all(|kind| password.iter().any(kind) || !characters.iter().any(kind)) {
            return Ok(Secret::new(password));
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
        assert!(one.expose().iter().all(|c| PASSWORD_CHARACTERS.contains(c)));
        assert_ne!(one, random_password(32).unwrap());
        for _ in 0..1000 {
            let short = random_password(3).unwrap();
            assert!(short.expose().iter().any(u8::is_ascii_digit));
        }
    }
}
