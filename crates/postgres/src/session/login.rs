//! Login of a SQL session over a connection that [`crate::dial`] has made.

use super::{Server, Session};
use crate::catalog::Memory;
use crate::dial::{self, Transport};
use crate::hosts::Role;
use crate::settings::{Host, Settings, options};
use crate::{Error, settings};
use postgres_protocol::message::backend;
use secrecy::ExposeSecret;
use std::error::Error as _;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready as ready_or_return};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config};

/// Connects to one host.
pub(super) async fn login(
    settings: &Settings,
    host: &Host,
    limits: &[(&str, &str)],
) -> Result<(Session, Role), Error> {
    let config = client_config(settings, limits);
    let open = |transport| {
        let config = &config;
        async move {
            let connected = config.connect_raw(transport, Handover).await;
            let (client, connection) = connected.map_err(|error| refusal(&error))?;
            let connection = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    // Whoever waits for an answer gets the error, too.
                    tracing::debug!(%error, "SQL connection ended");
                }
            });
            let (server, role) = describe(&client).await?;
            Ok((client, connection.abort_handle(), server, role))
        }
    };
    let (client, connection, server, role) = dial::open(settings, host, open).await?;
    let server = Server { host: host.to_string(), ..server };
    let memory = Memory::new(settings.0.naming.clone());
    Ok((Session { client, connection, server, memory }, role))
}

fn client_config(settings: &Settings, limits: &[(&str, &str)]) -> Config {
    let settings::Inner { database, user, application_name, .. } = &*settings.0;
    let mut config = Config::new();
    config
        .user(user)
        .dbname(database)
        .application_name(application_name)
        .options(options(limits))
        // TLS is there already, see `Handover`.
        .ssl_mode(SslMode::Require)
        .ssl_negotiation(SslNegotiation::Direct);
    if let Some(password) = settings.password() {
        config.password(password.expose_secret());
    }
    config
}

/// Facts about the server, and settings that older ones do not have.
async fn describe(client: &Client) -> Result<(Server, Role), Error> {
    // The timeline is that of the position to be written: that of the last checkpoint is an old one
    // for a while after a promotion.
    let statement = "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int4, \
         (SELECT system_identifier FROM pg_control_system()), \
         CASE WHEN NOT pg_is_in_recovery() THEN \
           left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) ELSE '0' END, \
         (SELECT pg_encoding_to_char(encoding)::text FROM pg_database \
           WHERE datname = current_database()), \
         to_regproc('pg_catalog.polar_version') IS NOT NULL OR version() ~* 'polardb'";
    let wrong = Error::reading("asking the server what it is");
    let read = async {
        let row = client.query_typed_one(statement, &[]).await?;
        let timeline: String = row.try_get(3)?;
        let version: i32 = row.try_get(1)?;
        let system_id: i64 = row.try_get(2)?;
        let server = Server {
            host: String::new(),
            version: version.unsigned_abs(),
            system_id: system_id.cast_unsigned(),
            timeline: u32::from_str_radix(&timeline, 16).unwrap_or_default(),
            encoding: row.try_get(4)?,
            is_polardb: row.try_get(5)?,
        };
        client.batch_execute(settings::unlimited(server.version)).await?;
        Ok((server, Role::new(row.try_get(0)?)))
    };
    read.await.map_err(wrong)
}

/// An error of the login.
fn refusal(error: &tokio_postgres::Error) -> Error {
    let doing = "logging in";
    if error.as_db_error().is_some() {
        return Error::from_client(error, doing);
    }
    let Some(cause) = error.source() else { return Error::from_client(error, doing) };
    match cause.downcast_ref::<io::Error>() {
        Some(io) => match io.get_ref().and_then(|inner| inner.downcast_ref::<UnsafeLogin>()) {
            Some(refused) => Error::Authentication { reason: refused.to_string() },
            None => Error::closed(io),
        },
        None => Error::Authentication { reason: cause.to_string() },
    }
}

/// The server asks for the password in a form that gives it away.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the server asks for the password by `{0}`, which gives it away; store it as SCRAM (set \
     password_encryption = 'scram-sha-256', then ALTER ROLE … PASSWORD), and write scram-sha-256 into \
     pg_hba.conf"
)]
pub(crate) struct UnsafeLogin(pub(crate) &'static str);

/// Hands over a connection that is secured already; its "handshake" does nothing.
struct Handover;

impl TlsConnect<Transport> for Handover {
    type Stream = Screened;
    type Error = io::Error;
    type Future = Ready<Result<Screened, io::Error>>;

    fn connect(self, transport: Transport) -> Self::Future {
        ready(Ok(Screened { transport, first: Vec::with_capacity(FIRST_BYTES) }))
    }
}

/// Tag, length and kind of the answer to the startup message.
const FIRST_BYTES: usize = 9;

/// The SQL client would send a password in clear if it were asked to. It is never shown the question.
struct Screened {
    transport: Transport,
    first: Vec<u8>,
}

impl Screened {
    fn screen(&mut self, bytes: &[u8]) -> Result<(), UnsafeLogin> {
        if self.first.len() == FIRST_BYTES {
            return Ok(());
        }
        let missing = FIRST_BYTES - self.first.len();
        self.first.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        match self.first.as_slice() {
            &[backend::AUTHENTICATION_TAG, _, _, _, _, 0, 0, 0, kind] => unsafe_login(kind),
            _ => Ok(()),
        }
    }
}

fn unsafe_login(kind: u8) -> Result<(), UnsafeLogin> {
    match kind {
        3 => Err(UnsafeLogin("password")),
        5 => Err(UnsafeLogin("md5")),
        _ => Ok(()),
    }
}

impl AsyncRead for Screened {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready_or_return!(Pin::new(&mut this.transport).poll_read(cx, buffer))?;
        Poll::Ready(this.screen(&buffer.filled()[before..]).map_err(io::Error::other))
    }
}

impl AsyncWrite for Screened {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

impl TlsStream for Screened {
    fn channel_binding(&self) -> ChannelBinding {
        self.transport
            .end_point()
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}
