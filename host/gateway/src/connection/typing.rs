//! Which typing indicators this connection has on. (DELIVERY 21)

use std::time::Duration;

use heddle_model::{GroupId, UserId};

/// On until: by its end, until the sender stops, or with the sender's message.
#[derive(Debug, Default)]
pub(super) struct Typing {
    on: Vec<(UserId, Option<GroupId>, Duration)>,
}

impl Typing {
    /// Turns one on; whether it was off, and which other one had to end early.
    pub(super) fn start(
        &mut self,
        from: &UserId,
        group: Option<&GroupId>,
        until: Duration,
        max: usize,
    ) -> (bool, Option<(UserId, Option<GroupId>)>) {
        if let Some(at) = self.find(from, group) {
            self.on[at].2 = until;
            return (false, None);
        }
        let mut early = None;
        if self.on.len() >= max {
            let (from, group, _) = self.on.remove(0);
            early = Some((from, group));
        }
        self.on.push((from.clone(), group.cloned(), until));
        (true, early)
    }

    /// Turns one off; whether it was on.
    pub(super) fn stop(&mut self, from: &UserId, group: Option<&GroupId>) -> bool {
        let Some(at) = self.find(from, group) else { return false };
        self.on.swap_remove(at);
        if self.on.is_empty() {
            self.on = Vec::new();
        }
        true
    }

    /// Takes one whose time has come.
    pub(super) fn ended(&mut self, now: Duration) -> Option<(UserId, Option<GroupId>)> {
        let at = self.on.iter().position(|(_, _, until)| *until <= now)?;
        let (from, group, _) = self.on.swap_remove(at);
        Some((from, group))
    }

    pub(super) fn next_end(&self) -> Option<Duration> {
        self.on.iter().map(|(_, _, until)| *until).min()
    }

    fn find(&self, from: &UserId, group: Option<&GroupId>) -> Option<usize> {
        self.on.iter().position(|(user, at, _)| user == from && at.as_ref() == group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_indicator_ends_once_whatever_ends_it() {
        let (bob, group) = (UserId::new("bob").unwrap(), GroupId::new("g").unwrap());
        let mut typing = Typing::default();
        let at = Duration::from_secs;
        assert_eq!(typing.start(&bob, None, at(5), 2), (true, None));
        assert_eq!(typing.start(&bob, None, at(6), 2), (false, None));
        assert!(!typing.stop(&bob, Some(&group)));
        assert!(typing.stop(&bob, None) && !typing.stop(&bob, None));
        typing.start(&bob, Some(&group), at(7), 2);
        assert_eq!((typing.next_end(), typing.ended(at(6))), (Some(at(7)), None));
        assert_eq!(typing.ended(at(7)), Some((bob, Some(group))));
        assert_eq!(typing.next_end(), None);
    }

    #[test]
    fn more_than_fit_end_the_oldest_early() {
        let user = |name: &str| UserId::new(name).unwrap();
        let mut typing = Typing::default();
        for name in ["a", "b"] {
            typing.start(&user(name), None, Duration::from_secs(5), 2);
        }
        let (new, early) = typing.start(&user("c"), None, Duration::from_secs(5), 2);
        assert_eq!((new, early), (true, Some((user("a"), None))));
    }
}
