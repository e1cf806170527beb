//! Certificates of X.509 version 1.

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rand::rand_bytes;
use openssl::x509::{X509, X509Builder, X509NameRef, X509Req};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes `directory/name.crt`, a certificate of version 1 for the request `request.csr` and valid until
/// the end of `days` from now. The `issuer` is the name of a `.crt` and its `.key`, or the key's name
/// alone, if the certificate is to be signed by its own key.
///
/// `openssl x509 -req` makes such certificates up to OpenSSL 3.3; later ones add extensions, and with
/// them comes version 3. They also refuse a certificate whose end is over.
pub fn version_1(directory: &Path, request: &str, issuer: Issuer, days: i64, name: &str) {
    let read =
        |name: String| fs::read(directory.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let request = X509Req::from_pem(&read(format!("{request}.csr"))).unwrap();
    let own;
    let (authority, key): (&X509NameRef, PKey<Private>) = match issuer {
        Issuer::Own(key) => (request.subject_name(), private_key(&read(format!("{key}.key")))),
        Issuer::Authority(issuer) => {
            own = X509::from_pem(&read(format!("{issuer}.crt"))).unwrap();
            (own.subject_name(), private_key(&read(format!("{issuer}.key"))))
        }
    };
    let mut serial = [0; 8];
    rand_bytes(&mut serial).unwrap();
    serial[0] &= 0x7f;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let at = |days: i64| Asn1Time::from_unix(now + days * DAY.as_secs() as i64).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(0).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_slice(&serial).unwrap()).unwrap()).unwrap();
    builder.set_subject_name(request.subject_name()).unwrap();
    builder.set_issuer_name(authority).unwrap();
    builder.set_pubkey(&request.public_key().unwrap()).unwrap();
    builder.set_not_before(&at(days.min(0) - 1)).unwrap();
    builder.set_not_after(&at(days)).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    fs::write(directory.join(format!("{name}.crt")), builder.build().to_pem().unwrap()).unwrap();
}

/// Who signs a certificate.
#[derive(Clone, Copy, Debug)]
pub enum Issuer<'a> {
    /// The key of that name, which is its own.
    Own(&'a str),
    /// The authority of that name.
    Authority(&'a str),
}

fn private_key(pem: &[u8]) -> PKey<Private> {
    PKey::private_key_from_pem(pem).unwrap()
}
