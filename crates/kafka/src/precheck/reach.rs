//! Whether each broker of the spec can be reached, and how long that takes.

use crate::settings::Settings;
use config::precheck::Item;
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Kafka's own default.
const PORT: u16 = 9092;

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

fn addresses(broker: &str) -> std::io::Result<Vec<std::net::SocketAddr>> {
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

    #[test]
    fn a_broker_without_a_port_has_kafkas_own() {
        for broker in ["127.0.0.1", "::1", "[::1]"] {
            let found = addresses(broker).expect("an address");
            assert!(found.iter().all(|address| address.port() == PORT), "{found:?}");
        }
        assert_eq!(addresses("[::1]:7").expect("an address")[0].port(), 7);
    }
}
