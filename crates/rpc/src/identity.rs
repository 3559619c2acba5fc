//! Who a certificate says its holder is: one URI, `distributary://node/NAME?role=ROLE`.

use crate::{Code, Error};
use rustls_pki_types::CertificateDer;
use std::fmt;

const SCHEME: &str = "distributary://node/";

/// The holder of a certificate.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Identity {
    pub name: String,
    pub role: Role,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    Worker,
    Coordinator,
    /// A person's tool: may use the admin service, and is no node.
    Admin,
}

impl Role {
    const ALL: [Self; 3] = [Self::Worker, Self::Coordinator, Self::Admin];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Coordinator => "coordinator",
            Self::Admin => "admin",
        }
    }
}

impl From<config::Role> for Role {
    fn from(role: config::Role) -> Self {
        match role {
            config::Role::Coordinator => Self::Coordinator,
            config::Role::Worker => Self::Worker,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.role, self.name)
    }
}

impl Identity {
    #[must_use]
    pub fn new(name: &str, role: Role) -> Self {
        Self { name: name.to_owned(), role }
    }

    /// As it stands in a certificate, among the alternative names of its subject.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}?role={}", self.name, self.role)
    }

    fn parse(uri: &str) -> Option<Self> {
        let (name, role) = uri.strip_prefix(SCHEME)?.split_once("?role=")?;
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        (!name.is_empty() && name.bytes().all(plain)).then(|| Self::new(name, role))
    }

    /// The holder of a certificate, whose signature somebody else has checked.
    ///
    /// # Errors
    /// When it names nobody, or more than one.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let refuse = |cause: &str| {
            Error::new(
                Code::Unauthenticated,
                cause,
                format!("make one with the URI `{SCHEME}NAME?role=worker|coordinator|admin`"),
            )
        };
        let parsed = webpki::EndEntityCert::try_from(certificate)
            .map_err(|_| refuse("the certificate cannot be read"))?;
        let mut ours = parsed.valid_uri_names().filter(|uri| uri.starts_with(SCHEME));
        match (ours.next(), ours.next()) {
            (Some(uri), None) => Self::parse(uri)
                .ok_or_else(|| refuse(&format!("the certificate's URI `{uri}` names no node"))),
            (None, _) => Err(refuse("the certificate does not say which node it is for")),
            (Some(_), Some(_)) => Err(refuse("the certificate is for more than one node")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_read_as_it_was_written() {
        for role in Role::ALL {
            let identity = Identity::new("w-1", role);
            assert_eq!(Identity::parse(&identity.uri()), Some(identity));
        }
    }

    #[test]
    fn other_uris_name_nobody() {
        for uri in [
            "distributary://node/?role=worker",
            "distributary://node/w1",
            "distributary://node/w1?role=root",
            "distributary://node/w1?role=worker&role=admin",
            "distributary://node/a/b?role=worker",
            "https://node/w1?role=worker",
        ] {
            assert_eq!(Identity::parse(uri), None, "{uri}");
        }
    }
}
