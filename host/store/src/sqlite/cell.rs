//! Values on their way into and out of SQLite: integers, partitions, and rows as JSON for `json_each`.

use std::fmt::Write as _;

use heddle_model::{Conversation, GroupId, IdError, Millis, Position, Topic, TopicPartition, UserId};

use super::fault::Fault;

/// A `u64` as SQLite holds it.
pub(super) fn int(table: &'static str, value: u64) -> Result<i64, Fault> {
    i64::try_from(value).map_err(|_| Fault::broken(table, format!("{value} does not fit 63 bits")))
}

/// What [`int`] wrote.
pub(super) fn uint(table: &'static str, value: i64) -> Result<u64, Fault> {
    u64::try_from(value).map_err(|_| Fault::broken(table, format!("{value} is negative")))
}

/// A position as SQLite holds it.
pub(super) fn place(table: &'static str, position: Position) -> Result<i64, Fault> {
    int(table, position.0)
}

/// What [`place`] wrote.
pub(super) fn position(table: &'static str, value: i64) -> Result<Position, Fault> {
    uint(table, value).map(Position)
}

/// A time as SQLite holds it; one beyond 63 bits stays at the end of time.
pub(super) fn time(at: Millis) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// Topic and number in one: topic + 4 x number.
pub(super) fn partition_code(partition: TopicPartition) -> i64 {
    let topic = match partition.topic {
        Topic::Messages => 0,
        Topic::GroupMessages => 1,
        Topic::Control => 2,
    };
    topic + 4 * i64::from(partition.partition)
}

/// What [`partition_code`] wrote.
pub(super) fn partition(table: &'static str, code: i64) -> Result<TopicPartition, Fault> {
    let topic = match code.rem_euclid(4) {
        0 => Topic::Messages,
        1 => Topic::GroupMessages,
        2 => Topic::Control,
        _ => return Err(Fault::broken(table, format!("partition code {code} has no topic"))),
    };
    let partition = u32::try_from(code.div_euclid(4))
        .map_err(|_| Fault::broken(table, format!("partition code {code} is out of range")))?;
    Ok(TopicPartition { topic, partition })
}

/// An id that was checked when it came in, read back.
pub(super) fn id<T>(table: &'static str, parsed: Result<T, IdError>) -> Result<T, Fault> {
    parsed.map_err(|error| Fault::broken(table, error.to_string()))
}

/// A user read back.
pub(super) fn user(table: &'static str, text: &str) -> Result<UserId, Fault> {
    id(table, UserId::new(text))
}

/// A group read back.
pub(super) fn group(table: &'static str, text: &str) -> Result<GroupId, Fault> {
    id(table, GroupId::new(text))
}

/// A conversation read back.
pub(super) fn conversation(table: &'static str, text: &str) -> Result<Conversation, Fault> {
    id(table, Conversation::parse(text))
}

/// Bytes of a fixed length read back.
pub(super) fn fixed<const N: usize>(table: &'static str, bytes: &[u8]) -> Result<[u8; N], Fault> {
    bytes.try_into().map_err(|_| Fault::broken(table, format!("{} bytes where {N} belong", bytes.len())))
}

/// One value of a row.
pub(super) enum Cell<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    /// As hexadecimal: the statement reads it with `unhex`.
    Hex(&'a [u8]),
}

/// Rows as a JSON array of arrays, for one statement over `json_each`.
#[derive(Debug, Default)]
pub(super) struct Rows {
    json: String,
    count: usize,
}

impl Rows {
    /// Adds one.
    pub(super) fn push(&mut self, cells: &[Cell<'_>]) {
        self.json.push(if self.count == 0 { '[' } else { ',' });
        self.count += 1;
        for (column, cell) in cells.iter().enumerate() {
            self.json.push(if column == 0 { '[' } else { ',' });
            match cell {
                Cell::Null => self.json.push_str("null"),
                Cell::Int(value) => drop(write!(self.json, "{value}")),
                Cell::Text(text) => push_text(&mut self.json, text),
                Cell::Hex(bytes) => push_hex(&mut self.json, bytes),
            }
        }
        self.json.push(']');
    }

    /// The array; none without rows.
    pub(super) fn finish(mut self) -> Option<String> {
        (self.count > 0).then(|| {
            self.json.push(']');
            self.json
        })
    }
}

/// A JSON array of texts.
pub(super) fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut json = String::from("[");
    for (at, text) in texts.enumerate() {
        if at > 0 {
            json.push(',');
        }
        push_text(&mut json, text);
    }
    json.push(']');
    json
}

/// Ids have no control characters, so only these two need an escape.
fn push_text(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            json.push('\\');
        }
        json.push(c);
    }
    json.push('"');
}

fn push_hex(json: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    json.push('"');
    for byte in bytes {
        json.push(char::from(DIGITS[usize::from(byte >> 4)]));
        json.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_reads_back_from_its_code() {
        for topic in Topic::ALL {
            for number in [0, 1, 99, u32::MAX] {
                let whole = TopicPartition { topic, partition: number };
                assert_eq!(partition("records", partition_code(whole)).unwrap(), whole);
            }
        }
        assert!(partition("records", 3).is_err());
        assert!(partition("records", -1).is_err());
    }

    #[test]
    fn rows_are_json_whatever_the_ids_contain() {
        let mut rows = Rows::default();
        rows.push(&[Cell::Text("a\"b\\c\u{2028}é"), Cell::Int(-1), Cell::Null, Cell::Hex(&[0, 255])]);
        rows.push(&[Cell::Text("")]);
        let json: serde_json::Value = serde_json::from_str(&rows.finish().unwrap()).unwrap();
        assert_eq!(json, serde_json::json!([["a\"b\\c\u{2028}é", -1, null, "00ff"], [""]]));
        assert_eq!(Rows::default().finish(), None);
    }
}
