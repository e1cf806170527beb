//! What the integration tests share.

use std::sync::Once;
use std::time::Duration;

use secretlink_aws::{AwsError, Client, SecretId, SecretValue, Settings, VersionSelector};
use secretlink_core::Report;

/// An environment in which nothing of the machine's own AWS configuration is found.
fn environment() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        // SAFETY: every test begins by making settings, and so by waiting for this; until it is
        // done no test has started a thread or read the environment.
        unsafe {
            for name in [
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "AWS_SESSION_TOKEN",
                "AWS_PROFILE",
                "AWS_REGION",
                "AWS_DEFAULT_REGION",
                "AWS_ENDPOINT_URL",
                "AWS_ENDPOINT_URL_SECRETS_MANAGER",
                "AWS_ENDPOINT_URL_STS",
                "AWS_CA_BUNDLE",
                "AWS_USE_FIPS_ENDPOINT",
                "AWS_USE_DUALSTACK_ENDPOINT",
                "HTTPS_PROXY",
                "https_proxy",
                "HTTP_PROXY",
                "http_proxy",
                "ALL_PROXY",
                "all_proxy",
                "NO_PROXY",
                "no_proxy",
            ] {
                std::env::remove_var(name);
            }
            std::env::set_var("AWS_EC2_METADATA_DISABLED", "true");
            std::env::set_var("AWS_CONFIG_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/aws-config"));
            std::env::set_var("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
        }
    });
}

/// Settings for one attempt at `endpoint`.
pub fn settings(endpoint: &str) -> Settings {
    environment();
    Settings {
        region: Some("us-east-1".into()),
        endpoint_url: Some(endpoint.into()),
        connect_timeout: Duration::from_secs(2),
        max_attempts: 1,
        ..Settings::default()
    }
}

/// Reads the secret `x`.
#[allow(dead_code, reason = "not every test binary uses everything here")]
pub async fn get(settings: Settings) -> Result<SecretValue, AwsError> {
    let id = SecretId::parse("x")?;
    Client::new(settings).get_secret_value(&id, &VersionSelector::default()).await
}

/// Everything of an error that anybody could come to see.
#[allow(dead_code, reason = "not every test binary uses everything here")]
pub fn all_of(error: &AwsError) -> String {
    format!("{error} | {error:?} | {error:#?} | {:?} | {:?}", error.detail(), error.hint())
}
