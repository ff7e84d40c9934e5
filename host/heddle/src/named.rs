//! A server as a person names it on the command line.

use std::path::Path;

use heddle_client::{Address, Trust};

use crate::failure::Failure;

/// Schemes, and whether they mean TLS.
const SCHEMES: [(&str, bool); 4] = [("ws://", false), ("http://", false), ("wss://", true), ("https://", true)];
/// Where TLS is spoken if nobody says otherwise.
const TLS_PORT: u16 = 443;

/// `HOST:PORT`, `ws://HOST:PORT`, `https://HOST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `HOST:PORT`.
    pub authority: String,
    /// Is TLS spoken there?
    pub tls: bool,
}

impl Named {
    /// Reads what was typed.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scheme = SCHEMES.iter().find_map(|(scheme, tls)| Some((text.strip_prefix(scheme)?, *tls)));
        let (bare, tls) = scheme.unwrap_or((text, false));
        let bare = bare.strip_suffix(heddle_protocol::WS_PATH).unwrap_or(bare).trim_end_matches('/');
        let wrong = || Err("write it as HOST:PORT, like 127.0.0.1:7600, or wss://HOST:PORT".to_owned());
        if bare.contains(['/', '?', '@']) {
            return wrong();
        }
        // An IPv6 address has colons of its own, and stands in brackets.
        let port = bare.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        match port.map(|(host, port)| (host.is_empty(), port.parse::<u16>())) {
            Some((false, Ok(_))) => Ok(Self { authority: bare.to_owned(), tls }),
            None if tls && !bare.is_empty() => Ok(Self { authority: format!("{bare}:{TLS_PORT}"), tls }),
            _ => wrong(),
        }
    }

    /// Where to connect; `ca` is a file with the authorities to trust instead of those of this machine.
    ///
    /// # Errors
    /// Nobody can be trusted.
    pub fn address(&self, ca: Option<&Path>) -> Result<Address, Failure> {
        if !self.tls {
            return Ok(Address::from(self.authority.clone()));
        }
        let trust = ca.map_or(Trust::System, |path| Trust::File(path.to_owned()));
        Address::tls(self.authority.clone(), &trust).map_err(|error| Failure::usage(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, bool)>) {
        let expected = expected.map(|(authority, tls)| Named { authority: authority.to_owned(), tls });
        assert_eq!(Named::parse(text).ok(), expected, "{text}");
    }

    #[test]
    fn a_server_is_named_by_its_address_or_its_url() {
        for text in ["127.0.0.1:7600", "ws://127.0.0.1:7600/v1/ws", "http://127.0.0.1:7600/"] {
            check(text, Some(("127.0.0.1:7600", false)));
        }
        check("wss://chat.example:7600/v1/ws", Some(("chat.example:7600", true)));
        check("https://chat.example", Some(("chat.example:443", true)));
        check("wss://[::1]:7600", Some(("[::1]:7600", true)));
        check("wss://[::1]", Some(("[::1]:443", true)));
        for text in
            ["localhost", ":7600", "localhost:http", "", "wss://", "http://localhost", "wss://a/b", "wss://u@h:1"]
        {
            check(text, None);
        }
    }
}
