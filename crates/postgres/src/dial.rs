//! A socket to one host, inside TLS as the mode wants it. SQL and replication connections alike begin
//! here, so both are secured in the same way.

use crate::Error;
use crate::settings::{Host, Settings};
use crate::tls::Secured;
use config::TlsMode;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// A host that has not answered by then is taken for dead; covers socket, TLS and login.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(15);
/// After so long without a sign of life the kernel asks the other side.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES_MAX: u32 = 3;
/// What was sent must be acknowledged by then, or the connection counts as lost.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// A connection before the startup message.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Secured(Secured),
}

impl Transport {
    /// For SCRAM-SHA-256-PLUS; `None` outside TLS.
    pub(crate) fn end_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(_) => None,
            Self::Secured(stream) => stream.end_point(),
        }
    }
}

/// Connects to one host and logs in with `login`, in at most [`CONNECT_MAX`]. With mode `prefer` a
/// server that does not want this login inside TLS, or cannot do TLS with us, is tried without: as
/// libpq does it.
pub(crate) async fn open<T, L>(
    settings: &Settings,
    host: &Host,
    login: impl Fn(Transport) -> L,
) -> Result<T, Error>
where
    L: Future<Output = Result<T, Error>>,
{
    let attempt = async {
        let (first, second) = match settings.tls_mode() {
            TlsMode::Disable => (Wish::Plain, None),
            TlsMode::Prefer => (Wish::Offered, Some(Wish::Plain)),
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => (Wish::Secured, None),
        };
        let failed = match dial_and(settings, host, first, &login).await {
            Err(error @ (Error::Tls { .. } | Error::Authentication { .. })) => error,
            settled => return settled,
        };
        let Some(wish) = second else { return Err(failed) };
        let settled = dial_and(settings, host, wish, &login).await;
        // Where plain is refused too, the first refusal tells more.
        if matches!(settled, Err(Error::Authentication { .. })) { Err(failed) } else { settled }
    };
    match tokio::time::timeout(CONNECT_MAX, attempt).await {
        Ok(Err(Error::Closed { reason })) => Err(unreachable(host, reason)),
        Ok(Err(Error::Unreachable { reason, .. })) => Err(unreachable(host, reason)),
        Ok(settled) => settled,
        Err(_) => Err(unreachable(host, format!("no answer within {} s", CONNECT_MAX.as_secs()))),
    }
}

fn unreachable(host: &Host, reason: String) -> Error {
    Error::Unreachable { host: host.to_string(), reason }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Wish {
    Plain,
    /// TLS where the server has it.
    Offered,
    Secured,
}

async fn dial_and<T, L>(
    settings: &Settings,
    host: &Host,
    wish: Wish,
    login: impl Fn(Transport) -> L,
) -> Result<T, Error>
where
    L: Future<Output = Result<T, Error>>,
{
    login(dial(settings, host, wish).await?).await
}

async fn dial(settings: &Settings, host: &Host, wish: Wish) -> Result<Transport, Error> {
    let failed = |error: io::Error| unreachable(host, error.to_string());
    let connected = TcpStream::connect((host.name.as_str(), host.port)).await;
    let mut tcp = connected.map_err(|error| unreachable(host, with_hint(&error)))?;
    tune(&tcp).map_err(failed)?;
    if wish == Wish::Plain {
        return Ok(Transport::Plain(tcp));
    }
    let mut request = bytes::BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(failed)?;
    // Exactly one byte: what an attacker put behind it is never taken for a part of the TLS session.
    let answer = tcp.read_u8().await.map_err(failed)?;
    let tls = |reason: String| Error::Tls { host: host.to_string(), reason };
    match answer {
        b'S' => {
            let secured = settings.connector().secure(tcp, &host.name).await;
            secured.map(Transport::Secured).map_err(|error| tls(error.to_string()))
        }
        b'N' if wish == Wish::Offered => Ok(Transport::Plain(tcp)),
        b'N' => Err(tls("the server has TLS switched off".into())),
        // An ErrorResponse: the server is too old, or too busy to start a process.
        _ => Err(unreachable(host, "the server refuses the connection".into())),
    }
}

fn with_hint(error: &io::Error) -> String {
    let hint = if error.kind() == io::ErrorKind::ConnectionRefused {
        "is it running, and does it listen on this address?"
    } else if error.raw_os_error().is_none() {
        // Of names that cannot be resolved the system reports no code.
        "check the name in source.hosts"
    } else {
        "check source.hosts, and the firewalls on the way"
    };
    format!("{error}; {hint}")
}

/// Notices a dead peer in about a minute, also while the kernel alone holds the connection.
fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES_MAX);
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secured(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secured(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secured(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secured(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
