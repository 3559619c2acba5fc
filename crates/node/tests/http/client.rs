//! A client of few words: one request per connection.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, pki_types::ServerName};

pub(crate) struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    head: String,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, body: body.into(), head: head.into() })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    pub(crate) fn tls(address: SocketAddr, tls: ClientConfig) -> Self {
        Self { address, tls: Some(Arc::new(tls)) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    async fn connect(&self) -> Box<dyn Stream> {
        let plain = TcpStream::connect(self.address).await.expect("it listens");
        let Some(tls) = &self.tls else { return Box::new(plain) };
        let name = ServerName::from(self.address.ip());
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, plain).await;
        Box::new(stream.expect("a handshake"))
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_send(method, path, headers).await.expect("an answer")
    }

    pub(crate) async fn try_get(&self, path: &str) -> Option<Answer> {
        self.try_send("GET", path, &[]).await
    }

    async fn try_send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            request.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // Whoever does not say goodbye by TLS has said all the same.
        let _ = stream.read_to_end(&mut answer).await;
        Answer::parse(&String::from_utf8_lossy(&answer))
    }

    /// The head of the server's first frame.
    pub(crate) async fn greet_http2(&self) -> [u8; 9] {
        let mut stream = self.connect().await;
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
        stream.write_all(&settings).await.expect("written");
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        head
    }
}
