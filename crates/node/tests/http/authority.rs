//! A CA of a test, and the certificates it makes.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, string::Ia5String,
};
use rpc::Tls;
use rpc::identity::{Identity, Role};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the cluster's CA");
        let ca = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).expect("written");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// A worker that browsers find at 127.0.0.1.
    pub(crate) fn node(&self, name: &str) -> Tls {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let uri = Identity::new(name, Role::Worker).uri();
        let uri = SanType::URI(Ia5String::try_from(uri).expect("ASCII"));
        params.subject_alt_names.push(uri);
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let path = |end: &str| self.folder.path().join(format!("{name}{end}"));
        std::fs::write(path(".pem"), certificate.pem()).expect("written");
        std::fs::write(path(".key"), key.serialize_pem()).expect("written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path(".key"), mode).expect("permitted");
        let own = (path(".pem"), path(".key"));
        Tls::of_tool(&self.folder.path().join("ca.pem"), Some((&own.0, &own.1))).expect("usable")
    }

    /// A client without a certificate, that speaks one of `protocols`.
    pub(crate) fn trusting(&self, protocols: &[&[u8]]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.folder.path().join("ca.pem"));
        roots.add(ca.expect("PEM")).expect("a CA");
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        config
    }
}
