//! A CA of a test, and the certificates it makes.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, string::Ia5String,
};
use rpc::identity::{Identity, Role};
use rpc::{Error, Tls};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let ca = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).expect("written");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Writes a certificate and its key.
    fn make(&self, name: &str, uri: Option<String>) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        if let Some(uri) = uri {
            params.subject_alt_names.push(SanType::URI(Ia5String::try_from(uri).expect("ASCII")));
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let path = |end: &str| self.folder.path().join(format!("{name}{end}"));
        std::fs::write(path(".pem"), certificate.pem()).expect("written");
        std::fs::write(path(".key"), key.serialize_pem()).expect("written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path(".key"), mode).expect("permitted");
        (path(".pem"), path(".key"))
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn node(&self, name: &str, role: Role) -> Tls {
        self.node_that_trusts(self, name, role)
    }

    pub(crate) fn node_that_trusts(&self, ca: &Self, name: &str, role: Role) -> Tls {
        let (certificate, key) = self.make(name, Some(Identity::new(name, role).uri()));
        Tls::of_tool(&ca.ca(), Some((&certificate, &key))).expect("usable")
    }

    /// A tool without a certificate.
    pub(crate) fn tool(&self) -> Tls {
        Tls::of_tool(&self.ca(), None).expect("usable")
    }

    /// Overwrites the files of a node of `other` by ours.
    pub(crate) fn take_over(&self, other: &Self, name: &str, role: Role) {
        self.make(name, Some(Identity::new(name, role).uri()));
        for file in ["ca.pem".to_owned(), format!("{name}.pem"), format!("{name}.key")] {
            let (from, to) = (self.folder.path().join(&file), other.folder.path().join(&file));
            std::fs::copy(from, to).expect("copied");
        }
    }

    pub(crate) fn with_open_key(&self, name: &str) -> Result<Tls, Error> {
        let (certificate, key) = self.make(name, Some(Identity::new(name, Role::Worker).uri()));
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&key, mode).expect("permitted");
        Tls::of_tool(&self.ca(), Some((&certificate, &key)))
    }

    /// A node with the certificate of `name` that is `own`.
    pub(crate) fn as_node(&self, name: &str, role: Role, own: &str) -> Result<Tls, Error> {
        self.make(name, Some(Identity::new(name, role).uri()));
        let spec = config::node::Tls {
            ca: "ca.pem".into(),
            cert: format!("{name}.pem"),
            key: format!("{name}.key"),
        };
        Tls::of_node(&spec, self.folder.path(), &Identity::new(own, role))
    }

    pub(crate) fn without_uri(&self) -> Result<Tls, Error> {
        let (certificate, key) = self.make("w1", None);
        Tls::of_tool(&self.ca(), Some((&certificate, &key)))
    }
}
