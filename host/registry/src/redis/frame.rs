//! What a message looks like on a channel. First byte: the version of all that follows.
//!
//! `version 1 | kind 1 | life 8 | number 8 | node's length 2 | node | payload`, numbers little-endian. `number` counts what one life of a node
//! sends to one channel, from 1, so that a receiver sees what it missed.

use std::collections::HashMap;

use heddle_model::NodeId;

use super::Life;

const VERSION: u8 = 1;
const HEAD: usize = 20;
/// Senders that a receiver keeps count of; far above the nodes that there are.
const SENDERS_MAX: usize = 16_384;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// For the inbox.
    Message,
    /// A node to itself: is the bus whole?
    Echo,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) node: NodeId,
    pub(super) life: Life,
    pub(super) number: u64,
    pub(super) payload: &'a [u8],
}

pub(super) fn encode(kind: Kind, node: &NodeId, life: Life, number: u64, payload: &[u8]) -> Vec<u8> {
    let name = node.as_str().as_bytes();
    let mut out = Vec::with_capacity(HEAD + name.len() + payload.len());
    out.push(VERSION);
    out.push(u8::from(kind == Kind::Echo));
    out.extend(life.0.to_le_bytes());
    out.extend(number.to_le_bytes());
    // A node's name has at most 64 characters.
    out.extend(u16::try_from(name.len()).unwrap_or(0).to_le_bytes());
    out.extend(name);
    out.extend(payload);
    out
}

/// None: another version, or not one of ours.
pub(super) fn decode(bytes: &[u8]) -> Option<Frame<'_>> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let kind = match head[..2] {
        [VERSION, 0] => Kind::Message,
        [VERSION, 1] => Kind::Echo,
        _ => return None,
    };
    let number = |at: usize| Some(u64::from_le_bytes(head[at..at + 8].try_into().ok()?));
    let (life, number) = (Life(number(2)?), number(10)?);
    let (name, payload) = rest.split_at_checked(usize::from(u16::from_le_bytes([head[18], head[19]])))?;
    let node = NodeId::new(std::str::from_utf8(name).ok()?).ok()?;
    Some(Frame { kind, node, life, number, payload })
}

/// What arrived of each sender, by channel.
#[derive(Default)]
pub(super) struct Seen {
    last: HashMap<(NodeId, Life, bool), u64>,
}

/// How a frame follows the ones before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// So many before it never came; 0: none.
    After(u64),
    /// It has been here.
    Again,
}

impl Seen {
    /// Notes a frame; `all`: it came on the channel of all nodes.
    pub(super) fn note(&mut self, frame: &Frame<'_>, all: bool) -> Follows {
        let key = (frame.node.clone(), frame.life, all);
        if let Some(last) = self.last.get_mut(&key) {
            if frame.number <= *last {
                return Follows::Again;
            }
            let missed = frame.number - *last - 1;
            *last = frame.number;
            return Follows::After(missed);
        }
        if self.last.len() >= SENDERS_MAX {
            self.last.clear();
        }
        // An older life of this node sends nothing more.
        self.last.retain(|(node, life, _), _| *node != frame.node || *life == frame.life);
        self.last.insert(key, frame.number);
        Follows::After(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(node: &str, life: u64, number: u64) -> Frame<'static> {
        Frame { kind: Kind::Message, node: NodeId::new(node).unwrap(), life: Life(life), number, payload: b"" }
    }

    proptest! {
        #[test]
        fn a_frame_says_what_was_said(
            name in "\\PC{1,64}", life in any::<u64>(), number in any::<u64>(), payload in any::<Vec<u8>>(), echo in any::<bool>(),
        ) {
            let node = NodeId::new(&name).unwrap();
            let kind = if echo { Kind::Echo } else { Kind::Message };
            let bytes = encode(kind, &node, Life(life), number, &payload);
            prop_assert_eq!(decode(&bytes), Some(Frame { kind, node, life: Life(life), number, payload: &payload }));
        }

        #[test]
        fn strange_bytes_are_refused_and_never_a_panic(bytes in any::<Vec<u8>>()) {
            if let Some(frame) = decode(&bytes) {
                prop_assert_eq!(encode(frame.kind, &frame.node, frame.life, frame.number, frame.payload), bytes);
            }
        }
    }

    #[test]
    fn a_newer_version_is_not_guessed_at() {
        let mut bytes = encode(Kind::Message, &NodeId::new("n1").unwrap(), Life(1), 1, b"x");
        bytes[0] = 2;
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn what_never_came_is_counted_once_what_follows_it_is_there() {
        let mut seen = Seen::default();
        assert_eq!(seen.note(&frame("n1", 7, 4), false), Follows::After(0));
        assert_eq!(seen.note(&frame("n1", 7, 5), false), Follows::After(0));
        assert_eq!(seen.note(&frame("n1", 7, 8), false), Follows::After(2));
        assert_eq!(seen.note(&frame("n1", 7, 8), false), Follows::Again);
        assert_eq!(seen.note(&frame("n1", 7, 1), true), Follows::After(0));
        assert_eq!(seen.note(&frame("n1", 8, 3), false), Follows::After(0), "another life counts anew");
    }
}
