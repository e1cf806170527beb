//! The calls to Secrets Manager.

use std::sync::PoisonError;
use std::time::SystemTime;

use aws_config::Region;
use aws_sdk_secretsmanager::Client as Service;
use aws_sdk_secretsmanager::operation::put_secret_value::builders::PutSecretValueFluentBuilder;
use aws_sdk_secretsmanager::primitives::Blob;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, SecretListEntry};
use aws_smithy_types::DateTime;

use secretlink_core::Secret;

use crate::call::Call;
use crate::client::Client;
use crate::operation::Operation;
use crate::secret::id::check_name;
use crate::secret::value::{
    ListedSecret, NewSecret, RotationRules, SecretBody, SecretDescription, SecretStages, SecretValue,
    SecretVersion,
};
use crate::secret::version::VersionSelector;
use crate::{AwsError, SecretId, stage};

/// The most that a secret holds, in bytes (API reference, CreateSecret and PutSecretValue, SecretString).
const MAX_SECRET_BYTES: usize = 65_536;

/// The most secrets on one page (API reference, ListSecrets, MaxResults).
const LARGEST_PAGE: i32 = 100;

impl Client {
    /// Reads a secret (API reference, GetSecretValue).
    ///
    /// # Errors
    /// Any [`AwsError`] of region, credentials, network or service; above all
    /// [`AwsError::SecretNotFound`], [`AwsError::VersionNotFound`] and [`AwsError::NotAuthorized`].
    pub async fn get_secret_value(
        &self,
        id: &SecretId,
        version: &VersionSelector,
    ) -> Result<SecretValue, AwsError> {
        let call = Call::new(Operation::GetSecretValue, id.as_str()).with_version(version);
        self.in_time(&call, async {
            let client = self.secrets_manager(&call, id.region()).await?;
            // Said aloud, though it is the default: the stand-in, moto, would otherwise return the version
            // that was written last as AWSCURRENT, wherever the label is now.
            let current = || version.version_id.is_none().then(|| stage::CURRENT.to_owned());
            let request = client
                .get_secret_value()
                .secret_id(id.as_str())
                .set_version_stage(version.stage.clone().or_else(current))
                .set_version_id(version.version_id.clone());
            let output = request.customize().interceptor(call.observer()).send().await;
            let output = output.map_err(|error| call.failed(error))?;
            // Moved, not cloned: the only copy of the secret is the one that is handed out.
            let body = match (output.secret_string, output.secret_binary) {
                (Some(text), _) => SecretBody::String(Secret::new(text)),
                (None, Some(bytes)) => SecretBody::Binary(Secret::new(bytes.into_inner())),
                (None, None) => return Err(call.incomplete()),
            };
            Ok(SecretValue {
                arn: output.arn.ok_or_else(|| call.incomplete())?,
                name: output.name.ok_or_else(|| call.incomplete())?,
                version_id: output.version_id.ok_or_else(|| call.incomplete())?,
                stages: output.version_stages.unwrap_or_default(),
                created: time(output.created_date),
                body,
            })
        })
        .await
    }

    /// Reads everything but the value (API reference, DescribeSecret and ListSecretVersionIds), with
    /// both calls side by side. Versions without a staging label are not listed.
    ///
    /// # Errors
    /// As [`Client::get_secret_value`]; both actions must be permitted.
    pub async fn describe_secret(&self, id: &SecretId) -> Result<SecretDescription, AwsError> {
        let describe = Call::new(Operation::DescribeSecret, id.as_str());
        let list = Call::new(Operation::ListSecretVersionIds, id.as_str());
        let secret = self.in_time(&describe, async {
            let client = self.secrets_manager(&describe, id.region()).await?;
            let request = client.describe_secret().secret_id(id.as_str());
            let output = request.customize().interceptor(describe.observer()).send().await;
            output.map_err(|error| describe.failed(error))
        });
        let versions = self.in_time(&list, async {
            let client = self.secrets_manager(&list, id.region()).await?;
            list_versions(&client, id, &list, false).await
        });
        let (output, versions) = tokio::try_join!(secret, versions)?;
        Ok(SecretDescription {
            arn: output.arn.ok_or_else(|| describe.incomplete())?,
            name: output.name.ok_or_else(|| describe.incomplete())?,
            description: output.description.filter(|text| !text.is_empty()),
            kms_key_id: output.kms_key_id,
            owning_service: output.owning_service,
            primary_region: output.primary_region,
            rotation_enabled: output.rotation_enabled.unwrap_or(false),
            last_changed: time(output.last_changed_date),
            last_accessed: time(output.last_accessed_date),
            last_rotated: time(output.last_rotated_date),
            next_rotation: time(output.next_rotation_date),
            deleted: time(output.deleted_date),
            versions,
        })
    }

    /// Creates a secret (API reference, CreateSecret) and returns its ARN. Attempts carry one
    /// idempotency token, so a repeated one does not create twice.
    ///
    /// # Errors
    /// [`AwsError::InvalidSecretName`], [`AwsError::InvalidParameter`] or [`AwsError::TooLarge`]
    /// before anything is sent; [`AwsError::AlreadyExists`]; else as
    /// [`Client::get_secret_value`].
    pub async fn create_secret(&self, new: NewSecret) -> Result<String, AwsError> {
        check_name(&new.name)?;
        let text = secret_text(&new.name, &new.value)?;
        let call = Call::new(Operation::CreateSecret, &new.name);
        self.in_time(&call, async {
            let client = self.secrets_manager(&call, None).await?;
            let request = client
                .create_secret()
                .name(&new.name)
                .secret_string(text)
                .set_description(new.description.clone())
                .set_kms_key_id(new.kms_key_id.clone())
                .set_client_request_token(new.version_id.clone());
            let output = request.customize().interceptor(call.observer()).send().await;
            output.map_err(|error| call.failed(error))?.arn.ok_or_else(|| call.incomplete())
        })
        .await
    }

    /// Adds a version that holds text, with these staging labels (API reference, PutSecretValue), and
    /// returns its id, which is `version_id` if given: 32 to 64 characters. Attempts carry one idempotency
    /// token, so a repeated one does not add two.
    ///
    /// # Errors
    /// [`AwsError::InvalidParameter`] if `stages` or one of them is empty or the value is empty or not text,
    /// and [`AwsError::TooLarge`], before anything is sent; else as [`Client::get_secret_value`].
    pub async fn put_secret_value(
        &self,
        id: &SecretId,
        value: Secret,
        stages: Vec<String>,
        version_id: Option<String>,
    ) -> Result<String, AwsError> {
        let text = secret_text(id.as_str(), &value)?;
        self.put(id, stages, |request| request.secret_string(text).set_client_request_token(version_id)).await
    }

    /// Adds a version that holds bytes, with these staging labels (API reference, PutSecretValue), and
    /// returns its id.
    ///
    /// # Errors
    /// As [`Client::put_secret_value`].
    pub async fn put_secret_binary(
        &self,
        id: &SecretId,
        value: Secret,
        stages: Vec<String>,
    ) -> Result<String, AwsError> {
        check_size(id.as_str(), &value)?;
        let bytes = Blob::new(value.expose());
        self.put(id, stages, |request| request.secret_binary(bytes)).await
    }

    async fn put(
        &self,
        id: &SecretId,
        stages: Vec<String>,
        with_value: impl FnOnce(PutSecretValueFluentBuilder) -> PutSecretValueFluentBuilder,
    ) -> Result<String, AwsError> {
        if stages.is_empty() {
            // Left out, it would silently mean AWSCURRENT.
            return Err(invalid_parameter(id.as_str(), "At least one staging label is needed."));
        }
        if stages.iter().any(String::is_empty) {
            return Err(invalid_parameter(id.as_str(), "A staging label is empty."));
        }
        let call = Call::new(Operation::PutSecretValue, id.as_str());
        self.in_time(&call, async {
            let client = self.secrets_manager(&call, id.region()).await?;
            let request = client.put_secret_value().secret_id(id.as_str()).set_version_stages(Some(stages));
            let output = with_value(request).customize().interceptor(call.observer()).send().await;
            output.map_err(|error| call.failed(error))?.version_id.ok_or_else(|| call.incomplete())
        })
        .await
    }

    /// Lists the secrets of the settings' region whose name begins with `prefix`, those whose deletion was
    /// asked for included (API reference, ListSecrets). Sorted by name.
    ///
    /// # Errors
    /// As [`Client::get_secret_value`].
    pub async fn list_secrets(&self, prefix: Option<&str>) -> Result<Vec<ListedSecret>, AwsError> {
        let call = Call::new(Operation::ListSecrets, &format!("{}*", prefix.unwrap_or_default()));
        self.in_time(&call, async {
            let client = self.secrets_manager(&call, None).await?;
            let filter = prefix
                .map(|prefix| vec![Filter::builder().key(FilterNameStringType::Name).values(prefix).build()]);
            let mut secrets = Vec::new();
            let mut next_page = None;
            loop {
                let request = client
                    .list_secrets()
                    .include_planned_deletion(true)
                    .max_results(LARGEST_PAGE)
                    .set_filters(filter.clone())
                    .set_next_token(next_page);
                let page = request.customize().interceptor(call.observer()).send().await;
                let page = page.map_err(|error| call.failed(error))?;
                for secret in page.secret_list.unwrap_or_default() {
                    let listed = listed(secret).ok_or_else(|| call.incomplete())?;
                    // A filter of AWS's is not as particular about case.
                    if prefix.is_none_or(|prefix| listed.name.starts_with(prefix)) {
                        secrets.push(listed);
                    }
                }
                next_page = page.next_token.filter(|token| !token.is_empty());
                if next_page.is_none() {
                    secrets.sort_by(|a: &ListedSecret, b| a.name.cmp(&b.name));
                    return Ok(secrets);
                }
            }
        })
        .await
    }

    /// Reads who holds which staging label (API reference, DescribeSecret).
    ///
    /// # Errors
    /// As [`Client::get_secret_value`].
    pub async fn stages(&self, id: &SecretId) -> Result<SecretStages, AwsError> {
        let call = Call::new(Operation::DescribeSecret, id.as_str());
        self.in_time(&call, async {
            let client = self.secrets_manager(&call, id.region()).await?;
            let request = client.describe_secret().secret_id(id.as_str());
            let output = request.customize().interceptor(call.observer()).send().await;
            let output = output.map_err(|error| call.failed(error))?;
            Ok(SecretStages {
                arn: output.arn.ok_or_else(|| call.incomplete())?,
                owning_service: output.owning_service,
                primary_region: output.primary_region,
                deleted: time(output.deleted_date),
                rotation_enabled: output.rotation_enabled.unwrap_or(false),
                rotation_lambda_arn: output.rotation_lambda_arn.filter(|arn| !arn.is_empty()),
                rotation_rules: output.rotation_rules.map(|rules| RotationRules {
                    schedule: rules.schedule_expression,
                    duration: rules.duration,
                    after_days: rules.automatically_after_days,
                }),
                next_rotation: time(output.next_rotation_date),
                versions: output.version_ids_to_stages.unwrap_or_default(),
            })
        })
        .await
    }

    /// Lists all versions, those without a staging label too, which Secrets Manager deletes some time
    /// after the label has gone (API reference, ListSecretVersionIds).
    ///
    /// # Errors
    /// As [`Client::get_secret_value`].
    pub async fn list_versions(&self, id: &SecretId) -> Result<Vec<SecretVersion>, AwsError> {
        let call = Call::new(Operation::ListSecretVersionIds, id.as_str());
        self.in_time(&call, async {
            let client = self.secrets_manager(&call, id.region()).await?;
            list_versions(&client, id, &call, true).await
        })
        .await
    }

    /// Takes a staging label from one version and gives it to another (API reference,
    /// UpdateSecretVersionStage). AWS does so only while `from` holds the label, which makes a request
    /// that arrives late, or twice, harmless.
    ///
    /// # Errors
    /// [`AwsError::InvalidParameter`] or [`AwsError::InvalidRequest`] if `from` does not hold the label;
    /// else as [`Client::get_secret_value`].
    pub async fn update_secret_version_stage(
        &self,
        id: &SecretId,
        stage: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(), AwsError> {
        let call = Call::new(Operation::UpdateSecretVersionStage, id.as_str());
        self.in_time(&call, async {
            let client = self.secrets_manager(&call, id.region()).await?;
            let request = client
                .update_secret_version_stage()
                .secret_id(id.as_str())
                .version_stage(stage)
                .set_remove_from_version_id(from.map(str::to_owned))
                .set_move_to_version_id(to.map(str::to_owned));
            let output = request.customize().interceptor(call.observer()).send().await;
            output.map(drop).map_err(|error| call.failed(error))
        })
        .await
    }

    /// Takes `AWSPENDING` away from this version, at which a rotation that is over has left it, before another version
    /// becomes current: AWS would take it for a rotation in progress.
    ///
    /// # Errors
    /// Those of the call. That the label is not there any more is none.
    pub async fn clear_finished_rotation(
        &self,
        id: &SecretId,
        version_id: Option<&str>,
    ) -> Result<(), AwsError> {
        let Some(version_id) = version_id else { return Ok(()) };
        match self.update_secret_version_stage(id, stage::PENDING, Some(version_id), None).await {
            Err(AwsError::InvalidParameter { .. } | AwsError::InvalidRequest { .. }) => Ok(()),
            cleared => cleared,
        }
    }

    /// Has AWS rotate a secret that it or a Lambda function rotates (API reference, RotateSecret): at once,
    /// as a version of this id, or, with `rules`, from now on by a schedule of AWS's. Returns the id of the
    /// new version.
    ///
    /// # Errors
    /// [`AwsError::InvalidRequest`] if it is not set up for that; else as
    /// [`Client::get_secret_value`].
    pub async fn rotate_secret(
        &self,
        id: &SecretId,
        version_id: &str,
        rules: Option<&RotationRules>,
    ) -> Result<String, AwsError> {
        let call = Call::new(Operation::RotateSecret, id.as_str());
        self.in_time(&call, async {
            let client = self.secrets_manager(&call, id.region()).await?;
            let rules_type = rules.map(|rules| {
                aws_sdk_secretsmanager::types::RotationRulesType::builder()
                    .set_schedule_expression(rules.schedule.clone())
                    .set_duration(rules.duration.clone())
                    .set_automatically_after_days(rules.after_days)
                    .build()
            });
            let request = client
                .rotate_secret()
                .secret_id(id.as_str())
                .client_request_token(version_id)
                .set_rotation_rules(rules_type)
                .rotate_immediately(rules.is_none());
            let output = request.customize().interceptor(call.observer()).send().await;
            output.map_err(|error| call.failed(error))?.version_id.ok_or_else(|| call.incomplete())
        })
        .await
    }

    /// The client for the region of an ARN, else of the configuration, else of the instance.
    async fn secrets_manager(&self, call: &Call, arn_region: Option<&str>) -> Result<Service, AwsError> {
        let (region, config) = self.region_and_config(arn_region).await?;
        call.set_region(region.as_ref());
        // Nothing can panic while the lock is held, and if it did, the map would still be whole.
        let mut clients = self.secrets_manager_clients().lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients.entry(region.as_ref().to_owned()).or_insert_with(|| {
            let mut builder = aws_sdk_secretsmanager::config::Builder::from(config);
            if let Some(http) = self.kept_http() {
                builder = builder.http_client(http);
            }
            Service::from_conf(self.with_endpoint(builder, region).build())
        });
        Ok(client.clone())
    }

    /// The service's own settings, for this region.
    pub(crate) fn with_endpoint(
        &self,
        builder: aws_sdk_secretsmanager::config::Builder,
        region: Region,
    ) -> aws_sdk_secretsmanager::config::Builder {
        let builder = builder.region(region);
        // Unset, the standard places for an endpoint stay in force (AWS_ENDPOINT_URL and the like).
        match &self.settings().endpoint_url {
            Some(url) => builder.endpoint_url(url),
            None => builder,
        }
    }
}

/// How much of the versions of a secret is taken in, in bytes. AWS keeps the newest hundred and those of a day.
const MAX_LIST: usize = 4 << 20;

async fn list_versions(
    client: &Service,
    id: &SecretId,
    call: &Call,
    without_label_too: bool,
) -> Result<Vec<SecretVersion>, AwsError> {
    let mut versions = Vec::new();
    let mut next_page = None;
    let mut size = 0;
    loop {
        let request = client
            .list_secret_version_ids()
            .secret_id(id.as_str())
            .include_deprecated(without_label_too)
            .set_next_token(next_page);
        let page = request.customize().interceptor(call.observer()).send().await;
        let page = page.map_err(|error| call.failed(error))?;
        for version in page.versions.unwrap_or_default() {
            let stages = version.version_stages.iter().flatten();
            size += 100 + stages.map(|stage| 50 + stage.len()).sum::<usize>();
            if size > MAX_LIST {
                return Err(call.incomplete());
            }
            versions.push(SecretVersion {
                version_id: version.version_id.ok_or_else(|| call.incomplete())?,
                stages: version.version_stages.unwrap_or_default(),
                created: time(version.created_date),
                last_accessed: time(version.last_accessed_date),
            });
        }
        // The stand-in, moto, ends with an empty token instead of none.
        next_page = page.next_token.filter(|token| !token.is_empty());
        if next_page.is_none() {
            return Ok(versions);
        }
    }
}

fn listed(secret: SecretListEntry) -> Option<ListedSecret> {
    Some(ListedSecret {
        name: secret.name?,
        arn: secret.arn?,
        description: secret.description.filter(|text| !text.is_empty()),
        kms_key_id: secret.kms_key_id,
        owning_service: secret.owning_service,
        primary_region: secret.primary_region,
        rotation_enabled: secret.rotation_enabled.unwrap_or(false),
        created: time(secret.created_date),
        last_changed: time(secret.last_changed_date),
        last_accessed: time(secret.last_accessed_date),
        last_rotated: time(secret.last_rotated_date),
        next_rotation: time(secret.next_rotation_date),
        deleted: time(secret.deleted_date),
    })
}

/// A time beyond what the system can express is as good as none.
fn time(time: Option<DateTime>) -> Option<SystemTime> {
    time.and_then(|time| time.try_into().ok())
}

fn invalid_parameter(secret: &str, problem: &str) -> AwsError {
    AwsError::InvalidParameter { secret: secret.to_owned(), message: Some(problem.to_owned()) }
}

fn secret_text(secret: &str, value: &Secret) -> Result<String, AwsError> {
    check_size(secret, value)?;
    let text =
        value.expose_str().ok_or_else(|| invalid_parameter(secret, "The value is not valid UTF-8."))?;
    Ok(text.to_owned())
}

fn check_size(secret: &str, value: &Secret) -> Result<(), AwsError> {
    if value.is_empty() {
        return Err(invalid_parameter(secret, "The value is empty."));
    }
    let bytes = value.expose().len();
    if bytes > MAX_SECRET_BYTES {
        return Err(AwsError::TooLarge { secret: secret.to_owned(), bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "prod/orders_+=.@-Z9", &"x".repeat(512)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "a'b", "é", "a:b", "a\0", &"x".repeat(513)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn values() {
        assert!(secret_text("x", &Secret::new("p".repeat(65_536))).is_ok());
        assert!(matches!(
            secret_text("x", &Secret::new("p".repeat(65_537))),
            Err(AwsError::TooLarge { bytes: 65_537, .. })
        ));
        assert!(secret_text("x", &Secret::new("")).is_err());
        assert!(secret_text("x", &Secret::new(vec![0xff])).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let new = NewSecret {
            name: "x".into(),
            value: Secret::new("hunter2"),
            description: None,
            kms_key_id: None,
            version_id: None,
        };
        assert!(!format!("{new:?}").contains("hunter2"));
    }

    #[test]
    fn can_be_shared() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        shared::<Client>();
        fn sent<T: Send>(_: T) {}
        let id = SecretId::parse("x");
        if let Ok(id) = id {
            let manager = Client::new(crate::Settings::default());
            sent(manager.get_secret_value(&id, &VersionSelector::default()));
            sent(manager.describe_secret(&id));
            sent(manager.put_secret_value(&id, Secret::new("x"), vec![], None));
        }
    }
}
