//! The IAM tokens of a login.
//!
//! Anybody who has a token can log in with it for fifteen minutes. So a token goes only to a server that has proven to be
//! the database that it was signed for: `sslmode` is `verify-full` unless a weaker one is asked for by name, and
//! never weaker than `require`.

use secretlink_aws::{AwsError, TokenError, is_dsql_cluster_id};
use secretlink_remote::conninfo::{ConnInfo, Host, HostAddress, Options, SslMode};
use secretlink_remote::error::ConnectError;

use crate::connect::conninfo::{GivenBy, Prepared};
use crate::connect::credential::IamToken;
use crate::connect::error::ConnectionError;
use crate::connect::iam::TokenHost;
use crate::secrets::cache::{self, Sealed, TokenRequest, Wanted};
use crate::settings;

/// What to do about a server that does not prove to be the database.
pub(super) const UNTRUSTED: &str = "A token is sent only to a server that proves to be the database it was signed for. Name the file of Amazon's certificates with sslrootcert: https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem for RDS and Aurora, or sslrootcert=system where the operating system trusts Amazon. If the host is another name of the database, set iam_host.";

/// What to do about a server that has no TLS.
pub(super) const WITHOUT_TLS: &str = "A token is sent inside TLS only. Turn on ssl at the server.";

/// Yields the tokens that are kept, and new ones if those are refused.
pub(crate) struct TokenCandidates {
    /// Where and as whom to connect, but for the passwords.
    info: ConnInfo,
    /// The token of each host.
    requests: Vec<TokenRequest>,
    /// Which of them were tried.
    tried: Vec<String>,
    /// Whether a token was kept from before, so that a new one may do better.
    kept_from_before: bool,
}

/// Where to connect, and with which tokens.
pub(crate) struct TokenCandidate {
    info: ConnInfo,
    tokens: Vec<Sealed>,
}

impl TokenCandidate {
    /// Where to connect, with the tokens as passwords. To be called on the I/O thread, for the reason that
    /// [`crate::connect::conninfo::Candidate::into_conninfo`] names.
    ///
    /// # Errors
    /// If memory was damaged.
    pub(crate) fn into_conninfo(mut self) -> Result<Prepared, ConnectionError> {
        for (host, token) in self.info.hosts.iter_mut().zip(self.tokens) {
            host.password = Some(token.open_token()?);
        }
        Ok(self.info.into())
    }
}

impl TokenCandidates {
    /// The tokens for the user and the hosts that `options` give; and the first to try.
    ///
    /// # Errors
    /// If the options leave open what must be known, a token cannot be signed, or the connection would not be
    /// encrypted.
    pub(crate) fn begin(
        options: Options,
        given_by: GivenBy,
        token: &IamToken,
    ) -> Result<(TokenCandidates, TokenCandidate), ConnectionError> {
        let began = cache::now();
        let mut info = resolve(options, given_by)?;
        let mut requests = Vec::with_capacity(info.hosts.len());
        for host in &mut info.hosts {
            let (database, port) = database_of(host, token)?;
            requests.push(database.token_for(&info.user, port, &token.overrides)?);
        }
        let mut candidates = TokenCandidates { info, requests, tried: Vec::new(), kept_from_before: false };
        let first = candidates.candidate(&Wanted::Fresh)?;
        candidates.kept_from_before = first.tokens.iter().any(|token| token.asked < began);
        Ok((candidates, first))
    }

    /// The next candidate after one has failed: a token that was kept and is refused is signed anew, once.
    ///
    /// # Errors
    /// If there is none: why the last one failed.
    pub(crate) fn after(&mut self, error: ConnectionError) -> Result<TokenCandidate, ConnectionError> {
        let is_refused =
            matches!(&error, ConnectionError::Remote(error) if error.is_authentication_failure());
        if is_refused && std::mem::take(&mut self.kept_from_before) {
            let than = self.tried.clone();
            let wanted = Wanted::Other { than, since: cache::now(), patient: false };
            let tried_before = self.tried.len();
            if let Ok(candidate) = self.candidate(&wanted) {
                let (before, now) = self.tried.split_at(tried_before);
                if now.iter().any(|version| !before.contains(version)) {
                    return Ok(candidate);
                }
            }
        }
        Err(self.explain(error))
    }

    fn candidate(&mut self, wanted: &Wanted) -> Result<TokenCandidate, ConnectionError> {
        let tokens: Vec<_> =
            self.requests.iter().map(|request| request.get(wanted)).collect::<Result<_, _>>()?;
        self.tried.extend(tokens.iter().map(|token| token.version_id.clone()));
        Ok(TokenCandidate { info: self.info.clone(), tokens })
    }

    /// The error of a login, with what to do about it.
    fn explain(&self, error: ConnectionError) -> ConnectionError {
        match error {
            ConnectionError::Remote(error) => match self.hint(&error) {
                Some(hint) => ConnectionError::TokenLogin { error, hint },
                None => ConnectionError::Remote(error),
            },
            error => error,
        }
    }

    fn hint(&self, error: &ConnectError) -> Option<String> {
        if error.is_authentication_failure() {
            let action = self.requests.last()?.action();
            let role = match action.is_dsql() {
                false => "the role must have been granted rds_iam",
                true => "the role must have been linked to that identity with AWS IAM GRANT",
            };
            return Some(format!(
                "The policy of the AWS identity that signed the token must allow {} on {}; {role}, and this server's clock must be right.",
                action.permission(),
                action.resource_form(),
            ));
        }
        if error.is_untrusted() {
            return Some(UNTRUSTED.into());
        }
        error.is_without_tls().then(|| WITHOUT_TLS.into())
    }
}

/// The database at `host` and its port, as a token for it has them. From then on the certificate is checked for
/// that name, too, and the identifier of an Aurora DSQL cluster is the name of a host.
///
/// # Errors
/// If no token may be sent there, or it cannot be told what to sign.
pub(super) fn database_of(host: &mut Host, token: &IamToken) -> Result<(TokenHost, u16), ConnectionError> {
    if matches!(host.address, HostAddress::Unix(_)) {
        return Err(ConnectionError::TokenOverSocket);
    }
    let (database, port) = TokenHost::of_connection(host, token)?;
    if is_dsql_cluster_id(&host.name) && token.iam_host.is_none() {
        host.name.clone_from(&database.name);
        if let HostAddress::Name(name) = &mut host.address {
            name.clone_from(&database.name);
        }
    }
    host.own_name = Some(database.name.clone()).filter(|name| *name != host.name);
    Ok((database, port))
}

/// Fills in what is not given, and sees to it that the connection will be encrypted.
///
/// # Errors
/// If options make no sense, or host or user are not among them.
pub(super) fn resolve(mut options: Options, given_by: GivenBy) -> Result<ConnInfo, ConnectionError> {
    let refused = |error| given_by.refuse(error);
    if !options.has("host") {
        return Err(AwsError::from(TokenError::NoHost).into());
    }
    if !options.has("user") {
        return Err(AwsError::from(TokenError::NoUser).into());
    }
    // The address belongs to the host: one of the server's environment is that of another.
    if !options.has("hostaddr") {
        options.set("hostaddr", "").map_err(refused)?;
    }
    // Only who connects may ask for less, not the server's environment.
    if !options.has("sslmode") {
        options.set("sslmode", SslMode::VerifyFull.name()).map_err(refused)?;
    }
    let info = options.resolve(&settings::remote::environment()).map_err(refused)?;
    match info.ssl.mode < SslMode::Require {
        true => Err(ConnectionError::TokenNeedsTls { sslmode: info.ssl.mode.name() }),
        false => Ok(info),
    }
}
