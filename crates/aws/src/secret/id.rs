//! How a secret is named.

use crate::AwsError;
use crate::region::is_region;

/// The longest id that Secrets Manager takes, in bytes (API reference, GetSecretValue, SecretId).
const MAX_BYTES: usize = 2048;

/// The name, the full ARN or the ARN without its random suffix ("partial ARN") of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretId(String);

impl SecretId {
    /// Checks what can be checked without asking AWS.
    ///
    /// # Errors
    /// [`AwsError::InvalidSecretId`] if `text` is empty, longer than 2048 bytes, contains a control
    /// character, or is an ARN of Secrets Manager whose region cannot be one.
    pub fn parse(text: &str) -> Result<SecretId, AwsError> {
        let invalid = |problem| Err(AwsError::InvalidSecretId { problem });
        if text.is_empty() {
            return invalid("It is empty.");
        }
        if text.len() > MAX_BYTES {
            return invalid("It is longer than 2048 bytes.");
        }
        if text.chars().any(char::is_control) {
            return invalid("It contains a control character.");
        }
        if region_field(text).is_some_and(|region| !region.is_empty() && !is_region(region)) {
            return invalid("It is an ARN, and its region is not one.");
        }
        Ok(SecretId(text.to_owned()))
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks more strictly: an id that no secret can have is refused.
    ///
    /// # Errors
    /// [`AwsError::InvalidSecretName`] if it is neither an ARN of Secrets Manager nor a name that a
    /// secret may have.
    pub fn check_form(&self) -> Result<(), AwsError> {
        if self.region().is_some() {
            Ok(())
        } else {
            check_name(self.managed().map_or(&self.0, |(_, name)| name))
        }
    }

    /// Of a secret that another AWS service manages, the service and the rest of the name: `rds!db-…`
    /// (Secrets Manager user guide, "AWS Secrets Manager secrets managed by other AWS services").
    pub fn managed(&self) -> Option<(&str, &str)> {
        let name = match self.region() {
            Some(_) => self.0.split(':').nth(6)?,
            None => self.0.as_str(),
        };
        name.split_once('!')
    }

    /// The region of an ARN; `None` for a name.
    pub fn region(&self) -> Option<&str> {
        region_field(&self.0).filter(|region| !region.is_empty())
    }
}

/// Checks what may be the name of a new secret.
///
/// # Errors
/// [`AwsError::InvalidSecretName`].
pub(crate) fn check_name(name: &str) -> Result<(), AwsError> {
    let invalid = |problem| Err(AwsError::InvalidSecretName { problem });
    if name.is_empty() {
        return invalid("It is empty.");
    }
    if name.len() > 512 {
        return invalid("It is longer than 512 characters.");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b)) {
        return invalid("It contains another character.");
    }
    Ok(())
}

/// The fourth field of `arn:partition:secretsmanager:region:account:secret:name-suffix`.
fn region_field(text: &str) -> Option<&str> {
    let mut fields = text.strip_prefix("arn:")?.split(':');
    let _partition = fields.next()?;
    (fields.next()? == "secretsmanager").then_some(())?;
    fields.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secretlink_core::Report;

    #[test]
    fn names_and_arns() {
        let region = |text| SecretId::parse(text).unwrap().region().map(str::to_owned);
        assert_eq!(region("prod/orders"), None);
        assert_eq!(
            region("arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/orders-AbCdEf").as_deref(),
            Some("eu-west-1")
        );
        assert_eq!(
            region("arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:x").as_deref(),
            Some("cn-north-1")
        );
        assert_eq!(region("arn:aws:secretsmanager::123456789012:secret:x"), None);
        assert_eq!(region("arn:aws:secretsmanager"), None);
        assert_eq!(region("arn:aws:s3:us-east-1::bucket"), None);
        assert_eq!(SecretId::parse("a'b\"c é").unwrap().as_str(), "a'b\"c é");
        assert!(SecretId::parse(&"x".repeat(2048)).is_ok());
    }

    #[test]
    fn managed_secrets_are_told_by_their_names() {
        let service = |text| SecretId::parse(text).unwrap().managed().map(|(service, _)| service.to_owned());
        assert_eq!(service("rds!db-1").as_deref(), Some("rds"));
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-1-AbCdEf";
        assert_eq!(service(arn).as_deref(), Some("rds"));
        assert_eq!(service("prod/orders"), None);
        assert!(SecretId::parse("rds!db-1").unwrap().check_form().is_ok());
        assert!(SecretId::parse("a b").unwrap().check_form().is_err());
    }

    #[test]
    fn bad_ids() {
        for (text, problem) in [
            ("", "empty"),
            (&*"x".repeat(10_000), "2048"),
            ("a\0b", "control"),
            ("a\nb", "control"),
            ("arn:aws:secretsmanager:evil.example.com/#:1:secret:x", "region"),
        ] {
            let error = SecretId::parse(text).unwrap_err();
            assert_eq!(error.sqlstate().as_str(), "22023");
            assert!(error.detail().unwrap().contains(problem), "{error:?}");
        }
    }
}
