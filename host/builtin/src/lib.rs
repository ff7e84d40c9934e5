//! The four first-party policies as plugin files, embedded: what decides where nothing else is configured, or where that has failed.
//!
//! They are components like any other; the host has no native policy. This crate deliberately loads nothing and knows no engine: it holds bytes.
//!
//! Read first: [`plugins`] and [`Builtin`].

/// A plugin file in the binary.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// SHA-256 of the file, as lowercase hex.
    pub digest: &'static str,
    /// The file, as `heddle plugin build` writes it.
    pub bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// One for each hook, by the hook's name, in the order of a message's path.
pub const fn plugins() -> [(&'static str, Builtin); 4] {
    [("rate-limit", RATE_LIMIT), ("routing", ROUTING), ("fanout", FANOUT), ("presence", PRESENCE)]
}
