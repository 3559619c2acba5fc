//! Listening, of every server of a node: without TLS and tokens only on loopback.

use crate::{Code, Error};
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// What a server listens by, and how its refusals name it.
#[derive(Clone, Copy, Debug)]
pub struct Listen<'a> {
    /// `host:port`
    pub on: &'a str,
    /// The setting that says so, e.g. `listen`.
    pub setting: &'static str,
    /// What to do where other machines must not reach it, e.g. `listen on 127.0.0.1`.
    pub otherwise: &'static str,
    pub has_tls: bool,
    pub has_tokens: bool,
}

impl Listen<'_> {
    /// Listens; tells the port where any free one was asked for.
    ///
    /// # Errors
    /// When it cannot listen there, or must not.
    pub async fn bind(self) -> Result<(TcpListener, SocketAddr), Error> {
        let Self { on, setting, otherwise, has_tls, has_tokens } = self;
        let unusable = |error: &std::io::Error| {
            let cause = format!("cannot listen on {on}: {error}");
            let remedy = format!("set `{setting}` to a free address of this machine");
            Error::new(Code::Argument, cause, remedy)
        };
        let addresses: Vec<SocketAddr> =
            tokio::net::lookup_host(on).await.map_err(|error| unusable(&error))?.collect();
        let open = addresses.iter().any(|address| !address.ip().is_loopback());
        let missing = if has_tls { "`auth`" } else { "`tls`" };
        if open && !(has_tls && has_tokens) {
            return Err(Error::new(
                Code::Argument,
                format!("{on} can be reached from other machines, and {missing} is not set"),
                format!("set `tls` and `auth`, or {otherwise}"),
            ));
        }
        let listener = TcpListener::bind(&*addresses).await.map_err(|error| unusable(&error))?;
        let address = listener.local_addr().map_err(|error| unusable(&error))?;
        Ok((listener, address))
    }
}
