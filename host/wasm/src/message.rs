use std::sync::Arc;

/// What the getters of `message` answer during a call of routing or fan-out. The body is copied only for a plugin that may read it.
pub trait MessageView {
    /// "message", "edit", "delete" or "reaction".
    fn kind(&self) -> &str;
    /// The text.
    fn text(&self) -> Option<&str>;
    /// The JSON bytes that the client sent as `data`.
    fn data(&self) -> Option<&[u8]>;
    /// Calls `each` with name and value of every tag; of two with one name the later counts.
    fn tags(&self, each: &mut dyn FnMut(&str, &str));
    /// The message's clock within its conversation.
    fn lamport(&self) -> u64;
    /// When the host first saw the sender, in milliseconds since the Unix epoch.
    fn sender_since(&self) -> u64;
}

/// An empty message, for measurements and warming.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMessage;

impl MessageView for NoMessage {
    fn kind(&self) -> &str {
        "message"
    }

    fn text(&self) -> Option<&str> {
        None
    }

    fn data(&self) -> Option<&[u8]> {
        None
    }

    fn tags(&self, _each: &mut dyn FnMut(&str, &str)) {}

    fn lamport(&self) -> u64 {
        0
    }

    fn sender_since(&self) -> u64 {
        0
    }
}

/// A message as a store holds it during a call.
pub(crate) struct Held {
    pub(crate) kind: Box<str>,
    pub(crate) text: Option<Arc<str>>,
    pub(crate) data: Option<Arc<[u8]>>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) lamport: u64,
    pub(crate) sender_since: u64,
}

impl Held {
    pub(crate) fn of(message: &dyn MessageView, body: bool) -> Self {
        let mut tags = Vec::new();
        message.tags(&mut |name, value| tags.push((name.to_owned(), value.to_owned())));
        Self {
            kind: message.kind().into(),
            text: message.text().filter(|_| body).map(Arc::from),
            data: message.data().filter(|_| body).map(Arc::from),
            tags,
            lamport: message.lamport(),
            sender_since: message.sender_since(),
        }
    }
}
