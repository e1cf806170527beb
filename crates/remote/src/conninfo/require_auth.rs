//! `require_auth`: how the server may make the client prove who it is.

use super::error::ConnInfoError;
use super::value::harmless;

/// A way to authenticate, as `require_auth` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// `none`: the server asked for nothing (`trust`, `cert`, …).
    None,
    /// `password`: the password in clear text.
    Password,
    /// `md5`.
    Md5,
    /// `gss`.
    Gss,
    /// `sspi`.
    Sspi,
    /// `scram-sha-256`, with or without channel binding.
    ScramSha256,
    /// `oauth`.
    OAuth,
}

/// Every method with its name.
const METHODS: &[(&str, AuthMethod)] = &[
    ("none", AuthMethod::None),
    ("password", AuthMethod::Password),
    ("md5", AuthMethod::Md5),
    ("gss", AuthMethod::Gss),
    ("sspi", AuthMethod::Sspi),
    ("scram-sha-256", AuthMethod::ScramSha256),
    ("oauth", AuthMethod::OAuth),
];

/// The methods that a `require_auth` value lists, or that it excludes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequireAuth {
    excluded: bool,
    listed: Vec<AuthMethod>,
}

impl RequireAuth {
    /// Whether the server may use this method.
    pub fn allows(&self, method: AuthMethod) -> bool {
        self.listed.contains(&method) != self.excluded
    }

    /// Parses a comma-separated list, in which all or none start with "!" (PostgreSQL 16
    /// documentation, `require_auth`). Empty means anything goes.
    pub(super) fn parse(value: &str) -> Result<Option<RequireAuth>, ConnInfoError> {
        if value.is_empty() {
            return Ok(None);
        }
        let excluded = value.starts_with('!');
        let mut listed = Vec::new();
        for element in value.split(',') {
            let name = element.strip_prefix('!').unwrap_or(element);
            let Some((name, method)) = METHODS.iter().find(|(known, _)| *known == name) else {
                return Err(ConnInfoError::InvalidValue { keyword: "require_auth", value: harmless(name) });
            };
            if element.starts_with('!') != excluded {
                return Err(ConnInfoError::MixedAuthMethods);
            }
            if listed.contains(method) {
                return Err(ConnInfoError::DuplicateAuthMethod { method: name });
            }
            listed.push(*method);
        }
        Ok(Some(RequireAuth { excluded, listed }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_exclusions() {
        use AuthMethod::*;
        let all = [None, Password, Md5, Gss, Sspi, ScramSha256, OAuth];
        for (value, allowed) in [
            ("scram-sha-256", &[ScramSha256][..]),
            ("scram-sha-256,md5", &[Md5, ScramSha256]),
            ("none", &[None]),
            ("none,scram-sha-256", &[None, ScramSha256]),
            ("!none", &[Password, Md5, Gss, Sspi, ScramSha256, OAuth]),
            ("!password,!md5", &[None, Gss, Sspi, ScramSha256, OAuth]),
        ] {
            let parsed = RequireAuth::parse(value).unwrap().unwrap();
            let found: Vec<_> = all.into_iter().filter(|m| parsed.allows(*m)).collect();
            assert_eq!(found, allowed, "{value}");
        }
        assert_eq!(RequireAuth::parse("").unwrap(), Option::None);
    }

    #[test]
    fn rejects() {
        for (value, message) in [
            ("kerberos", "invalid require_auth value: \"kerberos\""),
            ("md5,,none", "invalid require_auth value: \"\""),
            ("md5, none", "invalid require_auth value"),
            ("!!md5", "invalid require_auth value"),
            ("md5,md5", "require_auth method \"md5\" is specified more than once"),
            ("!none,!none", "require_auth method \"none\" is specified more than once"),
            ("md5,!none", "require_auth methods with and without \"!\" cannot be mixed"),
            ("!md5,none", "require_auth methods with and without \"!\" cannot be mixed"),
        ] {
            assert_eq!(RequireAuth::parse(value).unwrap_err().to_string(), message, "{value}");
        }
    }
}
