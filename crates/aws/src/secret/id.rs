//! How a secret is named.

use crate::AwsError;
use crate::region_name::is_region;

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
    /// [`AwsError::InvalidSecretName`] if it is not a name that a secret may have, and
    /// [`AwsError::InvalidSecretId`] if it is an ARN, but not that of a secret.
    pub fn check_form(&self) -> Result<(), AwsError> {
        if self.region().is_none() {
            return check_name(self.managed().map_or(&self.0, |(_, name)| name));
        }
        let is_secret = self.arn().is_some_and(|arn| {
            let name = self.managed().map_or(arn.resource, |(_, name)| name);
            arn.account.bytes().all(|b| b.is_ascii_digit()) && check_name(name).is_ok()
        });
        let problem = "It is an ARN, but not that of a secret.";
        if is_secret { Ok(()) } else { Err(AwsError::InvalidSecretId { problem }) }
    }

    /// Whether this and `other` may be ids of one secret, as far as can be told without asking AWS.
    ///
    /// A secret is what its ARN says: region, account, name, and six random characters. An id may leave
    /// any of these out but the name. What is left out is not known: a name alone is looked for in the
    /// region of the settings, which change from session to session.
    pub fn may_be(&self, other: &SecretId) -> bool {
        match (self.arn(), other.arn()) {
            (None, None) => self.0 == other.0,
            (Some(arn), None) => arn.may_be_called(&other.0),
            (None, Some(arn)) => arn.may_be_called(&self.0),
            (Some(one), Some(other)) => {
                let not_different = |a: &str, b: &str| a == b || a.is_empty() || b.is_empty();
                not_different(one.region, other.region)
                    && not_different(one.account, other.account)
                    && (one.may_be_called(other.resource) || other.may_be_called(one.resource))
            }
        }
    }

    /// The names that the secret may have. Two ids of one secret have a name in common.
    ///
    /// An ARN with a hyphen and six characters at its end may be a full one, or one without suffix of a
    /// secret that is called so.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (name, shorter) = match self.arn() {
            Some(arn) => (arn.resource, arn.without_suffix()),
            None => (self.0.as_str(), None),
        };
        std::iter::once(name).chain(shorter)
    }

    fn arn(&self) -> Option<Arn<'_>> {
        let region = self.region()?;
        let mut fields = self.0.splitn(7, ':').skip(4);
        let (account, kind, resource) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "secret").then_some(Arn { region, account, resource })
    }

    /// The service and the rest of the name, of a secret that another AWS service manages: `rds!db-…`
    /// (Secrets Manager user guide, "AWS Secrets Manager secrets managed by other AWS services").
    pub fn managed(&self) -> Option<(&str, &str)> {
        let name = match self.region() {
            Some(_) => self.0.split(':').nth(6)?,
            None => self.0.as_str(),
        };
        let (service, rest) = name.split_once('!')?;
        let is_service = !service.is_empty() && service.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        (is_service && !rest.is_empty()).then_some((service, rest))
    }

    /// The region of an ARN; `None` for a name.
    pub fn region(&self) -> Option<&str> {
        region_field(&self.0).filter(|region| !region.is_empty())
    }
}

/// `arn:partition:secretsmanager:region:account:secret:resource`
struct Arn<'a> {
    region: &'a str,
    account: &'a str,
    /// The name and, unless it is left out, a hyphen and six random characters.
    resource: &'a str,
}

impl<'a> Arn<'a> {
    fn without_suffix(&self) -> Option<&'a str> {
        let (name, suffix) = self.resource.rsplit_once('-')?;
        let is_suffix = suffix.len() == 6 && suffix.bytes().all(|b| b.is_ascii_alphanumeric());
        (is_suffix && !name.is_empty()).then_some(name)
    }

    fn may_be_called(&self, name: &str) -> bool {
        self.resource == name || self.without_suffix() == Some(name)
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
        return invalid("It contains a character that is no letter, no digit and none of /_+=.@-");
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
        for (name, problem) in [
            ("bad name !", "character"),
            ("a b", "character"),
            ("rds!", "character"),
            ("!x", "character"),
            ("a!b!c", "character"),
            ("rds!a b", "character"),
            (&"x".repeat(513), "512"),
        ] {
            let error = SecretId::parse(name).unwrap().check_form().unwrap_err();
            assert!(error.detail().unwrap().contains(problem), "{name}: {error:?}");
            assert!(error.hint().unwrap().contains("1 to 512 characters"), "{name}: {error:?}");
        }
    }

    #[test]
    fn ids_that_may_be_of_one_secret() {
        const ARN: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:";
        let may_be = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| SecretId::parse(text).unwrap());
            let shared = one.names().any(|name| other.names().any(|other| other == name));
            let may_be = one.may_be(&other);
            assert_eq!(other.may_be(&one), may_be);
            assert!(shared || !may_be, "a lock by name keeps them apart");
            may_be
        };
        let arn = |rest: &str| format!("{ARN}{rest}");
        for (one, other) in [
            ("s/a".to_owned(), "s/a".to_owned()),
            ("s/a".to_owned(), arn("s/a")),
            ("s/a".to_owned(), arn("s/a-AbCdEf")),
            (arn("s/a"), arn("s/a-AbCdEf")),
            (arn("s/a-AbCdEf"), arn("s/a-AbCdEf")),
            // The name of a secret may look like one with a suffix.
            ("s/a-backup".to_owned(), arn("s/a-backup")),
            (arn("s/a-backup"), arn("s/a-backup-AbCdEf")),
            (arn("s/a-AbCdEf"), arn("s/a-AbCdEf").replace("123456789012", "")),
        ] {
            assert!(may_be(&one, &other), "{one} {other}");
        }
        for (one, other) in [
            ("s/a".to_owned(), "s/b".to_owned()),
            ("s/a".to_owned(), "s/a-backup".to_owned()),
            ("s/a".to_owned(), "S/A".to_owned()),
            ("s/a".to_owned(), arn("s/a-AbCdEfG")),
            ("s/a".to_owned(), arn("s/a-AbCdEf-AbCdEf")),
            (arn("s/a-AbCdEf"), arn("s/a-GhIjKl")),
            (arn("s/a"), arn("s/a").replace("us-east-1", "eu-west-1")),
            (arn("s/a-AbCdEf"), arn("s/a").replace("123456789012", "123456789013")),
        ] {
            assert!(!may_be(&one, &other), "{one} {other}");
        }
    }

    #[test]
    fn arns_that_are_of_no_secret() {
        let form = |text: &str| SecretId::parse(text).unwrap().check_form();
        let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:s/a-AbCdEf";
        assert!(form(arn).is_ok());
        for wrong in [
            // ECS puts a field, a stage and a version behind it.
            &format!("{arn}:password::"),
            &arn.replace(":secret:", ":rotation:"),
            &arn.replace(":s/a-AbCdEf", ""),
            &arn.replace("s/a-AbCdEf", ""),
            &arn.replace("123456789012", "me"),
        ] {
            assert!(form(wrong).is_err(), "{wrong}");
        }
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
