//! Which region a request goes to.

use aws_config::Region;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::{ProvideRegion, RegionProviderChain};
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::Settings;

/// The region of the settings, else of the environment, else of the profile: no I/O.
pub(crate) async fn configured(settings: &Settings, files: EnvConfigFiles) -> Option<Region> {
    if let Some(region) = &settings.region {
        return Some(Region::new(region.clone()));
    }
    let mut profile = ProfileFileRegionProvider::builder().profile_files(files);
    if let Some(name) = &settings.profile {
        profile = profile.profile_name(name);
    }
    let chain =
        RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(profile.build());
    chain.region().await
}

/// Where [`configured`] has found one.
pub(crate) async fn source(settings: &Settings) -> &'static str {
    match settings.region {
        Some(_) => "secretlink.region",
        None if EnvironmentVariableRegionProvider::new().region().await.is_some() => "AWS_REGION",
        None => "the profile",
    }
}

/// The region that the environment names, without looking anywhere else.
pub fn of_environment() -> Option<String> {
    // In the SDK's order.
    ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| std::env::var(name).ok())
}

/// The region the EC2 instance runs in. Apart from [`configured`], because outside EC2 it costs
/// seconds to learn that nobody answers: it is asked only when nothing else names a region.
pub(crate) async fn of_instance(http: &SharedHttpClient) -> Option<Region> {
    let config = ProviderConfig::without_region().with_http_client(http.clone());
    ImdsRegionProvider::builder().configure(&config).build().region().await
}
