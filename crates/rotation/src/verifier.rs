//! What Postgres stores of a password: a SCRAM-SHA-256 verifier.
//!
//! Source: RFC 5803; PostgreSQL documentation, "pg_authid", for the form. It is computed here so that the
//! password itself is neither sent in `ALTER ROLE` nor written to the server's log.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use secretlink_core::Secret;
use secretlink_core::random::{self, NoRandomness};
use std::num::NonZeroU32;

/// Postgres's own default (scram-common.h).
pub(crate) const ITERATIONS: u32 = 4096;
/// As long as Postgres's own (scram-common.h, `SCRAM_DEFAULT_SALT_LEN`).
const SALT: usize = 16;
/// More would keep both sides busy for minutes; a server that asks for that is not to be believed.
const MAX_ITERATIONS: u32 = 10_000_000;

/// The verifier of a password with a new salt.
///
/// # Errors
/// If there are no random numbers to be had.
pub(crate) fn verifier(password: &Secret, iterations: u32) -> Result<Secret, NoRandomness> {
    let mut salt = [0; SALT];
    random::fill(&mut salt)?;
    Ok(with_salt(password, iterations.clamp(1, MAX_ITERATIONS), &salt))
}

fn with_salt(password: &Secret, iterations: u32, salt: &[u8]) -> Secret {
    // What is not UTF-8, or what SASLprep forbids, is taken as it is (auth-scram.c, pg_be_scram_build_secret).
    let prepared = password.expose_str().and_then(|text| stringprep::saslprep(text).ok());
    let prepared = prepared.map_or_else(|| password.clone(), |text| Secret::new(text.into_owned()));
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, prepared.expose(), &mut salted);
    let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&salted, b"Server Key");
    let [salt, stored_key, server_key] =
        [salt, stored_key.as_ref(), server_key.as_ref()].map(|bytes| STANDARD.encode(bytes));
    Secret::new(format!("SCRAM-SHA-256${iterations}:{salt}${stored_key}:{server_key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_postgres_makes_it() {
        // SET scram_iterations = 1024; of a role with the password "pencil".
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(
            with_salt(&Secret::new("pencil"), 4096, &salt).expose_str().unwrap(),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn two_have_different_salts() {
        let one = verifier(&Secret::new("p"), 1).unwrap();
        assert_ne!(one, verifier(&Secret::new("p"), 1).unwrap());
        assert!(one.expose().starts_with(b"SCRAM-SHA-256$1:"));
    }
}
