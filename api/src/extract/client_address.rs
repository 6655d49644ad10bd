//! The address that a request came from, past the proxies that are trusted.
//!
//! The left end of `X-Forwarded-For` is the client's own invention. So the list is read from the right,
//! and only as long as each hop is a trusted proxy.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use ipnet::IpNet;

use crate::app::SharedApp;

/// The other end of the connection; the server puts it into every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The client's address as rate limits count it: an IPv6 one stands for its /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    pub fn of(parts: &Parts, app: &SharedApp) -> ClientAddress {
        let peer = parts.extensions.get::<Peer>();
        let peer = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0.ip());
        ClientAddress(key(find(
            peer,
            &parts.headers,
            &app.settings.trusted_proxies,
        )))
    }
}

impl FromRequestParts<SharedApp> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        app: &SharedApp,
    ) -> Result<ClientAddress, Infallible> {
        Ok(ClientAddress::of(parts, app))
    }
}

fn find(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut address = peer.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    for hop in hops {
        if !is_trusted(&address) {
            break;
        }
        let Some(hop) = parse_hop(hop.trim()) else {
            break;
        };
        address = hop.to_canonical();
    }
    address
}

/// An address, with or without a port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    if let Ok(address) = hop.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = hop.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn key(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        key(find(peer.parse().unwrap(), &headers, &trusted)).to_string()
    }

    #[test]
    fn nobody_is_trusted_unasked() {
        assert_eq!(from("10.0.0.1", &["1.2.3.4"], &[]), "10.0.0.1");
        assert_eq!(from("9.9.9.9", &["1.2.3.4"], &["10.0.0.0/8"]), "9.9.9.9");
    }

    #[test]
    fn the_first_untrusted_hop_from_the_right_is_the_client() {
        let trusted = &["10.0.0.0/8"];
        assert_eq!(from("10.0.0.1", &["6.6.6.6, 1.2.3.4"], trusted), "1.2.3.4");
        assert_eq!(
            from("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.0.0.2"], trusted),
            "1.2.3.4"
        );
        assert_eq!(
            from("10.0.0.1", &["6.6.6.6", "1.2.3.4", "10.0.0.2"], trusted),
            "1.2.3.4"
        );
        assert_eq!(from("10.0.0.1", &["1.2.3.4:5678"], trusted), "1.2.3.4");
        assert_eq!(from("::ffff:10.0.0.1", &["1.2.3.4"], trusted), "1.2.3.4");
    }

    #[test]
    fn nonsense_ends_the_walk() {
        let trusted = &["10.0.0.0/8"];
        assert_eq!(
            from("10.0.0.1", &["1.2.3.4, nonsense"], trusted),
            "10.0.0.1"
        );
        assert_eq!(
            from("10.0.0.1", &["1.2.3.4, , 10.0.0.2"], trusted),
            "10.0.0.2"
        );
        assert_eq!(from("10.0.0.1", &[""], trusted), "10.0.0.1");
    }

    #[test]
    fn an_ipv6_address_counts_by_its_64() {
        assert_eq!(from("2001:db8:1:2:3:4:5:6", &[], &[]), "2001:db8:1:2::");
        assert_eq!(
            from("::1", &["[2001:db8::7]:80"], &["::1/128"]),
            "2001:db8::"
        );
    }
}
