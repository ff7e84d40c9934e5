//! Writing frames, and writing one message for many recipients.

use serde::Serialize;

use crate::client_frame::Target;
use crate::raw::RawJson;
use crate::server_frame::NewMessage;

/// The JSON of one of our own types. They have string keys and no failing serialiser, so this cannot fail; if it ever
/// did, the peer would get an empty object, which says nothing and breaks nothing.
pub(crate) fn json_text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

/// A `new_message` encoded once for all its recipients.
///
/// What is the same for everybody (ids, names, text, data, tags, times) is turned into JSON by [`NewMessageBody::new`];
/// what differs is appended by [`NewMessageBody::frame`] for each recipient, at the price of one copy. Clone it cheaply
/// by keeping it in an `Arc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessageBody {
    /// `{"type":"new_message",...` up to, and without, the closing brace.
    head: Box<str>,
}

impl NewMessageBody {
    /// Encodes the shared part; `offset`, `client_id`, `missed` and `quiet` of the message are left out.
    #[must_use]
    pub fn new(message: &NewMessage) -> Self {
        #[derive(Serialize)]
        struct Shared<'a> {
            #[serde(rename = "type")]
            ty: &'static str,
            message_id: &'a str,
            from: &'a str,
            #[serde(flatten)]
            target: &'a Target,
            #[serde(skip_serializing_if = "Option::is_none")]
            text: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a RawJson>,
            #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
            tags: &'a std::collections::BTreeMap<String, String>,
            sent_at: u64,
            lamport: u64,
            order: u64,
        }
        let mut head = json_text(&Shared {
            ty: "new_message",
            message_id: &message.message_id,
            from: &message.from,
            target: &message.target,
            text: message.text.as_deref(),
            data: message.data.as_ref(),
            tags: &message.tags,
            sent_at: message.sent_at,
            lamport: message.lamport,
            order: message.order,
        });
        let closing = head.pop();
        debug_assert_eq!(closing, Some('}'));
        Self { head: head.into_boxed_str() }
    }

    /// One recipient's frame. `client_id` only for devices of the sender.
    #[must_use]
    pub fn frame(&self, offset: u64, client_id: Option<&str>, missed: bool, quiet: bool) -> String {
        let mut text = String::with_capacity(self.head.len() + 64 + client_id.map_or(0, |id| id.len() + 16));
        text.push_str(&self.head);
        text.push_str(",\"offset\":");
        text.push_str(&offset.to_string());
        if let Some(client_id) = client_id {
            text.push_str(",\"client_id\":");
            text.push_str(&json_text(&client_id));
        }
        if missed {
            text.push_str(",\"missed\":true");
        }
        if quiet {
            text.push_str(",\"quiet\":true");
        }
        text.push('}');
        text
    }

    /// Bytes of the shared part: about what one frame costs a queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len()
    }

    /// Never true: there is always a type.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }
}
