//! How raw options become a checked [`ConnInfo`].

use std::path::PathBuf;
use std::time::Duration;

use super::environment::Environment;
use super::error::ConnInfoError;
use super::hosts::{self, Host};
use super::keywords::{self, KEYWORDS};
use super::options::Options;
use super::passfile::PassFile;
use super::require_auth::RequireAuth;
use super::scram_keys::ScramKeys;
use super::servicefile;
use super::ssl::SslOptions;
use super::ssl_mode::SslMode;
use super::value::{choose, harmless, parse_int};

/// Everything there is to know before connecting. Meanings are those of libpq's keywords
/// (PostgreSQL documentation, "Parameter Key Words").
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// At least one host, as listed. With `load_balance_random` the order to try them in is left to
    /// the caller.
    pub hosts: Vec<Host>,
    /// The user name, not empty.
    pub user: String,
    /// The database name, not empty.
    pub dbname: String,
    /// `options`, a startup parameter.
    pub options: Option<String>,
    /// `application_name`, or else `fallback_application_name`.
    pub application_name: Option<String>,
    /// Settings that come from the environment alone, with their values.
    pub settings: Vec<(&'static str, String)>,
    /// The options of TLS.
    pub ssl: SslOptions,
    /// `channel_binding`.
    pub channel_binding: ChannelBinding,
    /// `scram_client_key` and `scram_server_key`, if the string itself gives them: SCRAM uses them in
    /// place of a password.
    pub scram_keys: Option<ScramKeys>,
    /// `require_auth`; `None` if any method will do.
    pub require_auth: Option<RequireAuth>,
    /// `target_session_attrs`.
    pub target_session_attrs: TargetSessionAttrs,
    /// `connect_timeout`, for each address of each host; `None` is for ever. At least two seconds.
    pub connect_timeout: Option<Duration>,
    /// `keepalives` and its companions.
    pub keepalives: Keepalives,
    /// `tcp_user_timeout`; `None` is the system's default.
    pub tcp_user_timeout: Option<Duration>,
    /// `load_balance_hosts=random`: hosts, and the addresses of each, are to be shuffled.
    pub load_balance_random: bool,
    /// `requirepeer`: the operating system's name for the user the server must run as, on sockets.
    pub require_peer: Option<String>,
    /// What libpq would print on stderr, for a WARNING: a password file that was not used.
    pub warnings: Vec<String>,
}

/// `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Channel binding is used if the server offers it.
    Prefer,
    /// The connection fails without it.
    Require,
}

/// `target_session_attrs`: which kind of server to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    /// Any.
    Any,
    /// A server that accepts writing transactions by default.
    ReadWrite,
    /// A server that does not accept writing transactions by default.
    ReadOnly,
    /// A server that is not in hot standby.
    Primary,
    /// A server in hot standby.
    Standby,
    /// A server in hot standby, or any if there is none.
    PreferStandby,
}

/// TCP keepalive. `None` is the system's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalives {
    /// `keepalives`: whether to use it.
    pub enabled: bool,
    /// `keepalives_idle`: the silence before the first probe.
    pub idle: Option<Duration>,
    /// `keepalives_interval`: the time between probes.
    pub interval: Option<Duration>,
    /// `keepalives_count`: how many probes may be lost.
    pub count: Option<u32>,
}

/// libpq's EnvironmentOptions (fe-connect.c): variables that no keyword stands for. The value `default`
/// leaves it to the server (fe-protocol3.c, build_startup_packet).
fn settings(environment: &Environment) -> Vec<(&'static str, String)> {
    [("PGDATESTYLE", "datestyle"), ("PGTZ", "timezone"), ("PGGEQO", "geqo")]
        .into_iter()
        .filter_map(|(variable, setting)| Some((setting, environment.var(variable)?.to_owned())))
        .filter(|(_, value)| !value.eq_ignore_ascii_case("default"))
        .collect()
}

impl Options {
    /// Fills in what is absent, from the service file, the environment and libpq's built-in defaults,
    /// and checks everything. Passwords are looked up in the password file for each host that has
    /// none.
    ///
    /// # Errors
    /// A value that makes no sense or that secretlink cannot honour, and trouble with the service
    /// file. Never trouble with the password file, as in libpq: see [`ConnInfo::warnings`].
    pub fn resolve(mut self, environment: &Environment) -> Result<ConnInfo, ConnInfoError> {
        let mode_given = self.get("sslmode").is_some();
        // Before the service file is read: keys in it would pass for those of the role that connects, and are
        // refused below.
        let scram_keys = self.take_scram_keys()?;
        self.add_defaults(environment)?;
        self.check_secrets()?;
        self.check_supported()?;

        let text = |keyword| self.get(keyword).filter(|value| !value.is_empty()).map(str::to_owned);
        let user =
            text("user").or_else(|| environment.os_user().map(str::to_owned)).ok_or(ConnInfoError::NoUser)?;
        let dbname = text("dbname").unwrap_or_else(|| user.clone());
        let ssl = SslOptions::resolve(&self, mode_given, environment)?;

        let password = self.password().filter(|password| !password.is_empty());
        let default_passfile = || environment.home().map(|home| home.join(".pgpass"));
        let passfile = match password {
            Some(_) => PassFile::read(None),
            None => PassFile::read(text("passfile").map(PathBuf::from).or_else(default_passfile)),
        };
        let hosts = hosts::resolve(&self, ssl.mode == SslMode::VerifyFull, |host, port| {
            password.cloned().or_else(|| passfile.password(host, port, &dbname, &user))
        })?;

        let application_name = self.get("application_name").or(self.get("fallback_application_name"));
        Ok(ConnInfo {
            hosts,
            options: text("options"),
            settings: settings(environment),
            application_name: application_name.filter(|name| !name.is_empty()).map(str::to_owned),
            channel_binding: choose(
                "channel_binding",
                self.get("channel_binding"),
                ChannelBinding::Prefer,
                &[
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ],
            )?,
            scram_keys,
            require_auth: RequireAuth::parse(self.get("require_auth").unwrap_or_default())?,
            target_session_attrs: choose(
                "target_session_attrs",
                self.get("target_session_attrs"),
                TargetSessionAttrs::Any,
                &[
                    ("any", TargetSessionAttrs::Any),
                    ("read-write", TargetSessionAttrs::ReadWrite),
                    ("read-only", TargetSessionAttrs::ReadOnly),
                    ("primary", TargetSessionAttrs::Primary),
                    ("standby", TargetSessionAttrs::Standby),
                    ("prefer-standby", TargetSessionAttrs::PreferStandby),
                ],
            )?,
            // Whole seconds can be cut short by up to one: libpq insists on two.
            connect_timeout: self.positive("connect_timeout")?.map(|s| Duration::from_secs(s.max(2).into())),
            keepalives: Keepalives {
                enabled: self.int("keepalives")? != Some(0),
                idle: self.positive("keepalives_idle")?.map(|s| Duration::from_secs(s.into())),
                interval: self.positive("keepalives_interval")?.map(|s| Duration::from_secs(s.into())),
                count: self.positive("keepalives_count")?,
            },
            tcp_user_timeout: self.positive("tcp_user_timeout")?.map(|ms| Duration::from_millis(ms.into())),
            load_balance_random: choose(
                "load_balance_hosts",
                self.get("load_balance_hosts"),
                false,
                &[("disable", false), ("random", true)],
            )?,
            require_peer: text("requirepeer"),
            warnings: passfile.warning.into_iter().collect(),
            user,
            dbname,
            ssl,
        })
    }

    /// Checks the values as far as that is possible without knowing what else will be given and where
    /// it will be used.
    ///
    /// # Errors
    /// A value that makes no sense or that secretlink cannot honour.
    pub fn check_values(&self) -> Result<(), ConnInfoError> {
        let mut options = self.clone();
        // Only what is used in the end can be found, or not.
        for keyword in ["service", "servicefile", "passfile"] {
            options.remove(keyword);
        }
        options.set("user", "anybody")?;
        options.resolve(&Environment::default()).map(drop)
    }

    /// Adds defaults as fe-connect.c's `conninfo_add_defaults` does. A value that is given and empty stays: it asks
    /// for the built-in default.
    fn add_defaults(&mut self, environment: &Environment) -> Result<(), ConnInfoError> {
        let service = servicefile::look_up(self, environment)?;
        self.merge_missing(service);
        for keyword in KEYWORDS {
            if let Some(value) = keyword.variable.and_then(|name| environment.var(name))
                && !self.contains(keyword)
            {
                self.store(keyword, value.as_bytes())?;
            }
        }
        if let (None, Some(password)) = (self.password(), environment.password()) {
            self.set_password(password.clone());
        }
        if let (None, Some(keyword)) = (self.get("sslmode"), keywords::find("sslmode")) {
            if environment.var("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) {
                self.store(keyword, b"require")?;
            } else if self.get("sslrootcert") == Some("system") {
                self.store(keyword, b"verify-full")?;
            }
        }
        Ok(())
    }

    /// [`Options::set_password`] takes any bytes, and it cannot fail.
    fn check_secrets(&self) -> Result<(), ConnInfoError> {
        let contains_null = |name| self.secret(name).is_some_and(|secret| secret.expose().contains(&0));
        match KEYWORDS.iter().any(|keyword| contains_null(keyword.name)) {
            true => Err(ConnInfoError::NullByte),
            false => Ok(()),
        }
    }

    /// Refuses what the user asks for and will not get.
    fn check_supported(&self) -> Result<(), ConnInfoError> {
        const NOT_SUPPORTED: [&str; 8] = [
            "sslkeylogfile",
            "scram_client_key",
            "scram_server_key",
            "oauth_issuer",
            "oauth_client_id",
            "oauth_client_secret",
            "oauth_scope",
            "oauth_ca_file",
        ];
        for keyword in NOT_SUPPORTED {
            if self.has(keyword) {
                return Err(ConnInfoError::Unsupported { keyword, value: None });
            }
        }

        let refuse = |keyword, value: &str| ConnInfoError::Unsupported { keyword, value: harmless(value) };
        let gss_required = choose(
            "gssencmode",
            self.get("gssencmode"),
            false,
            &[("disable", false), ("prefer", false), ("require", true)],
        )?;
        if gss_required {
            return Err(refuse("gssencmode", "require"));
        }

        // What the server takes for false (bool.c, parse_bool_with_len).
        const FALSE: [&str; 11] = ["", "0", "f", "fa", "fal", "fals", "false", "n", "no", "of", "off"];
        if let Some(value) = self.get("replication")
            && !FALSE.contains(&value.trim().to_ascii_lowercase().as_str())
        {
            return Err(refuse("replication", value));
        }

        // Protocol 3.0 is what we speak; a higher maximum allows it.
        let version = |keyword, default| {
            let value = self.get(keyword).filter(|value| !value.is_empty());
            choose(keyword, value, default, &[("3.0", 0), ("3.2", 2), ("latest", 2)])
        };
        let min = version("min_protocol_version", 0)?;
        if min > version("max_protocol_version", 2)? {
            return Err(ConnInfoError::ProtocolRange);
        }
        if min > 0 {
            return Err(refuse("min_protocol_version", self.get("min_protocol_version").unwrap_or_default()));
        }
        Ok(())
    }

    fn int(&self, keyword: &'static str) -> Result<Option<i32>, ConnInfoError> {
        self.get(keyword).map(|value| parse_int(keyword, value)).transpose()
    }

    /// An integer for which zero and less mean the default.
    fn positive(&self, keyword: &'static str) -> Result<Option<u32>, ConnInfoError> {
        let value = self.int(keyword)?;
        Ok(value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0))
    }
}
