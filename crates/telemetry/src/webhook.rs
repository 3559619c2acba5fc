//! A webhook: JSON that is posted to an address, which may itself be a secret and is never shown.
//!
//! Calls are made by a thread of its own, from a short queue: who has something to say never waits.

use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tracing::{debug, warn};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Messages that may wait; what comes then is left out, with a log line.
const QUEUE_MAX: usize = 32;
/// How long one call may take in all.
const CALL_MAX: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;
/// Before the second attempt; doubles.
const DELAY: Duration = Duration::from_secs(1);

/// Where messages are posted. Dropped, it lets the thread post what waits and end.
pub struct Webhook {
    queue: SyncSender<String>,
    ended: Receiver<()>,
}

/// The address is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WebhookError {
    #[error("it is no address: write http://host/… or https://host/…")]
    Address,
    #[error("there is no thread for it")]
    Thread,
}

impl Webhook {
    /// Begins a thread that posts to `url`.
    ///
    /// # Errors
    /// When the address is not one of HTTP or HTTPS.
    pub fn start(url: SecretString) -> Result<Self, WebhookError> {
        let is_http = ["http://", "https://"].iter().any(|it| url.expose_secret().starts_with(it));
        if !is_http || url.expose_secret().parse::<ureq::http::Uri>().is_err() {
            return Err(WebhookError::Address);
        }
        let ((queue, messages), (ending, ended)) =
            (sync_channel::<String>(QUEUE_MAX), sync_channel(1));
        let work = move || {
            let agent = agent();
            for message in messages {
                post(&agent, &url, &message);
            }
            // Nobody may wait any more.
            let _ = ending.try_send(());
        };
        let thread = std::thread::Builder::new().name("webhook".into()).spawn(work);
        thread.map(|_| Self { queue, ended }).map_err(|_| WebhookError::Thread)
    }

    /// Queues a message.
    pub fn send(&self, message: String) {
        match self.queue.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => warn!(QUEUE_MAX, "alert left out: the webhook is slow"),
            Err(TrySendError::Disconnected(_)) => warn!("alert left out: the webhook has ended"),
        }
    }

    /// Posts what waits, for as long as `patience`.
    pub fn finish(self, patience: Duration) {
        let Self { queue, ended } = self;
        drop(queue);
        if ended.recv_timeout(patience).is_err() {
            warn!("the webhook does not answer; the last alerts may be lost");
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

/// Makes calls that end in time, to whom the system trusts.
pub(crate) fn agent() -> Agent {
    let found = rustls_native_certs::load_native_certs().certs;
    let roots = found.iter().map(|it| Certificate::from_der(it).to_owned()).collect();
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Agent::config_builder()
        .http_status_as_error(false)
        // Elsewhere what we say has no business.
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(CALL_MAX))
        .tls_config(tls)
        .user_agent(concat!("distributary/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

fn post(agent: &Agent, url: &SecretString, message: &str) {
    let began = Instant::now();
    for attempt in 1..=ATTEMPTS {
        let post = agent.post(url.expose_secret()).content_type("application/json");
        // The library's errors may name the address.
        let status = post.send(message).map(|answer| answer.status().as_u16()).ok();
        match status {
            Some(200..300) => return debug!(attempt, "alert posted"),
            // Asked again, it would say the same.
            Some(status @ 300..500) if status != 408 && status != 429 => {
                return warn!(status, "the webhook refuses the alert");
            }
            Some(_) | None if attempt == ATTEMPTS => {
                let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                warn!(status, attempt, took_ms, "the webhook does not take the alert");
            }
            Some(_) | None => std::thread::sleep(DELAY * 2u32.pow(attempt - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    #[test]
    fn what_is_no_address_is_refused_and_not_shown() {
        let error = Webhook::start("hunter2".into()).expect_err("refused");
        assert_eq!(error, WebhookError::Address);
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn a_message_is_posted_again_until_it_is_taken() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/hook?token=hunter2", server.local_addr().expect("an address"));
        let receiver = std::thread::spawn(move || {
            let mut bodies = Vec::new();
            for status in ["500 Broken", "204 Taken"] {
                let (mut stream, _) = server.accept().expect("a call");
                let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
                while !request.ends_with(b"}") {
                    let count = stream.read(&mut buffer).expect("a request");
                    request.extend_from_slice(&buffer[..count]);
                }
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                )
                .expect("an answer");
                bodies.push(String::from_utf8(request).expect("a text"));
            }
            bodies
        });
        let webhook = Webhook::start(url.into()).expect("a webhook");
        webhook.send(r#"{"event":"failure"}"#.into());
        webhook.finish(Duration::from_secs(60));
        let bodies = receiver.join().expect("a receiver");
        for body in bodies {
            assert!(body.starts_with("POST /hook?token=hunter2"), "{body}");
            assert!(body.ends_with(r#"{"event":"failure"}"#), "{body}");
        }
    }
}
