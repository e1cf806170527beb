//! Proving who we are.
//!
//! Source: PostgreSQL documentation, "Message Flow", and fe-auth.c for the order of checks.

use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use secretlink_core::Secret;

use crate::conninfo::{AuthMethod, ChannelBinding, ConnInfo, SslMode};
use crate::error::AttemptError;
use crate::framed::{Framed, Incoming};
use crate::policy::{PasswordFrom, Policy};
use crate::scram::{Binding, Credentials, Exchange};
use crate::server_message::ServerMessage;

/// How this connection may be authenticated.
pub(crate) struct Authentication<'a> {
    /// The options: user, `require_auth`, `channel_binding` and others.
    pub info: &'a ConnInfo,
    /// The password for the host that is tried, if there is one.
    pub password: Option<&'a Secret>,
    /// Whether the stream is encrypted.
    pub encrypted: bool,
    /// The hash for channel binding, if there is one.
    pub server_end_point: Option<Vec<u8>>,
    /// What the caller wants besides: see [`Authentication::check_encryption`].
    pub policy: &'a Policy,
}

impl Authentication<'_> {
    /// Answers the server's requests up to AuthenticationOk. Returns whether a password was used,
    /// which is what dblink's rule for non-superusers asks (PQconnectionUsedPassword).
    pub(crate) async fn run(&self, framed: &mut Framed) -> Result<bool, AttemptError> {
        let mut used_password = false;
        let mut bound = false;
        loop {
            match next(framed).await? {
                Message::AuthenticationOk => {
                    if !used_password {
                        self.allow(AuthMethod::None)?;
                    }
                    if self.info.channel_binding == ChannelBinding::Require && !bound {
                        return Err(AttemptError::ChannelBinding(
                            "required, but server authenticated client without channel binding",
                        ));
                    }
                    return Ok(used_password);
                }
                _ if used_password => return Err(AttemptError::Protocol("authentication")),
                Message::AuthenticationCleartextPassword => {
                    self.allow(AuthMethod::Password)?;
                    self.forbid_if_binding_required()?;
                    let password = self.password()?;
                    if !self.encrypted {
                        return Err(AttemptError::CleartextUnencrypted);
                    }
                    send_password(framed, password.expose()).await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    self.allow(AuthMethod::Md5)?;
                    self.refuse_token("an MD5 password")?;
                    self.forbid_if_binding_required()?;
                    let hash = md5_hash(self.info.user.as_bytes(), self.password()?.expose(), body.salt());
                    send_password(framed, hash.as_bytes()).await?;
                }
                Message::AuthenticationSasl(body) => {
                    self.allow(AuthMethod::ScramSha256)?;
                    self.refuse_token("a SCRAM password")?;
                    bound = self.scram(framed, &body).await?;
                }
                Message::AuthenticationGss => return self.unsupported(AuthMethod::Gss, "GSSAPI"),
                Message::AuthenticationSspi => return self.unsupported(AuthMethod::Sspi, "SSPI"),
                Message::AuthenticationKerberosV5 => {
                    return Err(AttemptError::UnsupportedMethod("Kerberos 5"));
                }
                _ => return Err(AttemptError::Protocol("authentication")),
            }
            used_password = true;
        }
    }

    fn unsupported(&self, method: AuthMethod, name: &'static str) -> Result<bool, AttemptError> {
        self.allow(method)?;
        Err(AttemptError::UnsupportedMethod(name))
    }

    /// The password, if there is one and the connection is fit for it.
    fn password(&self) -> Result<&Secret, AttemptError> {
        self.check_encryption()?;
        self.password.filter(|p| !p.is_empty()).ok_or(AttemptError::NoPassword)
    }

    /// An IAM token answers a request for a password in clear text and no other: a server that makes
    /// another one has a password for the user, and would learn something of the token.
    fn refuse_token(&self, asked: &'static str) -> Result<(), AttemptError> {
        match self.policy.password_from {
            PasswordFrom::IamToken => Err(AttemptError::TokenNotAsked(asked)),
            PasswordFrom::Given | PasswordFrom::Secret => Ok(()),
        }
    }

    /// Every way to prove that one knows a password passes here, so this is the one place that keeps
    /// the rule: an IAM token leaves over an encrypted connection only. A password from a secret leaves over an encrypted connection, or because
    /// `sslmode=disable` was asked for by name. (SCRAM and MD5 do not send the password itself, but
    /// what they send can be attacked offline.)
    fn check_encryption(&self) -> Result<(), AttemptError> {
        let ssl = &self.info.ssl;
        let asked_for_plain = ssl.mode == SslMode::Disable && ssl.mode_given;
        match self.policy.password_from {
            PasswordFrom::IamToken if !self.encrypted => Err(AttemptError::CleartextUnencrypted),
            PasswordFrom::Secret if !self.encrypted && !asked_for_plain => {
                Err(AttemptError::PasswordUnencrypted)
            }
            _ => Ok(()),
        }
    }

    fn allow(&self, method: AuthMethod) -> Result<(), AttemptError> {
        let allowed = self.info.require_auth.as_ref().is_none_or(|r| r.allows(method));
        match method {
            _ if allowed => Ok(()),
            AuthMethod::None => Err(AttemptError::NotAuthenticated),
            AuthMethod::Password => Err(AttemptError::MethodNotAllowed("a cleartext password")),
            AuthMethod::Md5 => Err(AttemptError::MethodNotAllowed("a hashed password")),
            AuthMethod::Gss => Err(AttemptError::MethodNotAllowed("GSSAPI authentication")),
            AuthMethod::Sspi => Err(AttemptError::MethodNotAllowed("SSPI authentication")),
            AuthMethod::ScramSha256 | AuthMethod::OAuth => {
                Err(AttemptError::MethodNotAllowed("SASL authentication"))
            }
        }
    }

    fn forbid_if_binding_required(&self) -> Result<(), AttemptError> {
        match self.info.channel_binding {
            ChannelBinding::Require => Err(AttemptError::ChannelBinding(
                "required but not supported by server's authentication request",
            )),
            _ => Ok(()),
        }
    }

    /// SCRAM-SHA-256, with channel binding where both sides can. Returns whether it was bound.
    async fn scram(&self, framed: &mut Framed, offer: &AuthenticationSaslBody) -> Result<bool, AttemptError> {
        let offered = |mechanism: &str| offer.mechanisms().any(|m| Ok(m == mechanism));
        let malformed = |_| AttemptError::Protocol("authentication");
        let plus = offered(sasl::SCRAM_SHA_256_PLUS).map_err(malformed)?;
        let plain = offered(sasl::SCRAM_SHA_256).map_err(malformed)?;
        let wanted = self.info.channel_binding != ChannelBinding::Disable;
        let required = self.info.channel_binding == ChannelBinding::Require;

        let (mechanism, binding) = match &self.server_end_point {
            Some(hash) if plus && wanted => (sasl::SCRAM_SHA_256_PLUS, Binding::ServerEndPoint(hash.clone())),
            _ if required && !self.encrypted => {
                return Err(AttemptError::ChannelBinding("required, but SSL not in use"));
            }
            _ if required && !plus => {
                return Err(AttemptError::ChannelBinding(
                    "is required, but server did not offer an authentication method that supports channel binding",
                ));
            }
            None if required => {
                return Err(AttemptError::ChannelBinding(
                    "required, but the server's certificate has no hash to bind to",
                ));
            }
            // We could bind but the server says it cannot: said so ("y"), a server that could knows
            // that somebody in between has struck out its offer.
            Some(_) if plain && wanted => (sasl::SCRAM_SHA_256, Binding::NotOffered),
            _ if plain => (sasl::SCRAM_SHA_256, Binding::Unsupported),
            _ => return Err(AttemptError::UnsupportedMethod("an unknown kind of SASL")),
        };
        let bound = mechanism == sasl::SCRAM_SHA_256_PLUS;
        // Keys come first, as in libpq.
        let credentials = match &self.info.scram_keys {
            Some(keys) => {
                self.check_encryption()?;
                Credentials::Keys(keys)
            }
            None => Credentials::Password {
                password: self.password()?,
                min_iterations: self.policy.min_scram_iterations,
            },
        };
        let mut scram = Exchange::begin(credentials, binding)?;
        frontend::sasl_initial_response(mechanism, scram.message(), framed.outgoing())?;
        framed.flush().await?;
        let Message::AuthenticationSaslContinue(body) = next(framed).await? else {
            return Err(AttemptError::Protocol("authentication"));
        };
        scram.prove(body.data()).await?;
        frontend::sasl_response(scram.message(), framed.outgoing())?;
        framed.flush().await?;
        let Message::AuthenticationSaslFinal(body) = next(framed).await? else {
            return Err(AttemptError::Protocol("authentication"));
        };
        // Proves that the server knows the password too.
        scram.verify(body.data())?;
        Ok(bound)
    }
}

async fn send_password(framed: &mut Framed, password: &[u8]) -> Result<(), AttemptError> {
    frontend::password_message(password, framed.outgoing())?;
    framed.flush().await?;
    Ok(())
}

/// The next message of the login, errors from the server as `Err`.
pub(crate) async fn next(framed: &mut Framed) -> Result<Message, AttemptError> {
    match framed.next().await {
        Ok(Incoming::Message(Message::ErrorResponse(body))) => {
            Err(ServerMessage::parse(body.fields())?.into())
        }
        Ok(Incoming::Message(message)) => Ok(message),
        Ok(_) => Err(AttemptError::Protocol("login")),
        Err(e) => Err(e.into()),
    }
}
