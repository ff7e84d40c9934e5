//! A JSON object's known fields, unread, and how each is read with an error that names it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::client_frame::{ChatMessage, Reference};
use crate::limits::{INTEGER_MAX, USERS_MAX};
use crate::names::{NameError, check_id, check_user};
use crate::parse::{ParseError, chat_message, read_object, sized};
use crate::raw::{RawJson, forbidden_escape};

/// Reads the body of `POST /v1/messages`: a `chat_message` without its type.
///
/// # Errors
/// As [`crate::parse`], but never [`ParseError::UnknownType`].
pub fn parse_send(text: &str) -> Result<ChatMessage, ParseError> {
    let fields = read_object(text)?;
    let message = chat_message(&fields)
        .map_err(|(wrong, id)| wrong.into_parse_error(Some("chat_message"), None, id.as_deref()))?;
    sized(message)
}

/// Every field that some command has. Others are ignored.
const NAMES: [&str; 18] = [
    "type",
    "ref",
    "client_id",
    "to",
    "group",
    "text",
    "data",
    "lamport",
    "tags",
    "mentions",
    "resend",
    "offset",
    "message_id",
    "status",
    "users",
    "token",
    "device",
    "resume",
];

fn index_of(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// What is wrong with which field.
#[derive(Debug)]
pub(crate) struct WrongField {
    field: String,
    reason: String,
}

impl WrongField {
    pub(crate) fn new(field: &str, reason: impl Into<String>) -> Self {
        Self { field: field.to_owned(), reason: reason.into() }
    }

    pub(crate) fn missing(field: &str) -> Self {
        Self::new(field, format!("the field `{field}` is missing"))
    }

    pub(crate) fn not(field: &str, expected: &str, raw: &RawValue) -> Self {
        Self::new(field, format!("the field `{field}` must be {expected}, not {}", quoted(raw.get())))
    }

    pub(crate) fn named(field: &str, error: &NameError, value: &str) -> Self {
        Self::new(field, format!("the field `{field}` cannot be {}: {error}", quoted(value)))
    }

    pub(crate) fn into_parse_error(
        self,
        ty: Option<&str>,
        reference: Option<Reference>,
        client_id: Option<&str>,
    ) -> ParseError {
        ParseError::Invalid {
            ty: ty.map(str::to_owned),
            reference,
            client_id: client_id.map(str::to_owned),
            field: self.field,
            reason: self.reason,
        }
    }
}

/// A value in backticks, cut after 48 characters, control characters escaped.
pub(crate) fn quoted(value: &str) -> String {
    const QUOTED_CHARS_MAX: usize = 48;
    let mut text: String = value.chars().take(QUOTED_CHARS_MAX).flat_map(escape_control).collect();
    if value.chars().nth(QUOTED_CHARS_MAX).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}

fn escape_control(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

/// The known fields of one object, each still as its JSON.
pub(crate) struct Fields<'a> {
    raw: [Option<&'a RawValue>; NAMES.len()],
    twice: [bool; NAMES.len()],
}

impl<'a> Fields<'a> {
    /// The field's JSON if it is there, `null` included.
    fn present(&self, name: &str) -> Result<Option<&'a RawValue>, WrongField> {
        let Some(index) = index_of(name) else { return Ok(None) };
        if self.twice[index] {
            return Err(WrongField::new(name, format!("the field `{name}` stands there twice")));
        }
        Ok(self.raw[index])
    }

    /// The field's JSON if it is there and not `null`.
    pub(crate) fn optional(&self, name: &str) -> Result<Option<&'a RawValue>, WrongField> {
        Ok(self.present(name)?.filter(|raw| raw.get() != "null"))
    }

    pub(crate) fn optional_string(&self, name: &str) -> Result<Option<Cow<'a, str>>, WrongField> {
        self.optional(name)?.map(|raw| string(name, raw)).transpose()
    }

    pub(crate) fn string(&self, name: &str) -> Result<Cow<'a, str>, WrongField> {
        match self.present(name)? {
            None => Err(WrongField::missing(name)),
            Some(raw) => string(name, raw),
        }
    }

    pub(crate) fn id(&self, name: &str) -> Result<String, WrongField> {
        let id = self.string(name)?;
        check_id(&id).map_err(|error| WrongField::named(name, &error, &id))?;
        Ok(id.into_owned())
    }

    pub(crate) fn optional_integer(&self, name: &str) -> Result<Option<u64>, WrongField> {
        let Some(raw) = self.optional(name)? else { return Ok(None) };
        match raw.get().parse::<u64>() {
            Ok(number) if number <= INTEGER_MAX => Ok(Some(number)),
            _ => Err(WrongField::not(name, "an integer from 0 to 9007199254740991 (2^53 - 1)", raw)),
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Result<u64, WrongField> {
        match (self.optional_integer(name)?, self.present(name)?) {
            (Some(number), _) => Ok(number),
            (None, None) => Err(WrongField::missing(name)),
            (None, Some(raw)) => Err(WrongField::not(name, "an integer", raw)),
        }
    }

    pub(crate) fn optional_bool(&self, name: &str) -> Result<Option<bool>, WrongField> {
        match self.optional(name)? {
            None => Ok(None),
            Some(raw) => match raw.get() {
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err(WrongField::not(name, "true or false", raw)),
            },
        }
    }

    /// Any value, `null` too, as it stands.
    pub(crate) fn value(&self, name: &str) -> Result<Option<RawJson>, WrongField> {
        let Some(raw) = self.present(name)? else { return Ok(None) };
        match forbidden_escape(raw.get()) {
            Some(why) => Err(WrongField::new(name, format!("the field `{name}` cannot be taken: {why}"))),
            None => Ok(Some(RawJson::from_raw(raw))),
        }
    }

    pub(crate) fn users(&self, name: &str) -> Result<Option<Vec<String>>, WrongField> {
        let Some(raw) = self.optional(name)? else { return Ok(None) };
        let values: Vec<&RawValue> =
            serde_json::from_str(raw.get()).map_err(|_| WrongField::not(name, "a list of users", raw))?;
        if values.len() > USERS_MAX {
            let count = values.len();
            return Err(WrongField::new(name, format!("the field `{name}` has {count} users, and {USERS_MAX} fit")));
        }
        let user = |(index, raw): (usize, &RawValue)| {
            let name = format!("{name}[{index}]");
            let user = string(&name, raw)?;
            check_user(&user).map_err(|error| WrongField::named(&name, &error, &user))?;
            Ok(user.into_owned())
        };
        values.into_iter().enumerate().map(user).collect::<Result<Vec<String>, WrongField>>().map(Some)
    }
}

fn string<'a>(name: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, WrongField> {
    let json = raw.get();
    if !json.starts_with('"') {
        return Err(WrongField::not(name, "a string", raw));
    }
    if let Some(why) = forbidden_escape(json) {
        return Err(WrongField::new(name, format!("the field `{name}` cannot be taken: {why}")));
    }
    let plain = &json[1..json.len() - 1];
    if !plain.contains('\\') {
        return Ok(Cow::Borrowed(plain));
    }
    serde_json::from_str::<String>(json).map(Cow::Owned).map_err(|_| WrongField::not(name, "a string", raw))
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields { raw: [None; NAMES.len()], twice: [false; NAMES.len()] };
                while let Some(Known(known)) = map.next_key()? {
                    let Some(index) = known else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    fields.twice[index] = fields.raw[index].is_some();
                    fields.raw[index] = Some(map.next_value()?);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A key, as its place in [`NAMES`].
struct Known(Option<usize>);

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = Known;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Known, E> {
                Ok(Known(index_of(name)))
            }
        }
        deserializer.deserialize_identifier(Key)
    }
}
