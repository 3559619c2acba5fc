//! Who calls: what the audit log names, and what handlers ask before they believe a name.

use crate::identity::Identity;
use crate::{Code, Error};
use config::tokens::Access;
use std::fmt;
use std::net::SocketAddr;

/// Who calls. In the extensions of every request that reaches a handler.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    pub who: Who,
    /// Where the call comes from.
    pub address: Option<SocketAddr>,
}

/// How the caller is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Who {
    /// By its certificate.
    Certificate(Identity),
    /// By a token of the tokens file.
    Token { name: String, access: Access },
    /// Anybody on this machine: the node listens on loopback without TLS and tokens.
    Local,
    /// Nobody: only health is answered.
    Unknown,
}

impl Principal {
    /// Who sent a request.
    ///
    /// # Errors
    /// When it did not come through our server.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<&Self, Error> {
        request.extensions().get().ok_or_else(|| {
            Error::new(Code::Internal, "the request came around the check of its caller", "")
        })
    }

    /// Whether the caller may call itself by that node's name: it is in its certificate, or nobody
    /// checks names on loopback.
    ///
    /// # Errors
    /// When it is another node's.
    pub fn claims(&self, node: &str) -> Result<(), Error> {
        match &self.who {
            Who::Certificate(identity) if identity.name == node => Ok(()),
            Who::Local => Ok(()),
            Who::Certificate(_) | Who::Token { .. } | Who::Unknown => Err(Error::new(
                Code::Name,
                format!("{self} calls itself `{node}`"),
                "give the node the certificate of its own name, or the name in its certificate",
            )),
        }
    }

    /// What the caller may do with the admin service.
    #[must_use]
    pub fn access(&self) -> Option<Access> {
        match &self.who {
            Who::Token { access, .. } => Some(*access),
            Who::Certificate(identity) => {
                (identity.role == crate::identity::Role::Admin).then_some(Access::Admin)
            }
            Who::Local => Some(Access::Admin),
            Who::Unknown => None,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Certificate(identity) => write!(f, "{identity}")?,
            Who::Token { name, access } => write!(f, "{access} `{name}`")?,
            Who::Local => f.write_str("a local user")?,
            Who::Unknown => f.write_str("an unknown caller")?,
        }
        self.address.map_or(Ok(()), |address| write!(f, " at {address}"))
    }
}
