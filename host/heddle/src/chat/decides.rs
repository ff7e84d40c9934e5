//! Which generation decides, as far as the operators' listener says: one line of the screen.

use std::time::UNIX_EPOCH;

use serde_json::Value;

use super::SAVED_AT;

/// Beats between two questions where the listener does not answer.
const PATIENCE: u32 = 20;

/// What is known.
#[derive(Debug, Default)]
pub struct Decides {
    number: Option<u64>,
    /// For the screen.
    line: String,
    asking: bool,
    wait: u32,
}

impl Decides {
    /// For the screen; empty while nothing is known.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Another beat: is it time to ask `/version`? One question at a time.
    pub fn asks(&mut self) -> bool {
        if self.asking || self.wait > 0 {
            self.wait = self.wait.saturating_sub(1);
            return false;
        }
        self.asking = true;
        true
    }

    /// What `/version` said; true: another generation decides than before, so ask for the newest change.
    pub fn said(&mut self, version: &Result<Value, String>) -> bool {
        self.asking = false;
        let Some(number) = version.as_ref().ok().and_then(|version| version["generation"].as_u64()) else {
            self.wait = PATIENCE;
            return false;
        };
        let before = self.number.replace(number);
        if before != Some(number) {
            self.line = format!("generation {number}");
        }
        before.is_some_and(|before| before != number)
    }

    /// The newest change, out of `/policies/history`: how long after the save it decided, or why it was made.
    pub fn explained(&mut self, history: &Value) {
        let change = &history["changes"][0];
        let Some(number) = self.number.filter(|number| change["detail"]["after"]["generation"] == *number) else {
            return;
        };
        let why = change["why"].as_str().unwrap_or_default();
        let text = match why.strip_prefix(SAVED_AT) {
            Some(saved) => seconds(saved, change["at"].as_u64().unwrap_or_default()),
            None if why.is_empty() => change["what"].as_str().map(str::to_owned),
            None => Some(why.to_owned()),
        };
        if let Some(text) = text {
            self.line = format!("generation {number} ({text})");
        }
    }
}

/// From the save to the change.
fn seconds(saved: &str, at: u64) -> Option<String> {
    let saved = humantime::parse_rfc3339(saved.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let took = at.saturating_sub(u64::try_from(saved.as_millis()).ok()?);
    Some(format!("{:.1} s", took as f64 / 1e3))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(number: u64, why: &str) -> Value {
        let detail = json!({"after": {"generation": number}});
        json!({"changes": [{"at": 1_700_000_001_400_u64, "why": why, "what": "rollback", "detail": detail}]})
    }

    #[test]
    fn a_change_is_told_with_its_seconds_or_its_reason() {
        let mut decides = Decides::default();
        assert!(decides.asks() && !decides.asks());
        assert!(!decides.said(&Ok(json!({"generation": 1}))), "the first that is seen is no change");
        assert_eq!(decides.line(), "generation 1");
        assert!(decides.said(&Ok(json!({"generation": 2}))));
        for (why, line) in [
            ("plugin dev, saved at 2023-11-14T22:13:20.000Z", "generation 2 (1.4 s)"),
            ("quiet after ten", "generation 2 (quiet after ten)"),
            ("", "generation 2 (rollback)"),
        ] {
            decides.explained(&change(2, why));
            assert_eq!(decides.line(), line);
        }
        decides.explained(&change(3, "somebody was quicker"));
        assert_eq!(decides.line(), "generation 2 (rollback)");
    }

    #[test]
    fn where_nobody_answers_it_asks_seldom() {
        let mut decides = Decides::default();
        assert!(decides.asks());
        assert!(!decides.said(&Err("refused".to_owned())));
        assert_eq!((0..=PATIENCE).filter(|_| decides.asks()).count(), 1);
    }
}
