//! What a balancer says of a client before the client says anything: the PROXY protocol, versions 1 and 2.
//!
//! <https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>

use std::net::IpAddr;
use std::time::Duration;

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::proxy::plain;

/// Bytes of a header, with what a balancer adds of its own. A longer one is none.
const HEADER_BYTES_MAX: usize = 2 << 10;
/// How the two versions begin.
const BEGINNINGS: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];

/// Why a balancer's connection cannot be served; the word is a label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoHeader {
    /// It ended, or began with something else.
    Missing,
    /// It began like one, and is none, or is too long.
    Broken,
    /// Not whole by the deadline.
    Late,
}

impl NoHeader {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Broken => "broken",
            Self::Late => "late",
        }
    }
}

/// Takes the header off a balancer's connection, and no byte more. None: the balancer itself connects, to see whether we live.
pub(crate) async fn client(tcp: &mut TcpStream, left: Duration) -> Result<Option<IpAddr>, NoHeader> {
    tokio::time::timeout(left, take(tcp)).await.unwrap_or(Err(NoHeader::Late))
}

async fn take(tcp: &mut TcpStream) -> Result<Option<IpAddr>, NoHeader> {
    let mut header = vec![0; HEADER_BYTES_MAX];
    let mut taken = 0;
    while taken < header.len() {
        // Looked at first, since what follows the header is the client's.
        let seen = match tcp.peek(&mut header[taken..]).await {
            Ok(bytes @ 1..) => taken + bytes,
            Ok(0) | Err(_) => return Err(NoHeader::Missing),
        };
        let begins = |beginning: &&[u8]| header[..seen].iter().zip(*beginning).all(|(a, b)| a == b);
        if !BEGINNINGS.iter().any(begins) {
            return Err(NoHeader::Missing);
        }
        let (client, upto) = match parsed(&header[..seen])? {
            Some((client, length)) => (Some(client), length),
            None => (None, seen),
        };
        tcp.read_exact(&mut header[taken..upto]).await.map_err(|_| NoHeader::Missing)?;
        if let Some(client) = client {
            return Ok(client);
        }
        taken = upto;
    }
    Err(NoHeader::Broken)
}

/// The client and the length of the header; none if more must come.
fn parsed(bytes: &[u8]) -> Result<Option<(Option<IpAddr>, usize)>, NoHeader> {
    let (header, length) = match ProxyHeader::parse(bytes, ParseConfig::default()) {
        Ok(parsed) => parsed,
        Err(Error::BufferTooShort) => return Ok(None),
        Err(_) => return Err(NoHeader::Broken),
    };
    match header.proxied_address() {
        None => Ok(Some((None, length))),
        Some(client) if client.protocol == Protocol::Stream => Ok(Some((Some(plain(client.source.ip())), length))),
        Some(_) => Err(NoHeader::Broken),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2: its command, its family and protocol, what follows.
    fn second(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    const IPV4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 1, 0xbb];

    fn check(bytes: &[u8], expected: Result<Option<&str>, NoHeader>) {
        let expected = expected.map(|client| client.map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(parsed(bytes).map(|whole| whole.expect("the header is whole").0), expected, "{bytes:?}");
        for cut in 1..bytes.len() {
            // No part of a good header is taken for a whole one.
            assert!(expected.is_err() || parsed(&bytes[..cut]) == Ok(None), "{bytes:?} cut at {cut}");
        }
        let mut more = bytes.to_vec();
        more.extend(b"GET / HTTP/1.1\r\n");
        assert!(expected.is_err() || parsed(&more).unwrap().unwrap().1 == bytes.len(), "{bytes:?} and more");
    }

    #[test]
    fn both_versions_name_the_client() {
        check(b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n", Ok(Some("192.0.2.7")));
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n", Ok(Some("2001:db8::7")));
        check(&second(0x21, 0x11, &IPV4), Ok(Some("192.0.2.7")));
        let mut with_more = IPV4.to_vec();
        with_more.extend([5, 0, 3, 1, 2, 3]);
        check(&second(0x21, 0x11, &with_more), Ok(Some("192.0.2.7")));
    }

    #[test]
    fn an_ipv4_client_written_as_ipv6_is_one_client() {
        check(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 12345 443\r\n", Ok(Some("192.0.2.7")));
    }

    #[test]
    fn a_balancer_that_speaks_for_itself_names_nobody() {
        check(b"PROXY UNKNOWN\r\n", Ok(None));
        check(&second(0x20, 0x00, &[]), Ok(None));
        // The address of a LOCAL connection does not count.
        check(&second(0x20, 0x11, &IPV4), Ok(None));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        check(b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 99999\r\n", Err(NoHeader::Broken));
        check(b"PROXY TCP4 192.0.2.300 198.51.100.1 12345 443\r\n", Err(NoHeader::Broken));
        check(b"PROXY UDP4 192.0.2.7 198.51.100.1 12345 443\r\n", Err(NoHeader::Broken));
        check(&second(0x21, 0x12, &IPV4), Err(NoHeader::Broken));
        check(&second(0x31, 0x11, &IPV4), Err(NoHeader::Broken));
        check(&[b'P'; 200], Err(NoHeader::Broken));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_parser_or_are_longer_than_they_are(
            beginning in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 ", b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [beginning, &rest].concat();
            if let Ok(Some((_, length))) = parsed(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
