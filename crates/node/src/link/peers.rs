//! Connections to other workers: one for each, made when it is first needed.

use rpc::{Error, Expected, Protocols, Tls};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::transport::Channel;

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

    /// What broke is connected anew.
    pub async fn forget(&self, node: &str, address: &str) {
        self.known.lock().await.remove(&(node.to_owned(), address.to_owned()));
    }
}
