/// The message that is being decided on. What is not asked for is not copied into the policy.
pub trait Message {
    /// "message", "edit", "delete" or "reaction"; ignore what you do not know.
    fn kind(&self) -> String;
    /// The text. Needs `[reads] body = true` in the manifest, or the call is a fault.
    fn text(&self) -> Option<String>;
    /// The JSON bytes that the client sent as `data`. Needs `[reads] body = true`.
    fn data(&self) -> Option<Vec<u8>>;
    /// A tag that the client sent, or that an earlier plugin of the chain set.
    fn tag(&self, name: &str) -> Option<String>;
    /// The message's clock within its conversation.
    fn lamport(&self) -> u64;
    /// When the host first saw the sender: milliseconds since the Unix epoch.
    fn sender_since(&self) -> u64;
}

/// A message for unit tests: `FakeMessage { text: Some("hello".into()), ..FakeMessage::default() }`.
#[derive(Clone, Debug, Default)]
pub struct FakeMessage {
    /// "message" if left empty.
    pub kind: String,
    /// The text.
    pub text: Option<String>,
    /// JSON bytes.
    pub data: Option<Vec<u8>>,
    /// Names and values.
    pub tags: Vec<(String, String)>,
    /// Clock within the conversation.
    pub lamport: u64,
    /// Milliseconds since the Unix epoch.
    pub sender_since: u64,
}

impl Message for FakeMessage {
    fn kind(&self) -> String {
        if self.kind.is_empty() { "message".to_owned() } else { self.kind.clone() }
    }

    fn text(&self) -> Option<String> {
        self.text.clone()
    }

    fn data(&self) -> Option<Vec<u8>> {
        self.data.clone()
    }

    fn tag(&self, name: &str) -> Option<String> {
        self.tags.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    fn lamport(&self) -> u64 {
        self.lamport
    }

    fn sender_since(&self) -> u64 {
        self.sender_since
    }
}

/// The host's, through the imports of the component.
pub(crate) struct HostMessage;

impl Message for HostMessage {
    fn kind(&self) -> String {
        crate::bindings::heddle::policy::message::kind()
    }

    fn text(&self) -> Option<String> {
        crate::bindings::heddle::policy::message::text()
    }

    fn data(&self) -> Option<Vec<u8>> {
        crate::bindings::heddle::policy::message::data()
    }

    fn tag(&self, name: &str) -> Option<String> {
        crate::bindings::heddle::policy::message::tag(name)
    }

    fn lamport(&self) -> u64 {
        crate::bindings::heddle::policy::message::lamport()
    }

    fn sender_since(&self) -> u64 {
        crate::bindings::heddle::policy::message::sender_since()
    }
}
