//! Login of a raw connection: SCRAM, a certificate, or nothing. What would give the password away is
//! refused.

use super::{Connection, Said, protocol};
use crate::Error;
use crate::dial::{self, Transport};
use crate::session::UnsafeLogin;
use crate::settings::{Host, Settings, WALSENDER, options};
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use secrecy::ExposeSecret;

/// Mechanisms that the server offers and we know.
struct Scram {
    plus: bool,
}

impl Connection {
    /// Connects to one host as a walsender for the database, and logs in.
    pub(crate) async fn open(settings: &Settings, host: &Host) -> Result<Self, Error> {
        dial::open(settings, host, |socket| Self::log_in(settings, socket)).await
    }

    async fn log_in(settings: &Settings, socket: Transport) -> Result<Self, Error> {
        let (buffer, out) = (BytesMut::new(), BytesMut::new());
        let mut connection = Self { socket, buffer, out, process_id: 0 };
        let inner = &settings.0;
        let options = options(WALSENDER);
        let parameters = [
            ("user", inner.user.as_str()),
            ("database", inner.database.as_str()),
            ("application_name", inner.application_name.as_str()),
            ("client_encoding", "UTF8"),
            ("options", options.as_str()),
            ("replication", "database"),
        ];
        frontend::startup_message(parameters, &mut connection.out)
            .map_err(|error| Error::Config(format!("source: {error}")))?;
        connection.flush().await?;
        if let Some(scram) = connection.asked().await? {
            connection.scram(settings, scram).await?;
        }
        loop {
            let message = connection.login_message().await?;
            if let Message::ReadyForQuery(_) = message {
                return Ok(connection);
            }
            if let Message::BackendKeyData(key) = &message {
                connection.process_id = key.process_id();
            } else if !matches!(message, Message::AuthenticationOk) {
                return Err(out_of_turn());
            }
        }
    }

    /// The first answer of the server. `None`: no password is needed.
    async fn asked(&mut self) -> Result<Option<Scram>, Error> {
        let unsafe_login = |method| {
            let reason = UnsafeLogin(method).to_string();
            Err(Error::Authentication { reason })
        };
        let message = self.login_message().await?;
        if let Message::AuthenticationOk = message {
            Ok(None)
        } else if let Message::AuthenticationSasl(body) = message {
            offered(&body).map(Some)
        } else if let Message::AuthenticationCleartextPassword = message {
            unsafe_login("password")
        } else if let Message::AuthenticationMd5Password(_) = message {
            unsafe_login("md5")
        } else {
            Err(Error::Authentication {
                reason:
                    "the server asks for a login that is not supported; write scram-sha-256 or \
                         cert into pg_hba.conf"
                        .into(),
            })
        }
    }

    /// SCRAM-SHA-256, bound to the TLS channel where the server offers it (RFC 5802, RFC 7677).
    async fn scram(&mut self, settings: &Settings, Scram { plus }: Scram) -> Result<(), Error> {
        let Some(password) = settings.password() else {
            let reason = "the server asks for a password, and none is given".into();
            return Err(Error::Authentication { reason });
        };
        let (binding, mechanism) = match self.socket.end_point() {
            Some(hash) if plus => (ChannelBinding::tls_server_end_point(hash), SCRAM_SHA_256_PLUS),
            // The server would notice if somebody had taken its offer away.
            Some(_) => (ChannelBinding::unrequested(), SCRAM_SHA_256),
            None => (ChannelBinding::unsupported(), SCRAM_SHA_256),
        };
        let mut scram = ScramSha256::new(password.expose_secret().as_bytes(), binding);
        frontend::sasl_initial_response(mechanism, scram.message(), &mut self.out)
            .map_err(protocol)?;
        self.flush().await?;
        let Message::AuthenticationSaslContinue(body) = self.login_message().await? else {
            return Err(out_of_turn());
        };
        scram.update(body.data()).map_err(protocol)?;
        frontend::sasl_response(scram.message(), &mut self.out).map_err(protocol)?;
        self.flush().await?;
        let Message::AuthenticationSaslFinal(body) = self.login_message().await? else {
            return Err(out_of_turn());
        };
        // The server must know the password, too.
        scram.finish(body.data()).map_err(|error| Error::Authentication {
            reason: format!("the server could not prove that it knows the password: {error}"),
        })
    }

    /// The next message of the login; an error of the server is explained.
    async fn login_message(&mut self) -> Result<Message, Error> {
        let message = self.message().await?;
        if let Message::ErrorResponse(body) = &message {
            return Err(Said::read(body.fields())?.error("logging in"));
        }
        Ok(message)
    }
}

fn offered(body: &AuthenticationSaslBody) -> Result<Scram, Error> {
    let mechanisms: Vec<&str> = body.mechanisms().collect().map_err(protocol)?;
    let has = |name| mechanisms.contains(&name);
    if has(SCRAM_SHA_256) || has(SCRAM_SHA_256_PLUS) {
        return Ok(Scram { plus: has(SCRAM_SHA_256_PLUS) });
    }
    let reason = format!(
        "the server offers {} only; write scram-sha-256 into pg_hba.conf",
        mechanisms.join(", ")
    );
    Err(Error::Authentication { reason })
}

fn out_of_turn() -> Error {
    Error::protocol("a message out of turn while logging in")
}
