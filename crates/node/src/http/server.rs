//! Listening, TLS and the limits of the HTTP port.
//!
//! Without TLS and tokens only on loopback. Certificates and tokens are read again by the node's gRPC server; each
//! connection takes those in force.

use super::routes::{self, Watch};
use super::{Ready, View};
use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rpc::{Error, Listen, Tls, Tokens};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

/// Connections that are held open; further ones wait.
const CONNECTIONS_MAX: usize = 256;
/// However alive: browsers and probes simply connect again.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// For the head of a request, and between two of them.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 16 << 10;
const STREAMS_MAX: u32 = 16;
/// How long answers under way may take once the server stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);
/// After an error of accepting.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that listens, and does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    tokens: Option<Tokens>,
}

impl Server {
    /// Listens. Without TLS and tokens only on loopback.
    ///
    /// # Errors
    /// When it cannot listen there, or must not.
    pub async fn bind(
        listen: &str,
        tls: Option<Tls>,
        tokens: Option<Tokens>,
    ) -> Result<Self, Error> {
        let listen = Listen {
            on: listen,
            setting: "http",
            otherwise: "let `http` be on 127.0.0.1",
            has_tls: tls.is_some(),
            has_tokens: tokens.is_some(),
        };
        let (listener, address) = listen.bind().await?;
        tls.as_ref().map(Tls::https).transpose()?;
        Ok(Self { listener, address, tls, tokens })
    }

    /// Where it listens; tells the port where any free one was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, and then what is under way, but not for long.
    pub async fn serve(self, view: View, ready: Ready, stop: impl Future<Output = ()> + Send) {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        info!(url = format!("{scheme}://{}/", self.address), "status page");
        let watch = Arc::new(Watch::new(view, ready));
        let router = routes::router(Arc::clone(&watch), self.tokens);
        // Both end when they are dropped.
        let mut background = JoinSet::new();
        background.spawn(watch.remember());
        let open = GracefulShutdown::new();
        tokio::select! {
            () = accept(self.listener, self.tls, router, &open) => {}
            () = stop => {}
        }
        if tokio::time::timeout(DRAIN_TIME_MAX, open.shutdown()).await.is_err() {
            debug!("answers still under way are left behind");
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<Tls>, router: Router, open: &GracefulShutdown) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (plain, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly too many open files: some will be closed.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (tls, router, watcher) = (tls.clone(), router.clone(), open.watcher());
        connections.spawn(async move {
            let living = live(plain, tls, router, watcher);
            if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIME_MAX, living).await {
                debug!(%address, error, "connection ended");
            }
            drop(place);
        });
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

async fn live(
    plain: TcpStream,
    tls: Option<Tls>,
    router: Router,
    watcher: Watcher,
) -> Result<(), Cause> {
    plain.set_nodelay(true)?;
    let Some(tls) = tls else { return http1(plain, router, watcher).await };
    let handshake = TlsAcceptor::from(tls.https()?).accept(plain);
    let stream = tokio::time::timeout(HANDSHAKE_TIME_MAX, handshake).await??;
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => http2(stream, router, watcher).await,
        Some(_) | None => http1(stream, router, watcher).await,
    }
}

async fn http1<S>(stream: S, router: Router, watcher: Watcher) -> Result<(), Cause>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    Ok(watcher.watch(connection).await?)
}

async fn http2<S>(stream: S, router: Router, watcher: Watcher) -> Result<(), Cause>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIME_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    Ok(watcher.watch(connection).await?)
}
