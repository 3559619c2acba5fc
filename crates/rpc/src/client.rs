//! Connections to other nodes, and the clients that run on them.

use crate::limits::{
    CONNECT_TIME_MAX, CONNECTION_WINDOW_BYTES, HEADER_BYTES_MAX, KEEPALIVE_INTERVAL,
    KEEPALIVE_TIME_MAX, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES,
};
use crate::tls::{Expected, Tls};
use crate::v1::admin_client::AdminClient;
use crate::v1::cluster_client::ClusterClient;
use crate::v1::link_client::LinkClient;
use crate::{Code, Error};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Connects to a node at `host:port`, or at a URL of it. A channel connects again by itself when it is used after a break; a
/// silent peer is noticed in about five seconds, and ends all calls.
///
/// # Errors
/// When it cannot be reached, is not who we expect, or is on another machine and there is no TLS.
pub async fn connect(
    address: &str,
    tls: Option<&Tls>,
    expected: &Expected,
) -> Result<Channel, Error> {
    let address = host_and_port(address, tls.is_some())?;
    if tls.is_none() && !config::node::is_loopback(address) {
        return Err(Error::new(
            Code::Argument,
            format!("{address} is on another machine, which is not reached without TLS"),
            "give the CA and a certificate: `tls` in a node's spec, --ca, --cert and --key of a tool",
        ));
    }
    let tls = tls.map(|tls| (tls.clone(), expected.clone()));
    let dial = Dial { address: Arc::from(address), tls };
    // The connector knows where to go; this is what the requests are addressed to.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| Error::new(Code::Argument, format!("`{address}` is no host:port"), ""))?
        .connect_timeout(CONNECT_TIME_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIME_MAX)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADER_BYTES_MAX);
    let connector = tower::service_fn(move |_: Uri| {
        let dial = dial.clone();
        async move { dial.dial().await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector(connector).await?)
}

fn host_and_port(address: &str, tls: bool) -> Result<&str, Error> {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => return Ok(address),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (cause, remedy) = match (scheme, tls) {
        ("https", true) | ("http", false) => return Ok(rest),
        ("https", false) => ("needs the cluster's CA", "give --ca, or `tls` in the node's spec"),
        ("http", true) => ("is asked for without TLS", "write https://"),
        _ => ("is no URL of a node", "write https://HOST:PORT or HOST:PORT"),
    };
    Err(Error::new(Code::Argument, format!("`{address}` {cause}"), remedy))
}

/// A client of a worker's links.
#[must_use]
pub fn link(channel: Channel) -> LinkClient<Channel> {
    LinkClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client that joins a cluster.
#[must_use]
pub fn cluster(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client of the admin service.
///
/// # Errors
/// When the token cannot stand in a header.
pub fn admin(
    channel: Channel,
    token: Option<&SecretString>,
) -> Result<AdminClient<InterceptedService<Channel, Bearer>>, Error> {
    admin_within(channel, token, None)
}

/// As [`admin`], for calls that belong to the trace of this `traceparent` (W3C Trace Context).
///
/// # Errors
/// As [`admin`].
pub fn admin_within(
    channel: Channel,
    token: Option<&SecretString>,
    traceparent: Option<&str>,
) -> Result<AdminClient<InterceptedService<Channel, Bearer>>, Error> {
    let header = |token: &SecretString| {
        let text = format!("Bearer {}", token.expose_secret().trim());
        let mut value = MetadataValue::<Ascii>::try_from(text).map_err(|_| {
            let cause = "the token holds what no header may hold";
            Error::new(Code::Argument, cause, "give a file with the token and nothing else")
        })?;
        value.set_sensitive(true);
        Ok::<_, Error>(value)
    };
    // One that cannot stand in a header says nothing.
    let traceparent = traceparent.and_then(|it| MetadataValue::try_from(it).ok());
    let bearer = Bearer { token: token.map(header).transpose()?, traceparent };
    let client = AdminClient::with_interceptor(channel, bearer);
    Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// Shows a token, and to which trace it belongs, with every call.
#[derive(Clone, Debug)]
pub struct Bearer {
    token: Option<MetadataValue<Ascii>>,
    traceparent: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in [("authorization", &self.token), ("traceparent", &self.traceparent)] {
            if let Some(value) = value {
                request.metadata_mut().insert(name, value.clone());
            }
        }
        Ok(request)
    }
}

#[derive(Clone)]
struct Dial {
    address: Arc<str>,
    tls: Option<(Tls, Expected)>,
}

impl Dial {
    async fn dial(&self) -> Result<Either<TcpStream, TlsStream<TcpStream>>, Error> {
        let unreachable = |reason: &dyn std::fmt::Display| {
            let cause = format!("{} cannot be reached: {reason}", self.address);
            Error::new(Code::Unreachable, cause, "check that the node runs and can be reached")
        };
        // Each time anew: the files may have been renewed since.
        let config = match &self.tls {
            Some((tls, expected)) => Some(TlsConnector::from(tls.client(expected)?)),
            None => None,
        };
        let dialing = async {
            let plain = TcpStream::connect(&*self.address).await?;
            plain.set_nodelay(true)?;
            Ok(match &config {
                // Who is met is decided by the certificate's URI, so the name asked for says nothing.
                Some(tls) => {
                    let name = ServerName::from(plain.peer_addr()?.ip());
                    Either::Right(tls.connect(name, plain).await?)
                }
                None => Either::Left(plain),
            })
        };
        match tokio::time::timeout(CONNECT_TIME_MAX, dialing).await {
            Ok(dialed) => {
                dialed.map_err(|error| refused(&error).unwrap_or_else(|| unreachable(&error)))
            }
            Err(_) => Err(unreachable(&"no answer in time")),
        }
    }
}

/// What TLS itself refused, in our words.
fn refused(error: &std::io::Error) -> Option<Error> {
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    if let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = tls
        && let Some(ours) = other.0.downcast_ref::<Error>()
    {
        return Some(ours.clone());
    }
    crate::error::refused_by_tls(&tls.to_string()).or_else(|| {
        Some(Error::new(
            Code::Unauthenticated,
            format!("the other node cannot be trusted: {tls}"),
            "check that its certificate is signed by our CA and in force",
        ))
    })
}
