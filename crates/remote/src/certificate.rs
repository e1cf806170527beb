//! Where OpenSSL, and so libpq, goes further with a server's certificate than webpki: the names it
//! may be known by, certificates of X.509 version 1, and the hash for channel binding.

use std::time::Duration;

use tokio_rustls::rustls::crypto::WebPkiSupportedAlgorithms;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, SignatureScheme};
use x509_cert::der::oid::db::{rfc4519, rfc5280};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::{Certificate, Version};

/// More certificates than any chain has.
const MAX_DEPTH: usize = 8;

/// A certificate, if it can be read.
pub(crate) fn parse(der: &CertificateDer<'_>) -> Option<Certificate> {
    Certificate::from_der(der).ok()
}

/// RFC 5929, section 4.1: the hash of the certificate's own signature algorithm, but SHA-256 for
/// MD5 and SHA-1.
pub(crate) fn server_end_point(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let oid = parse(der)?.signature_algorithm.oid.to_string();
    let hash = match oid.as_str() {
        // md5WithRSA, sha1WithRSA, ecdsa-with-SHA1, sha256WithRSA, ecdsa-with-SHA256
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2" => &ring::digest::SHA256,
        // sha384WithRSA, ecdsa-with-SHA384
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &ring::digest::SHA384,
        // sha512WithRSA, ecdsa-with-SHA512
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &ring::digest::SHA512,
        _ => return None,
    };
    Some(ring::digest::digest(hash, der).as_ref().to_vec())
}

/// The names that libpq takes besides a subject alternative name of the host's own kind: for an
/// address, a DNS name that spells it; and where there is no alternative name of that kind, the
/// common name (PostgreSQL documentation, "Server Certificate Verification";
/// pgtls_verify_peer_name_matches_certificate_guts).
pub(crate) fn names_host(cert: &Certificate, host: &ServerName<'_>) -> bool {
    let (text, is_dns) = (host.to_str(), matches!(host, ServerName::DnsName(_)));
    let Ok(alternatives) = cert.tbs_certificate.get::<SubjectAltName>() else { return false };
    let mut same_kind = false;
    for name in alternatives.iter().flat_map(|(_, names)| names.0.iter()) {
        match name {
            GeneralName::DnsName(_) if is_dns => same_kind = true,
            GeneralName::DnsName(name) if name.as_str() == text => return true,
            GeneralName::IpAddress(_) if !is_dns => same_kind = true,
            _ => {}
        }
    }
    let common_name = cert
        .tbs_certificate
        .subject
        .0
        .iter()
        .flat_map(|rdn| rdn.0.iter())
        .find(|attribute| attribute.oid == rfc4519::CN)
        .and_then(|attribute| std::str::from_utf8(attribute.value.value()).ok());
    !same_kind && common_name.is_some_and(|name| name_matches(name, &text, is_dns))
}

/// Wildcards as in wildcard_certificate_match: the first label, as a whole.
fn name_matches(name: &str, host: &str, is_dns: bool) -> bool {
    match name.strip_prefix('*') {
        Some(suffix) if is_dns && suffix.starts_with('.') && suffix.len() > 1 => host
            .split_once('.')
            .is_some_and(|(first, rest)| !first.is_empty() && rest.eq_ignore_ascii_case(&suffix[1..])),
        Some(_) => false,
        None => name.eq_ignore_ascii_case(host),
    }
}

/// Whether webpki would refuse to look into it. `openssl x509 -req`, and with it the recipe for
/// server certificates in Postgres's documentation ("Creating Certificates"), makes such ones.
pub(crate) fn is_version_1(cert: &Certificate) -> bool {
    cert.tbs_certificate.version == Version::V1
}

/// Verifies a certificate of version 1 up to one of `roots`.
///
/// Stricter than OpenSSL where webpki's help would be needed: an authority is not followed that is
/// limited to some names or purposes, or that has any critical extension besides basic constraints
/// and key usage.
pub(crate) fn verify_version_1(
    cert: &Certificate,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), CertificateError> {
    let roots: Vec<Certificate> = roots.iter().filter_map(parse).collect();
    let intermediates: Vec<Certificate> = intermediates.iter().filter_map(parse).collect();
    verify_chain(cert, &intermediates, &roots, now, algorithms, 0)
}

fn verify_chain(
    cert: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
    depth: usize,
) -> Result<(), CertificateError> {
    let now_since_epoch = Duration::from_secs(now.as_secs());
    let validity = &cert.tbs_certificate.validity;
    if now_since_epoch < validity.not_before.to_unix_duration() {
        return Err(CertificateError::NotValidYet);
    }
    if now_since_epoch > validity.not_after.to_unix_duration() {
        return Err(CertificateError::Expired);
    }
    let issued = |issuer: &&Certificate| {
        issuer.tbs_certificate.subject == cert.tbs_certificate.issuer
            && may_issue(issuer, depth)
            && is_signed_by(cert, issuer, algorithms)
    };
    if roots.iter().any(|root| issued(&root)) {
        return Ok(());
    }
    if depth < MAX_DEPTH
        && let Some(issuer) = intermediates.iter().find(issued)
    {
        return verify_chain(issuer, intermediates, roots, now, algorithms, depth + 1);
    }
    Err(CertificateError::UnknownIssuer)
}

/// Whether a certificate is an authority's, `depth` certificates of other authorities below it.
fn may_issue(issuer: &Certificate, depth: usize) -> bool {
    let tbs = &issuer.tbs_certificate;
    if is_version_1(issuer) {
        // Version 1 has no way to say that it is one. Only its own issuer, a root, can be meant.
        return tbs.subject == tbs.issuer;
    }
    let is_authority = match tbs.get::<BasicConstraints>() {
        Ok(Some((_, constraints))) => {
            constraints.ca && constraints.path_len_constraint.is_none_or(|max| depth <= usize::from(max))
        }
        _ => false,
    };
    let may_sign = match tbs.get::<KeyUsage>() {
        Ok(usage) => usage.is_none_or(|(_, usage)| usage.key_cert_sign()),
        Err(_) => false,
    };
    let understood = [rfc5280::ID_CE_BASIC_CONSTRAINTS, rfc5280::ID_CE_KEY_USAGE];
    let limits = [rfc5280::ID_CE_EXT_KEY_USAGE, rfc5280::ID_CE_NAME_CONSTRAINTS];
    let limited = tbs.extensions.iter().flatten().any(|extension| {
        limits.contains(&extension.extn_id)
            || (extension.critical && !understood.contains(&extension.extn_id))
    });
    is_authority && may_sign && !limited
}

fn is_signed_by(cert: &Certificate, issuer: &Certificate, algorithms: &WebPkiSupportedAlgorithms) -> bool {
    let (Ok(message), Some(signature)) = (cert.tbs_certificate.to_der(), cert.signature.as_bytes()) else {
        return false;
    };
    let Some((key_algorithm, key)) = public_key(issuer) else { return false };
    let Some(signature_algorithm) = identifier(&cert.signature_algorithm) else { return false };
    algorithms.all.iter().any(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == key_algorithm
            && algorithm.signature_alg_id().as_ref() == signature_algorithm
            && algorithm.verify_signature(key, &message, signature).is_ok()
    })
}

/// Whether `signature` over `message`, as TLS 1.2 makes it, is by the key of `cert`.
pub(crate) fn verify_tls12_signature(
    cert: &Certificate,
    scheme: SignatureScheme,
    message: &[u8],
    signature: &[u8],
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Some((key_algorithm, key)) = public_key(cert) else { return false };
    let candidates = algorithms.mapping.iter().filter(|(s, _)| *s == scheme).flat_map(|(_, list)| *list);
    candidates
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key_algorithm)
        .any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}

fn public_key(cert: &Certificate) -> Option<(Vec<u8>, &[u8])> {
    let info = &cert.tbs_certificate.subject_public_key_info;
    Some((identifier(&info.algorithm)?, info.subject_public_key.as_bytes()?))
}

/// An algorithm as rustls names it: DER without tag and length, which are two bytes for any
/// algorithm there is.
fn identifier(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let der = algorithm.to_der().ok()?;
    der.get(1).is_some_and(|length| *length < 0x80).then(|| der[2..].to_vec())
}
