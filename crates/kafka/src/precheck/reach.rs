//! Whether each broker of the spec can be reached, and how long that takes.

use crate::registry::Registry;
use crate::settings::Settings;
use crate::topics::Admin;
use config::precheck::Item;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

const CONNECT_MAX: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Kafka's own default.
const PORT: u16 = 9092;
/// `ApiVersions` version 0, correlation 1, no client id: answered before anything else, SASL too.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF];
/// A handshake that is none: TLS answers with an alert.
const NO_HANDSHAKE: [u8; 9] = [22, 3, 1, 0, 4, 1, 0, 0, 0];
const TLS_ALERT: u8 = 21;

const NAME: &str = "sink.connectivity";

/// An item per broker, and one for the registry, with what each step took.
#[must_use]
pub fn connectivity(settings: &Settings) -> Vec<Item> {
    let brokers: Vec<&str> = settings.brokers().split(',').map(str::trim).collect();
    // Who does not answer takes seconds: all at once.
    let mut items: Vec<Item> = std::thread::scope(|scope| {
        let spawn = |broker: &&str| {
            let (broker, settings) = ((*broker).to_owned(), settings.alone(broker));
            scope.spawn(move || {
                let item = reach(&broker, |seen| login(&settings, &seen));
                Item { seen: format!("{broker}: {}", item.seen), ..item }
            })
        };
        let started: Vec<_> = brokers.iter().map(spawn).collect();
        let joined = |thread: std::thread::ScopedJoinHandle<'_, Item>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        started.into_iter().map(joined).collect()
    });
    items.extend(settings.registry().map(registry));
    items
}

fn registry(registry: &Registry) -> Item {
    let started = Instant::now();
    match registry.level() {
        Ok(_) => {
            let millis = millis(started.elapsed());
            Item::pass(NAME, format!("{}: answers after {millis:.1} ms", registry.url()))
        }
        Err(error) => {
            let seen = format!("{} (after {:.1} ms)", error, millis(started.elapsed()));
            Item::fail(NAME, seen, super::registry::remedy(&error))
        }
    }
}

/// TLS, the password and a first answer.
fn login(settings: &Settings, seen: &str) -> Item {
    let started = Instant::now();
    let connected = Admin::new(settings)
        .and_then(|admin| super::connection::connect(admin.lookup(), settings).map(drop));
    let millis = millis(started.elapsed());
    match connected {
        Ok(()) => Item::pass(NAME, format!("{seen}, login and metadata {millis:.1} ms")),
        Err(error) => {
            let failed = super::failed(NAME, &error);
            Item { seen: format!("{seen}; {} (after {millis:.1} ms)", failed.seen), ..failed }
        }
    }
}

/// The port first; what is there may go on.
fn reach(broker: &str, go_on: impl FnOnce(String) -> Item) -> Item {
    let started = Instant::now();
    let addresses = match addresses(broker) {
        Ok(addresses) => addresses,
        Err(error) => {
            let remedy = "correct the name in `sink.brokers`, or the name service";
            return Item::fail(NAME, format!("its name is not known: {error}"), remedy);
        }
    };
    let resolved = started.elapsed();
    let mut last = "it has no address".to_owned();
    for address in addresses {
        let started = Instant::now();
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(stream) => {
                let (name_ms, ms) = (millis(resolved), millis(started.elapsed()));
                // Whoever keeps a list of allowed addresses needs it.
                let from = stream.local_addr().map(|it| format!(" from {}", it.ip()));
                let from = from.unwrap_or_default();
                return go_on(format!(
                    "{address} answers{from} after {ms:.1} ms, its name {name_ms:.1} ms"
                ));
            }
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Item::fail(NAME, last, "start the broker, or open the way to it (address lists, firewalls)")
}

/// What a listener has answered to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Spoken {
    Plaintext,
    Tls,
}

/// What a broker speaks; `None`: it did not answer, or with something else.
pub(super) fn spoken(broker: &str) -> Option<Spoken> {
    let address = addresses(broker).ok()?.into_iter().next()?;
    if answer(address, &API_VERSIONS)?.get(4..8) == Some(&[0, 0, 0, 1][..]) {
        return Some(Spoken::Plaintext);
    }
    (answer(address, &NO_HANDSHAKE)?.first() == Some(&TLS_ALERT)).then_some(Spoken::Tls)
}

/// The first bytes of an answer, none where there is none. `None`: no connection.
fn answer(address: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_MAX).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    let mut answer = Vec::new();
    // Whoever closes at once has answered nothing.
    if stream.write_all(question).is_ok() {
        let _ = stream.take(8).read_to_end(&mut answer);
    }
    Some(answer)
}

fn addresses(broker: &str) -> std::io::Result<Vec<SocketAddr>> {
    let is_port = |(_, port): (&str, &str)| port.parse::<u16>().is_ok();
    // The last group of a bare IPv6 address looks like a port.
    if broker.parse::<IpAddr>().is_err() && broker.rsplit_once(':').is_some_and(is_port) {
        return Ok(broker.to_socket_addrs()?.collect());
    }
    Ok((broker.trim_matches(['[', ']']), PORT).to_socket_addrs()?.collect())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;

    #[test]
    fn a_listening_port_passes_and_a_closed_one_fails() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let pass = |seen| Item::pass(NAME, seen);
        let item = reach(&address, pass);
        assert_eq!(item.state, State::Pass);
        assert!(item.seen.contains("from 127.0.0.1 after"), "{item:?}");
        drop(listener);
        assert_eq!(reach(&address, pass).state, State::Fail);
    }

    /// Answers each question with the same bytes, as often as asked.
    fn listener(answer: &'static [u8]) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut question = [0; 9];
                let _ = stream.read_exact(&mut question).and_then(|()| stream.write_all(answer));
            }
        });
        address
    }

    #[test]
    fn what_a_listener_speaks_is_told_by_its_answer_only() {
        let api_versions = listener(&[0, 0, 0, 6, 0, 0, 0, 1, 0, 35]);
        assert_eq!(spoken(&api_versions), Some(Spoken::Plaintext));
        assert_eq!(spoken(&listener(&[TLS_ALERT, 3, 3, 0, 2, 2, 50])), Some(Spoken::Tls));
        assert_eq!(spoken(&listener(b"")), None);
        assert_eq!(spoken(&listener(b"HTTP/1.1 400 Bad Request")), None);
        assert_eq!(spoken("127.0.0.1:1"), None);
    }

    #[test]
    fn a_broker_without_a_port_has_kafkas_own() {
        for broker in ["127.0.0.1", "::1", "[::1]"] {
            let found = addresses(broker).expect("an address");
            assert!(found.iter().all(|address| address.port() == PORT), "{found:?}");
        }
        assert_eq!(addresses("[::1]:7").expect("an address")[0].port(), 7);
    }
}
