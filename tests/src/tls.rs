//! A certificate authority of our own, with a server and a client certificate.

use crate::private_file::private_file;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::path::{Path, PathBuf};

/// PEM files for TLS, all below one directory and readable by the user that servers run as.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate of the authority: what `sslrootcert` wants.
    pub ca: PathBuf,
    /// The server's certificate.
    pub server_cert: PathBuf,
    /// The server's private key.
    pub server_key: PathBuf,
    /// The client's certificate: what `sslcert` wants.
    pub client_cert: PathBuf,
    /// The client's private key: what `sslkey` wants.
    pub client_key: PathBuf,
}

impl TlsFiles {
    /// Make a new authority in `directory`, a certificate for a server known by `server_names`
    /// (DNS names or IP addresses), and one for the client `client_name`.
    pub fn generate(directory: &Path, server_names: &[String], client_name: &str) -> Self {
        let file = |name: &str| directory.join(name);
        let files = Self {
            ca: file("ca.crt"),
            server_cert: file("server.crt"),
            server_key: file("server.key"),
            client_cert: file("client.crt"),
            client_key: file("client.key"),
        };

        let mut params = named("secretlink test authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, new_key()).expect("cannot sign the authority");
        private_file(files.ca.clone(), &authority.pem());

        let sign = |mut params: CertificateParams, purpose, cert: &Path, key_file: &Path| {
            params.extended_key_usages = vec![purpose];
            let key = new_key();
            let signed = params.signed_by(&key, &authority).expect("cannot sign a certificate");
            private_file(cert.to_owned(), &signed.pem());
            private_file(key_file.to_owned(), &key.serialize_pem());
        };
        let common_name = server_names.first().expect("a server needs a name");
        let server = named(common_name, server_names);
        sign(server, ExtendedKeyUsagePurpose::ServerAuth, &files.server_cert, &files.server_key);
        let client = named(client_name, &[]);
        sign(client, ExtendedKeyUsagePurpose::ClientAuth, &files.client_cert, &files.client_key);
        files
    }
}

fn named(common_name: &str, alternative_names: &[String]) -> CertificateParams {
    let mut params = CertificateParams::new(alternative_names).expect("a name no certificate can hold");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("cannot make a key")
}
