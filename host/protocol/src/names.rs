//! Ids and conversation names as they stand on the wire.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{ID_CHARS_MAX, USER_ID_BYTES_MAX};

/// Why a name is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("it is empty")]
    Empty,
    /// More characters than an id may have.
    #[error("it has {chars} characters, and an id has at most {ID_CHARS_MAX}")]
    IdTooLong {
        /// How many it has.
        chars: usize,
    },
    /// More bytes than a user id may have.
    #[error("it has {bytes} bytes, and a user id has at most {USER_ID_BYTES_MAX}")]
    UserTooLong {
        /// How many it has.
        bytes: usize,
    },
    /// A control character, NUL among them.
    #[error("it contains the control character U+{code:04X}")]
    Control {
        /// The character's number.
        code: u32,
    },
    /// Neither `user:NAME` nor `group:ID`.
    #[error("`{0}` is not a conversation: write user:NAME or group:ID")]
    NotAConversation(String),
}

/// Checks an id: 1 to [`ID_CHARS_MAX`] characters, none of them a control character.
///
/// # Errors
/// What is wrong with it.
pub fn check_id(id: &str) -> Result<(), NameError> {
    // Bytes first: a megabyte is not counted character by character.
    if id.len() > ID_CHARS_MAX && (id.len() > ID_CHARS_MAX * 4 || id.chars().count() > ID_CHARS_MAX) {
        return Err(NameError::IdTooLong { chars: id.chars().count() });
    }
    check_characters(id)
}

/// Checks a user id: 1 to [`USER_ID_BYTES_MAX`] bytes of UTF-8 without control characters.
///
/// # Errors
/// What is wrong with it.
pub fn check_user(user: &str) -> Result<(), NameError> {
    if user.len() > USER_ID_BYTES_MAX {
        return Err(NameError::UserTooLong { bytes: user.len() });
    }
    check_characters(user)
}

fn check_characters(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    match name.chars().find(|c| c.is_control()) {
        Some(control) => Err(NameError::Control { code: u32::from(control) }),
        None => Ok(()),
    }
}

/// A conversation's name, seen by one user: `user:NAME` or `group:ID`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Conversation {
    /// The direct conversation with that user.
    User(String),
    /// The group with that id.
    Group(String),
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user:{user}"),
            Self::Group(group) => write!(f, "group:{group}"),
        }
    }
}

impl FromStr for Conversation {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        if let Some(user) = name.strip_prefix("user:") {
            check_user(user)?;
            return Ok(Self::User(user.to_owned()));
        }
        if let Some(group) = name.strip_prefix("group:") {
            check_id(group)?;
            return Ok(Self::Group(group.to_owned()));
        }
        Err(NameError::NotAConversation(name.chars().take(ID_CHARS_MAX).collect()))
    }
}

impl Serialize for Conversation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Conversation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
