//! The HTTP port of a node: whether it lives and can work, its metrics, and the status page.
//!
//! | Path | Answers | Token |
//! |---|---|---|
//! | `/healthz` | the process lives | no |
//! | `/readyz` | it can do its work; 503 and why not | no |
//! | `/metrics` | [`telemetry::metrics`] | where tokens are set |
//! | `/` | the status page, one file | likewise |
//! | `/api/status` | [`Status`] as JSON | likewise |
//! | `/api/history?since=N` | the last hour, or what came after round N | likewise |
//!
//! Nothing can be changed here: every role may read. `server` listens and holds the limits, `guard` lets in,
//! `routes` answers, [`status`] is what is shown, `history` its last hour.

mod guard;
mod history;
mod metrics;
mod page;
mod routes;
mod server;
pub mod status;

pub use server::Server;
pub use status::Status;

use futures_util::future::BoxFuture;
use rpc::{Error, Tls, Tokens};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// Where the page and the metrics get what they show. Asked at most once a second, however many look.
#[derive(Clone)]
pub struct View(Arc<dyn Fn() -> BoxFuture<'static, Result<Status, Error>> + Send + Sync>);

impl View {
    pub fn new<F, S>(look: F) -> Self
    where
        F: Fn() -> S + Send + Sync + 'static,
        S: Future<Output = Result<Status, Error>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(look())))
    }

    /// Of what can be looked at without waiting.
    pub fn at_once(look: impl Fn() -> Status + Send + Sync + 'static) -> Self {
        Self::new(move || std::future::ready(Ok(look())))
    }

    pub(super) fn look(&self) -> BoxFuture<'static, Result<Status, Error>> {
        (self.0)()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View")
    }
}

/// Whether the node can do its work, or why not.
#[derive(Clone)]
pub struct Ready(Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>);

impl Ready {
    pub fn new<F, S>(look: F) -> Self
    where
        F: Fn() -> S + Send + Sync + 'static,
        S: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(look())))
    }

    /// Of what can be looked at without waiting.
    pub fn at_once(look: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self::new(move || std::future::ready(look()))
    }

    pub(super) fn look(&self) -> BoxFuture<'static, Result<(), String>> {
        (self.0)()
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready")
    }
}

/// Listens and serves until `stop`. A node that must know early whether it can listen uses [`Server`].
///
/// # Errors
/// When it cannot listen there, or must not.
pub async fn serve(
    listen: &str,
    tls: Option<Tls>,
    tokens: Option<Tokens>,
    view: View,
    ready: Ready,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    Server::bind(listen, tls, tokens).await?.serve(view, ready, stop).await;
    Ok(())
}
