//! The certificates that an AWS endpoint's own must come from, if not the operating system's.

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::AwsError;

/// What the AWS CLI and the other SDKs take, too.
const VARIABLE: &str = "AWS_CA_BUNDLE";

/// Whom to trust: those in the file that the setting names, else the environment, else the operating
/// system's.
///
/// # Errors
/// If the file cannot be read or has no usable certificate.
pub(crate) fn tls_context(setting: Option<&str>) -> Result<TlsContext, AwsError> {
    let from_environment = || std::env::var(VARIABLE).ok().filter(|path| !path.is_empty());
    let trust = match (setting, from_environment()) {
        (Some(path), _) => read("secretlink.ca_bundle", path)?,
        (None, Some(path)) => read(VARIABLE, &path)?,
        (None, None) => TrustStore::default(),
    };
    let context = TlsContext::builder().with_trust_store(trust).build();
    context.map_err(|error| AwsError::NotSent { reason: error.to_string() })
}

fn read(setting: &'static str, path: &str) -> Result<TrustStore, AwsError> {
    let bad = |problem| AwsError::BadCaBundle { setting, path: path.to_owned(), problem };
    let pem = std::fs::read(path).map_err(|error| bad(format!("It could not be read: {error}.")))?;
    let mut trust = TrustStore::empty();
    let mut usable = 0;
    for (number, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        let certificate =
            certificate.map_err(|_| bad(format!("Certificate {} is not valid PEM.", number + 1)))?;
        // The HTTP client panics on one that rustls does not take. As among the operating system's,
        // such a one is passed over.
        if RootCertStore::empty().add(certificate.clone()).is_ok() {
            trust.add_pem_certificate(to_pem(&certificate));
            usable += 1;
        }
    }
    match usable {
        0 => Err(bad("There is no usable certificate in it.".into())),
        _ => Ok(trust),
    }
}

fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let body = BASE64_STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}
