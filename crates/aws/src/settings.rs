//! What shapes a request.

use std::time::Duration;

use crate::AwsError;
use crate::region::is_region;

/// A snapshot of the settings (GUCs) that shape requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `secretlink.region`; unset, the standard chain decides (`AWS_REGION`, profile, instance metadata).
    pub region: Option<String>,
    /// `secretlink.endpoint_url`, for Secrets Manager only: STS and instance metadata stay where they are.
    pub endpoint_url: Option<String>,
    /// `secretlink.profile`; unset, `AWS_PROFILE` or `default`. As everywhere in the SDK, credentials
    /// in the environment come before those of a profile.
    pub profile: Option<String>,
    /// One call as a whole: finding credentials, every attempt and the pauses between them. Above zero.
    pub request_timeout: Duration,
    /// Reaching the endpoint, TCP and TLS, in one attempt. Above zero.
    pub connect_timeout: Duration,
    /// How often a call is tried in all; 0 counts as 1.
    pub max_attempts: u32,
}

/// Where and as whom one secret is read, if not as the settings say: what a foreign server adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// In place of `secretlink.region`.
    pub region: Option<String>,
}

impl Settings {
    /// The same, but as `identity` says.
    #[must_use]
    pub fn with(mut self, identity: &Identity) -> Settings {
        if identity.region.is_some() {
            self.region.clone_from(&identity.region);
        }
        self
    }

    /// Refuses what the SDK would only report as a failure to build a request, if at all.
    pub(crate) fn validate(&self) -> Result<(), AwsError> {
        let invalid = |setting, problem| Err(AwsError::InvalidSetting { setting, problem });
        if self.region.as_deref().is_some_and(|region| !is_region(region)) {
            return invalid("secretlink.region", "It must be a region's code, such as us-east-1.");
        }
        if self.endpoint_url.as_deref().is_some_and(|url| !is_http_url(url)) {
            return invalid(
                "secretlink.endpoint_url",
                "It must be a URL that starts with https:// or http:// and names a host.",
            );
        }
        Ok(())
    }

    /// How long to wait for the head of a response in one attempt: an equal share of the whole, so
    /// that an endpoint which hangs once leaves time to try again, but never so little that
    /// connecting would use it up (the HTTP client's clock for this starts before it connects).
    pub(crate) fn read_timeout(&self) -> Duration {
        let share = self.request_timeout / self.max_attempts.max(1);
        let floor = self.connect_timeout.saturating_add(Duration::from_secs(1));
        share.max(floor).min(self.request_timeout)
    }
}

fn is_http_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with(['/', ':', '?', '#'])
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secretlink_core::Report;

    fn settings() -> Settings {
        Settings {
            region: None,
            endpoint_url: None,
            profile: None,
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
            max_attempts: 3,
        }
    }

    #[test]
    fn bad_settings_are_named() {
        let ok = Settings {
            region: Some("eu-west-1".into()),
            endpoint_url: Some("http://[::1]:5000".into()),
            ..settings()
        };
        assert!(ok.validate().is_ok());
        for url in ["", "localhost:5000", "http://", "http:///x", "ftp://x", "http://a b"] {
            let bad = Settings { endpoint_url: Some(url.into()), ..settings() };
            let error = bad.validate().unwrap_err();
            assert_eq!(error.to_string(), "invalid value for setting \"secretlink.endpoint_url\"", "{url}");
            assert_eq!(error.sqlstate().as_str(), "22023");
        }
        for region in ["", "us east 1", "evil.example.com/#", "US-EAST-1"] {
            let bad = Settings { region: Some(region.into()), ..settings() };
            assert!(bad.validate().is_err(), "{region}");
        }
    }

    #[test]
    fn an_attempt_gets_its_share() {
        assert_eq!(settings().read_timeout(), Duration::from_secs(10));
        let short = Settings { request_timeout: Duration::from_secs(6), ..settings() };
        assert_eq!(short.read_timeout(), Duration::from_secs(4), "time to connect and one second more");
        let shorter = Settings { request_timeout: Duration::from_secs(1), max_attempts: 0, ..settings() };
        assert_eq!(shorter.read_timeout(), Duration::from_secs(1));
    }
}
