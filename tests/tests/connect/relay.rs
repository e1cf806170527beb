//! Somebody in the middle.

use secretlink_e2e::TlsFiles;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio_rustls::rustls;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{DigitallySignedStruct, SignatureScheme};

/// Somebody in the middle, who ends TLS with a certificate of his own and begins it anew to the
/// server. He may also strike SCRAM-SHA-256-PLUS from what the server offers.
pub struct Relay {
    pub port: u16,
}

impl Relay {
    pub fn start(upstream: u16, tls: &TlsFiles, strip: bool) -> Self {
        let certs = CertificateDer::pem_file_iter(&tls.server_cert).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&tls.server_key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certs, key)
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAnybody))
            .with_no_client_auth();
        let (server, client) = (Arc::new(server), Arc::new(client));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        // Ends with the test's process; each connection with its client.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, client) = (Arc::clone(&server), Arc::clone(&client));
                thread::spawn(move || Self::serve(stream, upstream, server, client, strip));
            }
        });
        Self { port }
    }

    fn serve(
        mut near: TcpStream,
        upstream: u16,
        server: Arc<rustls::ServerConfig>,
        client: Arc<rustls::ClientConfig>,
        strip: bool,
    ) -> std::io::Result<()> {
        let (mut request, mut answer) = ([0; 8], [0; 1]);
        let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream))?;
        near.read_exact(&mut request)?;
        far.write_all(&request)?;
        far.read_exact(&mut answer)?;
        near.write_all(&answer)?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
        }
        let mut near = rustls::StreamOwned::new(rustls::ServerConnection::new(server).unwrap(), near);
        let name = ServerName::try_from("localhost").unwrap();
        let mut far = rustls::StreamOwned::new(rustls::ClientConnection::new(client, name).unwrap(), far);
        near.flush()?;
        far.flush()?;
        for stream in [&near.sock, &far.sock] {
            stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        }
        let mut buffer = [0; 64 * 1024];
        loop {
            match near.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => far.write_all(&buffer[..n])?,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            match far.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    let mut data = buffer[..n].to_vec();
                    let plus = b"SCRAM-SHA-256-PLUS\0";
                    if let Some(at) = data.windows(plus.len()).position(|w| w == plus)
                        && strip
                    {
                        data.drain(at..at + plus.len());
                        let length = u32::try_from(data.len() - 1).unwrap();
                        data[1..5].copy_from_slice(&length.to_be_bytes());
                    }
                    near.write_all(&data)?;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}

#[derive(Debug)]
struct TrustAnybody;

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
