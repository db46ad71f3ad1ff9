//! Who a request is from: a subject that a gateway names, or an address. Behind proxies the address is the one that the
//! last trusted proxy saw; what anybody else says about addresses and subjects is not believed.

mod forwarded;

use crate::config::Config;
use axum::http::{HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;
use serde::Deserialize;
use std::{
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv6Addr},
};

/// A longer subject is not one.
const SUBJECT_BYTES_MAX: usize = 256;
/// So many proxies in a row are looked at.
const HOPS_MAX: usize = 32;

/// Which header tells addresses. One, not either: a proxy sets its own and passes the other on as the client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardedHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => forwarded::X_FORWARDED_FOR,
            Self::Forwarded => FORWARDED,
        }
    }
}

/// Whoever has a share of his own: of limits, and of idempotency keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client<'a> {
    /// What the gateway calls him.
    Subject(&'a [u8]),
    /// An IPv4 address, or the first address of an IPv6 network.
    Address(IpAddr),
}

/// Shorter than what would be derived: it is hashed for each request.
impl Hash for Client<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Subject(subject) => {
                state.write(subject);
                state.write_u8(b's');
            }
            Self::Address(IpAddr::V4(v4)) => state.write_u128(v4.to_ipv6_mapped().to_bits()),
            Self::Address(IpAddr::V6(v6)) => state.write_u128(v6.to_bits()),
        }
    }
}

/// Who is believed about clients.
#[derive(Debug)]
pub(crate) struct Trust {
    proxies: Vec<IpNet>,
    header: ForwardedHeader,
    subject: Option<HeaderName>,
    ipv6_mask: Ipv6Addr,
}

impl Trust {
    pub(crate) fn of(config: &Config) -> Self {
        let bits = config.ipv6_prefix_bits.min(128);
        Self {
            proxies: config.trusted_proxies.iter().filter_map(|text| network(text).ok()).collect(),
            header: config.forwarded_header,
            subject: HeaderName::try_from(config.subject_header.as_str()).ok(),
            ipv6_mask: Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - bits).unwrap_or(0)),
        }
    }

    /// Whether somebody is believed who sends such a header.
    pub(crate) fn looks_at(&self, header: &str) -> bool {
        let is = |name: &HeaderName| header.eq_ignore_ascii_case(name.as_str());
        !self.proxies.is_empty() && (is(&self.header.name()) || self.subject.as_ref().is_some_and(is))
    }

    /// Who sent a request with these `headers` over a connection from `peer`.
    pub(crate) fn client<'a>(&self, peer: IpAddr, headers: &'a HeaderMap) -> Client<'a> {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return self.share(peer);
        }
        if let Some(subject) = self.subject(headers) {
            return Client::Subject(subject);
        }
        self.share(match self.header {
            ForwardedHeader::XForwardedFor => self.walk(peer, forwarded::x_forwarded_for(headers)),
            ForwardedHeader::Forwarded => self.walk(peer, forwarded::forwarded(headers)),
        })
    }

    /// Goes back from proxy to proxy, as long as they are trusted and say where they had it from.
    fn walk(&self, peer: IpAddr, mut hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut address = peer;
        for _ in 0..HOPS_MAX {
            match hops.next() {
                Some(Some(before)) if self.trusts(address) => address = before.to_canonical(),
                _ => break,
            }
        }
        address
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// The subject, if there is exactly one: of two, one may be the client's own.
    fn subject<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let mut values = headers.get_all(self.subject.as_ref()?).iter();
        let subject = values.next()?.as_bytes();
        (values.next().is_none() && (1..=SUBJECT_BYTES_MAX).contains(&subject.len())).then_some(subject)
    }

    /// A household has a whole IPv6 network: an address of it costs nothing.
    fn share<'a>(&self, address: IpAddr) -> Client<'a> {
        Client::Address(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => (v6 & self.ipv6_mask).into(),
        })
    }
}

/// Reads an address or a network; says what would be right.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network
        .map_err(|_| format!("must be addresses or networks such as \"10.0.0.0/8\", one is {text:?}"))?;
    if let IpNet::V6(v6) = network
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err(format!("write IPv4 as such, not mapped into IPv6: {text:?}"));
    }
    Ok(network)
}

#[cfg(test)]
mod tests;
