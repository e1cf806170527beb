//! SCRAM-SHA-256 with a password or with the keys made of one. Own code, because the library's computes whatever
//! number of iterations a server asks for in one go, and starts from a password only.
//!
//! Source: RFC 5802 and RFC 7677; PostgreSQL documentation, "SCRAM-SHA-256 Authentication", for what is
//! left out of them (no user name, no authorization id).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use secretlink_core::Secret;
use secretlink_core::random;

use crate::conninfo::ScramKeys;
use crate::error::AttemptError;

/// What the client says of channel binding (RFC 5802, section 7, `gs2-cbind-flag`).
pub(crate) enum Binding {
    /// The client could bind, and sees that the server cannot.
    NotOffered,
    /// The client cannot bind, or does not want to.
    Unsupported,
    /// The client binds to this hash of the server's certificate.
    ServerEndPoint(Vec<u8>),
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Binding::NotOffered => "y,,",
            Binding::Unsupported => "n,,",
            Binding::ServerEndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Binding::ServerEndPoint(hash) => hash,
            _ => &[],
        }
    }
}

/// How many iterations are computed before others get their turn: the server says how many there are.
const ITERATIONS_IN_A_TURN: u32 = 4096;

/// What proves who we are.
#[derive(Clone, Copy)]
pub(crate) enum Credentials<'a> {
    /// A password, from which the keys are derived.
    Password {
        /// The password.
        password: &'a Secret,
        /// The lowest iteration count that is accepted.
        min_iterations: u32,
    },
    /// The keys themselves: `scram_client_key` and `scram_server_key`.
    Keys(&'a ScramKeys),
}

/// The client's side of one login.
pub(crate) struct Exchange<'a> {
    credentials: Credentials<'a>,
    binding: Binding,
    nonce: String,
    message: String,
    /// Everything said by both sides, without proofs: `AuthMessage`.
    said: String,
    /// `ServerKey`, once it is known.
    server_key: Option<Secret>,
}

impl<'a> Exchange<'a> {
    /// Begins an exchange, with a nonce of its own.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub(crate) fn begin(
        credentials: Credentials<'a>,
        binding: Binding,
    ) -> Result<Exchange<'a>, AttemptError> {
        let mut nonce = [0; 18];
        random::fill(&mut nonce).map_err(failed)?;
        Ok(Exchange::new(credentials, binding, STANDARD.encode(nonce)))
    }

    fn new(credentials: Credentials<'a>, binding: Binding, nonce: String) -> Exchange<'a> {
        let said = format!("n=,r={nonce}");
        let message = format!("{}{said}", binding.header());
        Exchange { credentials, message, binding, nonce, said, server_key: None }
    }

    /// What to send: first, and after [`Exchange::prove`].
    pub(crate) fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// Answers the server's challenge.
    pub(crate) async fn prove(&mut self, challenge: &[u8]) -> Result<(), AttemptError> {
        let malformed = || failed("malformed challenge");
        let challenge = std::str::from_utf8(challenge).map_err(|_| malformed())?;
        let mut fields = challenge.split(',');
        let mut field =
            |prefix| fields.next().and_then(|field| field.strip_prefix(prefix)).ok_or_else(malformed);
        let (nonce, salt, count) = (field("r=")?, field("s=")?, field("i=")?);
        if fields.next().is_some() {
            return Err(malformed());
        }
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(failed("the nonce of the server is not one of its own"));
        }
        let derived;
        let keys = match self.credentials {
            // Salt and iteration count are for those who start from the password.
            Credentials::Keys(keys) => keys,
            Credentials::Password { password, min_iterations } => {
                let salt = STANDARD.decode(salt).map_err(|_| malformed())?;
                let iterations = count.parse::<u32>().map_err(|_| malformed())?;
                if salt.is_empty() {
                    return Err(failed("the salt of the server is empty"));
                }
                if iterations < min_iterations.max(1) {
                    return Err(AttemptError::ScramIterations { iterations, min_iterations });
                }
                derived = keys_of(password, &salt, iterations).await;
                &derived
            }
        };
        let bound = STANDARD.encode([self.binding.header().as_bytes(), self.binding.data()].concat());
        self.message = format!("c={bound},r={nonce}");
        self.said = format!("{},{challenge},{}", self.said, self.message);

        let client_key = keys.client.expose();
        let stored_key = digest::digest(&digest::SHA256, client_key);
        let key = hmac::Key::new(hmac::HMAC_SHA256, stored_key.as_ref());
        let signature = hmac::sign(&key, self.said.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature.as_ref()).map(|(k, s)| k ^ s).collect();
        self.message = format!("{},p={}", self.message, STANDARD.encode(proof));
        self.server_key = Some(keys.server.clone());
        Ok(())
    }

    /// Checks the server's own proof that it knows the password.
    pub(crate) fn verify(self, proof: &[u8]) -> Result<(), AttemptError> {
        let proof = proof.strip_prefix(b"v=").and_then(|signature| STANDARD.decode(signature).ok());
        let (Some(signature), Some(key)) = (proof, self.server_key) else {
            return Err(failed("malformed proof of the server"));
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        hmac::verify(&key, self.said.as_bytes(), &signature).map_err(|_| failed("SCRAM verification error"))
    }
}

/// A password as SCRAM takes it. What cannot be prepared is taken as it is, as PostgreSQL does
/// (fe-auth-scram.c, scram_init; auth-scram.c, pg_be_scram_build_secret).
pub(crate) fn prepared(password: &Secret) -> Secret {
    let prepared = password.expose_str().and_then(|text| stringprep::saslprep(text).ok());
    prepared.map_or_else(|| password.clone(), |text| Secret::new(text.as_bytes()))
}

/// What RFC 5802 makes of a password, in turns: the server may ask for any number of iterations, and a
/// cancel is to be heard in between.
async fn keys_of(password: &Secret, salt: &[u8], iterations: u32) -> ScramKeys {
    let key = hmac::Key::new(hmac::HMAC_SHA256, prepared(password).expose());
    // `Hi`: PBKDF2 with one block of output.
    let mut last = hmac::sign(&key, &[salt, &[0, 0, 0, 1]].concat());
    let mut salted: Vec<u8> = last.as_ref().to_vec();
    let mut left = iterations - 1;
    while left > 0 {
        for _ in 0..left.min(ITERATIONS_IN_A_TURN) {
            last = hmac::sign(&key, last.as_ref());
            salted.iter_mut().zip(last.as_ref()).for_each(|(sum, byte)| *sum ^= byte);
        }
        left -= left.min(ITERATIONS_IN_A_TURN);
        if left > 0 {
            tokio::task::yield_now().await;
        }
    }
    let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let key = |name: &[u8]| Secret::new(hmac::sign(&salted, name).as_ref());
    ScramKeys { client: key(b"Client Key"), server: key(b"Server Key") }
}

fn failed(reason: impl ToString) -> AttemptError {
    AttemptError::Scram(reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT_AND_COUNT: &str = "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// The keys of a password, by the definitions in RFC 5802, section 3.
    fn keys(password: &[u8]) -> ScramKeys {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let mut salted = [0; 32];
        let rounds = std::num::NonZeroU32::new(4096).unwrap();
        ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password, &mut salted);
        let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let key = |name| Secret::new(hmac::sign(&salted, name).as_ref());
        ScramKeys { client: key(b"Client Key"), server: key(b"Server Key") }
    }

    /// The part of a message behind `prefix`.
    fn part<'a>(message: &'a [u8], prefix: &str) -> &'a str {
        let text = std::str::from_utf8(message).unwrap();
        text.split(',').find_map(|field| field.strip_prefix(prefix)).unwrap()
    }

    /// Waits for what does not wait for anybody.
    fn now<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    /// A whole login against a server that knows `password`.
    fn log_in(client: Credentials<'_>, password: &[u8], binding: Binding) -> Result<(), AttemptError> {
        let server = keys(password);
        let bound = STANDARD.encode([binding.header().as_bytes(), binding.data()].concat());
        let mut exchange = Exchange::begin(client, binding).unwrap();
        let nonce = format!("{}server", part(exchange.message(), "r="));
        let first = std::str::from_utf8(exchange.message()).unwrap();
        let bare = first[first.find("n=,").unwrap()..].to_owned();
        let challenge = format!("r={nonce},{SALT_AND_COUNT}");
        now(exchange.prove(challenge.as_bytes()))?;
        assert_eq!(part(exchange.message(), "c="), bound);

        let said = format!("{bare},{challenge},c={bound},r={nonce}");
        let stored = digest::digest(&digest::SHA256, server.client.expose());
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored.as_ref()), said.as_bytes());
        let proof = STANDARD.decode(part(exchange.message(), "p=")).unwrap();
        let key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(p, s)| p ^ s).collect();
        if digest::digest(&digest::SHA256, &key).as_ref() != stored.as_ref() {
            return Err(failed("the server refuses"));
        }
        let answer = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, server.server.expose()), said.as_bytes());
        exchange.verify(format!("v={}", STANDARD.encode(answer)).as_bytes())
    }

    fn with_password(password: &Secret) -> Credentials<'_> {
        Credentials::Password { password, min_iterations: 4096 }
    }

    #[test]
    fn both_sides_prove_that_they_know_the_password_or_its_keys() {
        let (right, password) = (keys(b"pencil"), Secret::new("pencil"));
        for credentials in [Credentials::Keys(&right), with_password(&password)] {
            for binding in
                [Binding::NotOffered, Binding::Unsupported, Binding::ServerEndPoint(vec![0xff; 32])]
            {
                log_in(credentials, b"pencil", binding).unwrap();
            }
        }
        let refused = |credentials: Credentials<'_>| {
            log_in(credentials, b"pencil", Binding::Unsupported).unwrap_err().to_string()
        };
        assert!(refused(Credentials::Keys(&keys(b"pen"))).contains("the server refuses"));
        assert!(refused(with_password(&Secret::new("pen"))).contains("the server refuses"));
        // A server that has only looked at the client's key.
        let half = ScramKeys { server: keys(b"pen").server, ..right };
        assert!(refused(Credentials::Keys(&half)).contains("SCRAM verification error"));
    }

    #[test]
    fn passwords_are_prepared_as_postgresql_prepares_them() {
        // A soft hyphen is mapped to nothing, a Roman numeral nine to letters; what is no UTF-8 stays.
        for (given, meant) in
            [(&b"I\xc2\xadX"[..], &b"IX"[..]), (b"\xe2\x85\xa8", b"IX"), (b"\xff\xfe", b"\xff\xfe")]
        {
            log_in(with_password(&Secret::new(given)), meant, Binding::Unsupported).unwrap();
        }
    }

    #[test]
    fn iterations_are_counted_in_turns() {
        for iterations in [1, 2, 4096, 4097, 8192, 8193, 20_000] {
            let rounds = std::num::NonZeroU32::new(iterations).unwrap();
            let mut salted = [0; 32];
            ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, rounds, b"salt", b"pencil", &mut salted);
            let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), b"Client Key");
            let made = now(keys_of(&Secret::new("pencil"), b"salt", iterations));
            assert_eq!(made.client.expose(), expected.as_ref(), "{iterations}");
        }
    }

    /// Far more than a computer counts in a lifetime of this test: who waits no longer is heard.
    #[test]
    fn a_server_that_asks_for_years_of_work_can_be_left() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (password, began) = (Secret::new("pencil"), std::time::Instant::now());
        let mut exchange = Exchange::new(with_password(&password), Binding::Unsupported, "mine".into());
        let proved = runtime.block_on(async {
            let limit = std::time::Duration::from_millis(50);
            tokio::time::timeout(limit, exchange.prove(b"r=mineyours,s=AAAA,i=4294967295")).await.is_ok()
        });
        assert!(!proved && began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[test]
    fn what_a_server_should_not_say() {
        let (keys, password) = (keys(b"pencil"), Secret::new("pencil"));
        let both = [Credentials::Keys(&keys), with_password(&password)];
        let challenge = |credentials: Credentials<'_>, challenge: &str| {
            let mut exchange = Exchange::new(credentials, Binding::Unsupported, "mine".into());
            now(exchange.prove(challenge.as_bytes())).unwrap_err().to_string()
        };
        for credentials in both {
            for malformed in [
                "",
                "r=mineyours",
                "r=mineyours,s=x",
                "s=x,i=1,r=mineyours",
                "m=x,r=mineyours,s=x,i=1",
                "r=mineyours,s=x,i=1,x=y",
            ] {
                assert_eq!(
                    challenge(credentials, malformed),
                    "SCRAM authentication failed: malformed challenge",
                    "{malformed}"
                );
            }
            for nonce in ["mine", "min", "yours", ""] {
                let refused = challenge(credentials, &format!("r={nonce},{SALT_AND_COUNT}"));
                assert!(refused.contains("nonce"), "{nonce}: {refused}");
            }
            for proof in [&b""[..], b"v=", b"v=AAAA", b"v=\xff", b"e=other-error", b"v=====", b"x"] {
                let mut exchange = Exchange::new(credentials, Binding::Unsupported, "mine".into());
                now(exchange.prove(format!("r=mineyours,{SALT_AND_COUNT}").as_bytes())).unwrap();
                assert!(exchange.verify(proof).is_err(), "{proof:?}");
            }
        }
        // What makes a password easy to guess for a server that does not know it.
        for (salt, count, why) in [
            ("", "4096", "salt"),
            ("AAAA", "4095", "4095 iterations"),
            ("AAAA", "1", "1 iterations"),
            ("AAAA", "0", "0 iterations"),
            ("AAAA", "-1", "malformed"),
            ("AAAA", "4294967296", "malformed"),
            ("AAAA", "", "malformed"),
            ("!", "4096", "malformed"),
        ] {
            let refused = challenge(with_password(&password), &format!("r=mineyours,s={salt},i={count}"));
            assert!(refused.contains(why), "s={salt},i={count}: {refused}");
        }
        // A proof that comes first.
        let exchange = Exchange::new(both[0], Binding::Unsupported, "mine".into());
        assert!(exchange.verify(b"v=AAAA").is_err());
    }
}
