//! Loopback addresses to connect from: one alone has too few ports for a big run.

use crate::random;
use std::net::{IpAddr, Ipv4Addr};

/// Connections from one address: well below the ports that it has.
pub(crate) const PER_SOURCE: usize = 4_096;

/// Loopback addresses to connect from, each given out once in a run, so that no port is used twice within a minute.
pub(crate) struct Sources(u32);

impl Sources {
    pub(crate) fn new() -> Self {
        Self(random::number() as u32 & 0xffff)
    }

    /// As many as `connections` of one process need; none where the server is on another machine.
    pub(crate) fn take(&mut self, connections: usize, server: IpAddr) -> Vec<Ipv4Addr> {
        if !server.is_ipv4() || !server.is_loopback() {
            return Vec::new();
        }
        let count = connections.div_ceil(PER_SOURCE);
        let mut next = || {
            self.0 += 1;
            // 127.1.0.0 up to 127.250.255.255.
            Ipv4Addr::from_bits(0x7f01_0000 + self.0 % (250 << 16))
        };
        (0..count).map(|_| next()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_connect_from_are_given_out_once() {
        let mut sources = Sources(0xffff);
        let server = Ipv4Addr::LOCALHOST.into();
        let all: Vec<_> = [sources.take(PER_SOURCE + 1, server), sources.take(1, server)].concat();
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
        assert!(all.iter().all(|address| address.is_loopback() && address.octets()[1] > 0));
        assert!(sources.take(10, Ipv4Addr::new(192, 0, 2, 1).into()).is_empty());
    }
}
