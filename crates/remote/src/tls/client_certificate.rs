//! The certificate to show to a server that asks for one, and its key.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::SslContextBuilder;
use secretlink_core::{Secret, file};

use super::files::{check_file, content_error, file_error};
use crate::conninfo::{SslCertMode, SslOptions};
use crate::tls_error::{TlsError, os_error};

const CERTIFICATE: &str = "certificate file";
const KEY: &str = "private key file";

/// Loads both, if there are any. Returns whether there are.
pub(super) fn load(builder: &mut SslContextBuilder, ssl: &SslOptions) -> Result<bool, TlsError> {
    if ssl.cert_mode == SslCertMode::Disable {
        return Ok(false);
    }
    let in_default_dir = |file: &str| ssl.default_cert_dir.as_ref().map(|dir| dir.join(file));
    // One that is named must be there, one in the home directory may be.
    let cert = ssl.cert.clone().or_else(|| in_default_dir("postgresql.crt").filter(|file| is_there(file)));
    let Some(cert) = cert else { return Ok(false) };
    check_file(CERTIFICATE, &cert)?;
    builder.set_certificate_chain_file(&cert).map_err(|error| content_error(CERTIFICATE, &cert, &error))?;

    // libpq takes a name with a colon for an engine of OpenSSL's and a key in it.
    if ssl.key.as_ref().is_some_and(|key| key.as_os_str().as_encoded_bytes().contains(&b':')) {
        return Err(TlsError::KeyInEngine);
    }
    let key_file = ssl.key.clone().or_else(|| in_default_dir("postgresql.key")).unwrap_or_default();
    let key = read_key(&key_file, ssl.key_password.as_ref())?;
    let fits = builder.set_private_key(&key).and_then(|()| builder.check_private_key());
    fits.map_err(|error| TlsError::KeyMismatch {
        path: key_file.display().to_string(),
        reason: secretlink_tls::reason(&error),
    })?;
    Ok(true)
}

/// Whether a file is there. As with libpq, a file that cannot be looked at because of its permissions is.
fn is_there(file: &Path) -> bool {
    file.try_exists().unwrap_or(true)
}

/// The largest key file that is read: no key is near as long.
const MAX_KEY: usize = 1 << 20;

fn read_key(path: &Path, passphrase: Option<&Secret>) -> Result<PKey<Private>, TlsError> {
    check_permissions(path)?;
    let content = file::read(path, MAX_KEY).map_err(|error| file_error(KEY, path, os_error(&error)))?;
    let content = Secret::new(content);
    let mut asked = false;
    let answer = |into: &mut [u8]| {
        asked = true;
        let passphrase = passphrase.map_or(&[][..], Secret::expose);
        // As libpq, which cuts it short: OpenSSL has room for a kilobyte.
        let length = passphrase.len().min(into.len());
        into[..length].copy_from_slice(&passphrase[..length]);
        Ok(length)
    };
    let pem: Result<_, ErrorStack> = PKey::private_key_from_pem_callback(content.expose(), answer);
    match pem {
        Ok(key) => Ok(key),
        Err(_) if asked && passphrase.is_none() => Err(TlsError::KeyEncrypted(path.display().to_string())),
        Err(_) if asked => Err(TlsError::KeyPassphrase(path.display().to_string())),
        // What is not PEM may be DER.
        Err(error) => {
            PKey::private_key_from_der(content.expose()).map_err(|_| content_error(KEY, path, &error))
        }
    }
}

/// Checks a key's permissions as libpq does (initialize_SSL in fe-secure-openssl.c): 0600 for our own key, 0640 for
/// root's.
fn check_permissions(key: &Path) -> Result<(), TlsError> {
    let meta = std::fs::metadata(key).map_err(|error| file_error(KEY, key, os_error(&error)))?;
    if !meta.is_file() {
        return Err(file_error(KEY, key, file::NOT_REGULAR));
    }
    let forbidden = if meta.uid() == 0 { 0o037 } else { 0o077 };
    if meta.mode() & forbidden != 0 {
        return Err(TlsError::KeyPermissions(key.display().to_string()));
    }
    Ok(())
}
