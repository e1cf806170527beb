//! One field of a secret that is a JSON object: reading it, and changing it without losing another change.

use secretlink_core::Secret;
use serde_json::value::RawValue;

use crate::client::Client;
use crate::secret::document::text_of;
use crate::secret::value::SecretValue;
use crate::secret::version::VersionSelector;
use crate::{AwsError, SecretId, stage};

/// Holds a version whose field was changed until `AWSCURRENT` has moved to it: Secrets Manager does not store
/// a version without a label.
const CHANGED_FIELD: &str = "SECRETLINK_FIELD";

impl SecretValue {
    /// One field of a secret that is a JSON object: the text of a string, the JSON of anything else; `None`
    /// for `null`.
    ///
    /// # Errors
    /// [`AwsError::IsBinary`], [`AwsError::NotJson`], [`AwsError::NotAnObject`], [`AwsError::NoField`], and
    /// [`AwsError::FieldNotText`] for a string that no SQL text can be.
    pub fn field(&self, field: &str) -> Result<Option<Secret>, AwsError> {
        let document = self.document()?;
        let not_text =
            |problem| AwsError::FieldNotText { secret: self.name.clone(), field: field.to_owned(), problem };
        match document.raw(field) {
            None => Err(AwsError::NoField { secret: self.name.clone(), field: field.to_owned() }),
            Some("null") => Ok(None),
            Some(json) if json.starts_with('"') => match text_of(json) {
                None => Err(not_text("It has a character that cannot be.")),
                Some(text) if text.contains('\0') => Err(not_text("It contains a NUL character.")),
                Some(text) => Ok(Some(Secret::new(text))),
            },
            Some(json) => Ok(Some(Secret::new(json))),
        }
    }
}

impl Client {
    /// Changes one field of the current version of a secret, and keeps all others as they are written.
    /// Returns the id of the version that is then current.
    ///
    /// `AWSCURRENT` moves from the version that was read, or not at all: a rotation that is faster, or
    /// another change, is not undone. A number stays a number, and `true` or `false` stays one of them, if
    /// `value` is one; everything else becomes a string.
    ///
    /// If this ends before `AWSCURRENT` has moved, the secret is as it was. A version under a label of its
    /// own is left, and the next change takes the label over.
    ///
    /// # Errors
    /// [`AwsError::ChangedMeanwhile`] if somebody else was faster; [`AwsError::IsBinary`],
    /// [`AwsError::NotJson`], [`AwsError::NotAnObject`]; else as [`Client::put_secret_value`].
    pub async fn put_secret_field(
        &self,
        id: &SecretId,
        field: &str,
        value: &Secret,
    ) -> Result<String, AwsError> {
        let read = self.get_secret_value(id, &VersionSelector::default()).await?;
        let mut document = read.document()?;
        match of_the_same_kind(document.raw(field), value) {
            Some(json) => document.set(field, &json),
            None => document.set(field, value.expose_str().unwrap_or_default()),
        }
        let is_pending = read.stages.iter().any(|label| label == stage::PENDING);
        self.clear_finished_rotation(id, is_pending.then_some(&read.version_id)).await?;
        let stages = vec![CHANGED_FIELD.to_owned()];
        let written = self.put_secret_value(id, document.to_secret(), stages, None).await?;
        let moved = self
            .update_secret_version_stage(id, stage::CURRENT, Some(&read.version_id), Some(&written))
            .await;
        // A label that stays does no harm, so it does not count whether this works.
        let _ = self.update_secret_version_stage(id, CHANGED_FIELD, Some(&written), None).await;
        match moved {
            Ok(()) => Ok(written),
            // The label was not where it had been read.
            Err(AwsError::InvalidParameter { .. } | AwsError::InvalidRequest { .. }) => {
                Err(AwsError::ChangedMeanwhile { secret: read.name })
            }
            Err(error) => Err(error),
        }
    }
}

/// The new value as JSON, if it is a number in place of a number or a Boolean in place of one.
fn of_the_same_kind(old: Option<&str>, new: &Secret) -> Option<Box<RawValue>> {
    let is_number = |json: &str| json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let is_boolean = |json: &str| json == "true" || json == "false";
    let (old, new) = (old?, new.expose_str()?);
    let alike = (is_number(old) && is_number(new)) || (is_boolean(old) && is_boolean(new));
    // Only what is JSON from the first character to the last is taken as it is.
    let json = alike.then(|| serde_json::from_str::<Box<RawValue>>(new).ok()).flatten()?;
    (json.get() == new).then_some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_a_number() {
        let json = |old: Option<&str>, new: &str| {
            of_the_same_kind(old, &Secret::new(new)).map(|json| json.get().to_owned())
        };
        for (old, new) in [("5432", "5433"), ("-1", "1e999"), ("true", "false"), ("1.50", "2.50")] {
            assert_eq!(json(Some(old), new).as_deref(), Some(new));
        }
        for (old, new) in [
            ("5432", "none"),
            ("1", "1 "),
            ("1", "01"),
            ("1", ""),
            ("\"1\"", "2"),
            ("true", "1"),
            ("null", "1"),
        ] {
            assert_eq!(json(Some(old), new), None, "{old} {new}");
        }
        assert_eq!(json(None, "1"), None);
    }
}
