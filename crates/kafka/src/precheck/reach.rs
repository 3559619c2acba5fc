//! Whether each broker of the spec can be reached, and how long that takes.

use crate::settings::Settings;
use config::precheck::Item;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

const CONNECT_MAX: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Kafka's own default.
const PORT: u16 = 9092;
/// `ApiVersions` version 0, correlation 1, no client id: answered before anything else, SASL too.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF];
/// A handshake that is none: TLS answers with an alert.
const NO_HANDSHAKE: [u8; 9] = [22, 3, 1, 0, 4, 1, 0, 0, 0];
const TLS_ALERT: u8 = 21;

/// An item per broker, with what its name and its connection took.
#[must_use]
pub fn connectivity(settings: &Settings) -> Vec<Item> {
    settings.brokers().split(',').map(|broker| reach(broker.trim())).collect()
}

fn reach(broker: &str) -> Item {
    let name = format!("sink.connectivity.{broker}");
    let started = Instant::now();
    let addresses = match addresses(broker) {
        Ok(addresses) => addresses,
        Err(error) => {
            let remedy = "correct the name in `sink.brokers`, or the name service";
            return Item::fail(&name, format!("its name is not known: {error}"), remedy);
        }
    };
    let resolved = started.elapsed();
    let mut last = "it has no address".to_owned();
    for address in addresses {
        let started = Instant::now();
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(_) => {
                let (name_ms, ms) = (millis(resolved), millis(started.elapsed()));
                let seen = format!("{address} answers after {ms:.1} ms, its name {name_ms:.1} ms");
                return Item::pass(&name, seen);
            }
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Item::fail(&name, last, "start the broker, or open the way to it (address lists, firewalls)")
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
        let item = reach(&address);
        assert_eq!((item.state, item.name), (State::Pass, format!("sink.connectivity.{address}")));
        drop(listener);
        assert_eq!(reach(&address).state, State::Fail);
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
