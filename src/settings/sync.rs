//! Settings of password sync.

use pgrx::PostgresGucEnum;
use secretlink_versions::SecretTemplate;
use std::time::Duration;

use super::kind::{Choice, Context, Number, Rule, Switch, Text, settings};
use crate::backend::process::server;

settings! {
    PASSWORD_SYNC: Choice<PasswordSync> = Choice::new(
        c"secretlink.password_sync",
        Context::Superusers,
        c"What happens when a synced role's new password cannot be stored in its secret.",
        c"strict: the change fails. warn: the change is kept, and the role is reported as drifted. off: secrets are not touched.",
        PasswordSync::Strict,
    );
    HASHED_PASSWORD: Choice<HashedPassword> = Choice::new(
        c"secretlink.hashed_password",
        Context::Superusers,
        c"What happens when a synced role is given a password that is hashed already.",
        c"verify: the change fails unless the secret holds the password already. warn: the change is kept, and the role is then reported as drifted.",
        HashedPassword::Verify,
    );
    PROMOTE_TIMEOUT: Number = Number::new(
        c"secretlink.promote_timeout",
        Context::Superusers,
        c"Longest time a commit waits until AWSCURRENT has moved to the new password.",
        c"If AWSCURRENT has not moved by then, the background worker goes on.",
        5_000,
        1..=60_000,
    )
    .in_milliseconds();
    CREATE_MISSING_SECRETS: Switch = Switch::new(
        c"secretlink.create_missing_secrets",
        Context::Superusers,
        c"Creates the secret of a synced role if there is none when its password is set.",
        c"",
        true,
    );
    ADVERTISED_HOST: Text = Text::unset(
        c"secretlink.advertised_host",
        Context::Reload,
        c"Host name of this server in secrets that it creates.",
        c"Unset, the host name is the operating system's.",
    );
    SYNC_SECRET_TEMPLATE: Text = Text::unset(
        c"secretlink.sync_secret_template",
        Context::Reload,
        c"Name of the secret of each role that has no security label of secretlink.",
        c"{role} and {cluster} stand for the role's name and for secretlink.cluster_name. Unset, only labelled roles are synced.",
    )
    .obeying::<Template>();
    CLUSTER_NAME: Text = Text::unset(
        c"secretlink.cluster_name",
        Context::Reload,
        c"Name of this cluster, for {cluster} in secretlink.sync_secret_template.",
        c"All nodes of a cluster have one value, so that the secrets of the roles are the same after a failover. Unset, the value of cluster_name counts.",
    );
    MAX_SYNCED_ROLES: Number = Number::new(
        c"secretlink.max_synced_roles",
        Context::SharedMemory,
        c"Number of synced roles of which the server keeps account in shared memory.",
        c"If there are more roles, those in doubt come first, and role_sync shows the others as unknown.",
        8192,
        16..=262_144,
    );
    RECONCILE_INTERVAL: Number = Number::new(
        c"secretlink.reconcile_interval",
        Context::Reload,
        c"Time between two looks of the background worker at roles whose secret is in doubt.",
        c"",
        60,
        1..=86_400,
    )
    .in_seconds();
    AUDIT_INTERVAL: Number = Number::new(
        c"secretlink.audit_interval",
        Context::Reload,
        c"Time within which the background worker looks at every synced role.",
        c"The looks are spread evenly. DescribeSecret is called for each, and GetSecretValue if the version or the role's hash is another one. 0: only roles in doubt are looked at.",
        3_600,
        0..=604_800,
    )
    .in_seconds();
}

/// `secretlink.password_sync`: what a change of a synced role's password does when it cannot be
/// brought into the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub(crate) enum PasswordSync {
    /// The change fails.
    #[name = c"strict"]
    Strict,
    /// The password is kept, with a WARNING, and the role is reported as drifted.
    #[name = c"warn"]
    Warn,
    /// Secrets are not touched at all.
    #[name = c"off"]
    Off,
}

/// `secretlink.hashed_password`: what to do about a password that comes as a hash, and is not in the secret
/// already, where it could be verified against the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub(crate) enum HashedPassword {
    /// The change fails.
    #[name = c"verify"]
    Verify,
    /// The password is kept, with a WARNING, and the role is reported as drifted.
    #[name = c"warn"]
    Warn,
}

/// A template must be able to name secrets.
struct Template;

impl Rule for Template {
    fn check(text: &str) -> Result<(), String> {
        SecretTemplate::parse(text).map(drop).map_err(|error| error.to_string())
    }
}

/// The settings that shape one change of a password.
pub(crate) struct PasswordSettings {
    /// `secretlink.password_sync`
    pub mode: PasswordSync,
    /// `secretlink.hashed_password`
    pub hashed: HashedPassword,
    /// `secretlink.promote_timeout`
    pub promote_timeout: Duration,
    /// `secretlink.create_missing_secrets`
    pub create_missing: bool,
}

/// The settings that shape one change of a password, as they are now.
pub(crate) fn current() -> PasswordSettings {
    PasswordSettings {
        mode: PASSWORD_SYNC.get(),
        hashed: HASHED_PASSWORD.get(),
        promote_timeout: PROMOTE_TIMEOUT.milliseconds(),
        create_missing: CREATE_MISSING_SECRETS.get(),
    }
}

/// `secretlink.sync_secret_template`, which was checked when it was set.
pub(crate) fn secret_template() -> Option<SecretTemplate> {
    SYNC_SECRET_TEMPLATE.get().and_then(|text| SecretTemplate::parse(&text).ok())
}

/// `secretlink.cluster_name`, else `cluster_name`.
pub(crate) fn cluster_name() -> Vec<u8> {
    CLUSTER_NAME.get().map_or_else(server::cluster_name, String::into_bytes)
}

/// `secretlink.advertised_host`
pub(crate) fn advertised_host() -> Option<String> {
    ADVERTISED_HOST.get()
}

/// `secretlink.max_synced_roles`
pub(crate) fn max_roles() -> usize {
    usize::try_from(MAX_SYNCED_ROLES.get()).unwrap_or(0)
}

/// `secretlink.reconcile_interval`
pub(crate) fn reconcile_interval() -> Duration {
    RECONCILE_INTERVAL.seconds()
}

/// `secretlink.audit_interval`; zero if there is to be none.
pub(crate) fn audit_interval() -> Duration {
    AUDIT_INTERVAL.seconds()
}
