//! The gRPC server of a node: what it listens on, the services it has, and the limits they share.

use crate::Error;
use crate::connection::{Connection, Stream};
use crate::guard::Guard;
use crate::limits::{
    CALL_TIME_MAX, CALLS_MAX, CONNECT_TIME_MAX, CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX,
    DRAIN_TIME_MAX, HEADER_BYTES_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIME_MAX, MESSAGE_BYTES_MAX,
    RENEW_INTERVAL, STREAM_WINDOW_BYTES, STREAMS_MAX,
};
use crate::listen::Listen;
use crate::tls::Tls;
use crate::tokens::Tokens;
use crate::v1::admin_server::{Admin, AdminServer};
use crate::v1::cluster_server::{Cluster, ClusterServer};
use crate::v1::link_server::{Link, LinkServer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tracing::{debug, info, warn};

/// The services of a node. Health and reflection are among them.
pub struct Services {
    routes: Routes,
    health: HealthReporter,
    names: Vec<&'static str>,
}

impl Default for Services {
    fn default() -> Self {
        Self::new()
    }
}

impl Services {
    #[must_use]
    pub fn new() -> Self {
        let (health, service) = tonic_health::server::health_reporter();
        let routes = Routes::new(service.max_decoding_message_size(MESSAGE_BYTES_MAX));
        let routes = match reflection() {
            Ok(reflection) => routes.add_service(reflection),
            Err(error) => {
                warn!(%error, "no reflection");
                routes
            }
        };
        Self { routes, health, names: Vec::new() }
    }

    #[must_use]
    pub fn link(self, link: impl Link) -> Self {
        self.add(LinkServer::new(link).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    #[must_use]
    pub fn cluster(self, cluster: impl Cluster) -> Self {
        self.add(ClusterServer::new(cluster).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    #[must_use]
    pub fn admin(self, admin: impl Admin) -> Self {
        self.add(AdminServer::new(admin).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Says of a service whether it serves, to those that ask.
    #[must_use]
    pub fn health(&self) -> HealthReporter {
        self.health.clone()
    }

    fn add<S>(mut self, service: S) -> Self
    where
        S: tonic::server::NamedService
            + tower::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<tonic::body::Body>,
                Error = Infallible,
            > + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes = self.routes.add_service(service);
        self
    }
}

fn reflection() -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<
        impl tonic_reflection::server::v1::ServerReflection,
    >,
    tonic_reflection::server::Error,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(crate::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map(|service| service.max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// A server that listens, and does not serve yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    guard: Guard,
}

impl Server {
    /// Listens. Without TLS and tokens only on loopback.
    ///
    /// # Errors
    /// When it cannot listen there, or must not.
    pub async fn bind(
        listen: &str,
        tls: Option<&Tls>,
        tokens: Option<Tokens>,
    ) -> Result<Self, Error> {
        let listen = Listen {
            on: listen,
            setting: "listen",
            otherwise: "listen on 127.0.0.1",
            has_tls: tls.is_some(),
            has_tokens: tokens.is_some(),
        };
        let (listener, address) = listen.bind().await?;
        tls.map(Tls::server).transpose()?;
        let guard = Guard { tls: tls.is_some(), tokens };
        Ok(Self { listener, address, tls: tls.cloned(), guard })
    }

    /// Where it listens; tells the port where any free one was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, and then until open streams have ended, but not for long.
    ///
    /// # Errors
    /// When the server cannot go on.
    pub async fn serve(
        self,
        services: Services,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let Services { routes, health, names } = services;
        for name in names {
            health.set_service_status(name, tonic_health::ServingStatus::Serving).await;
        }
        let (accepted, connections) = mpsc::channel(1);
        // Ends when it is dropped, together with the handshakes.
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(self.listener, self.tls.clone(), accepted));
        accepting.spawn(renew(self.tls, self.guard.tokens.clone()));
        let (stopping, stopped) = oneshot::channel::<()>();
        let stop = async {
            stop.await;
            drop(accepting);
            drop(stopping);
        };
        let serving = tonic::transport::Server::builder()
            .timeout(CALL_TIME_MAX)
            .concurrency_limit_per_connection(CALLS_MAX)
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIME_MAX))
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .layer(self.guard)
            .serve_with_incoming_shutdown(routes, incoming(connections), stop);
        let too_long = async {
            let _ = stopped.await;
            tokio::time::sleep(DRAIN_TIME_MAX).await;
        };
        tokio::select! {
            served = serving => served.map_err(Error::from),
            () = too_long => {
                debug!("streams still open are left behind");
                Ok(())
            }
        }
    }
}

fn incoming(
    connections: mpsc::Receiver<Connection>,
) -> impl futures_util::Stream<Item = Result<Connection, Infallible>> {
    futures_util::stream::unfold(connections, |mut connections| async move {
        connections.recv().await.map(|connection| (Ok(connection), connections))
    })
}

/// Handshakes run side by side: a slow one holds back nobody.
async fn accept(listener: TcpListener, tls: Option<Tls>, accepted: mpsc::Sender<Connection>) {
    const PAUSE: Duration = Duration::from_millis(100);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut handshakes = JoinSet::new();
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
        let (tls, accepted) = (tls.clone(), accepted.clone());
        while handshakes.try_join_next().is_some() {}
        handshakes.spawn(async move {
            match tokio::time::timeout(CONNECT_TIME_MAX, shake_hands(plain, tls)).await {
                Ok(Ok(stream)) => {
                    let _ = accepted.send(Connection::new(stream, place)).await;
                }
                Ok(Err(error)) => warn!(%error, %address, "connection refused"),
                Err(_) => warn!(%address, "connection refused: no handshake in time"),
            }
        });
    }
}

async fn shake_hands(plain: TcpStream, tls: Option<Tls>) -> std::io::Result<Stream> {
    plain.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Either::Left(plain)) };
    let config = tls.server().map_err(std::io::Error::other)?;
    Ok(Either::Right(TlsAcceptor::from(config).accept(plain).await?))
}

/// Certificates and tokens are renewed in their files, without a restart.
async fn renew(tls: Option<Tls>, tokens: Option<Tokens>) {
    let mut due = tokio::time::interval(RENEW_INTERVAL);
    loop {
        due.tick().await;
        let renewed = [
            ("certificates", tls.as_ref().map(Tls::reload)),
            ("tokens", tokens.as_ref().map(Tokens::reload)),
        ];
        for (what, renewed) in renewed {
            match renewed {
                Some(Ok(true)) => info!(what, "read again"),
                Some(Err(error)) => {
                    warn!(%error, what, "not read again; the old ones stay in force");
                }
                Some(Ok(false)) | None => {}
            }
        }
    }
}
