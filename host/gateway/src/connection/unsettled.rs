//! Sends whose outcome nobody knows, by conversation: what comes later waits for them. (DELIVERY 7)

use std::collections::HashMap;

use heddle_model::{ClientId, Conversation};

/// Per conversation the sends with an unknown outcome, in the order of their failure. Empty for nearly everybody.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    held: Option<HashMap<Conversation, Vec<ClientId>>>,
    overfull: bool,
}

impl Unsettled {
    /// The send that must be sent again and settled before this one; none: go on.
    pub(super) fn before(&self, to: &Conversation, client_id: &str) -> Option<&ClientId> {
        let first = self.held.as_ref()?.get(to)?.first()?;
        (first.as_str() != client_id).then_some(first)
    }

    /// One more conversation was to be held than may be: order can no longer be kept, the connection must go.
    pub(super) fn overfull(&self) -> bool {
        self.overfull
    }

    /// Nobody knows what became of it. False: `max` conversations are held already.
    pub(super) fn unknown(&mut self, to: &Conversation, client_id: &ClientId, max: usize) -> bool {
        let held = self.held.get_or_insert_default();
        if held.len() >= max && !held.contains_key(to) {
            self.overfull = true;
            return false;
        }
        let waiting = held.entry(to.clone()).or_default();
        if !waiting.contains(client_id) {
            waiting.push(client_id.clone());
        }
        true
    }

    /// It has an outcome.
    pub(super) fn settled(&mut self, to: &Conversation, client_id: &ClientId) {
        let Some(held) = &mut self.held else { return };
        if let Some(waiting) = held.get_mut(to) {
            waiting.retain(|id| id != client_id);
            if waiting.is_empty() {
                held.remove(to);
            }
        }
        if held.is_empty() {
            self.held = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_later_waits_until_the_first_unknown_one_is_settled() {
        let (bob, carol) = (Conversation::parse("user:bob").unwrap(), Conversation::parse("user:carol").unwrap());
        let id = |text: &str| ClientId::new(text).unwrap();
        let mut unsettled = Unsettled::default();
        assert!(unsettled.unknown(&bob, &id("m1"), 1) && unsettled.unknown(&bob, &id("m2"), 1));
        assert!(!unsettled.unknown(&carol, &id("n1"), 1));
        assert_eq!(unsettled.before(&bob, "m3"), Some(&id("m1")));
        assert_eq!(unsettled.before(&bob, "m2"), Some(&id("m1")));
        assert_eq!((unsettled.before(&bob, "m1"), unsettled.before(&carol, "n2")), (None, None));
        unsettled.settled(&bob, &id("m1"));
        assert_eq!(unsettled.before(&bob, "m3"), Some(&id("m2")));
        unsettled.settled(&bob, &id("m2"));
        assert_eq!(unsettled.before(&bob, "m3"), None);
        assert!(unsettled.unknown(&carol, &id("n1"), 1));
    }
}
