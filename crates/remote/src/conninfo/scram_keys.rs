//! `scram_client_key` and `scram_server_key`: what a password is turned into by SCRAM-SHA-256.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secretlink_core::Secret;

use super::error::ConnInfoError;
use super::options::Options;

const CLIENT: &str = "scram_client_key";
const SERVER: &str = "scram_server_key";

/// What stands in for a password in SCRAM-SHA-256: to know both keys is as good as to know the
/// password (RFC 5802, section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramKeys {
    /// ClientKey, 32 bytes.
    pub client: Secret,
    /// ServerKey, 32 bytes.
    pub server: Secret,
}

impl Options {
    /// Sets both keys.
    pub fn set_scram_keys(&mut self, keys: &ScramKeys) {
        for (keyword, key) in [(CLIENT, &keys.client), (SERVER, &keys.server)] {
            self.set_secret(keyword, Secret::new(STANDARD.encode(key.expose())));
        }
    }

    /// Whether the keys were given, and nothing but SCRAM will do: what contrib dblink asks of users
    /// who are not superusers and give no password (dblink.c,
    /// `dblink_connstr_has_required_scram_options`).
    pub fn insists_on_scram_keys(&self) -> bool {
        self.has(CLIENT) && self.has(SERVER) && self.get("require_auth") == Some("scram-sha-256")
    }

    /// The keys, taken out.
    pub(super) fn take_scram_keys(&mut self) -> Result<Option<ScramKeys>, ConnInfoError> {
        match (self.remove_secret(CLIENT), self.remove_secret(SERVER)) {
            (None, None) => Ok(None),
            (Some(client), Some(server)) => {
                Ok(Some(ScramKeys { client: decode(CLIENT, &client)?, server: decode(SERVER, &server)? }))
            }
            _ => Err(ConnInfoError::ScramKeyMissing),
        }
    }
}

fn decode(keyword: &'static str, value: &Secret) -> Result<Secret, ConnInfoError> {
    match STANDARD.decode(value.expose()) {
        Ok(key) if key.len() == ring::digest::SHA256_OUTPUT_LEN => Ok(Secret::new(key)),
        _ => Err(ConnInfoError::InvalidScramKey { keyword }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> ScramKeys {
        ScramKeys { client: Secret::new([1; 32]), server: Secret::new([2; 32]) }
    }

    #[test]
    fn come_out_as_they_went_in() {
        let mut options = Options::default();
        options.set_scram_keys(&keys());
        assert_eq!(options.take_scram_keys().unwrap(), Some(keys()));
        assert_eq!(options.take_scram_keys().unwrap(), None);
    }

    #[test]
    fn are_in_base64_and_go_together() {
        let key = STANDARD.encode([1; 32]);
        for (conninfo, message) in [
            (format!("scram_client_key={key}"), "scram_client_key and scram_server_key go together"),
            (format!("scram_server_key={key}"), "scram_client_key and scram_server_key go together"),
            (
                format!("scram_client_key={key} scram_server_key=x"),
                "value of connection option \"scram_server_key\" is not a key of 32 bytes in base64",
            ),
            (
                format!("scram_client_key='' scram_server_key={key}"),
                "value of connection option \"scram_client_key\" is not a key of 32 bytes in base64",
            ),
        ] {
            let error = Options::parse(&conninfo).unwrap().take_scram_keys().unwrap_err();
            assert_eq!(error.to_string(), message, "{conninfo}");
        }
    }

    #[test]
    fn count_only_if_nothing_else_will_do() {
        let mut options = Options::default();
        assert!(!options.insists_on_scram_keys());
        options.set_scram_keys(&keys());
        for (require_auth, counts) in
            [("", false), ("none", false), ("scram-sha-256,none", false), ("scram-sha-256", true)]
        {
            options.set("require_auth", require_auth).unwrap();
            assert_eq!(options.insists_on_scram_keys(), counts, "{require_auth}");
        }
        options.set(SERVER, "").unwrap();
        assert!(!options.insists_on_scram_keys());
    }
}
