//! Whether a new version of a secret may be written.

use crate::{SecretId, SecretStages};

/// Why a secret may not be given a new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotWritable {
    /// Another AWS service writes the secret; its name, such as `rds`.
    Owned(String),
    /// The deletion of the secret was asked for.
    Deleted,
    /// The secret is a replica, which Secrets Manager alone writes; the original is in the region named.
    Replica(String),
}

impl SecretId {
    /// Whether a secret of this name may be written. A secret that another service manages is called
    /// after it.
    ///
    /// # Errors
    /// [`NotWritable::Owned`].
    pub fn writable(&self) -> Result<(), NotWritable> {
        match self.managed() {
            Some((service, _)) => Err(NotWritable::Owned(service.to_owned())),
            None => Ok(()),
        }
    }
}

impl SecretStages {
    /// Whether a new version may be written.
    ///
    /// # Errors
    /// The reason why not.
    pub fn writable(&self) -> Result<(), NotWritable> {
        if let Some(service) = &self.owning_service {
            return Err(NotWritable::Owned(service.clone()));
        }
        if self.deleted.is_some() {
            return Err(NotWritable::Deleted);
        }
        let own_region = self.arn.split(':').nth(3);
        match &self.primary_region {
            Some(primary) if Some(primary.as_str()) != own_region => {
                Err(NotWritable::Replica(primary.clone()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_written() {
        let stages = SecretStages {
            arn: "arn:aws:secretsmanager:us-east-1:1:secret:prod/app-abcdef".into(),
            ..SecretStages::default()
        };
        assert_eq!(stages.writable(), Ok(()));
        let original = SecretStages { primary_region: Some("us-east-1".into()), ..stages.clone() };
        assert_eq!(original.writable(), Ok(()));
        let replica = SecretStages { primary_region: Some("eu-west-1".into()), ..stages.clone() };
        assert_eq!(replica.writable(), Err(NotWritable::Replica("eu-west-1".into())));
        let deleted = SecretStages { deleted: Some(std::time::SystemTime::UNIX_EPOCH), ..stages.clone() };
        assert_eq!(deleted.writable(), Err(NotWritable::Deleted));
        let owned = SecretStages { owning_service: Some("rds".into()), ..stages };
        assert_eq!(owned.writable(), Err(NotWritable::Owned("rds".into())));
        let by_name = SecretId::parse("rds!db-1").unwrap();
        assert_eq!(by_name.writable(), Err(NotWritable::Owned("rds".into())));
    }
}
