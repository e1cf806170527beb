//! What OpenSSL has and the crate `openssl` does not offer, in safe functions. All of it is in OpenSSL
//! 1.1.1 and later.

use foreign_types::ForeignTypeRef;
use libc::{c_int, c_void};
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::ssl::{Ssl, SslContextBuilder, SslRef};
use openssl::x509::{GeneralNameRef, X509Ref};
use openssl_sys as ffi;
use std::ffi::CStr;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

type CertificateCallback = unsafe extern "C" fn(*mut ffi::SSL, *mut c_void) -> c_int;

unsafe extern "C" {
    fn SSL_CTX_set_cert_cb(context: *mut ffi::SSL_CTX, callback: CertificateCallback, argument: *mut c_void);
    fn SSL_CTX_set_default_passwd_cb_userdata(context: *mut ffi::SSL_CTX, data: *mut c_void);
    fn X509_get_signature_info(
        certificate: *mut ffi::X509,
        digest: *mut c_int,
        key: *mut c_int,
        bits: *mut c_int,
        flags: *mut u32,
    ) -> c_int;
}

/// The directory in which OpenSSL looks for certificates to trust, if nobody says otherwise.
pub fn default_certificate_directory() -> Option<&'static Path> {
    // SAFETY: it gives a string that lives for ever, or NULL.
    let directory = unsafe {
        let directory = ffi::X509_get_default_cert_dir();
        (!directory.is_null()).then(|| CStr::from_ptr(directory))
    };
    directory.and_then(|directory| directory.to_str().ok()).map(Path::new)
}

/// Empties this thread's queue of errors.
pub(crate) fn clear_errors() {
    // SAFETY: it only touches this thread's own queue.
    unsafe { ffi::ERR_clear_error() }
}

/// Has OpenSSL take an empty passphrase for whatever is encrypted, where it would otherwise ask for one
/// at the terminal that the server was started from.
pub(crate) fn never_ask_for_passphrases(builder: &mut SslContextBuilder) {
    // SAFETY: the context is alive. OpenSSL's own callback, which is in place, reads the string, which
    // lives for ever, and does not write to it.
    unsafe { SSL_CTX_set_default_passwd_cb_userdata(builder.as_ptr(), c"".as_ptr().cast_mut().cast()) }
}

/// Where a session notes that its server has asked for a certificate.
static REQUESTED: OnceLock<Index<Ssl, ()>> = OnceLock::new();

/// Has every session of this context note whether its server asks for a certificate.
///
/// # Errors
/// If there is no memory.
pub fn note_requests_for_certificate(builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    unsafe extern "C" fn requested(session: *mut ffi::SSL, _argument: *mut c_void) -> c_int {
        if let (Some(index), false) = (REQUESTED.get(), session.is_null()) {
            // SAFETY: OpenSSL calls this with a session of its own that nobody else uses meanwhile.
            unsafe { SslRef::from_ptr_mut(session) }.set_ex_data(*index, ());
        }
        // Go on, with the certificate that the context has.
        1
    }
    if REQUESTED.get().is_none() {
        let index = Ssl::new_ex_index()?;
        let _ = REQUESTED.set(index);
    }
    // SAFETY: the context is alive, and the callback is a function that takes no argument.
    unsafe { SSL_CTX_set_cert_cb(builder.as_ptr(), requested, ptr::null_mut()) }
    Ok(())
}

/// Whether the server has asked for a certificate, see [`note_requests_for_certificate`].
pub fn certificate_was_requested(session: &SslRef) -> bool {
    REQUESTED.get().is_some_and(|index| session.ex_data(*index).is_some())
}

/// The hash of a certificate for channel binding (RFC 5929, section 4.1): that of its own signature
/// algorithm, but SHA-256 for MD5 and SHA-1. `None` for signatures without a hash of their own, as
/// Ed25519's and Ed448's.
pub fn server_end_point(certificate: &X509Ref) -> Option<Vec<u8>> {
    let mut digest = 0;
    // SAFETY: the certificate is alive, and of the results each may be NULL but the one that points to
    // a local.
    let known = unsafe {
        X509_get_signature_info(
            certificate.as_ptr(),
            &mut digest,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    if known == 0 || digest == Nid::UNDEF.as_raw() {
        return None;
    }
    let digest = match Nid::from_raw(digest) {
        Nid::MD5 | Nid::SHA1 => MessageDigest::sha256(),
        other => MessageDigest::from_nid(other)?,
    };
    hash(digest, &certificate.to_der().ok()?).ok().map(|hash| hash.to_vec())
}

/// A name among the alternatives of a certificate's subject, as far as libpq looks at them.
pub enum AlternativeName<'a> {
    /// A host's name.
    Dns(&'a [u8]),
    /// An address, four or sixteen bytes if it is right.
    Ip(&'a [u8]),
    /// Anything else.
    Other,
}

/// What kind of name it is.
///
/// Unlike the crate's own functions it tells a name that is not UTF-8 from one of another type.
pub fn alternative_name(name: &GeneralNameRef) -> AlternativeName<'_> {
    // SAFETY: the name is alive for as long as the reference is. Both types that are looked at have an
    // ASN1_STRING behind the pointer, with as many bytes as its length says.
    unsafe {
        let name = &*name.as_ptr();
        let bytes = || {
            let string = name.d.cast::<ffi::ASN1_STRING>();
            let (data, length) = (ffi::ASN1_STRING_get0_data(string), ffi::ASN1_STRING_length(string));
            match usize::try_from(length) {
                Ok(length) if !data.is_null() => std::slice::from_raw_parts(data, length),
                _ => &[],
            }
        };
        match name.type_ {
            ffi::GEN_DNS => AlternativeName::Dns(bytes()),
            ffi::GEN_IPADD => AlternativeName::Ip(bytes()),
            _ => AlternativeName::Other,
        }
    }
}
