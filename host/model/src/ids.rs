//! Names of things. Each is checked where it comes in and never again.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Why a text is not the id that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty, or longer than allowed.
    #[error("{what} has {size} {unit}, give 1 to {max}")]
    Length {
        /// Which kind of id.
        what: &'static str,
        /// How long it is.
        size: usize,
        /// How long it may be.
        max: usize,
        /// In bytes of UTF-8, or in characters.
        unit: &'static str,
    },
    /// Has a control character.
    #[error("{what} {value:?} has a control character at byte {at}, leave it out")]
    Control {
        /// Which kind of id.
        what: &'static str,
        /// The id as given.
        value: String,
        /// Where.
        at: usize,
    },
    /// Not of its form.
    #[error("{what} {value:?} is not of the form {form}")]
    Form {
        /// Which kind of id.
        what: &'static str,
        /// The id as given.
        value: String,
        /// The form that is asked for.
        form: &'static str,
    },
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $unit:literal, $size:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks length and characters.
            ///
            /// # Errors
            /// Empty, too long, or with a control character.
            pub fn new(text: &str) -> Result<Self, IdError> {
                Self::check(text)?;
                Ok(Self(text.into()))
            }

            /// Whether [`new`](Self::new) takes it.
            pub(crate) fn check(text: &str) -> Result<(), IdError> {
                let size = $size(text);
                if !(1..=$max).contains(&size) {
                    return Err(IdError::Length { what: $what, size, max: $max, unit: $unit });
                }
                if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
                    return Err(IdError::Control { what: $what, value: text.to_owned(), at });
                }
                Ok(())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // Without a `String` between: each record that is read has several of them.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::new(text).map_err(E::custom)
                    }
                }

                from.deserialize_str(Text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

fn characters(text: &str) -> usize {
    text.chars().count()
}

text_id! {
    /// A user, as authenticated (`sub` of the token).
    UserId, "user", 256, "bytes", str::len
}
text_id! {
    /// A group, as the server named it.
    GroupId, "group", 64, "characters", characters
}
text_id! {
    /// A device, as its client named it; unique within its user.
    DeviceId, "device", 64, "characters", characters
}
text_id! {
    /// What a client calls its own send; unique within (sender, conversation).
    ClientId, "client_id", 64, "characters", characters
}
text_id! {
    /// A node of the platform.
    NodeId, "node", 64, "characters", characters
}

/// One live socket; dies with it. Unique within a node, over all its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// A conversation, from one side: on the wire `user:NAME` (the other one) or `group:ID`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Conversation {
    /// With one user (perhaps oneself).
    Direct(UserId),
    /// With the members of a group.
    Group(GroupId),
}

impl Conversation {
    /// Reads `user:NAME` or `group:ID`.
    ///
    /// # Errors
    /// Another prefix, or what follows it is not an id.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match text.split_once(':') {
            Some(("user", name)) => UserId::new(name).map(Self::Direct),
            Some(("group", id)) => GroupId::new(id).map(Self::Group),
            _ => Err(IdError::Form {
                what: "conversation",
                value: text.chars().take(80).collect(),
                form: "user:NAME or group:ID",
            }),
        }
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(user) => write!(f, "user:{user}"),
            Self::Group(group) => write!(f, "group:{group}"),
        }
    }
}

/// SHA-256 over (sender, conversation as the client addressed it, client_id), its first 16 bytes: 26 characters of base32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// The id of what `sender` calls `client_id` in the conversation that it addressed.
    #[must_use]
    pub fn of(sender: &UserId, addressed: &Conversation, client_id: &ClientId) -> Self {
        let mut hash = Sha256::new();
        for part in [sender.as_str(), &addressed.to_string(), client_id.as_str()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }

    /// Reads the 26 characters.
    ///
    /// # Errors
    /// Not 26 characters of lower-case base32.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let bytes = BASE32.decode(text.as_bytes()).ok();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| IdError::Form {
            what: "message_id",
            value: text.chars().take(80).collect(),
            form: "26 characters of base32",
        })
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32.encode(&self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// RFC 4648's alphabet in lower case, without padding.
static BASE32: std::sync::LazyLock<data_encoding::Encoding> = std::sync::LazyLock::new(|| {
    let mut spec = data_encoding::Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("the alphabet has 32 symbols")
});

/// SHA-256 of a body as the client sent it, its first 16 bytes: tells a resend from another message under the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyHash(pub [u8; 16]);

impl BodyHash {
    /// Over text and data, each length-prefixed, absent told from empty.
    #[must_use]
    pub fn of(text: Option<&str>, data: Option<&[u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in [text.map(str::as_bytes), data] {
            match part {
                None => hash.update([0]),
                Some(bytes) => {
                    hash.update([1]);
                    hash.update((bytes.len() as u64).to_be_bytes());
                    hash.update(bytes);
                }
            }
        }
        let mut out = [0; 16];
        out.copy_from_slice(&hash.finalize()[..16]);
        Self(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_26_characters_and_reads_back() {
        let id = MessageId::of(
            &UserId::new("alice").unwrap(),
            &Conversation::parse("user:bob").unwrap(),
            &ClientId::new("1").unwrap(),
        );
        assert_eq!(id.to_string().len(), 26);
        assert_eq!(MessageId::parse(&id.to_string()), Ok(id));
    }

    #[test]
    fn parts_of_a_message_id_cannot_run_into_each_other() {
        let id = |sender: &str, client_id: &str| {
            MessageId::of(
                &UserId::new(sender).unwrap(),
                &Conversation::parse("user:b").unwrap(),
                &ClientId::new(client_id).unwrap(),
            )
        };
        assert_ne!(id("ab", "c"), id("a", "bc"));
    }

    #[test]
    fn an_absent_body_is_not_an_empty_one() {
        assert_ne!(BodyHash::of(None, None), BodyHash::of(Some(""), None));
        assert_ne!(BodyHash::of(Some("a"), None), BodyHash::of(None, Some(b"a")));
    }

    #[test]
    fn ids_are_measured_in_characters_and_users_in_bytes() {
        assert!(ClientId::new(&"é".repeat(64)).is_ok());
        let error = ClientId::new(&"é".repeat(65)).unwrap_err();
        assert_eq!(error.to_string(), "client_id has 65 characters, give 1 to 64");
        assert!(UserId::new(&"é".repeat(128)).is_ok());
        assert_eq!(UserId::new(&"é".repeat(129)).unwrap_err().to_string(), "user has 258 bytes, give 1 to 256");
        assert!(DeviceId::new("").is_err());
    }

    #[test]
    fn a_user_with_a_control_character_is_refused_with_its_place() {
        let error = UserId::new("a\u{0}b").unwrap_err();
        assert_eq!(error.to_string(), "user \"a\\0b\" has a control character at byte 1, leave it out");
    }
}
