//! What people wrote is crossed out before a call is kept, shown or logged, unless the operator wants it: one rule for all that leaves the path.

use std::collections::HashSet;

use heddle_pack::contract::{RoutingDecision, Verdict};

use crate::call::{Answer, Call, SeenMessage};

/// What of what people wrote is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redaction {
    /// Everything; else letters and digits of texts, data, tags' values and of what refusals quote become `x`.
    pub bodies: bool,
    /// Tags of these names are kept with their values all the same.
    pub tags_kept: Vec<String>,
}

impl Redaction {
    /// Crosses out what is not to be kept of a call and its answers; whether anything had to be.
    pub(crate) fn apply<'a>(&self, call: &mut Call, answers: impl IntoIterator<Item = &'a mut Answer>) -> bool {
        if self.bodies {
            return false;
        }
        let mut words = HashSet::new();
        let mut message = call.message();
        if let Some(message) = &mut message {
            words = words_of(message);
            for text in [&mut message.text, &mut message.data].into_iter().flatten() {
                *text = crossed_out(text);
            }
            self.tags(&mut message.tags);
        }
        for answer in answers {
            match answer {
                Answer::Decision(RoutingDecision::AcceptWith(changes)) => {
                    changes.text.iter_mut().for_each(|text| *text = crossed_out(text));
                    self.tags(&mut changes.tags);
                }
                Answer::Decision(RoutingDecision::Reject(refusal)) => {
                    refusal.reason = without(&refusal.reason, |word| words.contains(&word.to_lowercase()));
                }
                _ => {}
            }
        }
        message.is_some()
    }

    fn tags(&self, tags: &mut [(String, String)]) {
        for (_, value) in tags.iter_mut().filter(|(name, _)| !self.tags_kept.contains(name)) {
            *value = crossed_out(value);
        }
    }
}

impl Answer {
    /// Do both decide the same, as far as that can be told of answers to calls whose texts are crossed out?
    #[must_use]
    pub(crate) fn decides_as_crossed_out(&self, other: &Self) -> bool {
        self.all_crossed_out().decides_as(&other.all_crossed_out())
    }

    fn all_crossed_out(&self) -> Self {
        let mut all = self.clone();
        match &mut all {
            Self::Decision(RoutingDecision::AcceptWith(changes)) => {
                changes.text.iter_mut().for_each(|text| *text = crossed_out(text));
                changes.tags.iter_mut().for_each(|(_, value)| *value = crossed_out(value));
            }
            Self::Decision(RoutingDecision::Reject(refusal)) => refusal.reason = crossed_out(&refusal.reason),
            Self::Outcome(outcome) => {
                if let Verdict::Deny(refusal) = &mut outcome.verdict {
                    refusal.reason = crossed_out(&refusal.reason);
                }
            }
            _ => {}
        }
        all
    }
}

/// What a refusal could quote, in lower case.
fn words_of(message: &SeenMessage) -> HashSet<String> {
    let texts = message.text.iter().chain(&message.data).chain(message.tags.iter().map(|(_, value)| value));
    let words = texts.flat_map(|text| text.split(|letter: char| !letter.is_alphanumeric()));
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Lengths and what is neither letter nor digit stay.
fn crossed_out(text: &str) -> String {
    text.chars().map(|letter| if letter.is_alphanumeric() { 'x' } else { letter }).collect()
}

/// With some of its words crossed out.
fn without(text: &str, goes: impl Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(|letter: char| !letter.is_alphanumeric()) {
        let word = part.trim_end_matches(|letter: char| !letter.is_alphanumeric());
        if goes(word) { out.push_str(&crossed_out(part)) } else { out.push_str(part) }
    }
    out
}

#[cfg(test)]
mod tests {
    use heddle_pack::contract::{Changes, Conversation, Envelope, Refusal};

    use super::*;

    fn call() -> Call {
        let to = Conversation::Direct("bob".into());
        let message = SeenMessage {
            kind: "message".into(),
            text: Some("the KEY, under 7!".into()),
            data: Some("{\"pin\":1234}".into()),
            tags: vec![("mark".into(), "a".into()), ("note".into(), "mat".into())],
            lamport: 1,
            sender_since: 0,
        };
        Call::Routing { envelope: Envelope { sender: "alice".into(), to, size: 5, members: 2 }, message }
    }

    fn rewritten() -> Answer {
        let tags = vec![("mark".to_owned(), "b".to_owned()), ("quote".to_owned(), "KEY".to_owned())];
        let changes = Changes { text: Some("the key was 1234".into()), tags, ..Changes::default() };
        Answer::Decision(RoutingDecision::AcceptWith(changes))
    }

    fn refused() -> Answer {
        let reason = "we do not say \"key\" or 1234 here".to_owned();
        Answer::Decision(RoutingDecision::Reject(Refusal { reason, retry_after: None }))
    }

    #[test]
    fn texts_data_tags_rewritten_texts_and_what_a_refusal_quotes_are_crossed_out() {
        let rule = Redaction { bodies: false, tags_kept: vec!["mark".to_owned()] };
        let (mut call, mut answers) = (call(), [rewritten(), refused()]);
        assert!(rule.apply(&mut call, &mut answers));
        let all = serde_json::to_string(&(&call, &answers)).unwrap().to_lowercase();
        for written in ["key", "under", "1234", "pin", "mat\"", "was"] {
            assert!(!all.contains(written), "{written:?} in {all}");
        }
        assert!(all.contains(r#"["mark","a"]"#) && all.contains(r#"["mark","b"]"#), "{all}");
        assert!(all.contains(r#"we do not say \"xxx\" or xxxx here"#), "{all}");
    }

    #[test]
    fn what_the_operator_wants_is_kept_as_it_was() {
        let (mut kept, mut answers) = (call(), [rewritten(), refused()]);
        assert!(!Redaction { bodies: true, ..Redaction::default() }.apply(&mut kept, &mut answers));
        assert_eq!((kept, answers), (call(), [rewritten(), refused()]));
    }

    #[test]
    fn a_crossed_out_answer_is_the_same_as_that_to_the_crossed_out_call() {
        let (mut call, mut then) = (call(), rewritten());
        Redaction::default().apply(&mut call, [&mut then]);
        let Answer::Decision(RoutingDecision::AcceptWith(mut changes)) = rewritten() else { panic!() };
        changes.text = Some("xxx xxx xxx xxxx".to_owned());
        let now = Answer::Decision(RoutingDecision::AcceptWith(changes));
        assert!(!then.decides_as(&now) && then.decides_as_crossed_out(&now));
        assert!(!then.decides_as_crossed_out(&Answer::Decision(RoutingDecision::Accept)));
    }
}
