//! How near a worker is to a source, as far as addresses tell: the longest prefix that two of them share, as hosts choose
//! among destinations (RFC 6724, section 5, rule 9). Names are not looked up: only equal ones are near.

use std::net::IpAddr;

/// Bits that the addresses have in common; of another kind or a name: none. Both are `host:port`.
pub(super) fn closeness(worker: &str, hosts: &[String]) -> u32 {
    let worker = host(worker);
    hosts.iter().map(|it| shared(worker, host(it))).max().unwrap_or(0)
}

fn shared(one: &str, other: &str) -> u32 {
    if one.eq_ignore_ascii_case(other) {
        return u32::MAX;
    }
    match (one.parse(), other.parse()) {
        (Ok(IpAddr::V4(one)), Ok(IpAddr::V4(other))) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros()
        }
        (Ok(IpAddr::V6(one)), Ok(IpAddr::V6(other))) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros()
        }
        _ => 0,
    }
}

fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_shared_prefix_is_nearest_and_the_same_host_nearer_still() {
        let hosts = ["10.1.2.3:5432".to_owned(), "db:5432".to_owned(), "[fd00::1]:5432".to_owned()];
        let near = |worker| closeness(worker, &hosts);
        assert_eq!(near("10.1.2.3:7420"), u32::MAX);
        assert_eq!(near("DB:7420"), u32::MAX);
        assert_eq!(near("10.1.2.2:7420"), 31);
        assert_eq!(near("10.1.130.1:7420"), 16);
        assert_eq!(near("[fd00::3]:7420"), 126);
        assert_eq!((near("w1:7420"), closeness("10.1.2.3:7420", &[])), (0, 0));
    }
}
