//! Connecting: hosts, sockets, TLS, login, session attributes.
//!
//! Source: PostgreSQL documentation, "Database Connection Control Functions", and PQconnectPoll in
//! fe-connect.c for what is tried after what.

use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use secretlink_core::SqlState;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

use crate::auth::{self, Authentication};
use crate::cancel::{Address, CancelKey, answer_to_request, request_tls};
use crate::connection::{Connection, ConnectionFacts};
use crate::conninfo::{ConnInfo, Host, HostAddress, SslMode, TargetSessionAttrs};
use crate::error::{AttemptError, ConnectError, FailedAttempt};
use crate::framed::{Framed, Transport};
use crate::policy::Policy;
use crate::socket::Socket;
use crate::tls::{TlsClient, TlsFacts};

impl Connection {
    /// Connects to the first host that will have us and is of the kind asked for.
    ///
    /// Cancel-safe: dropping the future closes whatever socket is open at that moment.
    ///
    /// # Errors
    /// What happened at each address tried.
    pub async fn connect(info: &ConnInfo, policy: &Policy) -> Result<Connection, ConnectError> {
        if info.require_peer.is_some() {
            return Err(ConnectError::single(AttemptError::Unsupported("requirepeer")));
        }
        // Whatever the conninfo was made of, and by whom.
        if info.ssl.mode < policy.min_sslmode {
            return Err(ConnectError::single(AttemptError::SslModeTooWeak {
                mode: info.ssl.mode.name(),
                min: policy.min_sslmode.name(),
            }));
        }
        // prefer-standby makes a second pass that takes any server (fe-connect.c, try_next_host).
        let passes: &[TargetSessionAttrs] = match info.target_session_attrs {
            TargetSessionAttrs::PreferStandby => &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any],
            ref one => std::slice::from_ref(one),
        };
        let mut attempts = Vec::new();
        for &wanted in passes {
            for host in order(info) {
                let addresses = match resolve(host).await {
                    Ok(addresses) => addresses,
                    Err(reason) => {
                        attempts.push(FailedAttempt { target: String::new(), reason });
                        continue;
                    }
                };
                for address in addresses {
                    let attempt = Attempt { info, policy, host, address: &address, wanted };
                    match attempt.run().await {
                        Ok(connection) => return Ok(connection),
                        Err(reasons) => {
                            let ends_search = reasons.last().is_some_and(ends_search);
                            attempts.extend(
                                reasons
                                    .into_iter()
                                    .map(|reason| FailedAttempt { target: target(host, &address), reason }),
                            );
                            if ends_search {
                                return Err(ConnectError { attempts });
                            }
                        }
                    }
                }
            }
        }
        Err(ConnectError { attempts })
    }
}

impl Connection {
    /// Logs in to the first host of `info` over any transport, for fuzzing the decoding of what a
    /// server says until then. `encrypted` is what the client is to believe of the transport.
    #[doc(hidden)]
    pub async fn log_in_over(
        transport: Box<dyn Transport>,
        encrypted: bool,
        server_end_point: Option<Vec<u8>>,
        info: &ConnInfo,
        policy: &Policy,
    ) -> Result<Connection, AttemptError> {
        let Some(host) = info.hosts.first() else { return Err(AttemptError::Protocol("login")) };
        // Nobody listens there: a cancel request fails at once.
        let address = Address::Unix("/nonexistent".into());
        let attempt = Attempt { info, policy, host, address: &address, wanted: info.target_session_attrs };
        let facts = encrypted.then(|| TlsFacts { version: "TLSv1.3", cipher: String::new() });
        attempt.start_session(transport, None, facts, server_end_point).await
    }
}

/// Whether the other hosts are not worth trying: the last one spoke Postgres and turned us down for a
/// reason that is ours. 57P03 (starting up, shutting down) is the server's.
fn ends_search(reason: &AttemptError) -> bool {
    match reason {
        AttemptError::Server(message) | AttemptError::AfterLogin { message, .. } => {
            message.sqlstate.is_none_or(|s| s != SqlState::new("57P03"))
        }
        AttemptError::Resolve(..)
        | AttemptError::Io(_)
        | AttemptError::Timeout
        | AttemptError::Closed
        | AttemptError::SessionNotAcceptable(_) => false,
        _ => true,
    }
}

fn order(info: &ConnInfo) -> Vec<&Host> {
    let mut hosts: Vec<&Host> = info.hosts.iter().collect();
    if info.load_balance_random {
        // Fisher-Yates over the system's randomness: std seeds every RandomState anew.
        use std::hash::{BuildHasher, RandomState};
        for i in (1..hosts.len()).rev() {
            let random = RandomState::new().hash_one(i) as usize;
            hosts.swap(i, random % (i + 1));
        }
    }
    hosts
}

async fn resolve(host: &Host) -> Result<Vec<Address>, AttemptError> {
    match &host.address {
        HostAddress::Unix(path) => Ok(vec![Address::Unix(path.clone())]),
        HostAddress::Ip(ip) => Ok(vec![Address::Tcp(SocketAddr::new(*ip, host.port))]),
        HostAddress::Name(name) => {
            let addresses = tokio::net::lookup_host((name.as_str(), host.port))
                .await
                .map_err(|e| AttemptError::Resolve(name.clone(), without_prefix(e)))?;
            Ok(addresses.map(Address::Tcp).collect())
        }
    }
}

/// std puts "failed to lookup address information: " before what getaddrinfo says.
fn without_prefix(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.strip_prefix("failed to lookup address information: ") {
        Some(reason) => io::Error::new(error.kind(), reason.to_string()),
        None => error,
    }
}

/// libpq's words for where an attempt went (emitHostIdentityInfo).
fn target(host: &Host, address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("connection to server on socket \"{}\" failed: ", path.display()),
        Address::Tcp(addr)
            if matches!(host.address, HostAddress::Ip(_)) || host.name == addr.ip().to_string() =>
        {
            format!("connection to server at \"{}\", port {} failed: ", addr.ip(), host.port)
        }
        Address::Tcp(addr) => {
            format!("connection to server at \"{}\" ({}), port {} failed: ", host.name, addr.ip(), host.port)
        }
    }
}

/// One try at one address.
struct Attempt<'a> {
    info: &'a ConnInfo,
    policy: &'a Policy,
    host: &'a Host,
    address: &'a Address,
    wanted: TargetSessionAttrs,
}

impl Attempt<'_> {
    /// # Errors
    /// Why, once for each way to encrypt that was tried.
    async fn run(&self) -> Result<Connection, Vec<AttemptError>> {
        // With allow and prefer a second try differs in encryption only.
        let unix = matches!(self.address, Address::Unix(_));
        let orders: &[bool] = match self.info.ssl.mode {
            _ if unix => &[false],
            SslMode::Disable => &[false],
            SslMode::Allow => &[false, true],
            SslMode::Prefer => &[true, false],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[true],
        };
        let mut reasons = Vec::new();
        for &encrypt in orders {
            let result = match self.info.connect_timeout {
                Some(limit) => tokio::time::timeout(limit, self.log_in(encrypt))
                    .await
                    .unwrap_or(Err(AttemptError::Timeout)),
                None => self.log_in(encrypt).await,
            };
            match result {
                Ok(connection) => return Ok(connection),
                Err(reason) => {
                    // What encryption could be the reason for; pg_hba.conf has hostssl and hostnossl. A
                    // server that offers TLS, and with which there is no handshake, is not tried without,
                    // unlike in libpq: TLS is never given up in silence.
                    let retry = matches!(reason, AttemptError::Server(_) | AttemptError::AfterLogin { .. });
                    reasons.push(reason);
                    if !retry {
                        break;
                    }
                }
            }
        }
        Err(reasons)
    }

    async fn log_in(&self, encrypt: bool) -> Result<Connection, AttemptError> {
        let mut tls = None;
        let mut facts = None;
        let mut server_end_point = None;
        let mut socket = match self.address {
            Address::Unix(path) => Socket::unix(UnixStream::connect(path).await?)?,
            Address::Tcp(addr) => {
                let stream = TcpStream::connect(addr).await?;
                self.set_socket_options(&stream)?;
                Socket::tcp(stream)?
            }
        };
        let fd = socket.fd();
        let direct = self.info.ssl.negotiation_direct;
        let transport: Box<dyn Transport> = match self.address {
            Address::Tcp(_) if encrypt => {
                if !direct {
                    request_tls(&mut socket).await?;
                }
                // Reading files and setting up OpenSSL takes as long as the server takes to make a process
                // for us. What goes wrong counts only if there is to be a handshake.
                let client = TlsClient::new(&self.info.ssl, self.host.certificate_name());
                if direct || answer_to_request(&mut socket).await? {
                    let client = client?;
                    let encrypted = client.handshake(socket).await?;
                    tls = Some(client);
                    facts = Some(encrypted.facts);
                    server_end_point = encrypted.server_end_point;
                    Box::new(encrypted.stream)
                } else if self.info.ssl.mode == SslMode::Prefer {
                    Box::new(socket)
                } else {
                    return Err(AttemptError::TlsRefused);
                }
            }
            _ => Box::new(socket),
        };
        let mut connection = self.start_session(transport, tls, facts, server_end_point).await?;
        connection.set_socket(fd);
        Ok(connection)
    }

    /// Says everything that is said over the transport, encrypted or not, until the session takes
    /// queries.
    async fn start_session(
        &self,
        transport: Box<dyn Transport>,
        tls: Option<TlsClient>,
        facts: Option<TlsFacts>,
        server_end_point: Option<Vec<u8>>,
    ) -> Result<Connection, AttemptError> {
        let mut framed = Framed::new(transport);
        self.send_startup(&mut framed).await?;

        let password_used = Authentication {
            info: self.info,
            password: self.host.password.as_ref(),
            encrypted: facts.is_some(),
            server_end_point,
            policy: self.policy,
        }
        .run(&mut framed)
        .await?;
        framed.authenticated();

        let mut connection = Connection::new(
            framed,
            ConnectionFacts {
                host: self.host.name.clone(),
                port: self.host.port,
                dbname: self.info.dbname.clone(),
                user: self.info.user.clone(),
                tls: facts,
                password_used,
                backend_pid: 0,
            },
        );
        let mut key = None;
        loop {
            let message = match auth::next(connection.framed()).await {
                Err(AttemptError::Server(message)) => {
                    return Err(AttemptError::AfterLogin { message, password_used });
                }
                message => message?,
            };
            match message {
                Message::BackendKeyData(body) => {
                    connection.set_backend_pid(body.process_id());
                    key = Some(CancelKey {
                        address: self.address.clone(),
                        tls: tls.clone(),
                        direct: self.info.ssl.negotiation_direct,
                        process_id: body.process_id(),
                        secret_key: body.secret_key(),
                    });
                }
                Message::ParameterStatus(body) => connection.note_parameter(&body),
                Message::NoticeResponse(_) => {}
                Message::ReadyForQuery(_) => break,
                _ => return Err(AttemptError::Protocol("login")),
            }
        }
        connection.set_cancel_key(key);
        self.check_session(&mut connection).await?;
        Ok(connection)
    }

    fn set_socket_options(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        let wanted = &self.info.keepalives;
        if wanted.enabled {
            let mut keepalive = TcpKeepalive::new();
            if let Some(idle) = wanted.idle {
                keepalive = keepalive.with_time(idle);
            }
            if let Some(interval) = wanted.interval {
                keepalive = keepalive.with_interval(interval);
            }
            if let Some(count) = wanted.count {
                keepalive = keepalive.with_retries(count);
            }
            socket.set_keepalive(true)?;
            socket.set_tcp_keepalive(&keepalive)?;
        }
        #[cfg(target_os = "linux")]
        if let Some(timeout) = self.info.tcp_user_timeout.filter(|t| *t > Duration::ZERO) {
            socket.set_tcp_user_timeout(Some(timeout))?;
        }
        Ok(())
    }

    async fn send_startup(&self, framed: &mut Framed) -> Result<(), AttemptError> {
        let info = self.info;
        let mut parameters = vec![
            ("user", info.user.as_str()),
            ("database", &info.dbname),
            ("client_encoding", &self.policy.client_encoding),
        ];
        if let Some(options) = &info.options {
            parameters.push(("options", options));
        }
        if let Some(name) = &info.application_name {
            parameters.push(("application_name", name));
        }
        parameters.extend(info.settings.iter().map(|(name, value)| (*name, value.as_str())));
        frontend::startup_message(parameters, framed.outgoing())?;
        framed.flush().await?;
        Ok(())
    }

    /// target_session_attrs, by what servers since 14 report and older ones answer.
    async fn check_session(&self, connection: &mut Connection) -> Result<(), AttemptError> {
        use TargetSessionAttrs::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};
        let (is, unless) = match self.wanted {
            Any | PreferStandby => return Ok(()),
            ReadWrite => (connection.is_read_only().await? == Some(false), "session is read-only"),
            ReadOnly => (connection.is_read_only().await? == Some(true), "session is not read-only"),
            Primary => (connection.is_standby().await? == Some(false), "server is in hot standby mode"),
            Standby => (connection.is_standby().await? == Some(true), "server is not in hot standby mode"),
        };
        if is { Ok(()) } else { Err(AttemptError::SessionNotAcceptable(unless)) }
    }
}
