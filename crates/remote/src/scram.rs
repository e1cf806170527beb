//! SCRAM-SHA-256 with a password or with the keys made of one.
//!
//! Source: RFC 5802 and RFC 7677; PostgreSQL documentation, "SCRAM-SHA-256 Authentication", for what is
//! left out of them (no user name, no authorization id).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use ring::{digest, hmac};
use secretlink_core::random;

use crate::conninfo::ScramKeys;
use crate::error::AttemptError;

/// What the client says of channel binding (RFC 5802, section 7, `gs2-cbind-flag`).
pub(crate) enum Binding {
    /// It could bind, and sees that the server cannot.
    NotOffered,
    /// It cannot, or does not want to.
    Unsupported,
    /// It does, to this hash of the server's certificate.
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

    fn for_password(self) -> sasl::ChannelBinding {
        match self {
            Binding::NotOffered => sasl::ChannelBinding::unrequested(),
            Binding::Unsupported => sasl::ChannelBinding::unsupported(),
            Binding::ServerEndPoint(hash) => sasl::ChannelBinding::tls_server_end_point(hash),
        }
    }
}

/// The client's side of one login.
pub(crate) enum Exchange<'a> {
    Password(Box<ScramSha256>),
    Keys(KeyExchange<'a>),
}

impl<'a> Exchange<'a> {
    pub(crate) fn with_password(password: &[u8], binding: Binding) -> Exchange<'a> {
        Exchange::Password(Box::new(ScramSha256::new(password, binding.for_password())))
    }

    pub(crate) fn with_keys(keys: &'a ScramKeys, binding: Binding) -> Result<Exchange<'a>, AttemptError> {
        let mut nonce = [0; 18];
        random::fill(&mut nonce).map_err(|error| failed(error.to_string()))?;
        Ok(Exchange::Keys(KeyExchange::new(keys, binding, STANDARD.encode(nonce))))
    }

    /// What to send: first, and after [`Exchange::prove`].
    pub(crate) fn message(&self) -> &[u8] {
        match self {
            Exchange::Password(scram) => scram.message(),
            Exchange::Keys(exchange) => exchange.message.as_bytes(),
        }
    }

    /// Answers the server's challenge.
    pub(crate) fn prove(&mut self, challenge: &[u8]) -> Result<(), AttemptError> {
        match self {
            Exchange::Password(scram) => scram.update(challenge).map_err(failed),
            Exchange::Keys(exchange) => exchange.prove(challenge),
        }
    }

    /// Checks the server's own proof that it knows the password.
    pub(crate) fn verify(self, proof: &[u8]) -> Result<(), AttemptError> {
        match self {
            Exchange::Password(mut scram) => scram.finish(proof).map_err(failed),
            Exchange::Keys(exchange) => exchange.verify(proof),
        }
    }
}

fn failed(reason: impl ToString) -> AttemptError {
    AttemptError::Scram(reason.to_string())
}

/// A login with keys.
pub(crate) struct KeyExchange<'a> {
    keys: &'a ScramKeys,
    binding: Binding,
    nonce: String,
    message: String,
    /// Everything said by both sides, without proofs: `AuthMessage`.
    said: String,
}

impl<'a> KeyExchange<'a> {
    fn new(keys: &'a ScramKeys, binding: Binding, nonce: String) -> KeyExchange<'a> {
        let said = format!("n=,r={nonce}");
        KeyExchange { keys, message: format!("{}{said}", binding.header()), binding, nonce, said }
    }

    fn prove(&mut self, challenge: &[u8]) -> Result<(), AttemptError> {
        let malformed = || failed("malformed challenge");
        let challenge = std::str::from_utf8(challenge).map_err(|_| malformed())?;
        // Salt and iteration count are for those who start from the password.
        let mut fields = challenge.split(',');
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or_else(malformed)?;
        let rest = [fields.next(), fields.next(), fields.next()];
        if !matches!(rest, [Some(salt), Some(count), None] if salt.starts_with("s=") && count.starts_with("i="))
        {
            return Err(malformed());
        }
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(failed("invalid nonce"));
        }
        let bound = STANDARD.encode([self.binding.header().as_bytes(), self.binding.data()].concat());
        self.message = format!("c={bound},r={nonce}");
        self.said = format!("{},{challenge},{}", self.said, self.message);

        let client_key = self.keys.client.expose();
        let stored_key = digest::digest(&digest::SHA256, client_key);
        let signature =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored_key.as_ref()), self.said.as_bytes());
        let proof: Vec<u8> =
            client_key.iter().zip(signature.as_ref()).map(|(key, bits)| key ^ bits).collect();
        self.message = format!("{},p={}", self.message, STANDARD.encode(proof));
        Ok(())
    }

    fn verify(&self, proof: &[u8]) -> Result<(), AttemptError> {
        let proof = proof.strip_prefix(b"v=").and_then(|signature| STANDARD.decode(signature).ok());
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.keys.server.expose());
        match proof {
            Some(signature) => hmac::verify(&key, self.said.as_bytes(), &signature)
                .map_err(|_| failed("SCRAM verification error")),
            None => Err(failed("malformed proof of the server")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secretlink_core::Secret;

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

    /// A whole login against a server that knows `password`.
    fn log_in(client: &ScramKeys, password: &[u8], binding: Binding) -> Result<(), AttemptError> {
        let server = keys(password);
        let bound = STANDARD.encode([binding.header().as_bytes(), binding.data()].concat());
        let mut exchange = Exchange::with_keys(client, binding).unwrap();
        let nonce = format!("{}server", part(exchange.message(), "r="));
        let first = std::str::from_utf8(exchange.message()).unwrap();
        let bare = first[first.find("n=,").unwrap()..].to_owned();
        let challenge = format!("r={nonce},{SALT_AND_COUNT}");
        exchange.prove(challenge.as_bytes()).unwrap();
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

    #[test]
    fn both_sides_prove_that_they_know_the_keys() {
        let right = keys(b"pencil");
        for binding in [Binding::NotOffered, Binding::Unsupported, Binding::ServerEndPoint(vec![0xff; 32])] {
            log_in(&right, b"pencil", binding).unwrap();
        }
        let refused =
            |keys: &ScramKeys| log_in(keys, b"pencil", Binding::Unsupported).unwrap_err().to_string();
        assert!(refused(&keys(b"pen")).contains("the server refuses"));
        // A server that has only looked at the client's key.
        let half = ScramKeys { server: keys(b"pen").server, ..right };
        assert!(refused(&half).contains("SCRAM verification error"));
    }

    #[test]
    fn what_a_server_should_not_say() {
        let keys = keys(b"pencil");
        let challenge = |challenge: &str| {
            let mut exchange = KeyExchange::new(&keys, Binding::Unsupported, "mine".into());
            exchange.prove(challenge.as_bytes()).unwrap_err().to_string()
        };
        for malformed in
            ["", "r=mineyours", "r=mineyours,s=x", "s=x,i=1,r=mineyours", "m=x,r=mineyours,s=x,i=1"]
        {
            assert_eq!(
                challenge(malformed),
                "SCRAM authentication failed: malformed challenge",
                "{malformed}"
            );
        }
        assert!(challenge("r=mineyours,s=x,i=1,x=y").ends_with("malformed challenge"));
        for nonce in ["mine", "min", "yours", ""] {
            assert!(challenge(&format!("r={nonce},{SALT_AND_COUNT}")).ends_with("invalid nonce"), "{nonce}");
        }
        for proof in [&b""[..], b"v=", b"v=AAAA", b"v=\xff", b"e=other-error", b"v=====", b"x"] {
            let mut exchange = KeyExchange::new(&keys, Binding::Unsupported, "mine".into());
            exchange.prove(format!("r=mineyours,{SALT_AND_COUNT}").as_bytes()).unwrap();
            assert!(exchange.verify(proof).is_err(), "{proof:?}");
        }
    }
}
