//! TLS to a Postgres server by OpenSSL, with libpq's meaning of the ssl keywords.
//!
//! Source: PostgreSQL documentation, "SSL Support" in the libpq chapter, and fe-secure-openssl.c. Whom
//! OpenSSL trusts, and which keys and algorithms it takes, is so for libpq too: it is the same library,
//! with the same configuration, in the same process.

mod client_certificate;
mod files;
mod peer_name;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslRef, SslVerifyMode, SslVersion};
use openssl::x509::verify::X509VerifyFlags;
use secretlink_tls::{OwnErrors, TlsStream};

use self::files::{check_file, check_name, content_error, unfit};
use crate::conninfo::{RootCert, SslCertMode, SslMode, SslOptions, TlsVersion};
use crate::framed::Transport;
use crate::tls_error::TlsError;

/// How a connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`; an older version only if it was asked for.
    pub version: &'static str,
    /// The cipher suite, as OpenSSL and so `pg_stat_ssl` names it.
    pub cipher: String,
}

/// An encrypted stream and what is known of it.
pub(crate) struct Encrypted<S> {
    /// The stream, after the handshake.
    pub stream: TlsStream<S>,
    /// Protocol and cipher.
    pub facts: TlsFacts,
    /// Hash of the server's certificate, for channel binding `tls-server-end-point` (RFC 5929);
    /// `None` where the certificate's signature algorithm has no hash defined for it.
    pub server_end_point: Option<Vec<u8>>,
}

/// What is needed to encrypt a connection to one host; kept to encrypt its cancel requests as well.
#[derive(Clone)]
pub(crate) struct TlsClient {
    context: SslContext,
    host: String,
    sni: bool,
    /// `sslmode=verify-full`: the certificate must name the host.
    check_name: bool,
    /// `sslcertmode=require`: the server must ask for our certificate.
    must_ask: bool,
    /// `sslnegotiation=direct`: the server must say that it speaks Postgres's protocol.
    must_select_alpn: bool,
}

/// The name of Postgres's protocol for ALPN, as ALPN writes it: behind its length.
const ALPN: &[u8] = b"\x0apostgresql";

impl TlsClient {
    /// Reads the files that `ssl` names, for a host called `host`.
    pub(crate) fn new(ssl: &SslOptions, host: &str) -> Result<TlsClient, TlsError> {
        let _errors = OwnErrors::new();
        let mut builder = new_context(ssl).map_err(|error| setup_error(&error))?;
        trust(&mut builder, ssl)?;
        let shows_certificate = client_certificate::load(&mut builder, ssl)?;
        if ssl.cert_mode == SslCertMode::Require {
            if !shows_certificate {
                return Err(TlsError::NoClientCertificate);
            }
            secretlink_tls::note_requests_for_certificate(&mut builder)
                .map_err(|error| setup_error(&error))?;
        }
        Ok(TlsClient {
            context: builder.build(),
            host: host.to_owned(),
            sni: ssl.sni,
            check_name: ssl.mode == SslMode::VerifyFull,
            must_ask: ssl.cert_mode == SslCertMode::Require,
            must_select_alpn: ssl.negotiation_direct,
        })
    }

    /// Performs the handshake.
    ///
    /// # Errors
    /// Why there is none; then nothing may be sent over `stream` any more.
    pub(crate) async fn handshake<S: Transport>(&self, stream: S) -> Result<Encrypted<S>, TlsError> {
        let mut stream = TlsStream::new(self.session()?, stream).map_err(|error| setup_error(&error))?;
        stream.connect().await?;
        let _errors = OwnErrors::new();
        let session = stream.session();
        let certificate = session.peer_certificate().ok_or(TlsError::NoServerCertificate)?;
        if self.must_select_alpn && session.selected_alpn_protocol() != Some(&ALPN[1..]) {
            return Err(TlsError::NoAlpn);
        }
        if self.check_name {
            peer_name::check(&certificate, &self.host)?;
        }
        if self.must_ask && !secretlink_tls::certificate_was_requested(session) {
            return Err(TlsError::CertificateNotRequested);
        }
        let server_end_point = secretlink_tls::server_end_point(&certificate);
        let facts = facts(session);
        Ok(Encrypted { stream, facts, server_end_point })
    }

    fn session(&self) -> Result<Ssl, TlsError> {
        let _errors = OwnErrors::new();
        let mut session = Ssl::new(&self.context).map_err(|error| setup_error(&error))?;
        if self.sni && may_be_sent_as_sni(&self.host) {
            session.set_hostname(&self.host).map_err(|error| setup_error(&error))?;
        }
        Ok(session)
    }
}

fn facts(session: &SslRef) -> TlsFacts {
    TlsFacts {
        version: session.version_str(),
        cipher: session.current_cipher().map(|cipher| cipher.name().to_owned()).unwrap_or_default(),
    }
}

/// A context with everything but certificates.
fn new_context(ssl: &SslOptions) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = secretlink_tls::client_context()?;
    if let Some(version) = ssl.min_protocol {
        builder.set_min_proto_version(Some(number(version)))?;
    }
    if let Some(version) = ssl.max_protocol {
        builder.set_max_proto_version(Some(number(version)))?;
    }
    if ssl.negotiation_direct {
        builder.set_alpn_protos(ALPN)?;
    }
    Ok(builder)
}

fn number(version: TlsVersion) -> SslVersion {
    match version {
        TlsVersion::Tls10 => SslVersion::TLS1,
        TlsVersion::Tls11 => SslVersion::TLS1_1,
        TlsVersion::Tls12 => SslVersion::TLS1_2,
        TlsVersion::Tls13 => SslVersion::TLS1_3,
    }
}

/// Loads whom to trust, and what has been revoked. As libpq: a root certificate file that exists is used
/// in every mode, and one that is missing is an error in the verifying modes.
fn trust(builder: &mut SslContextBuilder, ssl: &SslOptions) -> Result<(), TlsError> {
    let verify = matches!(ssl.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    match &ssl.root_cert {
        RootCert::System => {
            let checked = secretlink_tls::check_default_roots();
            checked.map_err(|(_, file)| unfit("root certificate file", &file))?;
            builder.set_default_verify_paths().map_err(|error| setup_error(&error))?;
        }
        RootCert::DefaultFile(None) if verify => return Err(TlsError::NoRootLocation),
        RootCert::DefaultFile(None) => return Ok(()),
        RootCert::File(file) | RootCert::DefaultFile(Some(file)) => {
            if std::fs::metadata(file).is_err() {
                return if verify { Err(TlsError::NoRootFile(file.display().to_string())) } else { Ok(()) };
            }
            let what = "root certificate file";
            check_file(what, file)?;
            builder.set_ca_file(file).map_err(|error| content_error(what, file, &error))?;
            revocation_lists(builder, ssl)?;
        }
    }
    builder.set_verify(SslVerifyMode::PEER);
    Ok(())
}

/// Unlike libpq, which goes on without a list that it cannot read: one that was named is to be checked.
fn revocation_lists(builder: &mut SslContextBuilder, ssl: &SslOptions) -> Result<(), TlsError> {
    let mut file = ssl.crl.clone();
    if ssl.crl.is_none() && ssl.crl_dir.is_none() {
        let default = ssl.default_cert_dir.as_ref().map(|dir| dir.join("root.crl"));
        file = default.filter(|file| file.exists());
    }
    if let Some(file) = &file {
        let what = "certificate revocation list";
        check_file(what, file)?;
        // Takes lists as well as certificates.
        builder.set_ca_file(file).map_err(|error| content_error(what, file, &error))?;
    }
    if let Some(dir) = &ssl.crl_dir {
        let what = "certificate revocation directory";
        check_name(what, dir)?;
        secretlink_tls::check_hashed_names(dir).map_err(|file| unfit(what, &file))?;
        let loaded = builder.load_verify_locations(None, Some(dir));
        loaded.map_err(|error| content_error(what, dir, &error))?;
    }
    if file.is_some() || ssl.crl_dir.is_some() {
        let flags = X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
        builder.cert_store_mut().set_flags(flags).map_err(|error| setup_error(&error))?;
    }
    Ok(())
}

fn setup_error(errors: &ErrorStack) -> TlsError {
    TlsError::Setup(secretlink_tls::reason(errors))
}

/// RFC 6066 has no addresses as SNI. What an address looks like is decided as in libpq.
fn may_be_sent_as_sni(host: &str) -> bool {
    let only_digits_and_dots = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    !(host.is_empty() || only_digits_and_dots || host.contains([':', '\0']))
}
