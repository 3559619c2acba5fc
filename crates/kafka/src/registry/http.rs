//! One call over HTTP or HTTPS: who we are, how long we wait, how much we read.

use super::RegistryError;
use crate::Error;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::Secret;
use config::pem::Pem;
use secrecy::{ExposeSecret, SecretString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Response, header};
use ureq::tls::{
    Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem,
};

/// How long one call may take in all. A Kafka transaction may be open meanwhile.
const CALL_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// What is read of an answer. The schema of a table of 1,600 columns has about 300 kB.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// An address, and how we say who we are.
pub(super) struct Http {
    url: Box<str>,
    registry: config::Registry,
    folder: PathBuf,
    caller: Mutex<Caller>,
}

/// What secrets and certificates make of us, as they were read last.
#[derive(Clone)]
struct Caller {
    agent: Agent,
    /// Value of the header `Authorization`.
    authorization: Option<SecretString>,
}

/// What the other side answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Http {
    pub(super) fn new(registry: &config::Registry, folder: &Path) -> Result<Self, Error> {
        let caller = Mutex::new(Caller::new(registry, folder)?);
        let url = registry.url.trim_end_matches('/').into();
        Ok(Self { url, registry: registry.clone(), folder: folder.to_owned(), caller })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn caller(&self) -> Caller {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gets `path`, or posts `body` to it. Who is turned away reads its secrets and certificates again: they may have
    /// been replaced.
    pub(super) fn ask(
        &self,
        doing: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer, RegistryError> {
        let before = self.caller();
        let answered = self.call(&before, doing, path, body);
        let is_unknown = answered.as_ref().is_ok_and(|it| matches!(it.status, 401 | 403));
        let is_untrusted = matches!(answered, Err(RegistryError::Tls { .. }));
        if !is_unknown && !is_untrusted {
            return answered;
        }
        // What cannot be read now is read at the next call; this one's answer says what is wrong.
        let Ok(caller) = Caller::new(&self.registry, &self.folder) else { return answered };
        if is_unknown && caller.says() == before.says() {
            return answered;
        }
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = caller.clone();
        self.call(&caller, doing, path, body)
    }

    fn call(
        &self,
        caller: &Caller,
        doing: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer, RegistryError> {
        let Caller { agent, authorization } = caller;
        let url = format!("{}{path}", self.url);
        let answered = match body {
            None => {
                let mut get = agent.get(&url).header(header::ACCEPT, CONTENT_TYPE);
                if let Some(authorization) = authorization {
                    get = get.header(header::AUTHORIZATION, authorization.expose_secret());
                }
                get.call()
            }
            Some(body) => {
                let mut post = agent.post(&url).header(header::ACCEPT, CONTENT_TYPE);
                if let Some(authorization) = authorization {
                    post = post.header(header::AUTHORIZATION, authorization.expose_secret());
                }
                post.content_type(CONTENT_TYPE).send(body)
            }
        };
        answered.and_then(read).map_err(|error| self.failed(doing, error))
    }

    fn failed(&self, doing: &str, error: ureq::Error) -> RegistryError {
        let (registry, doing) = (self.url.clone(), doing.into());
        #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
        match error {
            ureq::Error::Io(error) => match error.get_ref().and_then(|it| it.downcast_ref()) {
                Some(rustls::Error::InvalidMessage(_)) => {
                    let reason = "it speaks no TLS on this port: is `sink.registry.url` http?";
                    RegistryError::Tls { registry, doing, reason: reason.into() }
                }
                Some(error) => RegistryError::Tls { registry, doing, reason: error.to_string() },
                None => RegistryError::Unreachable { registry, doing, reason: error.to_string() },
            },
            ureq::Error::Rustls(error) => {
                RegistryError::Tls { registry, doing, reason: error.to_string() }
            }
            ureq::Error::Tls(reason) => {
                RegistryError::Tls { registry, doing, reason: reason.into() }
            }
            ureq::Error::BodyExceedsLimit(bytes_max) => {
                let reason = format!("it is larger than {bytes_max} bytes");
                RegistryError::Answer { registry, doing, reason }
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                RegistryError::Answer { registry, doing, reason: "it is no HTTP".into() }
            }
            error => RegistryError::Unreachable { registry, doing, reason: error.to_string() },
        }
    }
}

impl Caller {
    fn new(registry: &config::Registry, folder: &Path) -> Result<Self, Error> {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Elsewhere our password has no business.
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(CALL_MAX))
            .timeout_connect(Some(CONNECT_MAX))
            .tls_config(tls(&registry.tls, folder)?)
            .user_agent(concat!("distributary/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent, authorization: authorization(registry, folder)? })
    }

    fn says(&self) -> Option<&str> {
        self.authorization.as_ref().map(ExposeSecret::expose_secret)
    }
}

fn read(mut response: Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
    Ok(Answer { status, body })
}

fn authorization(
    registry: &config::Registry,
    folder: &Path,
) -> Result<Option<SecretString>, Error> {
    let resolve = |name: &str, secret: &Secret| {
        secret
            .resolve(folder)
            .map_err(|error| Error::Config(format!("sink.registry.{name}: {error}")))
    };
    let value = match (&registry.user, &registry.password, &registry.token) {
        (Some(user), password, _) => {
            let password = password.as_ref().map(|it| resolve("password", it)).transpose()?;
            let password = password.as_ref().map_or("", |it| it.expose_secret());
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        }
        (None, _, Some(token)) => format!("Bearer {}", resolve("token", token)?.expose_secret()),
        (None, _, None) => return Ok(None),
    };
    if header::HeaderValue::from_str(&value).is_err() {
        let text = "sink.registry: `token` has a line break or another sign that no header holds";
        return Err(Error::Config(text.into()));
    }
    Ok(Some(value.into()))
}

/// The other side is always verified, name and all; only what is trusted can be chosen.
fn tls(tls: &config::Tls, folder: &Path) -> Result<TlsConfig, Error> {
    let roots = match &tls.ca {
        Some(ca) => certificates("ca", ca, folder)?,
        None => {
            let found = rustls_native_certs::load_native_certs().certs;
            found.iter().map(|it| Certificate::from_der(it).to_owned()).collect()
        }
    };
    let client = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("cert", cert, folder)?;
            Some(ClientCert::new_with_certs(&chain, private_key(&folder.join(key))?))
        }
        (None, _) | (_, None) => None,
    };
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .client_cert(client)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// `given`: a file, or the certificates themselves.
fn certificates(
    setting: &str,
    given: &str,
    folder: &Path,
) -> Result<Vec<Certificate<'static>>, Error> {
    let (source, bytes) = match Pem::of(given) {
        Pem::Text(text) => (Path::new("inline").to_owned(), text.as_bytes().to_vec()),
        Pem::File(file) => {
            let file = folder.join(file);
            let bytes = pem(setting, &file)?;
            (file, bytes)
        }
    };
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        let item = item.map_err(|error| unusable(setting, &source, &error.to_string()))?;
        // One file may hold the key, too.
        if let PemItem::Certificate(certificate) = item {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(unusable(setting, &source, "it holds no certificate"));
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKey<'static>, Error> {
    // The library's error could quote what it read.
    PrivateKey::from_pem(&pem("key", file)?)
        .map_err(|_| unusable("key", file, "it holds no private key"))
}

fn pem(setting: &str, file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| unusable(setting, file, &error.to_string()))
}

fn unusable(setting: &str, file: &Path, reason: &str) -> Error {
    let file = file.display();
    Error::Config(format!("sink.registry.tls.{setting}: `{file}` cannot be used: {reason}"))
}

/// A path segment (RFC 3986, section 2): everything but the unreserved signs is escaped.
pub(super) fn escaped(segment: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_segment() {
        assert_eq!(escaped("shop.orders-value"), "shop.orders-value");
        assert_eq!(escaped("a/b?c#d e%"), "a%2Fb%3Fc%23d%20e%25");
        assert_eq!(escaped("ä"), "%C3%A4");
    }
}
