//! Whose address counts: the socket's, or what a trusted proxy says of it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::HeaderMap;

use crate::error::GatewayError;

/// Addresses in an `X-Forwarded-For` that are looked at; more are a forgery.
const FORWARDED_MAX: usize = 32;

/// A block of addresses: `10.0.0.0/8`, `::1`, `192.0.2.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Is that address in the block?
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, plain(ip)) {
            (IpAddr::V4(block), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.bits);
                u32::from(block).checked_shr(shift).unwrap_or(0) == u32::from(ip).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(block), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.bits);
                u128::from(block).checked_shr(shift).unwrap_or(0) == u128::from(ip).checked_shr(shift).unwrap_or(0)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Network {
    type Err = GatewayError;

    fn from_str(text: &str) -> Result<Self, GatewayError> {
        let wrong = || GatewayError::Network { value: text.to_owned() };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(bits_max), |bits| bits.parse::<u8>().map_err(|_| wrong()))?;
        if bits > bits_max {
            return Err(wrong());
        }
        Ok(Self { address, bits })
    }
}

/// An IPv4 address that came through an IPv6 socket, as IPv4.
#[must_use]
pub(crate) fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The client's address: the last one in `X-Forwarded-For` that no trusted proxy has, if the socket belongs to one.
#[must_use]
pub(crate) fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    let mut ip = plain(peer);
    if !is_trusted(ip) {
        return ip;
    }
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')).take(FORWARDED_MAX) {
        // What is no address was not written by a proxy of ours: who wrote it stays unknown, and the last known hop counts.
        let Some(next) = address(hop.trim()) else { return ip };
        ip = plain(next);
        if !is_trusted(ip) {
            return ip;
        }
    }
    ip
}

/// `192.0.2.7`, `192.0.2.7:80`, `::1`, `[::1]:80`.
fn address(hop: &str) -> Option<IpAddr> {
    let socket = || hop.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    hop.trim_start_matches('[').trim_end_matches(']').parse().ok().or_else(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        client_ip(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_stranger_cannot_say_who_it_is() {
        assert_eq!(through("203.0.113.9", &["10.1.1.1"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(through("203.0.113.9", &["10.1.1.1"], &[]), "203.0.113.9");
    }

    #[test]
    fn the_last_address_that_no_proxy_has_is_the_clients() {
        let trusted = ["10.0.0.0/8", "127.0.0.1"];
        assert_eq!(through("127.0.0.1", &["1.2.3.4, 198.51.100.7, 10.2.3.4"], &trusted), "198.51.100.7");
        assert_eq!(through("127.0.0.1", &["1.2.3.4", "198.51.100.7"], &trusted), "198.51.100.7");
        assert_eq!(through("::ffff:127.0.0.1", &["[2001:db8::1]:443"], &trusted), "2001:db8::1");
        assert_eq!(through("127.0.0.1", &[], &trusted), "127.0.0.1");
        assert_eq!(through("127.0.0.1", &["198.51.100.7, unknown"], &trusted), "127.0.0.1");
    }

    #[test]
    fn a_block_has_what_its_bits_say() {
        let block: Network = "2001:db8::/32".parse().unwrap();
        assert!(block.contains("2001:db8:1::5".parse().unwrap()));
        assert!(!block.contains("2001:db9::".parse().unwrap()));
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("203.0.113.9".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_block_is_quoted() {
        for text in ["10.0.0.0/33", "ten", "10.0.0.0/x", "", "::/129"] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
