//! The hosts to try (fe-connect.c, `connectOptions2`; PostgreSQL documentation, "Specifying Multiple
//! Hosts").

use std::mem::{offset_of, size_of};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use secretlink_core::Secret;

use super::error::ConnInfoError;
use super::options::Options;
use super::value::{harmless, parse_int};

/// More than anybody lists; it bounds the work that one string can ask for.
const MAX_HOSTS: usize = 256;

const DEFAULT_PORT: u16 = 5432;

/// The longest path a `sockaddr_un` holds with the zero byte at its end (pqcomm.h,
/// `UNIXSOCK_PATH_BUFLEN`).
const MAX_SOCKET_PATH: usize = size_of::<libc::sockaddr_un>() - offset_of!(libc::sockaddr_un, sun_path) - 1;

/// One server to try.
#[derive(Clone, Debug)]
pub struct Host {
    /// What errors call it and what a certificate must name: the host name or socket directory, or
    /// the address if only that was given.
    pub name: String,
    /// The address of the server.
    pub address: HostAddress,
    /// The port.
    pub port: u16,
    /// The password: from the string, the service file, `PGPASSWORD` or, for this host, the password
    /// file; the first of these that has one. Never empty.
    pub password: Option<Secret>,
    /// The name that the certificate must have in place of `name`, and for which TLS asks: the database's own
    /// name, where `name` is another one.
    pub own_name: Option<String>,
}

impl Host {
    /// The name that the server's certificate must have.
    pub fn certificate_name(&self) -> &str {
        self.own_name.as_deref().unwrap_or(&self.name)
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAddress {
    /// A name, or an address as text, to look up.
    Name(String),
    /// An address from `hostaddr`: nothing to look up.
    Ip(IpAddr),
    /// The full path of a socket. An abstract one (`host=@…`) starts with a zero byte, which is how
    /// `tokio::net::UnixStream::connect` wants it.
    Unix(PathBuf),
}

/// Where to connect when no host is given. The directory is compiled into libpq: Debian's and Red
/// Hat's have the first, the original the second.
pub(super) fn default_host() -> &'static str {
    let directory = ["/var/run/postgresql", "/tmp"].into_iter().find(|dir| Path::new(dir).is_dir());
    directory.unwrap_or("localhost")
}

/// The hosts of `options`, in which defaults are filled in. `password` gives the password for a host
/// and a port.
pub(super) fn resolve(
    options: &Options,
    must_have_names: bool,
    password: impl Fn(&str, &str) -> Option<Secret>,
) -> Result<Vec<Host>, ConnInfoError> {
    let list = |keyword| -> Vec<&str> {
        let value = options.get(keyword).filter(|value| !value.is_empty());
        value.map(|value| value.split(',').collect()).unwrap_or_default()
    };
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(ConnInfoError::HostCount { names: names.len(), addresses: addresses.len() });
    }
    let count = names.len().max(addresses.len()).max(1);
    if count > MAX_HOSTS {
        return Err(ConnInfoError::TooManyHosts { maximum: MAX_HOSTS });
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(ConnInfoError::PortCount { ports: ports.len(), hosts: count });
    }

    let mut hosts = Vec::with_capacity(count);
    for index in 0..count {
        let at = |list: &[&'_ str]| list.get(index).copied().unwrap_or_default().to_owned();
        let (mut name, address) = (at(&names), at(&addresses));
        let port_text = if ports.len() == 1 { ports.concat() } else { at(&ports) };
        let port = parse_port(&port_text)?;

        if must_have_names && name.is_empty() && !address.is_empty() {
            return Err(ConnInfoError::NoHostToVerify);
        }
        if name.is_empty() {
            name = if address.is_empty() { default_host().to_owned() } else { address.clone() };
        }
        let address = if !address.is_empty() {
            HostAddress::Ip(
                address.parse().map_err(|_| ConnInfoError::InvalidAddress { value: harmless(&address) })?,
            )
        } else if name.starts_with(['/', '@']) {
            socket_path(&name, port)?
        } else {
            check_name(&name, index + 1)?;
            HostAddress::Name(name.clone())
        };

        // The password file says "localhost" for the default socket directory.
        let is_default_socket = name.starts_with('/') && name == default_host();
        let key = if is_default_socket { "localhost" } else { &name };
        let port_key = if port_text.is_empty() { DEFAULT_PORT.to_string() } else { port_text };
        hosts.push(Host { address, port, password: password(key, &port_key), name, own_name: None });
    }
    Ok(hosts)
}

fn parse_port(text: &str) -> Result<u16, ConnInfoError> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let port = parse_int("port", text)?;
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(ConnInfoError::InvalidPort { port }),
    }
}

fn socket_path(directory: &str, port: u16) -> Result<HostAddress, ConnInfoError> {
    let path = match directory.strip_prefix('@') {
        Some(name) => format!("\0{name}/.s.PGSQL.{port}"),
        None => format!("{directory}/.s.PGSQL.{port}"),
    };
    if path.len() > MAX_SOCKET_PATH {
        return Err(ConnInfoError::SocketPathTooLong { maximum: MAX_SOCKET_PATH });
    }
    Ok(HostAddress::Unix(path.into()))
}

/// Refuses what no resolver would find, before a message can repeat it: it may well be a piece of
/// something else.
fn check_name(name: &str, number: usize) -> Result<(), ConnInfoError> {
    let misplaced = |c: char| c.is_whitespace() || c.is_control() || "=@/\\'\"?&,".contains(c);
    let problem = if name.len() > 255 {
        "is too long (maximum 255 bytes)"
    } else if name.contains(char::is_whitespace) {
        "contains a space"
    } else if name.contains(misplaced) {
        "contains a character that no host name has"
    } else {
        return Ok(());
    };
    Err(ConnInfoError::InvalidHostName { number, problem })
}
