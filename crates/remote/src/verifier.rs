//! What a server stores in place of a password, made and checked here, so that neither the server nor its
//! log ever has the password.
//!
//! Source: RFC 5802, section 3, and RFC 7677; PostgreSQL documentation, "pg_authid", for the form in which a
//! server stores it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use ring::{digest, hmac, pbkdf2};
use secretlink_core::Secret;
use secretlink_core::random::{self, NoRandomness};
use std::fmt::Write;
use std::num::NonZeroU32;

use crate::scram::prepared;

/// How a server stores a SCRAM password, and how its method is called in messages.
const SCRAM: &str = "SCRAM-SHA-256$";

/// The length of the salt that PostgreSQL uses, in bytes.
const SALT: usize = 16;

/// How many iterations of SCRAM PostgreSQL goes through if nothing else is said (scram-common.h).
pub const DEFAULT_ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// The most iterations of SCRAM that are gone through, about a second's work. Anybody can give their own
/// role a verifier made up with two thousand million of them.
pub const MAX_ITERATIONS: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

/// A SCRAM verifier of a password, with a new salt.
///
/// # Errors
/// If there are no random numbers to be had.
pub fn scram(password: &Secret, iterations: NonZeroU32) -> Result<Secret, NoRandomness> {
    let mut salt = [0; SALT];
    random::fill(&mut salt)?;
    let keys = Keys::derive(password, &salt, iterations);
    let [salt, stored, server] =
        [&salt[..], &keys.stored(), keys.server.expose()].map(|bytes| STANDARD.encode(bytes));
    Ok(Secret::new(format!("{SCRAM}{iterations}:{salt}${stored}:{server}")))
}

/// What a server with `password_encryption = md5` stores for this role.
pub fn md5(password: &Secret, role: &[u8]) -> Secret {
    let digest = Md5::new().chain_update(password.expose()).chain_update(role).finalize();
    let mut text = String::from("md5");
    for byte in digest {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Secret::new(text)
}

/// Whether a password fits what a server has stored for a role. `None` if the server has to be asked:
/// the password is not ASCII, or this is not a verifier known here.
pub fn fits(stored: &[u8], role: &[u8], password: &Secret) -> Option<bool> {
    if !password.expose().is_ascii() {
        return None;
    }
    let text = std::str::from_utf8(stored).ok()?;
    if let Some(scram) = text.strip_prefix(SCRAM) {
        return Some(fits_scram(scram, password));
    }
    let is_md5 = text.len() == 35 && text.starts_with("md5");
    is_md5.then(|| stored == md5(password, role).expose())
}

/// Whether somebody has made up a verifier that a server would be busy with for long.
pub fn takes_too_long(stored: &[u8]) -> bool {
    let iterations = || {
        let (iterations, _) = std::str::from_utf8(stored).ok()?.strip_prefix(SCRAM)?.split_once(':')?;
        iterations.parse::<u64>().ok()
    };
    iterations().is_some_and(|iterations| iterations > u64::from(MAX_ITERATIONS.get()))
}

/// `iterations:salt$stored:server`
fn fits_scram(text: &str, password: &Secret) -> bool {
    let parts = || {
        let (head, keys) = text.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let decode = |text: &str| STANDARD.decode(text).ok();
        Some((iterations.parse::<NonZeroU32>().ok()?, decode(salt)?, decode(stored)?, decode(server)?))
    };
    let Some((iterations, salt, stored, server)) = parts() else { return false };
    if iterations > MAX_ITERATIONS {
        return false;
    }
    let keys = Keys::derive(password, &salt, iterations);
    // PostgreSQL looks at the server's key alone; a login needs the other one to be right.
    stored == keys.stored() && server == keys.server.expose()
}

struct Keys {
    client: Secret,
    server: Secret,
}

impl Keys {
    fn derive(password: &Secret, salt: &[u8], iterations: NonZeroU32) -> Keys {
        // Not on the stack: what is freed is wiped.
        let mut salted = vec![0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            prepared(password).expose(),
            &mut salted,
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let sign = |name: &[u8]| Secret::new(hmac::sign(&key, name).as_ref());
        Keys { client: sign(b"Client Key"), server: sign(b"Server Key") }
    }

    fn stored(&self) -> [u8; digest::SHA256_OUTPUT_LEN] {
        let mut stored = [0; digest::SHA256_OUTPUT_LEN];
        stored.copy_from_slice(digest::digest(&digest::SHA256, self.client.expose()).as_ref());
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3: the password "pencil" with this salt and 4096 iterations. The keys are those that
    /// its messages prove.
    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn fits_role(stored: &str, password: &str) -> Option<bool> {
        fits(stored.as_bytes(), b"app", &Secret::new(password))
    }

    #[test]
    fn a_verifier_fits_its_password() {
        assert_eq!(fits_role(PENCIL, "pencil"), Some(true));
        assert_eq!(fits_role(PENCIL, "pen"), Some(false));
        for iterations in [1, 4096, 10_000] {
            let iterations = NonZeroU32::new(iterations).unwrap();
            let made = scram(&Secret::new("hunter2"), iterations).unwrap();
            let text = made.expose_str().unwrap();
            assert!(text.starts_with(&format!("SCRAM-SHA-256${iterations}:")), "{text}");
            assert_eq!((fits_role(text, "hunter2"), fits_role(text, "hunter3")), (Some(true), Some(false)));
            assert_ne!(made, scram(&Secret::new("hunter2"), iterations).unwrap(), "its salt is new");
        }
        // RFC 4013, section 3: "I<U+00AD>X" is "IX".
        let made = scram(&Secret::new("I\u{ad}X"), DEFAULT_ITERATIONS).unwrap();
        assert_eq!(fits_role(made.expose_str().unwrap(), "IX"), Some(true));
        // PostgreSQL: SELECT rolpassword, with password_encryption = md5.
        let made = md5(&Secret::new("secret"), b"app");
        assert_eq!(made.expose_str(), Some("md56a422f785c9e20873908ce25d1736ae2"));
        assert_eq!(fits_role(made.expose_str().unwrap(), "secret"), Some(true));
        assert_eq!(fits_role(made.expose_str().unwrap(), "secret2"), Some(false));
        assert_eq!(fits(made.expose(), b"other", &Secret::new("secret")), Some(false));
    }

    #[test]
    fn whoever_makes_up_a_verifier_costs_no_time() {
        let many = PENCIL.replace("4096", "2147483647");
        assert_eq!(fits_role(&many, "pencil"), Some(false));
        assert!(takes_too_long(many.as_bytes()) && !takes_too_long(PENCIL.as_bytes()));
        for wrong in ["", "4096", "0:eA==$eA==:eA==", "-1:x$y:z", "4096:W22Z$x", "4096:*$eA==:eA=="] {
            assert_eq!(fits_role(&format!("{SCRAM}{wrong}"), "pencil"), Some(false), "{wrong}");
        }
        for unknown in ["", "pencil", "md5", "SCRAM-SHA-512$1:a$b:c", "md5zz"] {
            assert_eq!(fits_role(unknown, "pencil"), None, "{unknown}");
        }
        assert_eq!(fits_role(PENCIL, "clé"), None, "another text is prepared by the server");
    }
}
