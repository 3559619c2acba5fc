//! TLS between nodes: 1.3 only, certificates of one CA, and who holds them by the URI in them rather
//! than by where they are reached.

use crate::identity::{Identity, Role};
use crate::{Code, Error};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// What a node or a tool shows of itself and trusts of others. Clones share what was read last.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    ca: PathBuf,
    /// Certificate and key.
    own: Option<(PathBuf, PathBuf)>,
    loaded: RwLock<Arc<Loaded>>,
}

struct Loaded {
    provider: Arc<CryptoProvider>,
    trusted: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    own: Option<Own>,
    /// What a server that has a certificate goes by.
    server: Option<Arc<ServerConfig>>,
}

#[derive(PartialEq)]
struct Own {
    identity: Identity,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("identity", &self.identity()).finish_non_exhaustive()
    }
}

/// Whom a client expects to meet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expected {
    /// The worker of that name.
    Worker(String),
    /// Any coordinator.
    Coordinator,
}

impl Expected {
    fn is(&self, met: &Identity) -> bool {
        match self {
            Self::Worker(name) => met.role == Role::Worker && met.name == *name,
            Self::Coordinator => met.role == Role::Coordinator,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(name) => write!(f, "worker `{name}`"),
            Self::Coordinator => f.write_str("a coordinator"),
        }
    }
}

impl Tls {
    /// Of a node: the files of its spec, relative to `folder`.
    ///
    /// # Errors
    /// When one cannot be used, or the certificate is another node's.
    pub fn of_node(
        tls: &config::node::Tls,
        folder: &Path,
        identity: &Identity,
    ) -> Result<Self, Error> {
        let path = |file: &str| folder.join(file);
        let tls = Self::of_tool(&path(&tls.ca), Some((&path(&tls.cert), &path(&tls.key))))?;
        match tls.identity() {
            Some(own) if own != *identity => Err(Error::new(
                Code::Name,
                format!("`tls.cert` is of {own}, this node is {identity}"),
                "give this node its own certificate",
            )),
            Some(_) | None => Ok(tls),
        }
    }

    /// Of a tool, which may have no certificate.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn of_tool(ca: &Path, own: Option<(&Path, &Path)>) -> Result<Self, Error> {
        let loaded = RwLock::new(Arc::new(Loaded::read(ca, own)?));
        let own = own.map(|(chain, key)| (chain.to_owned(), key.to_owned()));
        Ok(Self(Arc::new(Shared { ca: ca.to_owned(), own, loaded })))
    }

    /// Who the certificate says we are.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.loaded().own.as_ref().map(|own| own.identity.clone())
    }

    /// Reads the files again, for the connections that come. Whether anything was new. A server does so by itself.
    ///
    /// # Errors
    /// When they cannot be used, or are another node's; what was read before stays in force.
    pub fn reload(&self) -> Result<bool, Error> {
        let own = self.0.own.as_ref().map(|(chain, key)| (chain.as_path(), key.as_path()));
        let new = Loaded::read(&self.0.ca, own)?;
        let old = self.loaded();
        if new.trusted == old.trusted && new.own == old.own {
            return Ok(false);
        }
        if let (Some(new), Some(old)) = (&new.own, &old.own)
            && new.identity != old.identity
        {
            let cause =
                format!("the new certificate is of {}, this is {}", new.identity, old.identity);
            return Err(Error::new(Code::Name, cause, "give this node its own certificate"));
        }
        *self.0.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(true)
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.0.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes certificates of our CA, and clients without any: what they may do is decided per call.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        self.loaded().server.clone().ok_or_else(|| {
            let remedy = "set `tls.cert` and `tls.key`";
            Error::new(Code::Argument, "a server needs a certificate", remedy)
        })
    }

    /// For the HTTP port of a node, which also speaks HTTP/1.1: browsers and probes need no certificate. Read anew for each
    /// connection, it is the one in force.
    ///
    /// # Errors
    /// When there is no certificate.
    pub fn https(&self) -> Result<Arc<ServerConfig>, Error> {
        let mut config = ServerConfig::clone(&*self.server()?);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    pub(crate) fn client(&self, expected: &Expected) -> Result<Arc<ClientConfig>, Error> {
        let loaded = self.loaded();
        let verifier = Verifier {
            provider: Arc::clone(&loaded.provider),
            roots: Arc::clone(&loaded.roots),
            expected: expected.clone(),
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(&loaded.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| internal(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &loaded.own {
            Some(own) => config
                .with_client_auth_cert(own.chain.clone(), own.key.clone_key())
                .map_err(|error| internal(&error))?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

impl Loaded {
    fn read(ca: &Path, own: Option<(&Path, &Path)>) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusted = certificates(ca)?;
        let mut roots = RootCertStore::empty();
        for certificate in &trusted {
            roots.add(certificate.clone()).map_err(|error| unusable(ca, &error))?;
        }
        let roots = Arc::new(roots);
        let own = own.map(|(chain, key)| read_own(&provider, chain, key)).transpose()?;
        let server = own.as_ref().map(|own| server(&provider, &roots, own)).transpose()?;
        Ok(Self { provider, trusted, roots, own, server })
    }
}

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    own: &Own,
) -> Result<Arc<ServerConfig>, Error> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| internal(&error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| internal(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain.clone(), own.key.clone_key())
        .map_err(|error| internal(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Checks the chain up to our CA, then that the certificate is that of the node we want. A node is
/// the one that its certificate names, wherever it is reached: host names are not looked at.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    expected: Expected,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let refuse = |error: Error| {
            let error = rustls::OtherError(Arc::new(error));
            rustls::Error::InvalidCertificate(CertificateError::Other(error))
        };
        let met = Identity::of(end_entity).map_err(refuse)?;
        if self.expected.is(&met) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(refuse(Error::new(
            Code::Name,
            format!("expected {}, but the certificate is of {met}", self.expected),
            "check the address, and which node has which certificate",
        )))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(
            rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ))
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

fn read_own(provider: &CryptoProvider, chain: &Path, key: &Path) -> Result<Own, Error> {
    let certificates = certificates(chain)?;
    let first = certificates.first().ok_or_else(|| unusable(chain, &"it holds no certificate"))?;
    let identity = Identity::of(first).map_err(|error| Error {
        cause: format!("`{}`: {}", chain.display(), error.cause),
        ..error
    })?;
    refuse_readable_by_all(key)?;
    let pem = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    rustls::sign::CertifiedKey::from_der(certificates.clone(), pem.clone_key(), provider)
        .map_err(|error| unusable(key, &error))?;
    Ok(Own { identity, chain: certificates, key: pem })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(unusable(path, &"it holds no certificate"));
    }
    Ok(found)
}

/// A file with a secret must not be readable by everybody on its machine.
pub(crate) fn refuse_readable_by_all(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|error| unusable(path, &error))?;
    if metadata.permissions().mode() & 0o007 == 0 {
        return Ok(());
    }
    let cause = format!("`{}` can be read by everybody on this machine", path.display());
    Err(Error::new(Code::Argument, cause, format!("chmod 600 {}", path.display())))
}

fn unusable(path: &Path, reason: &dyn fmt::Display) -> Error {
    let cause = format!("`{}` cannot be used: {reason}", path.display());
    Error::new(Code::Argument, cause, "give PEM files of the cluster's own CA")
}

fn internal(error: &dyn fmt::Display) -> Error {
    Error::new(Code::Internal, format!("TLS cannot be set up: {error}"), "")
}
