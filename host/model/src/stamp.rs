//! Who decided a message: carried by its record for ever.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// May this client do this now?
    RateLimit,
    /// What becomes of this message?
    Routing,
    /// Who of a group gets it, and how?
    Fanout,
    /// What is a user's status, and who may know?
    Presence,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::RateLimit, Self::Routing, Self::Fanout, Self::Presence];

    /// Its name in manifests, on the command line and in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RateLimit => "rate-limit",
            Self::Routing => "routing",
            Self::Fanout => "fanout",
            Self::Presence => "presence",
        }
    }

    /// The hook of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// SHA-256 of a plugin file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// From lowercase hex.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What decided in a plugin's place after it failed, as its `on_failure` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// The last good version of the same plugin.
    Previous,
    /// The embedded first-party component.
    Builtin,
    /// Refused.
    Closed,
    /// Allowed.
    Open,
}

/// One plugin's decision, or what stood in for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Where it was asked.
    pub hook: Hook,
    /// The name of the plugin whose place in the chain it is.
    pub plugin: Box<str>,
    /// The version of who answered there: the plugin's, or that of the plugin which stood in.
    pub version: Box<str>,
    /// The file of who answered.
    pub digest: Digest,
    /// How long the call took, microseconds, rounded up.
    pub micros: u32,
    /// What it said, in a word: `allow`, `accept`, `accept-with`, `discard`, `push`, `pull`, `sort`.
    pub verdict: Box<str>,
    /// Set if the plugin failed and something else decided.
    pub fallback: Option<Fallback>,
}

/// Which generation decided, and how: on every record that a client's message made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The number of the policy set; 0 for records that no policy decides.
    pub generation: u64,
    /// In the order in which they were asked.
    pub decisions: Vec<Decision>,
}
