//! From text to a [`Command`], or to an error that the client's author can act on.

use std::borrow::Cow;

use crate::client_frame::{Ack, ChatMessage, ClientFrame, Command, Hello, PresenceSet, PresenceStatus, ReadReceipt};
use crate::client_frame::{Reference, Target, Users};
use crate::codes::{ErrorCode, RejectCode};
use crate::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, ID_CHARS_MAX, NESTING_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX};
use crate::limits::{INTEGER_MAX, USERS_MAX};
use crate::names::{check_id, check_user};
use crate::requests::{Fields, WrongField, quoted};
use crate::server_frame::{ErrorFrame, Rejected, ServerFrame};

/// Why text is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a frame at all: close the connection with 4501.
    #[error("malformed frame: {0}")]
    Malformed(String),
    /// A `type` that is none of ours: answer with `error`.
    #[error("there is no command of type `{ty}`")]
    UnknownType {
        /// The type, cut to a length that can be repeated.
        ty: String,
        /// The command's reference.
        reference: Option<Reference>,
    },
    /// A field is missing or wrong: answer a send whose `client_id` is known with `rejected`, all else with `error`.
    #[error("{reason}")]
    Invalid {
        /// The command's type, if it has one.
        ty: Option<String>,
        /// The command's reference.
        reference: Option<Reference>,
        /// The send's id, if this is a send and the id itself is right.
        client_id: Option<String>,
        /// The field that is wrong.
        field: String,
        /// What is wrong with it, with its value.
        reason: String,
    },
    /// Text and data exceed [`BODY_BYTES_MAX`]: answer with `rejected too_large`.
    #[error("text and data have {bytes} bytes, and a message has at most {BODY_BYTES_MAX}: send it in parts")]
    TooLarge {
        /// The send's id.
        client_id: String,
        /// How many bytes text and data have.
        bytes: usize,
    },
}

impl ParseError {
    /// The frame that answers it; `None` where the answer is to close with [`crate::CloseCode::Malformed`].
    #[must_use]
    pub fn to_frame(&self) -> Option<ServerFrame> {
        let error = |command: Option<&String>, reference: &Option<Reference>, code, hint: Option<String>| {
            Some(ServerFrame::Error(ErrorFrame {
                command: command.cloned(),
                reference: reference.clone(),
                code,
                reason: self.to_string(),
                retryable: false,
                retry_after_ms: None,
                hint,
            }))
        };
        match self {
            Self::Malformed(_) => None,
            Self::UnknownType { ty, reference } => {
                let hint = format!("the commands are {}", COMMANDS.join(", "));
                error(Some(ty), reference, ErrorCode::UnknownType, Some(hint))
            }
            Self::Invalid { client_id: Some(client_id), reason, .. } => {
                Some(ServerFrame::Rejected(Rejected::new(client_id, RejectCode::Invalid, reason)))
            }
            Self::Invalid { ty, reference, .. } => error(ty.as_ref(), reference, ErrorCode::Invalid, None),
            Self::TooLarge { client_id, .. } => {
                Some(ServerFrame::Rejected(Rejected::new(client_id, RejectCode::TooLarge, self.to_string())))
            }
        }
    }
}

const COMMANDS: [&str; 11] = [
    "hello",
    "chat_message",
    "ack",
    "read_receipt",
    "typing_start",
    "typing_stop",
    "presence_set",
    "presence_get",
    "presence_subscribe",
    "presence_unsubscribe",
    "ping",
];

/// Reads one text frame. Unknown fields are ignored; `null` in an optional field means that it is absent, except in
/// `data`, where it is a value.
///
/// # Errors
/// See [`ParseError`]; its variants say what to do about each.
pub fn parse(text: &str) -> Result<Command, ParseError> {
    let fields = read_object(text)?;
    let reference = reference(&fields).map_err(|wrong| wrong.into_parse_error(None, None, None))?;
    let invalid = |wrong: WrongField, ty: Option<&str>, client_id: Option<&str>| {
        wrong.into_parse_error(ty, reference.clone(), client_id)
    };
    let ty = fields.string("type").map_err(|wrong| invalid(wrong, None, None))?;
    let plain = |wrong| invalid(wrong, Some(&ty), None);
    let frame = match ty.as_ref() {
        "hello" => ClientFrame::Hello(hello(&fields).map_err(plain)?),
        "chat_message" => {
            let message = chat_message(&fields).map_err(|(wrong, id)| invalid(wrong, Some(&ty), id.as_deref()))?;
            ClientFrame::ChatMessage(sized(message)?)
        }
        "ack" => ClientFrame::Ack(Ack { offset: fields.integer("offset").map_err(plain)? }),
        "read_receipt" => ClientFrame::ReadReceipt(ReadReceipt { message_id: fields.id("message_id").map_err(plain)? }),
        "typing_start" => ClientFrame::TypingStart(target(&fields).map_err(plain)?),
        "typing_stop" => ClientFrame::TypingStop(target(&fields).map_err(plain)?),
        "presence_set" => ClientFrame::PresenceSet(PresenceSet { status: status(&fields).map_err(plain)? }),
        "presence_get" => ClientFrame::PresenceGet(users(&fields).map_err(plain)?),
        "presence_subscribe" => ClientFrame::PresenceSubscribe(users(&fields).map_err(plain)?),
        "presence_unsubscribe" => ClientFrame::PresenceUnsubscribe(users(&fields).map_err(plain)?),
        "ping" => ClientFrame::Ping,
        _ => return Err(ParseError::UnknownType { ty: ty.chars().take(ID_CHARS_MAX).collect(), reference }),
    };
    Ok(Command { reference, frame })
}

/// Reads the frame's object, bounded in size and depth.
pub(crate) fn read_object(text: &str) -> Result<Fields<'_>, ParseError> {
    if text.len() > FRAME_BYTES_MAX {
        let bytes = text.len();
        return Err(ParseError::Malformed(format!("{bytes} bytes, and a frame has at most {FRAME_BYTES_MAX}")));
    }
    if nests_deeper_than(text.as_bytes(), NESTING_MAX) {
        return Err(ParseError::Malformed(format!("nested deeper than {NESTING_MAX} levels")));
    }
    serde_json::from_str(text).map_err(|error| {
        let what = if error.is_data() { "not one JSON object" } else { "not JSON" };
        ParseError::Malformed(format!("{what}: {error}"))
    })
}

/// Whether arrays and objects nest deeper than `max`. Text that is not JSON gets some answer; the reader refuses it.
fn nests_deeper_than(json: &[u8], max: usize) -> bool {
    // Most frames hold fewer brackets than may nest, and counting them is much quicker than following strings.
    if json.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn reference(fields: &Fields<'_>) -> Result<Option<Reference>, WrongField> {
    let Some(raw) = fields.optional("ref")? else { return Ok(None) };
    if raw.get().starts_with('"') {
        return fields.id("ref").map(|id| Some(Reference::Text(id)));
    }
    match fields.integer("ref") {
        Ok(number) => Ok(Some(Reference::Number(number))),
        Err(_) => Err(WrongField::not("ref", "a string of at most 64 characters or an integer", raw)),
    }
}

fn hello(fields: &Fields<'_>) -> Result<Hello, WrongField> {
    Ok(Hello {
        token: fields.optional_string("token")?.map(Cow::into_owned),
        device: fields.id("device")?,
        resume: fields.optional_integer("resume")?,
    })
}

/// Reads a send. An error after the `client_id` was read carries it, so that the send can be rejected by its name.
pub(crate) fn chat_message(fields: &Fields<'_>) -> Result<ChatMessage, (WrongField, Option<String>)> {
    let client_id = fields.id("client_id").map_err(|wrong| (wrong, None))?;
    let read = || -> Result<ChatMessage, WrongField> {
        let message = ChatMessage {
            client_id: client_id.clone(),
            target: target(fields)?,
            text: fields.optional_string("text")?.map(Cow::into_owned),
            data: fields.value("data")?,
            lamport: fields.optional_integer("lamport")?,
            tags: tags(fields)?,
            mentions: fields.users("mentions")?.unwrap_or_default(),
            resend: fields.optional_bool("resend")?.unwrap_or(false),
        };
        if message.text.is_none() && message.data.is_none() {
            return Err(WrongField::new("text", "a message needs `text`, `data` or both, and this one has neither"));
        }
        Ok(message)
    };
    read().map_err(|wrong| (wrong, Some(client_id.clone())))
}

pub(crate) fn sized(message: ChatMessage) -> Result<ChatMessage, ParseError> {
    let bytes = message.body_bytes();
    if bytes > BODY_BYTES_MAX {
        return Err(ParseError::TooLarge { client_id: message.client_id, bytes });
    }
    Ok(message)
}

fn target(fields: &Fields<'_>) -> Result<Target, WrongField> {
    match (fields.optional_string("to")?, fields.optional_string("group")?) {
        (Some(_), Some(_)) => Err(WrongField::new("to", "give one of `to` and `group`, not both")),
        (None, None) => Err(WrongField::new("to", "the field `to` (a user) or `group` (a group) is missing")),
        (Some(user), None) => {
            check_user(&user).map_err(|error| WrongField::named("to", &error, &user))?;
            Ok(Target::User(user.into_owned()))
        }
        (None, Some(group)) => {
            check_id(&group).map_err(|error| WrongField::named("group", &error, &group))?;
            Ok(Target::Group(group.into_owned()))
        }
    }
}

fn tags(fields: &Fields<'_>) -> Result<std::collections::BTreeMap<String, String>, WrongField> {
    let Some(raw) = fields.optional("tags")? else { return Ok(std::collections::BTreeMap::new()) };
    let tags: std::collections::BTreeMap<String, String> = serde_json::from_str(raw.get())
        .map_err(|_| WrongField::not("tags", "an object whose values are strings", raw))?;
    if tags.len() > TAGS_MAX {
        let count = tags.len();
        return Err(WrongField::new("tags", format!("the field `tags` has {count} tags, and at most {TAGS_MAX} fit")));
    }
    for (name, value) in &tags {
        check_id(name).map_err(|error| WrongField::named("tags", &error, name))?;
        if value.len() > TAG_VALUE_BYTES_MAX {
            let reason = format!("the tag `{name}` has {} bytes, and at most {TAG_VALUE_BYTES_MAX} fit", value.len());
            return Err(WrongField::new("tags", reason));
        }
        if value.contains('\0') {
            return Err(WrongField::new("tags", format!("the tag `{name}` contains NUL")));
        }
    }
    Ok(tags)
}

fn status(fields: &Fields<'_>) -> Result<PresenceStatus, WrongField> {
    match fields.string("status")?.as_ref() {
        "online" => Ok(PresenceStatus::Online),
        "away" => Ok(PresenceStatus::Away),
        "offline" => Ok(PresenceStatus::Offline),
        other => {
            let reason = format!("the field `status` must be online, away or offline, not {}", quoted(other));
            Err(WrongField::new("status", reason))
        }
    }
}

fn users(fields: &Fields<'_>) -> Result<Users, WrongField> {
    let users = fields.users("users")?.ok_or_else(|| WrongField::missing("users"))?;
    Ok(Users { users })
}

// The bounds that messages quote are those that are checked.
const _: () = assert!(INTEGER_MAX == 9_007_199_254_740_991 && USERS_MAX == 500 && ID_CHARS_MAX == 64);
