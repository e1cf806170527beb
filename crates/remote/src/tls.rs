//! TLS to a Postgres server, with libpq's meaning of the ssl keywords.
//!
//! Source: PostgreSQL documentation, "SSL Support" in the libpq chapter, and fe-secure-openssl.c.

use secretlink_core::Secret;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version,
};
use x509_cert::der::Encode;

use crate::certificate;
use crate::conninfo::{RootCert, SslCertMode, SslMode, SslOptions, TlsVersion};
use crate::error::TlsError;
use crate::framed::Transport;

/// How a connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite, as rustls names it.
    pub cipher: String,
}

/// An encrypted stream and what is known of it.
pub(crate) struct Encrypted<S> {
    pub stream: TlsStream<S>,
    pub facts: TlsFacts,
    /// Hash of the server's certificate, for channel binding `tls-server-end-point` (RFC 5929);
    /// `None` where the certificate's signature algorithm has no hash defined for it.
    pub server_end_point: Option<Vec<u8>>,
}

/// What it takes to encrypt a connection to one host; kept to encrypt its cancel requests as well.
#[derive(Clone)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    /// `sslcertmode=require`: the server must have asked for this certificate.
    must_ask: Option<Arc<ClientCertificate>>,
}

/// The certificate that we show, and whether it was asked for.
#[derive(Debug)]
struct ClientCertificate {
    certified: Arc<CertifiedKey>,
    asked: AtomicBool,
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        Some(self.certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl TlsClient {
    /// Reads the files that `ssl` names, for a host called `name` and found at `ip`.
    pub(crate) fn new(ssl: &SslOptions, name: &str, ip: IpAddr) -> Result<TlsClient, TlsError> {
        let server_name = match ServerName::try_from(name.to_string()) {
            Ok(name) => name,
            Err(_) if ssl.mode == SslMode::VerifyFull => return Err(TlsError::HostName(name.to_string())),
            // Not a name a certificate can hold, and not to be verified: any name will do, and an
            // address is not sent as SNI.
            Err(_) => ServerName::IpAddress(ip.into()),
        };
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = Arc::new(Verifier::new(ssl, &provider)?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(ssl)?)
            .map_err(|e| TlsError::Handshake(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = builder.with_no_client_auth();
        let mut must_ask = None;
        if let Some((chain, key)) = client_certificate(ssl)? {
            let certified = CertifiedKey::from_der(chain, key, config.crypto_provider())
                .map_err(|e| TlsError::Handshake(e.to_string()))?;
            let resolver =
                Arc::new(ClientCertificate { certified: Arc::new(certified), asked: AtomicBool::new(false) });
            config.client_auth_cert_resolver = resolver.clone();
            must_ask = Some(resolver).filter(|_| ssl.cert_mode == SslCertMode::Require);
        }
        config.enable_sni = ssl.sni;
        if ssl.negotiation_direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(TlsClient { config: Arc::new(config), server_name, must_ask })
    }

    /// Performs the handshake.
    pub(crate) async fn handshake<S: Transport>(&self, stream: S) -> Result<Encrypted<S>, TlsError> {
        let stream = TlsConnector::from(self.config.clone())
            .connect(self.server_name.clone(), stream)
            .await
            .map_err(|e| TlsError::Handshake(handshake_error(e, &self.server_name)))?;
        if self.must_ask.as_ref().is_some_and(|shown| !shown.asked.load(Ordering::Relaxed)) {
            return Err(TlsError::CertificateNotRequested);
        }
        let session = stream.get_ref().1;
        let facts = TlsFacts {
            version: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: session
                .negotiated_cipher_suite()
                .and_then(|c| c.suite().as_str().map(str::to_string))
                .unwrap_or_default(),
        };
        let server_end_point =
            session.peer_certificates().and_then(|c| c.first()).and_then(certificate::server_end_point);
        Ok(Encrypted { stream, facts, server_end_point })
    }
}

/// The message of the TLS library, without the wrapping of the I/O library.
fn handshake_error(error: io::Error, server_name: &ServerName<'_>) -> String {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForName)) => {
            format!("server certificate does not match host name \"{}\"", server_name.to_str())
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "certificate verify failed: the issuer is not trusted".into()
        }
        Some(rustls::Error::InvalidCertificate(reason)) => format!("certificate verify failed: {reason}"),
        Some(error) => error.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "server closed the connection during the handshake".into()
        }
        None => error.to_string(),
    }
}

fn versions(ssl: &SslOptions) -> Result<Vec<&'static rustls::SupportedProtocolVersion>, TlsError> {
    let within =
        |v: TlsVersion| ssl.min_protocol.is_none_or(|m| m <= v) && ssl.max_protocol.is_none_or(|m| v <= m);
    let mut versions = Vec::new();
    if within(TlsVersion::Tls13) {
        versions.push(&version::TLS13);
    }
    if within(TlsVersion::Tls12) {
        versions.push(&version::TLS12);
    }
    if versions.is_empty() { Err(TlsError::NoVersion) } else { Ok(versions) }
}

/// The certificate to show to a server that asks for one, and its key.
fn client_certificate(
    ssl: &SslOptions,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, TlsError> {
    if ssl.cert_mode == SslCertMode::Disable {
        return Ok(None);
    }
    let in_default_dir = |file: &str| ssl.default_cert_dir.as_ref().map(|d| d.join(file));
    let cert = ssl.cert.clone().or_else(|| in_default_dir("postgresql.crt").filter(|f| f.exists()));
    let Some(cert) = cert else {
        return if ssl.cert_mode == SslCertMode::Require {
            Err(TlsError::NoClientCertificate)
        } else {
            Ok(None)
        };
    };
    let key = ssl.key.clone().or_else(|| in_default_dir("postgresql.key")).unwrap_or_default();
    check_key_permissions(&key)?;
    let chain = CertificateDer::pem_file_iter(&cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| file_error("certificate file", &cert, e))?;
    let pem = Secret::new(std::fs::read(&key).map_err(|e| file_error("private key file", &key, e))?);
    let encrypted = |text: &str| text.contains("ENCRYPTED");
    let key = match PrivateKeyDer::from_pem_slice(pem.expose()) {
        Ok(key) => key,
        Err(_) if pem.expose_str().is_some_and(encrypted) => {
            return Err(TlsError::KeyEncrypted(key.display().to_string()));
        }
        Err(e) => return Err(file_error("private key file", &key, e)),
    };
    Ok(Some((chain, key)))
}

/// As libpq (initialize_SSL in fe-secure-openssl.c): 0600 for our own key, 0640 for root's.
fn check_key_permissions(key: &Path) -> Result<(), TlsError> {
    let meta = std::fs::metadata(key).map_err(|e| file_error("private key file", key, e))?;
    let forbidden = if meta.uid() == 0 { 0o037 } else { 0o077 };
    if meta.mode() & forbidden != 0 {
        return Err(TlsError::KeyPermissions(key.display().to_string()));
    }
    Ok(())
}

fn file_error(what: &'static str, path: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { what, path: path.display().to_string(), reason: reason.to_string() }
}

/// Checks the server's certificate as far as the ssl keywords ask for it.
#[derive(Debug)]
struct Verifier {
    /// `None`: encrypt, but take any certificate (`sslmode=require` without a root certificate).
    chain: Option<Chain>,
    check_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct Chain {
    webpki: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    /// Whether there are revocation lists.
    has_lists: bool,
}

impl Verifier {
    fn new(ssl: &SslOptions, provider: &Arc<CryptoProvider>) -> Result<Verifier, TlsError> {
        let roots = roots(ssl)?;
        let chain = match roots {
            None => None,
            Some(roots) => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(roots.iter().cloned());
                let lists = revocation_lists(ssl)?;
                let has_lists = !lists.is_empty();
                let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
                    .with_crls(lists)
                    .enforce_revocation_expiration()
                    .build()
                    .map_err(|e| TlsError::Handshake(e.to_string()))?;
                Some(Chain { webpki, roots, has_lists })
            }
        };
        Ok(Verifier {
            chain,
            check_name: ssl.mode == SslMode::VerifyFull,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

/// The certificates to trust; `None` if any certificate will do. As libpq: a root certificate file
/// that exists is used in every mode, and one that is missing is an error in the verifying modes.
fn roots(ssl: &SslOptions) -> Result<Option<Vec<CertificateDer<'static>>>, TlsError> {
    let verify = matches!(ssl.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    let file: &PathBuf = match &ssl.root_cert {
        RootCert::System => {
            let roots = rustls_native_certs::load_native_certs().certs;
            return if roots.is_empty() { Err(TlsError::NoSystemRoots) } else { Ok(Some(roots)) };
        }
        RootCert::File(file) | RootCert::DefaultFile(Some(file)) => file,
        RootCert::DefaultFile(None) => {
            return if verify { Err(TlsError::NoRootLocation) } else { Ok(None) };
        }
    };
    if !file.exists() {
        return if verify { Err(TlsError::NoRootFile(file.display().to_string())) } else { Ok(None) };
    }
    let certs = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| file_error("root certificate file", file, e))?;
    if certs.is_empty() {
        return Err(file_error("root certificate file", file, "no certificate in it"));
    }
    Ok(Some(certs))
}

fn revocation_lists(ssl: &SslOptions) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let mut files: Vec<PathBuf> = ssl.crl.iter().cloned().collect();
    if ssl.crl.is_none() && ssl.crl_dir.is_none() {
        let default = ssl.default_cert_dir.as_ref().map(|d| d.join("root.crl"));
        files.extend(default.filter(|f| f.exists()));
    }
    if let Some(dir) = &ssl.crl_dir {
        let entries =
            std::fs::read_dir(dir).map_err(|e| file_error("certificate revocation directory", dir, e))?;
        files.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_file()));
    }
    let mut lists = Vec::new();
    for file in files {
        let parsed = CertificateRevocationListDer::pem_file_iter(&file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| file_error("certificate revocation list", &file, e))?;
        lists.extend(parsed);
    }
    Ok(lists)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        use rustls::Error::InvalidCertificate;
        let cert = certificate::parse(end_entity).ok_or(InvalidCertificate(CertificateError::BadEncoding))?;
        // webpki verifies the chain first and the name last: an error about the name means that
        // the chain is good.
        let name_matches = if certificate::is_version_1(&cert) {
            if chain.has_lists {
                return Err(InvalidCertificate(CertificateError::UnknownRevocationStatus));
            }
            certificate::verify_version_1(&cert, intermediates, &chain.roots, now, &self.algorithms)
                .map_err(InvalidCertificate)?;
            false
        } else {
            match chain.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            {
                Ok(_) => true,
                Err(InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => false,
                Err(InvalidCertificate(
                    error @ (CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. }
                    | CertificateError::Revoked
                    | CertificateError::BadSignature),
                )) => return Err(InvalidCertificate(error)),
                // A self-signed server certificate that is itself the trusted root: OpenSSL takes
                // it, webpki does not take a CA certificate as a server's. Trusting those exact
                // bytes is what the user asked for.
                Err(_) if chain.roots.iter().any(|root| root == end_entity) => {
                    rustls::server::ParsedCertificate::try_from(end_entity)
                        .and_then(|cert| rustls::client::verify_server_name(&cert, server_name))
                        .is_ok()
                }
                Err(error) => return Err(error),
            }
        };
        if !self.check_name || name_matches || certificate::names_host(&cert, server_name) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match certificate::parse(cert) {
            // webpki refuses to look into it.
            Some(cert) if certificate::is_version_1(&cert) => {
                let (scheme, signature) = (dss.scheme, dss.signature());
                if certificate::verify_tls12_signature(&cert, scheme, message, signature, &self.algorithms) {
                    Ok(HandshakeSignatureValid::assertion())
                } else {
                    Err(rustls::Error::InvalidCertificate(CertificateError::BadSignature))
                }
            }
            _ => crypto::verify_tls12_signature(message, cert, dss, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // By the bare key, because webpki refuses to look into certificates of version 1.
        let key = certificate::parse(cert)
            .and_then(|c| c.tbs_certificate.subject_public_key_info.to_der().ok())
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        crypto::verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(key.as_slice()),
            dss,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
