//! What the connection string says about TLS (PostgreSQL documentation, "SSL Support").

use std::path::PathBuf;

use secretlink_core::Secret;

use super::environment::Environment;
use super::error::ConnInfoError;
use super::options::Options;
use super::ssl_mode::{MODES, SslMode};
use super::value::{choose, harmless};

/// `sslrootcert`: where trusted certificate authorities are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCert {
    /// The option was not given: `~/.postgresql/root.crt`, if there is a home directory and such a file in it.
    DefaultFile(Option<PathBuf>),
    /// A file, which must exist.
    File(PathBuf),
    /// `system`: what the operating system trusts.
    System,
}

/// `sslcertmode`: whether a client certificate may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslCertMode {
    /// Never.
    Disable,
    /// A certificate is sent if the server asks and there is one.
    Allow,
    /// The server must ask for it.
    Require,
}

/// A TLS version. OpenSSL decides whether it uses one that old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.0.
    Tls10,
    /// TLS 1.1.
    Tls11,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The options of TLS. Paths are as given, unchecked.
#[derive(Clone, Debug)]
pub struct SslOptions {
    /// `sslmode`.
    pub mode: SslMode,
    /// Whether the string itself gives `sslmode` (not the service file or the environment).
    pub mode_given: bool,
    /// `sslnegotiation=direct`: TLS from the first byte.
    pub negotiation_direct: bool,
    /// `sslrootcert`.
    pub root_cert: RootCert,
    /// `sslcert`, if given.
    pub cert: Option<PathBuf>,
    /// `sslkey`, if given.
    pub key: Option<PathBuf>,
    /// `~/.postgresql`, where `postgresql.crt`, `postgresql.key` and `root.crl` are found if not
    /// given; `None` without a home directory.
    pub default_cert_dir: Option<PathBuf>,
    /// `sslpassword`: the passphrase of the key file.
    pub key_password: Option<Secret>,
    /// `sslcrl`, if given.
    pub crl: Option<PathBuf>,
    /// `sslcrldir`, if given.
    pub crl_dir: Option<PathBuf>,
    /// `sslsni`: whether to tell the server the host name.
    pub sni: bool,
    /// `ssl_min_protocol_version`; 1.2 if not given, `None` for OpenSSL's own limit.
    pub min_protocol: Option<TlsVersion>,
    /// `ssl_max_protocol_version`.
    pub max_protocol: Option<TlsVersion>,
    /// `sslcertmode`.
    pub cert_mode: SslCertMode,
}

impl SslOptions {
    /// Reads and checks the options, in which defaults are filled in (fe-connect.c,
    /// `connectOptions2`).
    pub(super) fn resolve(
        options: &Options,
        mode_given: bool,
        environment: &Environment,
    ) -> Result<SslOptions, ConnInfoError> {
        let path = |keyword| options.get(keyword).filter(|path| !path.is_empty()).map(PathBuf::from);
        let default_cert_dir = environment.home().map(|home| home.join(".postgresql"));

        let asked = choose("sslmode", options.get("sslmode"), SslMode::Prefer, MODES)?;
        let min = environment.min_sslmode();
        if mode_given && asked < min {
            return Err(ConnInfoError::SslModeTooWeak { mode: asked.name(), min: min.name() });
        }
        let mode = asked.max(min);
        let root_cert = match path("sslrootcert") {
            Some(path) if path.as_os_str() == "system" => RootCert::System,
            Some(path) => RootCert::File(path),
            None => RootCert::DefaultFile(default_cert_dir.as_ref().map(|dir| dir.join("root.crt"))),
        };
        if root_cert == RootCert::System && mode != SslMode::VerifyFull {
            return Err(ConnInfoError::WeakSslMode {
                mode: mode.name(),
                with: "sslrootcert=system",
                instead: "\"verify-full\"",
            });
        }

        let negotiation_direct = choose(
            "sslnegotiation",
            options.get("sslnegotiation"),
            false,
            &[("postgres", false), ("direct", true)],
        )?;
        if negotiation_direct && mode < SslMode::Require {
            return Err(ConnInfoError::WeakSslMode {
                mode: mode.name(),
                with: "sslnegotiation=direct",
                instead: "\"require\", \"verify-ca\", or \"verify-full\"",
            });
        }

        let (min_protocol, max_protocol) = protocol_range(options)?;
        Ok(SslOptions {
            mode,
            mode_given,
            negotiation_direct,
            root_cert,
            cert: path("sslcert"),
            key: path("sslkey"),
            default_cert_dir,
            key_password: options.secret("sslpassword").filter(|p| !p.is_empty()).cloned(),
            crl: path("sslcrl"),
            crl_dir: path("sslcrldir"),
            // libpq looks at the first character only, and takes all but "1" for no.
            sni: options.get("sslsni").is_none_or(|value| value.starts_with('1')),
            min_protocol,
            max_protocol,
            cert_mode: choose(
                "sslcertmode",
                options.get("sslcertmode"),
                SslCertMode::Allow,
                &[
                    ("disable", SslCertMode::Disable),
                    ("allow", SslCertMode::Allow),
                    ("require", SslCertMode::Require),
                ],
            )?,
        })
    }
}

type Range = (Option<TlsVersion>, Option<TlsVersion>);

/// The versions as fe-connect.c checks them (`sslVerifyProtocolVersion`, `sslVerifyProtocolRange`).
fn protocol_range(options: &Options) -> Result<Range, ConnInfoError> {
    use TlsVersion::{Tls10, Tls11, Tls12, Tls13};
    const VERSIONS: [(&str, TlsVersion); 4] =
        [("TLSv1", Tls10), ("TLSv1.1", Tls11), ("TLSv1.2", Tls12), ("TLSv1.3", Tls13)];
    let version = |keyword| {
        let Some(value) = options.get(keyword).filter(|value| !value.is_empty()) else { return Ok(None) };
        match VERSIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(value)) {
            Some((_, version)) => Ok(Some(*version)),
            None => Err(ConnInfoError::InvalidValue { keyword, value: harmless(value) }),
        }
    };
    let min = match options.get("ssl_min_protocol_version") {
        None => Some(Tls12),
        Some(_) => version("ssl_min_protocol_version")?,
    };
    let max = version("ssl_max_protocol_version")?;
    match (min, max) {
        (Some(min), Some(max)) if min > max => Err(ConnInfoError::SslProtocolRange),
        range => Ok(range),
    }
}
