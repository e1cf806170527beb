//! What Secrets Manager stores and what it tells about it.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use secretlink_core::Secret;

use super::document::{Document, NotADocument, parse_json};
use crate::{AwsError, stage};

/// One version of a secret (API reference, GetSecretValue).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretValue {
    /// The secret's full ARN.
    pub arn: String,
    /// The secret's name.
    pub name: String,
    /// The version's id.
    pub version_id: String,
    /// The staging labels of this version.
    pub stages: Vec<String>,
    /// When this version was created.
    pub created: Option<SystemTime>,
    /// The secret itself.
    pub body: SecretBody,
}

/// A secret is text or bytes, as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretBody {
    /// Text, valid UTF-8; usually JSON.
    String(Secret),
    /// Bytes, already decoded from base64.
    Binary(Secret),
}

impl SecretValue {
    /// The text of the secret.
    ///
    /// # Errors
    /// [`AwsError::IsBinary`] if it was stored as bytes.
    pub fn text(&self) -> Result<&str, AwsError> {
        match &self.body {
            SecretBody::String(secret) => secret.expose_str(),
            SecretBody::Binary(_) => None,
        }
        .ok_or_else(|| AwsError::IsBinary { secret: self.name.clone() })
    }

    /// The text of the secret, which is JSON.
    ///
    /// # Errors
    /// [`AwsError::IsBinary`] or [`AwsError::NotJson`].
    pub fn json(&self) -> Result<&str, AwsError> {
        let text = self.text()?;
        // Checks the syntax and builds nothing.
        match parse_json::<serde::de::IgnoredAny>(text) {
            Ok(_) => Ok(text),
            Err(error) => Err(AwsError::not_json(&self.name, &error)),
        }
    }

    /// The secret taken apart, which is a JSON object.
    ///
    /// # Errors
    /// [`AwsError::IsBinary`], [`AwsError::NotJson`] or [`AwsError::NotAnObject`].
    pub(crate) fn document(&self) -> Result<Document, AwsError> {
        let secret = || self.name.clone();
        Document::parse(self.text()?).map_err(|why| match why {
            NotADocument::NotJson { line, column } => AwsError::NotJson { secret: secret(), line, column },
            NotADocument::NotAnObject => AwsError::NotAnObject { secret: secret() },
        })
    }

    /// The bytes of the secret.
    ///
    /// # Errors
    /// [`AwsError::IsString`] if it was stored as text.
    pub fn bytes(&self) -> Result<&[u8], AwsError> {
        match &self.body {
            SecretBody::Binary(secret) => Ok(secret.expose()),
            SecretBody::String(_) => Err(AwsError::IsString { secret: self.name.clone() }),
        }
    }
}

/// The form in which the cache keeps values, sealed. Each field has its length before it.
impl SecretValue {
    /// The whole value as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let created = self.created.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let created = created.map_or(u64::MAX, |time| time.as_millis() as u64).to_le_bytes();
        let (kind, body) = match &self.body {
            SecretBody::String(secret) => (b"s", secret.expose()),
            SecretBody::Binary(secret) => (b"b", secret.expose()),
        };
        let texts = [&self.arn, &self.name, &self.version_id].map(|text| text.as_bytes());
        let stages = self.stages.iter().map(|stage| stage.as_bytes());
        let mut bytes = Vec::with_capacity(body.len() + 512);
        for field in texts.into_iter().chain([&created[..], kind, body]).chain(stages) {
            bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }

    /// The value from what [`SecretValue::to_bytes`] made; `None` from anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<SecretValue> {
        let mut field = || {
            let (length, rest) = bytes.split_first_chunk::<8>()?;
            let (field, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            bytes = rest;
            Some(field)
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (arn, name, version_id) = (text(field()?)?, text(field()?)?, text(field()?)?);
        let created = match u64::from_le_bytes(field()?.try_into().ok()?) {
            u64::MAX => None,
            millis => SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)),
        };
        let body = match (field()?, field()?) {
            (b"s", body) => SecretBody::String(Secret::new(body)),
            (b"b", body) => SecretBody::Binary(Secret::new(body)),
            _ => return None,
        };
        let mut stages = Vec::new();
        while let Some(stage) = field() {
            stages.push(text(stage)?);
        }
        Some(SecretValue { arn, name, version_id, stages, created, body })
    }
}

/// A secret to be created (API reference, CreateSecret).
#[derive(Clone, Debug)]
pub struct NewSecret {
    /// 1 to 512 letters, digits and `/_+=.@-`.
    pub name: String,
    /// Text, at most 65,536 bytes.
    pub value: Secret,
    /// What the secret is for.
    pub description: Option<String>,
    /// Key id, ARN or alias of the KMS key; unset, the account's `aws/secretsmanager`.
    pub kms_key_id: Option<String>,
    /// The id of its first version, 32 to 64 characters; unset, one is made up.
    pub version_id: Option<String>,
}

/// Who holds which staging label, and what stands in the way of a new version (API reference,
/// DescribeSecret).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretStages {
    /// The full ARN.
    pub arn: String,
    /// The AWS service that manages the secret, such as `rds`.
    pub owning_service: Option<String>,
    /// Where the original is, for a secret that is replicated.
    pub primary_region: Option<String>,
    /// When the secret's deletion was asked for.
    pub deleted: Option<SystemTime>,
    /// Whether AWS rotates it on a schedule of its own.
    pub rotation_enabled: bool,
    /// The Lambda function that rotates it.
    pub rotation_lambda_arn: Option<String>,
    /// AWS's own schedule, if it has one.
    pub rotation_rules: Option<RotationRules>,
    /// The moment by which AWS will rotate the secret next.
    pub next_rotation: Option<SystemTime>,
    /// The staging labels of each version that has any, by version id.
    pub versions: HashMap<String, Vec<String>>,
}

/// When AWS rotates a secret by itself (API reference, RotationRulesType).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotationRules {
    /// `rate(...)` or `cron(...)`.
    pub schedule: Option<String>,
    /// How long a window is, such as `3h`.
    pub duration: Option<String>,
    /// The number of days after the rotation before, in place of a schedule.
    pub after_days: Option<i64>,
}

impl SecretStages {
    /// The version that carries this staging label.
    pub fn holder(&self, stage: &str) -> Option<&str> {
        let mut versions = self.versions.iter();
        versions.find(|(_, stages)| stages.iter().any(|s| s == stage)).map(|(version, _)| version.as_str())
    }

    /// Whether a version is the current one, or the one that was before.
    pub fn has_been_current(&self, version_id: &str) -> bool {
        let is_one = |label: &String| label == stage::CURRENT || label == stage::PREVIOUS;
        self.versions.get(version_id).is_some_and(|labels| labels.iter().any(is_one))
    }
}

/// A secret without its value (API reference, DescribeSecret and ListSecretVersionIds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretDescription {
    /// The full ARN.
    pub arn: String,
    /// The name.
    pub name: String,
    /// What the secret is for.
    pub description: Option<String>,
    /// The KMS key; `None` for the account's `aws/secretsmanager`.
    pub kms_key_id: Option<String>,
    /// The AWS service that manages the secret, such as `rds`.
    pub owning_service: Option<String>,
    /// Where the original is, for a secret that is replicated.
    pub primary_region: Option<String>,
    /// Whether the secret is rotated automatically.
    pub rotation_enabled: bool,
    /// When anything about it was last changed.
    pub last_changed: Option<SystemTime>,
    /// The day it was last read, to the day.
    pub last_accessed: Option<SystemTime>,
    /// When a rotation last succeeded.
    pub last_rotated: Option<SystemTime>,
    /// The moment by which the secret will be rotated next.
    pub next_rotation: Option<SystemTime>,
    /// When the secret's deletion was asked for.
    pub deleted: Option<SystemTime>,
    /// The versions that carry a staging label.
    pub versions: Vec<SecretVersion>,
}

/// A secret in a list, without its value and versions (API reference, ListSecrets).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSecret {
    /// The name.
    pub name: String,
    /// The full ARN.
    pub arn: String,
    /// What the secret is for.
    pub description: Option<String>,
    /// The KMS key; `None` for the account's `aws/secretsmanager`.
    pub kms_key_id: Option<String>,
    /// The AWS service that manages the secret, such as `rds`.
    pub owning_service: Option<String>,
    /// Where the original is, for a secret that is replicated.
    pub primary_region: Option<String>,
    /// Whether AWS rotates it.
    pub rotation_enabled: bool,
    /// When the secret was created.
    pub created: Option<SystemTime>,
    /// When anything about it was last changed.
    pub last_changed: Option<SystemTime>,
    /// The day it was last read, to the day.
    pub last_accessed: Option<SystemTime>,
    /// When a rotation last succeeded.
    pub last_rotated: Option<SystemTime>,
    /// The moment by which the secret will be rotated next.
    pub next_rotation: Option<SystemTime>,
    /// When the secret's deletion was asked for.
    pub deleted: Option<SystemTime>,
}

/// One version of a secret without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVersion {
    /// The version's id.
    pub version_id: String,
    /// The version's staging labels.
    pub stages: Vec<String>,
    /// When the version was created.
    pub created: Option<SystemTime>,
    /// The day it was last read, to the day.
    pub last_accessed: Option<SystemTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let value = SecretValue {
            arn: "arn".into(),
            name: "naïve".into(),
            version_id: String::new(),
            stages: vec!["AWSCURRENT".into(), String::new()],
            created: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567)),
            body: SecretBody::String(Secret::new("hunter2")),
        };
        let binary = SecretValue {
            stages: vec![],
            created: None,
            body: SecretBody::Binary(Secret::new([0, 255])),
            ..value.clone()
        };
        for value in [value, binary] {
            let bytes = value.to_bytes();
            assert_eq!(SecretValue::from_bytes(&bytes).unwrap(), value);
            for end in 0..bytes.len() {
                let _ = SecretValue::from_bytes(&bytes[..end]);
            }
        }
        assert!(SecretValue::from_bytes(b"").is_none());
        assert!(SecretValue::from_bytes(&[255; 64]).is_none());
    }
}
