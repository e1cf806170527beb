//! What identifies a cached secret.

/// What was asked for, and under which identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Stands for the settings that decide where and as whom is asked.
    pub fingerprint: String,
    /// What a foreign server says in place of those settings, so that the worker that renews can say it again:
    /// the region.
    pub region: String,
    /// The role that a foreign server says in place of the settings' own.
    pub role_arn: String,
    /// The external id that a foreign server says, to assume that role with.
    pub external_id: String,
    /// What is kept.
    pub subject: Subject,
}

/// What is kept: a secret's value, or something made for a login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One version of one secret.
    Secret {
        /// The secret, as it was named.
        id: String,
        /// The staging label; empty if only a version id was given.
        stage: String,
        /// The version id; empty if only a staging label was given.
        version_id: String,
    },
    /// An IAM token for one user of one database.
    IamToken {
        /// The region in its signature.
        region: String,
        /// Who logs in where.
        login: String,
    },
}

impl Subject {
    /// The name in messages: the secret as it was named, or who logs in where.
    pub fn name(&self) -> &str {
        match self {
            Subject::Secret { id, .. } => id,
            Subject::IamToken { login, .. } => login,
        }
    }
}

/// What joins the fields. None of them can contain it: `SecretId` refuses control characters, and a
/// `text` of Postgres has no NUL.
const SEPARATOR: char = '\0';

impl Key {
    /// The key as it is kept. Keys are equal if and only if their bytes are.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Key { fingerprint, region, role_arn, external_id, subject } = self;
        let (kind, subject): (_, &[&str]) = match subject {
            Subject::Secret { id, stage, version_id } => ("secret", &[id, stage, version_id]),
            Subject::IamToken { region, login } => ("iam_token", &[region, login]),
        };
        let mut fields = vec![fingerprint, region, role_arn, external_id, kind];
        fields.extend(subject);
        fields.join("\0").into_bytes()
    }

    /// The key from what [`Key::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut fields = text.split(SEPARATOR).map(str::to_owned);
        let mut field = || fields.next();
        Some(Key {
            fingerprint: field()?,
            region: field()?,
            role_arn: field()?,
            external_id: field()?,
            subject: match field()?.as_str() {
                "secret" => Subject::Secret { id: field()?, stage: field()?, version_id: field()? },
                "iam_token" => Subject::IamToken { region: field()?, login: field()? },
                _ => return None,
            },
        })
    }
}

/// Whether `text` names a secret that was asked for as `secret_id` and turned out to have this ARN and
/// name: a secret is named by its name, its ARN, or its ARN without the random suffix, a hyphen and six
/// characters (Secrets Manager user guide, "What's in a Secrets Manager secret?").
pub(crate) fn is_named(text: &str, secret_id: &str, arn: &str, name: &str) -> bool {
    let partial = || arn.strip_prefix(text).is_some_and(|rest| rest.len() == 7 && rest.starts_with('-'));
    text == secret_id || (!arn.is_empty() && (text == arn || text == name || partial()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let of = |subject| Key {
            fingerprint: "f".into(),
            region: "eu-west-1".into(),
            role_arn: String::new(),
            external_id: String::new(),
            subject,
        };
        let secret = |stage: &str, version_id: &str| {
            of(Subject::Secret { id: "prod/é".into(), stage: stage.into(), version_id: version_id.into() })
        };
        let token = of(Subject::IamToken { region: "us-east-1".into(), login: "u@x@h:5432".into() });
        for key in [secret("AWSCURRENT", ""), token] {
            assert_eq!(Key::from_bytes(&key.to_bytes()), Some(key));
        }
        assert_ne!(secret("AWSCURRENT", "").to_bytes(), secret("", "AWSCURRENT").to_bytes());
        assert_eq!(Key::from_bytes(b"x"), None);
        assert_eq!(Key::from_bytes(&[0xff]), None);
        assert_eq!(Key::from_bytes(b"f\0\0\0\0other\0x"), None);
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
