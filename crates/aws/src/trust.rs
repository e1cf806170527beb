//! The certificates that an AWS endpoint's own must come from.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslFiletype, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509Lookup;
use openssl::x509::verify::X509CheckFlags;
use secretlink_core::{OutOfMemory, file};
use secretlink_tls::{NO_MEMORY, OwnErrors};

use crate::AwsError;

/// What the AWS CLI and the other SDKs take, too.
const VARIABLE: &str = "AWS_CA_BUNDLE";

/// A context that trusts those in the file that the setting names, else the environment, else the
/// operating system's.
///
/// # Errors
/// If the file cannot be read or has no usable certificate.
pub(crate) fn context(setting: Option<&str>) -> Result<SslContext, AwsError> {
    let _errors = OwnErrors::new();
    let failed = |errors: ErrorStack| AwsError::NotSent { reason: secretlink_tls::reason(&errors) };
    let from_environment = || std::env::var(VARIABLE).ok().filter(|path| !path.is_empty());
    let mut builder = secretlink_tls::client_context().map_err(failed)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(failed)?;
    builder.set_verify(SslVerifyMode::PEER);
    match (setting, from_environment()) {
        (Some(path), _) => trust_bundle(&mut builder, "secretlink.ca_bundle", path)?,
        (None, Some(path)) => trust_bundle(&mut builder, VARIABLE, &path)?,
        (None, None) => {
            check_system()?;
            trust_system(&mut builder).map_err(failed)?;
        }
    }
    Ok(builder.build())
}

/// A session with `host`, which the certificate must name.
pub(crate) fn session(context: &SslContext, host: &str) -> Result<Ssl, ErrorStack> {
    let _errors = OwnErrors::new();
    let mut session = Ssl::new(context)?;
    let expected = session.param_mut();
    expected.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
    match host.parse::<IpAddr>() {
        Ok(address) => expected.set_ip(address)?,
        Err(_) => {
            expected.set_host(host)?;
            session.set_hostname(host)?;
        }
    }
    Ok(session)
}

/// OpenSSL would wait for a pipe on the thread of everybody's I/O.
fn check_system() -> Result<(), AwsError> {
    secretlink_tls::check_default_roots().map_err(|(setting, unfit)| AwsError::BadCaBundle {
        setting,
        path: unfit.path.display().to_string(),
        problem: format!("It could not be read: {}.", unfit.error),
    })
}

/// OpenSSL reads all of the system's roots from a file, 25 ms for each backend, or only those that it
/// needs from a directory in which their names are hashes. Debian and others have both.
fn trust_system(builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    let is_set = |variable| std::env::var_os(variable).is_some();
    if !is_set("SSL_CERT_FILE")
        && !is_set("SSL_CERT_DIR")
        && let Some(directory) = secretlink_tls::default_certificate_directory()
        && secretlink_tls::has_hashed_names(directory)
    {
        return builder.load_verify_locations(None, Some(directory));
    }
    builder.set_default_verify_paths()
}

/// The largest bundle that is read. All of an operating system's certificates take a quarter of a megabyte.
const MAX_BUNDLE: usize = 8 << 20;

fn trust_bundle(builder: &mut SslContextBuilder, setting: &'static str, path: &str) -> Result<(), AwsError> {
    let bad = |problem| AwsError::BadCaBundle { setting, path: path.to_owned(), problem };
    let no_memory = || AwsError::from(OutOfMemory { bytes: None });
    let pem = file::read(Path::new(path), MAX_BUNDLE).map_err(|error| match error.kind() {
        ErrorKind::OutOfMemory => no_memory(),
        _ => bad(format!("It could not be read: {error}.")),
    })?;
    let store = builder.cert_store_mut();
    // Byte order marks, certificates with trust settings: OpenSSL reads what it reads for the AWS CLI.
    let all =
        store.add_lookup(X509Lookup::file()).and_then(|file| file.load_cert_file(path, SslFiletype::PEM));
    match all {
        Ok(()) => return Ok(()),
        Err(errors) if secretlink_tls::reason(&errors) == NO_MEMORY => return Err(no_memory()),
        Err(_) => {}
    }
    // One certificate that is none spoils none of the others.
    let mut usable = 0;
    for certificate in blocks(&pem).filter_map(|block| X509::from_pem(block).ok()) {
        // One that is there already is none the worse.
        let _ = store.add_cert(certificate);
        usable += 1;
    }
    match usable {
        0 => Err(bad("There is no usable certificate in it.".into())),
        _ => Ok(()),
    }
}

/// The PEM blocks of a file, each from its first line on.
fn blocks(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let begins: Vec<usize> =
        pem.windows(BEGIN.len()).enumerate().filter(|(_, bytes)| *bytes == BEGIN).map(|(at, _)| at).collect();
    let ends: Vec<usize> = begins.iter().skip(1).copied().chain([pem.len()]).collect();
    begins.into_iter().zip(ends).map(|(begin, end)| &pem[begin..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_begin_where_they_say_so() {
        let blocks = |pem: &'static str| -> Vec<&[u8]> { blocks(pem.as_bytes()).collect() };
        assert!(blocks("").is_empty());
        assert!(blocks("text").is_empty());
        assert_eq!(blocks("x-----BEGIN A\n-----BEGIN B\ny"), [&b"-----BEGIN A\n"[..], b"-----BEGIN B\ny"]);
    }
}
