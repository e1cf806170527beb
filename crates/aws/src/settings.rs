//! What shapes a request.

use std::time::Duration;

use crate::AwsError;
use crate::region_name::is_region;

/// What the text of a setting must look like.
pub struct Form {
    fits: fn(&str) -> bool,
    problem: &'static str,
}

impl Form {
    /// A region's code.
    pub const REGION: Form =
        Form { fits: is_region, problem: "It must be a region's code, such as us-east-1." };
    /// The URL of an endpoint.
    pub const ENDPOINT_URL: Form = Form {
        fits: is_http_url,
        problem: "It must be a URL that starts with https:// or http:// and names a host.",
    };
    /// The ARN of an IAM role.
    pub const ROLE_ARN: Form = Form {
        fits: is_role_arn,
        problem: "It must be the ARN of a role, such as arn:aws:iam::123456789012:role/secretlink.",
    };
    /// An external id.
    pub const EXTERNAL_ID: Form = Form {
        fits: is_external_id,
        problem: "It must have 2 to 1224 characters: letters, digits and _+=,.@:/-",
    };
    /// The name of a role's session.
    pub const ROLE_SESSION_NAME: Form = Form {
        fits: is_session_name,
        problem: "It must have 2 to 64 characters: letters, digits and _+=,.@-",
    };

    /// Whether a text looks like this.
    ///
    /// # Errors
    /// What it must be, as a sentence.
    pub fn check(&self, text: &str) -> Result<(), &'static str> {
        if (self.fits)(text) { Ok(()) } else { Err(self.problem) }
    }

    fn check_given(&self, text: &Option<String>) -> Result<(), &'static str> {
        text.as_deref().map_or(Ok(()), |text| self.check(text))
    }
}

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
    /// `secretlink.role_arn`: a role to assume with the credentials that are found.
    pub role_arn: Option<String>,
    /// `secretlink.external_id`, which the role's trust policy may ask for.
    pub external_id: Option<String>,
    /// `secretlink.role_session_name`: what CloudTrail shows beside the role. Unset, `secretlink`.
    pub role_session_name: Option<String>,
    /// `secretlink.use_fips_endpoint`; off, `AWS_USE_FIPS_ENDPOINT` and the profile decide.
    pub use_fips_endpoint: bool,
    /// `secretlink.use_dualstack_endpoint`; off, `AWS_USE_DUALSTACK_ENDPOINT` and the profile decide.
    pub use_dualstack_endpoint: bool,
    /// `secretlink.ca_bundle`: a file of the only certificates trusted for AWS endpoints. Unset,
    /// `AWS_CA_BUNDLE`, else the operating system's.
    pub ca_bundle: Option<String>,
    /// One call as a whole: finding credentials, every attempt and the pauses between them. Above zero.
    pub request_timeout: Duration,
    /// Reaching the endpoint, TCP and TLS, in one attempt. Above zero.
    pub connect_timeout: Duration,
    /// How often a call is tried in all; 0 counts as 1.
    pub max_attempts: u32,
}

impl Default for Settings {
    /// The settings' own defaults.
    fn default() -> Settings {
        Settings {
            region: None,
            endpoint_url: None,
            profile: None,
            role_arn: None,
            external_id: None,
            role_session_name: None,
            use_fips_endpoint: false,
            use_dualstack_endpoint: false,
            ca_bundle: None,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            max_attempts: 3,
        }
    }
}

/// Where and as whom AWS is asked for one secret or token, in place of what the settings say. A foreign server has
/// options for that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsOverrides {
    /// The region, in place of `secretlink.region`.
    pub region: Option<String>,
    /// The role, in place of `secretlink.role_arn`.
    pub role_arn: Option<String>,
    /// The external id, in place of `secretlink.external_id`, which belongs to another role if `role_arn` is given.
    pub external_id: Option<String>,
}

impl Settings {
    /// The settings, with region and role as `overrides` says.
    #[must_use]
    pub fn with(mut self, overrides: &SettingsOverrides) -> Settings {
        if overrides.region.is_some() {
            self.region.clone_from(&overrides.region);
        }
        if overrides.role_arn.is_some() {
            self.role_arn.clone_from(&overrides.role_arn);
            self.external_id = None;
        }
        if overrides.external_id.is_some() {
            self.external_id.clone_from(&overrides.external_id);
        }
        self
    }

    /// Stands for what decides where and as whom is asked: different settings that come to the same may
    /// have different ones, but never the other way round.
    pub fn fingerprint(&self) -> String {
        // Each field by its name, so that a new one is not forgotten here.
        let Settings {
            region,
            endpoint_url,
            profile,
            role_arn,
            external_id,
            role_session_name,
            use_fips_endpoint,
            use_dualstack_endpoint,
            ca_bundle,
            request_timeout: _,
            connect_timeout: _,
            max_attempts: _,
        } = self;
        let fields = [region, endpoint_url, profile, role_arn, external_id, role_session_name, ca_bundle];
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for field in fields {
            let text = field.as_deref().unwrap_or_default();
            // Its length first, so that no two lists of fields look the same.
            digest.update(&[u8::from(field.is_some())]);
            digest.update(&text.len().to_le_bytes());
            digest.update(text.as_bytes());
        }
        digest.update(&[(*use_fips_endpoint).into(), (*use_dualstack_endpoint).into()]);
        let digest = digest.finish();
        // Half of it is enough to tell settings apart, and 32 digits.
        let half = digest.as_ref().first_chunk().map_or(0, |half| u128::from_be_bytes(*half));
        format!("{half:032x}")
    }

    /// Refuses what the SDK would only report as a failure to build a request, if at all.
    pub(crate) fn validate(&self) -> Result<(), AwsError> {
        let check = |setting, text, form: Form| {
            form.check_given(text).map_err(|problem| AwsError::InvalidSetting { setting, problem })
        };
        check("secretlink.region", &self.region, Form::REGION)?;
        check("secretlink.endpoint_url", &self.endpoint_url, Form::ENDPOINT_URL)?;
        check("secretlink.role_arn", &self.role_arn, Form::ROLE_ARN)?;
        check("secretlink.external_id", &self.external_id, Form::EXTERNAL_ID)?;
        check("secretlink.role_session_name", &self.role_session_name, Form::ROLE_SESSION_NAME)
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

impl SettingsOverrides {
    /// What is wrong with one of its parts, and with which.
    ///
    /// # Errors
    /// The field's name, and what it must be.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        let check = |name, text, form: Form| form.check_given(text).map_err(|problem| (name, problem));
        check("region", &self.region, Form::REGION)?;
        check("role_arn", &self.role_arn, Form::ROLE_ARN)?;
        check("external_id", &self.external_id, Form::EXTERNAL_ID)
    }
}

/// API reference of STS, AssumeRole, RoleArn; IAM's "Identifiers" for what is in it.
fn is_role_arn(text: &str) -> bool {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let known = next() == "arn" && next().starts_with("aws") && next() == "iam" && next().is_empty();
    let account = next();
    let role = next().strip_prefix("role/").unwrap_or_default();
    known
        && text.len() <= 2048
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && !role.is_empty()
        && role.bytes().all(|b| b.is_ascii_graphic() && b != b':')
}

/// API reference of STS, AssumeRole, ExternalId.
fn is_external_id(text: &str) -> bool {
    (2..=1224).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
}

/// API reference of STS, AssumeRole, RoleSessionName.
fn is_session_name(text: &str) -> bool {
    (2..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
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
        Settings { request_timeout: Duration::from_secs(30), ..Settings::default() }
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
    fn roles_external_ids_and_session_names() {
        let with = |role: &str| Settings { role_arn: Some(role.into()), ..settings() }.validate();
        for role in [
            "arn:aws:iam::123456789012:role/secretlink",
            "arn:aws-cn:iam::123456789012:role/a/path/to-it_+=,.@x",
            "arn:aws-us-gov:iam::123456789012:role/x",
        ] {
            assert!(with(role).is_ok(), "{role}");
        }
        for role in [
            "",
            "secretlink",
            "arn:aws:iam::123456789012:user/x",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::12345678901:role/x",
            "arn:aws:iam:eu-west-1:123456789012:role/x",
            "arn:aws:sts::123456789012:assumed-role/x/y",
            "arn:aws:iam::123456789012:role/a b",
            "arn:evil:iam::123456789012:role/x",
        ] {
            let error = with(role).unwrap_err();
            assert_eq!(error.to_string(), "invalid value for setting \"secretlink.role_arn\"", "{role}");
        }
        let with = |id: &str| Settings { external_id: Some(id.into()), ..settings() }.validate();
        assert!(with("a:b/c-d_e+f=g,h.i@j").is_ok());
        for id in ["", "a", "a b", "é1", &"x".repeat(1225)] {
            assert!(with(id).is_err(), "{id}");
        }
        let with = |name: &str| Settings { role_session_name: Some(name.into()), ..settings() }.validate();
        assert!(with("secretlink-main@db.example.com").is_ok());
        for name in ["", "a", "a/b", "a b", &"x".repeat(65)] {
            assert!(with(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_server_with_a_role_of_its_own_does_not_show_it_another_roles_external_id() {
        let role = |name| Some(format!("arn:aws:iam::123456789012:role/{name}"));
        let id = |text: &str| Some(text.to_owned());
        let base = Settings { role_arn: role("a"), external_id: id("for-a"), ..settings() };
        let as_of = |role_arn, external_id| {
            let with = base.clone().with(&SettingsOverrides { role_arn, external_id, region: None });
            (with.role_arn, with.external_id)
        };
        assert_eq!(as_of(None, None), (role("a"), id("for-a")));
        assert_eq!(as_of(role("b"), None), (role("b"), None));
        assert_eq!(as_of(role("b"), id("for-b")), (role("b"), id("for-b")));
        assert_eq!(as_of(None, id("other")), (role("a"), id("other")));
    }

    #[test]
    fn the_parts_of_an_identity() {
        assert_eq!(SettingsOverrides::default().validate(), Ok(()));
        let bad = |overrides: SettingsOverrides| overrides.validate().unwrap_err().0;
        let text = || Some("no such thing".to_owned());
        assert_eq!(bad(SettingsOverrides { region: text(), ..SettingsOverrides::default() }), "region");
        assert_eq!(bad(SettingsOverrides { role_arn: text(), ..SettingsOverrides::default() }), "role_arn");
        assert_eq!(
            bad(SettingsOverrides { external_id: text(), ..SettingsOverrides::default() }),
            "external_id"
        );
    }

    #[test]
    fn fingerprints() {
        let profile = Settings { profile: Some("x".into()), ..settings() };
        let region = Settings { region: Some("x".into()), ..settings() };
        let all = [settings(), profile, region].map(|s| s.fingerprint());
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        let slower = Settings { request_timeout: Duration::from_secs(1), ..settings() };
        assert_eq!(slower.fingerprint(), all[0]);
        assert_eq!(all[0].len(), 32);
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
