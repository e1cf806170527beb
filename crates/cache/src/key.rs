//! What identifies a cached secret.

/// One version of one secret, as it was asked for, under one identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// Stands for the settings that decide where and as whom is asked.
    pub fingerprint: String,
    /// What a foreign server says in place of those settings, so that the refresh worker can say it again:
    /// the region.
    pub region: String,
    /// The same: the role.
    pub role_arn: String,
    /// The same: the external id to assume it with.
    pub external_id: String,
    /// The secret, as it was named.
    pub secret_id: String,
    /// The staging label; empty if only a version id was given.
    pub stage: String,
    /// The version id; empty if only a staging label was given.
    pub version_id: String,
}

/// What joins the fields. None of them can contain it: `SecretId` refuses control characters, and a
/// `text` of Postgres has no NUL.
const SEPARATOR: char = '\0';

impl Key {
    /// As it is kept. Keys are equal if and only if their bytes are.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Key { fingerprint, region, role_arn, external_id, secret_id, stage, version_id } = self;
        [fingerprint, region, role_arn, external_id, secret_id, stage, version_id]
            .map(String::as_str)
            .join("\0")
            .into_bytes()
    }

    /// From what [`Key::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut fields = text.split(SEPARATOR).map(str::to_owned);
        let mut field = || fields.next();
        Some(Key {
            fingerprint: field()?,
            region: field()?,
            role_arn: field()?,
            external_id: field()?,
            secret_id: field()?,
            stage: field()?,
            version_id: field()?,
        })
    }
}

/// Whether `text` names a secret that was asked for as `secret_id` and turned out to have this ARN and
/// name: a secret is named by its name, its ARN, or its ARN without the random suffix, a hyphen and six
/// characters (Secrets Manager user guide, "What's in a Secrets Manager secret?").
pub fn is_named(text: &str, secret_id: &str, arn: &str, name: &str) -> bool {
    let partial = || arn.strip_prefix(text).is_some_and(|rest| rest.len() == 7 && rest.starts_with('-'));
    text == secret_id || (!arn.is_empty() && (text == arn || text == name || partial()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let key = Key {
            fingerprint: "f".into(),
            region: "eu-west-1".into(),
            role_arn: String::new(),
            external_id: String::new(),
            secret_id: "prod/é".into(),
            stage: "AWSCURRENT".into(),
            version_id: String::new(),
        };
        assert_eq!(Key::from_bytes(&key.to_bytes()), Some(key.clone()));
        let other = Key { stage: String::new(), version_id: "AWSCURRENT".into(), ..key.clone() };
        assert_ne!(key.to_bytes(), other.to_bytes());
        assert_eq!(Key::from_bytes(b"x"), None);
        assert_eq!(Key::from_bytes(&[0xff]), None);
    }

    #[test]
    fn a_secret_has_many_names() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/x-AbCdEf";
        let named = |text| is_named(text, "asked", arn, "prod/x");
        assert!(named("asked") && named(arn) && named("prod/x"));
        assert!(named("arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/x"));
        assert!(!named("arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod"));
        assert!(!named("prod") && !named(""));
        assert!(!is_named("", "asked", "", ""), "nothing is known of it yet");
    }
}
