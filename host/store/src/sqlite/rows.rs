//! Rows as JSON for `json_each`: one statement, whatever their number.

use std::fmt::Write as _;

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
    fn rows_are_json_whatever_the_ids_contain() {
        let mut rows = Rows::default();
        rows.push(&[Cell::Text("a\"b\\c\u{2028}é"), Cell::Int(-1), Cell::Null, Cell::Hex(&[0, 255])]);
        rows.push(&[Cell::Text("")]);
        let json: serde_json::Value = serde_json::from_str(&rows.finish().unwrap()).unwrap();
        assert_eq!(json, serde_json::json!([["a\"b\\c\u{2028}é", -1, null, "00ff"], [""]]));
        assert_eq!(Rows::default().finish(), None);
    }
}
