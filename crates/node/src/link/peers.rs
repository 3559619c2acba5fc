//! Connections to other workers: one for each, made when it is first needed.

use super::client::Place;
use rpc::v1::link_client::LinkClient;
use rpc::{Code, Error, Expected, Protocols, Tls};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::Status;
use tonic::transport::Channel;
use tracing::debug;

/// The connections of one node. Clones share them.
#[derive(Clone)]
pub struct Peers {
    tls: Option<Arc<Tls>>,
    /// What this node speaks.
    protocols: Protocols,
    known: Arc<Mutex<HashMap<(String, String), Channel>>>,
}

impl Peers {
    #[must_use]
    pub fn new(tls: Option<Arc<Tls>>, protocols: Protocols) -> Self {
        Self { tls, protocols, known: Arc::default() }
    }

    /// What this node speaks with its peers.
    #[must_use]
    pub fn protocols(&self) -> Protocols {
        self.protocols
    }

    /// A channel to a worker. It connects again by itself.
    ///
    /// # Errors
    /// When the worker cannot be reached, or another one answers.
    pub async fn channel(&self, node: &str, address: &str) -> Result<Channel, Error> {
        let key = (node.to_owned(), address.to_owned());
        if let Some(channel) = self.known.lock().await.get(&key) {
            return Ok(channel.clone());
        }
        // Not under the lock: a peer that is silent must not hold back the others.
        let expected = Expected::Worker(node.to_owned());
        let channel = rpc::client::connect(address, self.tls.as_deref(), &expected).await?;
        self.known.lock().await.insert(key, channel.clone());
        Ok(channel)
    }

    /// Opens a stream to a worker. `open` makes the call by a protocol: the newest one, and while the worker refuses that
    /// an older one, not below `least`.
    ///
    /// # Errors
    /// When the worker cannot be reached, or does not take it.
    pub(super) async fn open<T, F: Future<Output = Result<T, Status>>>(
        &self,
        place: &Place,
        least: u32,
        open: impl Fn(LinkClient<Channel>, u32) -> F,
    ) -> Result<T, Error> {
        let Place { node, address } = place;
        let client = rpc::client::link(self.channel(node, address).await?);
        let mut protocol = self.protocols.max;
        loop {
            let error = match open(client.clone(), protocol).await {
                Ok(opened) => return Ok(opened),
                Err(status) => Error::from(status),
            };
            match (error.code, self.protocols.older(protocol, least)) {
                (Code::Protocol, Some(older)) => {
                    debug!(node, protocol, older, "the node speaks an older protocol");
                    protocol = older;
                    continue;
                }
                (Code::Unreachable, _) => self.forget(node, address).await,
                _ => {}
            }
            return Err(error);
        }
    }

    /// What broke is connected anew.
    async fn forget(&self, node: &str, address: &str) {
        self.known.lock().await.remove(&(node.to_owned(), address.to_owned()));
    }
}
