//! Whether a certificate names the host that was asked for, as libpq decides it
//! (fe-secure-openssl.c, `pgtls_verify_peer_name_matches_certificate_guts`; fe-secure-common.c;
//! PostgreSQL documentation, "Server Certificate Verification").

use std::net::{Ipv4Addr, Ipv6Addr};

use openssl::nid::Nid;
use openssl::x509::X509Ref;
use secretlink_tls::{AlternativeName, alternative_name};

use crate::tls_error::TlsError;

/// Checks that `certificate` is one for `host`.
///
/// The common name counts where there is no alternative name of the host's own kind, name or address.
/// (RFC 6125 would not look at it if there is one of any kind.)
pub(super) fn check(certificate: &X509Ref, host: &str) -> Result<(), TlsError> {
    let host_is_ip = ipv4(host).is_some() || host.parse::<Ipv6Addr>().is_ok();
    let mut examined = Examined::default();
    let mut same_kind = false;
    for name in certificate.subject_alt_names().iter().flatten() {
        let found = match alternative_name(name) {
            AlternativeName::Dns(name) => {
                same_kind |= !host_is_ip;
                examined.name(name, host)?
            }
            AlternativeName::Ip(address) => {
                same_kind |= host_is_ip;
                examined.address(address, host)?
            }
            AlternativeName::Other => false,
        };
        if found {
            return Ok(());
        }
    }
    let mut common_names = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    if !same_kind
        && let Some(common_name) = common_names.next()
        && examined.name(common_name.data().as_slice(), host)?
    {
        return Ok(());
    }
    Err(TlsError::PeerName { found: examined.described(), host: host.to_owned() })
}

/// The names that were looked at.
#[derive(Default)]
struct Examined {
    first: Option<String>,
    count: usize,
}

impl Examined {
    fn note(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(name);
    }

    fn name(&mut self, name: &[u8], host: &str) -> Result<bool, TlsError> {
        self.note(|| name.escape_ascii().to_string());
        // What comes behind a zero byte would not be seen where the name is shown (CVE-2009-4034).
        if name.contains(&0) {
            return Err(TlsError::PeerNameWithNul);
        }
        Ok(name.eq_ignore_ascii_case(host.as_bytes()) || wildcard_matches(name, host.as_bytes()))
    }

    fn address(&mut self, address: &[u8], host: &str) -> Result<bool, TlsError> {
        if let Ok(octets) = <[u8; 4]>::try_from(address) {
            self.note(|| Ipv4Addr::from(octets).to_string());
            return Ok(ipv4(host) == Some(Ipv4Addr::from(octets)));
        }
        if let Ok(octets) = <[u8; 16]>::try_from(address) {
            let address = Ipv6Addr::from(octets);
            self.note(|| address.to_string());
            return Ok(host.parse() == Ok(address));
        }
        Err(TlsError::PeerAddressLength(address.len()))
    }

    /// ` for "x" (and 2 other names)`, as libpq says it.
    fn described(&self) -> String {
        match (&self.first, self.count) {
            (None, _) => String::new(),
            (Some(first), 1) => format!(" for \"{first}\""),
            (Some(first), 2) => format!(" for \"{first}\" (and 1 other name)"),
            (Some(first), count) => format!(" for \"{first}\" (and {} other names)", count - 1),
        }
    }
}

/// `*.` stands for one label, the first (`wildcard_certificate_match`).
fn wildcard_matches(pattern: &[u8], host: &[u8]) -> bool {
    let Some(suffix) = pattern.strip_prefix(b"*").filter(|suffix| suffix.len() > 1 && suffix[0] == b'.')
    else {
        return false;
    };
    // At least one byte in place of the asterisk.
    let Some(label) = host.len().checked_sub(suffix.len()).filter(|label| *label > 0) else { return false };
    host[label..].eq_ignore_ascii_case(suffix) && !host[..label].contains(&b'.')
}

/// An IPv4 address in any notation that inet_aton(3) takes, which is what libpq asks: also `127.1`,
/// `0x7f.0.0.1` and `2130706433`.
fn ipv4(host: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    // The last number stands for all bytes that are left.
    let (last, first) = numbers.split_last()?;
    let bits_left = 32 - 8 * u32::try_from(first.len()).ok().filter(|count| *count < 4)?;
    if first.iter().any(|number| *number > 0xff) || u64::from(*last) >> bits_left != 0 {
        return None;
    }
    let begin = first.iter().zip([24, 16, 8]).fold(0, |address, (number, shift)| address | number << shift);
    Some(Ipv4Addr::from(begin | *last))
}

/// A number as in C.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    // from_str_radix would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, host, matches) in [
            ("*.example.com", "db.example.com", true),
            ("*.EXAMPLE.com", "db.example.COM", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "example.com", false),
            ("*.com", "example.com", true),
            ("*.", "x.", false),
            ("*", "x", false),
            ("*x.com", "ax.com", false),
            ("d*.example.com", "db.example.com", false),
            ("db.*.com", "db.example.com", false),
            ("*.0.0.1", "127.0.0.1", true),
        ] {
            assert_eq!(wildcard_matches(pattern.as_bytes(), host.as_bytes()), matches, "{pattern} {host}");
        }
    }

    #[test]
    fn addresses_as_inet_aton_takes_them() {
        let local = Some(Ipv4Addr::LOCALHOST);
        for text in ["127.0.0.1", "127.1", "127.0.1", "0x7f.0.0.1", "0177.0.0.01", "2130706433", "0X7F000001"]
        {
            assert_eq!(ipv4(text), local, "{text}");
        }
        assert_eq!(ipv4("0"), Some(Ipv4Addr::UNSPECIFIED));
        assert_eq!(ipv4("255.16777215"), Some(Ipv4Addr::BROADCAST));
        for text in [
            "",
            ".",
            "127.0.0.",
            "127.0.0.256",
            "256.1",
            "1.2.3.4.5",
            "4294967296",
            "08",
            "+1",
            "-1",
            "a",
            "::1",
        ] {
            assert_eq!(ipv4(text), None, "{text}");
        }
    }
}
