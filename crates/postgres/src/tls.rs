//! TLS by rustls in libpq's five modes, for SQL and replication connections alike.

use crate::Error;
use config::pem::Pem;
use config::{Tls, TlsMode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How connections are secured.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    mode: TlsMode,
    /// `None`: no TLS.
    config: Option<Arc<ClientConfig>>,
}

impl Connector {
    /// Reads the certificates; paths are relative to `folder`.
    pub(crate) fn new(tls: &Tls, folder: &Path) -> Result<Self, Error> {
        if tls.mode == TlsMode::Disable {
            return Ok(Self { mode: tls.mode, config: None });
        }
        let provider = Arc::new(ring::default_provider());
        let failed = |error: rustls::Error| Error::Config(format!("source.tls: {error}"));
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(tls, folder, provider)?));
        let config = match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert, folder, "source.tls.cert")?;
                let key = PrivateKeyDer::from_pem_file(folder.join(key))
                    .map_err(|error| Error::Config(format!("source.tls.key: {error}")))?;
                builder.with_client_auth_cert(chain, key).map_err(failed)?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self { mode: tls.mode, config: Some(Arc::new(config)) })
    }

    /// Secures a connection whose server has agreed to TLS.
    pub(crate) async fn secure(&self, tcp: TcpStream, host: &str) -> Result<Secured, io::Error> {
        let config = self.config.clone().ok_or_else(|| io::Error::other("TLS is switched off"))?;
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            // What is no DNS name can be resolved all the same; it is only compared by `verify-full`.
            Err(_) if self.mode != TlsMode::VerifyFull => Ipv4Addr::UNSPECIFIED.into(),
            Err(error) => return Err(io::Error::other(error)),
        };
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await?;
        Ok(Secured(Box::new(stream)))
    }
}

/// Of a file, or of the setting itself.
fn certificates(
    pem: &str,
    folder: &Path,
    setting: &str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |reason: String| match Pem::of(pem) {
        Pem::File(file) => Error::Config(format!(
            "{setting}: `{}` cannot be used: {reason}",
            folder.join(file).display()
        )),
        Pem::Text(_) => Error::Config(format!("{setting}: its text cannot be used: {reason}")),
    };
    let found: Result<Vec<_>, _> = match Pem::of(pem) {
        Pem::File(file) => CertificateDer::pem_file_iter(folder.join(file))
            .map_err(|error| wrong(error.to_string()))?
            .collect(),
        Pem::Text(text) => CertificateDer::pem_slice_iter(text.as_bytes()).collect(),
    };
    let found = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("it holds no certificate".into())) } else { Ok(found) }
}

/// Checks what the mode asks for.
#[derive(Debug)]
struct Verifier {
    /// `None`: any certificate will do (`prefer`, `require`).
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// Of `source.tls.ca`: one of them may be the server's own, signed by itself.
    trusted: Vec<CertificateDer<'static>>,
    /// `verify-full`: the name, too.
    name: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(tls: &Tls, folder: &Path, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let name = tls.mode == TlsMode::VerifyFull;
        if !name && tls.mode != TlsMode::VerifyCa {
            return Ok(Self { chain: None, trusted: Vec::new(), name, provider });
        }
        let mut roots = RootCertStore::empty();
        let mut trusted = Vec::new();
        match &tls.ca {
            Some(ca) => {
                trusted = certificates(ca, folder, "source.tls.ca")?;
                for certificate in &trusted {
                    roots
                        .add(certificate.clone())
                        .map_err(|error| Error::Config(format!("source.tls.ca: {error}")))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| Error::Config(format!("source.tls.ca: {error}")))?;
        Ok(Self { chain: Some(chain), trusted, name, provider })
    }
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
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain is checked before the name: with this error all else was right.
            Err(InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name => Ok(ServerCertVerified::assertion()),
            // "A CA as the server": so it is where a server signs for itself, as PostgreSQL's manual
            // shows it. Its dates were right; trusted is exactly this one.
            Err(InvalidCertificate(CertificateError::Other(_)))
                if self.trusted.iter().any(|trusted| trusted == end_entity) =>
            {
                if self.name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection inside TLS.
#[derive(Debug)]
pub(crate) struct Secured(Box<tokio_rustls::client::TlsStream<TcpStream>>);

impl Secured {
    /// Hash of the server's certificate for SCRAM-SHA-256-PLUS (RFC 5929, `tls-server-end-point`).
    pub(crate) fn end_point(&self) -> Option<Vec<u8>> {
        let certificate = self.0.get_ref().1.peer_certificates()?.first()?;
        end_point_hash(certificate)
    }
}

/// RFC 5929, section 4.1: the hash of the certificate's own signature, at least SHA-256. `None`: the
/// signature names no hash.
fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, outer) = element(certificate)?;
    let (after_certificate, _) = element(outer)?;
    let (_, algorithm) = element(after_certificate)?;
    let (_, oid) = element(algorithm)?;
    Some(match oid {
        // Ed25519 and Ed448 hash inside the signature.
        [0x2B, 0x65, 0x70 | 0x71] => return None,
        // sha384WithRSAEncryption, ecdsa-with-SHA384.
        [.., 0x01, 0x01, 0x0C] | [.., 0x04, 0x03, 0x03] => Sha384::digest(certificate).to_vec(),
        // sha512WithRSAEncryption, ecdsa-with-SHA512.
        [.., 0x01, 0x01, 0x0D] | [.., 0x04, 0x03, 0x04] => Sha512::digest(certificate).to_vec(),
        _ => Sha256::digest(certificate).to_vec(),
    })
}

/// One DER element: what follows it, and its content.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = if length & 0x80 == 0 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7F).min(4))?;
        (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((after, content))
}

impl AsyncRead for Secured {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_certificate_has_no_end_point() {
        assert_eq!(end_point_hash(&[]), None);
        assert_eq!(end_point_hash(&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]), None);
        assert_eq!(end_point_hash(&[0x30, 0x02, 0x30, 0x00]), None);
    }

    #[test]
    fn the_hash_follows_the_signature() {
        let certificate = |oid: &[u8]| {
            let length = u8::try_from(oid.len()).unwrap();
            let mut inner = vec![0x30, 0x00, 0x30, length + 2, 0x06, length];
            inner.extend_from_slice(oid);
            let mut der = vec![0x30, u8::try_from(inner.len()).unwrap()];
            der.extend_from_slice(&inner);
            der
        };
        let bytes = |oid: &[u8]| end_point_hash(&certificate(oid)).map(|hash| hash.len());
        let rsa = |last| [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, last];
        assert_eq!(bytes(&rsa(0x0B)), Some(32));
        assert_eq!(bytes(&rsa(0x05)), Some(32), "SHA-1 is raised to SHA-256");
        assert_eq!(bytes(&rsa(0x0C)), Some(48));
        assert_eq!(bytes(&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x04]), Some(64));
        assert_eq!(bytes(&[0x2B, 0x65, 0x70]), None);
    }
}
