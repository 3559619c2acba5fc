//! Addresses a node listens on, read without asking a name server.

use std::net::IpAddr;

/// Host and port of `host:port`; an IPv6 host stands in brackets.
pub(super) fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!bare.is_empty() && !bare.contains(char::is_whitespace)).then_some((bare, port))
}

/// Whether nobody outside this machine reaches the address. A name other than `localhost` may mean
/// anything, so it is not.
#[must_use]
pub fn is_loopback(address: &str) -> bool {
    split(address).is_some_and(|(host, _)| {
        host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    })
}

/// The address for others of a node that listens on `listen`.
pub(super) fn reachable(listen: &str, node: &str) -> String {
    match split(listen) {
        Some((host, port)) if host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()) => {
            format!("{node}:{port}")
        }
        Some(_) | None => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_what_only_this_machine_reaches() {
        for address in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1"] {
            assert!(is_loopback(address), "{address}");
        }
        for address in
            ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "w1:1", "localhost.evil:1", "::1:1", "", ":1"]
        {
            assert!(!is_loopback(address), "{address}");
        }
    }

    #[test]
    fn a_node_that_listens_everywhere_is_found_by_its_name() {
        assert_eq!(reachable("0.0.0.0:7420", "w1"), "w1:7420");
        assert_eq!(reachable("[::]:7420", "w1"), "w1:7420");
        assert_eq!(reachable("10.0.0.1:7420", "w1"), "10.0.0.1:7420");
    }
}
