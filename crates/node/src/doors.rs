//! Where others reach a node: its gRPC and HTTP ports, and what it proves itself by.

use crate::http;
use config::Node;
use rpc::identity::Role;
use rpc::{Error, Identity, Server, Tls, Tokens};
use std::path::Path;

/// Both ports, which are not served yet.
pub(crate) struct Doors {
    pub(crate) tls: Option<Tls>,
    pub(crate) page: http::Server,
    pub(crate) server: Server,
}

impl Doors {
    /// Paths of the spec are relative to `folder`.
    ///
    /// # Errors
    /// When a certificate or the tokens cannot be used, or it cannot listen.
    pub(crate) async fn open(node: &Node, folder: &Path, role: Role) -> Result<Self, Error> {
        let identity = Identity::new(&node.node, role);
        let tls = node.tls.as_ref().map(|tls| Tls::of_node(tls, folder, &identity)).transpose()?;
        let tokens = node.auth.as_ref().map(|auth| Tokens::load(&folder.join(&auth.tokens_file)));
        let tokens = tokens.transpose()?;
        let page = http::Server::bind(&node.http, tls.clone(), tokens.clone()).await?;
        let server = Server::bind(&node.listen, tls.as_ref(), tokens).await?;
        Ok(Self { tls, page, server })
    }
}
