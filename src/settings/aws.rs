//! Settings of how AWS is asked.

use secretlink_aws::{Form, Settings};

use super::kind::{Context, Given, GivenSwitch, Number, Rule, Switch, Text, settings};
use super::superusers::{self, SettingRefused};
use crate::backend::process::server;

settings! {
    REGION: Text = Text::unset(
        c"secretlink.region",
        Context::Superusers,
        c"AWS region whose Secrets Manager is asked.",
        c"Unset, the standard AWS chain decides: AWS_REGION, the profile, instance metadata. A secret given by its ARN is asked for in the ARN's region.",
    )
    .obeying::<Region>();
    ENDPOINT_URL: Text = Text::unset(
        c"secretlink.endpoint_url",
        Context::Superusers,
        c"URL of the Secrets Manager endpoint.",
        c"Unset, the public endpoint of the region. Set it for a VPC endpoint without private DNS or for a stand-in.",
    )
    .obeying::<EndpointUrl>();
    PROFILE: Text = Text::unset(
        c"secretlink.profile",
        Context::Superusers,
        c"Profile of the AWS configuration files to use.",
        c"Unset, AWS_PROFILE in the server's environment names the profile, else it is \"default\".",
    );
    REQUEST_TIMEOUT: Number = Number::new(
        c"secretlink.request_timeout",
        Context::Anybody,
        c"Longest time a call to AWS may take as a whole, retries included.",
        c"",
        10_000,
        1..=3_600_000,
    )
    .in_milliseconds();
    CONNECT_TIMEOUT: Number = Number::new(
        c"secretlink.connect_timeout",
        Context::Anybody,
        c"Longest time to wait for a connection to an AWS endpoint.",
        c"",
        3_000,
        1..=3_600_000,
    )
    .in_milliseconds();
    MAX_ATTEMPTS: Number = Number::new(
        c"secretlink.max_attempts",
        Context::Anybody,
        c"How often a call to AWS is tried before it fails.",
        c"The first try counts: 1 means no retries.",
        3,
        1..=10,
    );
    ROLE_ARN: Text = Text::unset(
        c"secretlink.role_arn",
        Context::Superusers,
        c"ARN of the IAM role to assume for every call to AWS.",
        c"STS assumes the role with the credentials that are found. Unset, these credentials are used as they are.",
    )
    .obeying::<RoleArn>();
    EXTERNAL_ID: Text = Text::unset(
        c"secretlink.external_id",
        Context::Superusers,
        c"External id to assume secretlink.role_arn with.",
        c"Some trust policies ask for an external id.",
    )
    .hidden()
    .obeying::<ExternalId>();
    ROLE_SESSION_NAME: Text = Text::unset(
        c"secretlink.role_session_name",
        Context::Superusers,
        c"Name of the session when secretlink.role_arn is assumed, which CloudTrail shows.",
        c"Unset, the name is secretlink, followed by cluster_name if that is set.",
    )
    .obeying::<RoleSessionName>();
    CA_BUNDLE: Text = Text::unset(
        c"secretlink.ca_bundle",
        Context::Superusers,
        c"File of the certificates to trust for AWS endpoints, in PEM format.",
        c"Unset, AWS_CA_BUNDLE in the server's environment names the file, else the operating system's certificates are trusted.",
    );
    USE_FIPS_ENDPOINT: GivenSwitch<0> = GivenSwitch(Switch::new(
        c"secretlink.use_fips_endpoint",
        Context::Superusers,
        c"Uses the FIPS endpoints of AWS.",
        c"Off, AWS_USE_FIPS_ENDPOINT in the server's environment and the profile decide.",
        false,
    ));
    USE_DUALSTACK_ENDPOINT: GivenSwitch<1> = GivenSwitch(Switch::new(
        c"secretlink.use_dualstack_endpoint",
        Context::Superusers,
        c"Uses the endpoints of AWS that have IPv6 addresses, too.",
        c"Off, AWS_USE_DUALSTACK_ENDPOINT in the server's environment and the profile decide.",
        false,
    ));
}

macro_rules! rules {
    ($($rule:ident = $form:ident;)+) => {
        $(
            struct $rule;

            impl Rule for $rule {
                fn check(text: &str) -> Result<(), String> {
                    Form::$form.check(text).map_err(str::to_owned)
                }
            }
        )+
    };
}

rules! {
    Region = REGION;
    EndpointUrl = ENDPOINT_URL;
    RoleArn = ROLE_ARN;
    ExternalId = EXTERNAL_ID;
    RoleSessionName = ROLE_SESSION_NAME;
}

/// The settings that are for superusers only: who decides where requests go or with which
/// identity could feed the server false secrets.
pub(super) static FOR_SUPERUSERS: [&dyn Given; 9] = [
    &REGION,
    &ENDPOINT_URL,
    &PROFILE,
    &ROLE_ARN,
    &EXTERNAL_ID,
    &ROLE_SESSION_NAME,
    &CA_BUNDLE,
    &USE_FIPS_ENDPOINT,
    &USE_DUALSTACK_ENDPOINT,
];

/// The settings that shape requests to AWS, as they are now.
///
/// # Errors
/// If the value of one of them was not taken: it is not valid (22023), or was set by somebody who may not
/// (42501).
pub(crate) fn current() -> Result<Settings, SettingRefused> {
    superusers::none_refused(|name| FOR_SUPERUSERS.iter().any(|setting| setting.name() == name))?;
    Ok(Settings {
        region: REGION.get(),
        endpoint_url: ENDPOINT_URL.get(),
        profile: PROFILE.get(),
        role_arn: ROLE_ARN.get(),
        external_id: EXTERNAL_ID.get(),
        role_session_name: Some(ROLE_SESSION_NAME.get().unwrap_or_else(session_name)),
        use_fips_endpoint: USE_FIPS_ENDPOINT.get(),
        use_dualstack_endpoint: USE_DUALSTACK_ENDPOINT.get(),
        ca_bundle: CA_BUNDLE.get(),
        request_timeout: REQUEST_TIMEOUT.milliseconds(),
        connect_timeout: CONNECT_TIMEOUT.milliseconds(),
        max_attempts: MAX_ATTEMPTS.get(),
    })
}

/// What CloudTrail shows of this server: `secretlink-` and `cluster_name`, as far as a session's name can
/// hold it.
fn session_name() -> String {
    const MAX_LENGTH: usize = 64;
    let cluster = server::cluster_name();
    if cluster.is_empty() {
        return "secretlink".into();
    }
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(byte);
    let name = cluster.iter().map(|byte| if known(byte) { char::from(*byte) } else { '-' });
    "secretlink-".chars().chain(name).take(MAX_LENGTH).collect()
}
