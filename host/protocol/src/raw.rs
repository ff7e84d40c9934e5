//! A JSON value that passes through untouched.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One JSON value as the bytes that were sent: never re-formatted, never interpreted.
///
/// Guarantees that it is one well-formed value. Whether it holds characters that Heddle refuses is what
/// [`RawJson::forbidden`] tells; [`crate::parse`] has asked already.
#[derive(Clone)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// Takes text that must be exactly one JSON value.
    ///
    /// # Errors
    /// What the JSON reader found where.
    pub fn new(json: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(json).map(Self)
    }

    /// The value of anything that serialises.
    ///
    /// # Errors
    /// If the value does not serialise to JSON (a map with keys that are not strings).
    pub fn of<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// The text, as it was sent.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Why this value cannot be stored as text everywhere, if so: an escaped NUL or half a surrogate pair.
    #[must_use]
    pub fn forbidden(&self) -> Option<String> {
        forbidden_escape(self.get())
    }

    pub(crate) fn from_raw(raw: &RawValue) -> Self {
        Self(raw.to_owned())
    }
}

impl std::fmt::Debug for RawJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.get())
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for RawJson {}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

/// For a field that may be absent but whose `null` is a value: `#[serde(default, deserialize_with = "some")]`.
pub(crate) fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

/// Finds the first escape in well-formed JSON that no Unicode text can hold (half a surrogate pair), or that
/// databases refuse (NUL). Quotes it.
pub(crate) fn forbidden_escape(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(step) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        at += step;
        if bytes.get(at + 1) != Some(&b'u') {
            at += 2;
            continue;
        }
        let quoted = json.get(at..at + 6).unwrap_or(&json[at..]);
        match hex4(bytes, at + 2)? {
            0 => return Some(format!("it contains NUL ({quoted})")),
            0xD800..=0xDBFF => {
                let low = (bytes.get(at + 6..at + 8) == Some(b"\\u")).then(|| hex4(bytes, at + 8)).flatten();
                if !matches!(low, Some(0xDC00..=0xDFFF)) {
                    return Some(format!("it contains a lone surrogate ({quoted}), which is half a character"));
                }
                at += 12;
            }
            0xDC00..=0xDFFF => {
                return Some(format!("it contains a lone surrogate ({quoted}), which is half a character"));
            }
            _ => at += 6,
        }
    }
    None
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = std::str::from_utf8(bytes.get(at..at + 4)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::forbidden_escape;

    #[test]
    fn only_nul_and_half_pairs_are_forbidden() {
        let check = |json: &str, part: Option<&str>| match (forbidden_escape(json), part) {
            (None, None) => {}
            (Some(found), Some(part)) => assert!(found.contains(part), "{json}: {found}"),
            (found, expected) => panic!("{json}: found {found:?}, expected {expected:?}"),
        };
        check(r#""plain""#, None);
        check(r#""\u0041\n\\u0000""#, None);
        check(r#""\ud83d\ude00""#, None);
        check(r#""\\\u0000""#, Some("NUL"));
        check(r#"{"a":["\ud800"]}"#, Some("lone surrogate (\\ud800)"));
        check(r#""\ud800\ud800""#, Some("lone surrogate"));
        check(r#""\uDC00x""#, Some("lone surrogate (\\uDC00)"));
        check(r#""\ud800\n""#, Some("lone surrogate"));
    }
}
