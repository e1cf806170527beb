//! What the SDK makes its clients of, from our settings.

use std::time::{Duration, SystemTime};

use aws_config::identity::IdentityCache;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::Settings;
use crate::credentials::{Renewed, RunToEnd};
use crate::sts::Role;

/// Pauses between attempts start at a random time up to this, and double. The SDK's own first pause,
/// up to a second, is long for somebody whose statement waits.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// The SDK's configuration, but for the endpoint. `region` is where STS is asked, if it is.
pub(crate) async fn load(
    settings: &Settings,
    files: EnvConfigFiles,
    region: Region,
    http: SharedHttpClient,
) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(settings.connect_timeout)
        .read_timeout(settings.read_timeout())
        // An attempt includes finding credentials, which must not be cut off earlier than the
        // whole call: what hangs at the endpoint is caught by the read timeout.
        .operation_attempt_timeout(settings.request_timeout)
        .operation_timeout(settings.request_timeout)
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(settings.max_attempts.max(1))
        .with_initial_backoff(FIRST_BACKOFF);
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http.clone())
        .profile_files(files.clone())
        .region(region.clone())
        .timeout_config(timeouts)
        .retry_config(retries)
        // `Renewed` keeps them.
        .identity_cache(IdentityCache::no_cache());
    // Off, the environment and the profile decide.
    if settings.use_fips_endpoint {
        loader = loader.use_fips(true);
    }
    if settings.use_dualstack_endpoint {
        loader = loader.use_dual_stack(true);
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    let mut config = loader.load().await;
    if let Some(profile) = &settings.profile {
        // Asked for by name, so it comes before credentials in the environment, which the
        // standard chain would prefer; `aws --profile` does the same.
        let for_profile = ProviderConfig::without_region()
            .with_region(Some(region))
            .with_http_client(http)
            .with_use_fips(config.use_fips())
            .with_use_dual_stack(config.use_dual_stack());
        let profile = ProfileFileCredentialsProvider::builder()
            .configure(&for_profile)
            .profile_files(files)
            .profile_name(profile)
            .build();
        config = with_credentials(config, SharedCredentialsProvider::new(profile));
    }
    if let Some(role_arn) = &settings.role_arn {
        let role = Role::new(role_arn, settings, &config).await;
        config = with_credentials(config, SharedCredentialsProvider::new(role));
    }
    match config.credentials_provider() {
        Some(found) => {
            // Each call is bounded already; as short a limit would be one more way to fail.
            let limit = settings.request_timeout.saturating_mul(2);
            let found = Renewed::new(RunToEnd(found), limit, SystemTime::now);
            with_credentials(config, SharedCredentialsProvider::new(found))
        }
        None => config,
    }
}

fn with_credentials(config: SdkConfig, credentials: SharedCredentialsProvider) -> SdkConfig {
    config.into_builder().credentials_provider(credentials).build()
}
