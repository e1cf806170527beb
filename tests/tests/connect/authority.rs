//! Certificates of our own making.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use secretlink_e2e::{Cluster, StopMode, private_file};
use std::path::Path;

/// An authority to sign with.
pub fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = named(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub fn named(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// Has the server show another certificate.
pub fn present(server: &mut Cluster, directory: &Path, cert: &str, key: &str) {
    let cert = private_file(directory.join("shown.crt"), cert);
    let key = private_file(directory.join("shown.key"), key);
    server.append_conf(&[
        format!("ssl_cert_file = '{}'", cert.display()),
        format!("ssl_key_file = '{}'", key.display()),
    ]);
    server.restart(StopMode::Fast);
}
