//! IAM authentication tokens of RDS, Aurora and Aurora DSQL: passwords that are signed here, without asking
//! anybody, and that a database takes for fifteen minutes.
//!
//! A token is a presigned URL without its scheme (RDS user guide, "Connecting to your DB instance using IAM
//! authentication"; Aurora DSQL user guide, "Generating authentication tokens"). The order of its parameters
//! is that of the AWS CLI and botocore.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;

use secretlink_core::{Report, Secret, SqlState};

use crate::region_name::is_region;

/// For how long a database takes a token.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// The domains under which RDS names its databases, one or more a partition.
const RDS_DOMAINS: [&str; 7] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
];

/// The domains under which Aurora DSQL names its clusters.
const DSQL_DOMAINS: [&str; 2] = ["on.aws", "on.amazonwebservices.com.cn"];

/// The role that owns an Aurora DSQL cluster, and needs a permission of its own.
const DSQL_ADMIN: &str = "admin";

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message is its documentation")]
pub enum TokenError {
    #[error("host name of the database is not valid")]
    InvalidHost { problem: &'static str },
    #[error("an IAM token needs the name of a user")]
    NoUser,
    #[error("an IAM token needs the name of a host")]
    NoHost,
    #[error("AWS region is not valid")]
    InvalidRegion,
    #[error("AWS region of host \"{host}\" is not known")]
    NoRegion { host: String },
    #[error("could not sign a token for host \"{host}\"")]
    NotSigned { host: String, reason: String },
    #[error("AWS credentials to sign a token with were not found within {} ms", after.as_millis())]
    TimedOut { after: Duration },
}

impl Report for TokenError {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            TokenError::InvalidHost { .. }
            | TokenError::NoUser
            | TokenError::NoHost
            | TokenError::InvalidRegion
            | TokenError::NoRegion { .. } => "22023",
            TokenError::NotSigned { .. } | TokenError::TimedOut { .. } => "58000",
        })
    }

    fn detail(&self) -> Option<String> {
        match self {
            TokenError::InvalidHost { problem } => Some((*problem).to_owned()),
            TokenError::NoRegion { .. } => Some(
                "The host name is none that RDS or Aurora DSQL gives to a database of one region.".into(),
            ),
            TokenError::NotSigned { reason, .. } => Some(reason.clone()),
            TokenError::InvalidRegion => Some("It must be a region's code, such as us-east-1.".into()),
            TokenError::NoUser | TokenError::NoHost | TokenError::TimedOut { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            TokenError::NoRegion { .. } => Some(
                "Pass region, or set the option region of the foreign server, secretlink.region, or AWS_REGION in the server's environment. If the host is another name of the database, give the name that AWS gave it.".into(),
            ),
            TokenError::TimedOut { .. } => Some(
                "Outside AWS, set AWS_EC2_METADATA_DISABLED=true in the server's environment; with a role to assume, check the way to STS; else raise secretlink.request_timeout.".into(),
            ),
            TokenError::NoUser => {
                Some("Pass remote_user, or set user as an option of the user mapping.".into())
            }
            TokenError::NoHost => {
                Some("Pass remote_host, or set host as an option of the foreign server.".into())
            }
            TokenError::InvalidHost { .. } | TokenError::InvalidRegion | TokenError::NotSigned { .. } => None,
        }
    }
}

/// What a database is asked for with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAction {
    /// RDS and Aurora, `rds-db:connect`.
    Connect,
    /// Aurora DSQL, `dsql:DbConnect`.
    DbConnect,
    /// Aurora DSQL as its administrator, `dsql:DbConnectAdmin`.
    DbConnectAdmin,
}

impl TokenAction {
    /// The name of the action in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenAction::Connect => "connect",
            TokenAction::DbConnect => "DbConnect",
            TokenAction::DbConnectAdmin => "DbConnectAdmin",
        }
    }

    /// The permission that IAM policies know.
    pub fn permission(self) -> &'static str {
        match self {
            TokenAction::Connect => "rds-db:connect",
            TokenAction::DbConnect => "dsql:DbConnect",
            TokenAction::DbConnectAdmin => "dsql:DbConnectAdmin",
        }
    }

    /// Whether the action is one of Aurora DSQL.
    pub fn is_dsql(self) -> bool {
        self != TokenAction::Connect
    }

    /// What a policy calls the thing that this is permitted for.
    pub fn resource_form(self) -> &'static str {
        match self {
            TokenAction::Connect => "arn:aws:rds-db:REGION:ACCOUNT:dbuser:RESOURCE_ID/USER",
            TokenAction::DbConnect | TokenAction::DbConnectAdmin => {
                "arn:aws:dsql:REGION:ACCOUNT:cluster/CLUSTER_ID"
            }
        }
    }

    /// The service whose name is in the signature.
    fn service(self) -> &'static str {
        match self {
            TokenAction::Connect => "rds-db",
            TokenAction::DbConnect | TokenAction::DbConnectAdmin => "dsql",
        }
    }
}

/// One user of one database, who logs in with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSubject {
    host: String,
    port: u16,
    user: String,
}

impl TokenSubject {
    /// Somebody who logs in as `user` at the database that AWS calls `host`.
    ///
    /// # Errors
    /// [`TokenError::InvalidHost`] and [`TokenError::NoUser`].
    pub fn new(host: &str, port: u16, user: &str) -> Result<TokenSubject, TokenError> {
        if let Some(problem) = problem_with_host(host) {
            return Err(TokenError::InvalidHost { problem });
        }
        if user.is_empty() {
            return Err(TokenError::NoUser);
        }
        let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
        let host = if is_bare_ipv6 { format!("[{host}]") } else { host.to_owned() };
        Ok(TokenSubject { host, port, user: user.to_owned() })
    }

    /// The subject whose text this is: what `Display` wrote.
    pub fn parse(text: &str) -> Option<TokenSubject> {
        let (user, place) = text.rsplit_once('@')?;
        let (host, port) = place.rsplit_once(':')?;
        TokenSubject::new(host, port.parse().ok()?, user).ok()
    }

    /// The host in the token.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the database is asked for.
    pub fn action(&self) -> TokenAction {
        match (is_dsql_host(&self.host), self.user == DSQL_ADMIN) {
            (false, _) => TokenAction::Connect,
            (true, false) => TokenAction::DbConnect,
            (true, true) => TokenAction::DbConnectAdmin,
        }
    }

    /// The token that is good from `now` on, for [`TOKEN_LIFETIME`] or until the credentials end.
    ///
    /// # Errors
    /// [`TokenError::NotSigned`], if the time or the region cannot be in a signature.
    pub fn sign(
        &self,
        region: &str,
        credentials: &Credentials,
        now: SystemTime,
    ) -> Result<Secret, TokenError> {
        let action = self.action();
        let (place, signed_place) = match action {
            TokenAction::Connect => {
                (format!("{}:{}", self.host, self.port), format!("{}:{}", self.lower_host(), self.port))
            }
            TokenAction::DbConnect | TokenAction::DbConnectAdmin => (self.host.clone(), self.lower_host()),
        };
        let mut query = format!("?Action={}", action.as_str());
        if action == TokenAction::Connect {
            query.push_str("&DBUser=");
            push_encoded(&mut query, &self.user);
        }
        let not_signed = |error: &dyn std::error::Error| TokenError::NotSigned {
            host: self.host.clone(),
            reason: error.to_string(),
        };

        let mut settings = SigningSettings::default();
        settings.expires_in = Some(TOKEN_LIFETIME);
        settings.signature_location = SignatureLocation::QueryParams;
        let identity = Identity::from(credentials.clone());
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(action.service())
            .time(now)
            .settings(settings)
            .build()
            .map_err(|error| not_signed(&error))?
            .into();
        let url = format!("https://{signed_place}/{query}");
        let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))
            .map_err(|error| not_signed(&error))?;
        let (instructions, signature) =
            sign(request, &parameters).map_err(|error| not_signed(&error))?.into_parts();

        let mut token = format!("{place}/{query}");
        // Before the signature comes whatever is signed.
        let (signatures, signed): (Vec<_>, Vec<_>) =
            instructions.params().iter().partition(|(_, value)| *value == signature.as_str());
        for (name, value) in signed.into_iter().chain(signatures) {
            token.push('&');
            token.push_str(name);
            token.push('=');
            push_encoded(&mut token, value);
        }
        Ok(Secret::new(token))
    }

    /// What is signed of the host: names are the same in upper and lower case.
    fn lower_host(&self) -> String {
        self.host.to_ascii_lowercase()
    }
}

/// `user@host:port`. A user name may have any character in it, a host not.
impl fmt::Display for TokenSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.host, self.port)
    }
}

/// Whether `host` is a name that RDS or Aurora DSQL gives to its databases, and so one to sign.
pub fn is_aws_database_host(host: &str) -> bool {
    rds_labels(&host.to_ascii_lowercase()).is_some() || is_dsql_host(host)
}

/// Whether `host` is a name that Aurora DSQL gives to its clusters.
fn is_dsql_host(host: &str) -> bool {
    dsql_region(&host.to_ascii_lowercase()).is_some()
}

/// The region in the name that RDS or Aurora DSQL has given to a database. The endpoint of an Aurora global
/// database has none.
pub fn region_of_host(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let region = rds_labels(&host).or_else(|| dsql_region(&host))?;
    (region != "global").then(|| region.to_owned())
}

/// Checks a region that somebody names for a token.
///
/// # Errors
/// [`TokenError::InvalidRegion`].
pub fn check_token_region(region: &str) -> Result<(), TokenError> {
    if is_region(region) { Ok(()) } else { Err(TokenError::InvalidRegion) }
}

/// The host name of an Aurora DSQL cluster of which only the identifier is given.
pub fn dsql_cluster_host(id: &str, region: &str) -> Option<String> {
    is_dsql_cluster_id(id).then(|| format!("{id}.dsql.{region}.on.aws"))
}

/// Whether `text` is the identifier of an Aurora DSQL cluster (API reference of Aurora DSQL, GetCluster): 26
/// small letters and digits.
pub fn is_dsql_cluster_id(text: &str) -> bool {
    text.len() == 26 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// What RDS has for a region in a name of its own: `NAME.….REGION.rds.amazonaws.com`, in some partitions
/// `NAME.….rds.REGION.amazonaws.com.cn`.
fn rds_labels(host: &str) -> Option<&str> {
    let rest = before_domain(host, &RDS_DOMAINS)?;
    let (rest, last) = rest.rsplit_once('.')?;
    let (name, before) = rest.rsplit_once('.')?;
    let region = match (before, last) {
        (region, "rds") | ("rds", region) => region,
        _ => return None,
    };
    let is_place = region == "global" || is_region(region);
    (!name.is_empty() && is_place).then_some(region)
}

/// The region in a name of Aurora DSQL's: `CLUSTER.dsql.REGION.on.aws`, or with the service's own suffix
/// after `dsql` behind PrivateLink.
fn dsql_region(host: &str) -> Option<&str> {
    let rest = before_domain(host, &DSQL_DOMAINS)?;
    let (rest, region) = rest.rsplit_once('.')?;
    let (name, service) = rest.rsplit_once('.')?;
    (!name.is_empty() && service.starts_with("dsql") && is_region(region)).then_some(region)
}

fn before_domain<'a>(host: &'a str, domains: &[&str]) -> Option<&'a str> {
    domains.iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'))
}

/// What makes `host` no host. It becomes part of a URL that is signed: nothing that could end it early may
/// pass.
fn problem_with_host(host: &str) -> Option<&'static str> {
    let name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        Some("It is empty.")
    } else if host.len() > 253 {
        Some("It has more than 253 characters.")
    } else if bare.contains(':') {
        let is_address = bare.parse::<std::net::Ipv6Addr>().is_ok();
        (!is_address).then_some("It has a colon in it and is no IPv6 address.")
    } else if host.starts_with(['.', '-']) || host.contains("..") {
        Some("A part of it is empty.")
    } else {
        (!host.bytes().all(name)).then_some("It has a character in it that no host name has.")
    }
}

/// Appends `text` as RFC 3986 wants it in a query.
fn push_encoded(to: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(byte.into());
        } else {
            to.push('%');
            to.push(HEX[usize::from(byte >> 4)].into());
            to.push(HEX[usize::from(byte & 15)].into());
        }
    }
}
