//! A connection that a server has accepted, encrypted or not, and who is at its other end.

use crate::Error;
use crate::identity::Identity;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

/// Who is at the other end. In the extensions of every request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) address: Option<SocketAddr>,
    /// None without a certificate; an error where it does not say whose it is.
    pub(crate) identity: Option<Result<Identity, Error>>,
}

/// Encrypted or not.
pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

pub(crate) struct Connection {
    peer: Peer,
    stream: Stream,
    /// Its place among those that may be open.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(crate) fn new(stream: Stream, place: OwnedSemaphorePermit) -> Self {
        let peer = match &stream {
            Either::Left(plain) => Peer { address: plain.peer_addr().ok(), identity: None },
            Either::Right(tls) => {
                let (plain, session) = tls.get_ref();
                let certificate = session.peer_certificates().and_then(<[_]>::first);
                Peer { address: plain.peer_addr().ok(), identity: certificate.map(Identity::of) }
            }
        };
        Self { peer, stream, _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
