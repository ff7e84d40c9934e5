//! What clients and Heddle say to each other: frames, close codes, REST bodies and problem details, as types.
//!
//! It turns text into [`Command`]s with errors that a client author can act on, and server events into text. It holds
//! the limits of the wire ([`limits`]) and checks every one that can be checked without knowing who is asking.
//!
//! It deliberately does not open sockets, authenticate, look anything up, or know the inside's types: whoever uses it
//! translates. It reads no clock.
//!
//! Read [`ClientFrame`] and [`ServerFrame`] first. PROTOCOL.md is the same for people; a test parses its examples.

mod client_frame;
mod close;
mod codes;
mod encode;
pub mod limits;
mod names;
mod parse;
mod problem;
mod raw;
mod requests;
pub mod rest;
mod server_frame;

pub use client_frame::{
    Ack, ChatMessage, ClientFrame, Command, Hello, PresenceSet, PresenceStatus, ReadReceipt, Reference, Target, Users,
};
pub use close::CloseCode;
pub use codes::{ErrorCode, RejectCode};
pub use encode::NewMessageBody;
pub use names::{Conversation, NameError, check_id, check_user};
pub use parse::{ParseError, parse};
pub use problem::{PROBLEM_CONTENT_TYPE, Problem};
pub use raw::RawJson;
pub use requests::parse_send;
pub use server_frame::{
    Accepted, CaughtUp, ErrorFrame, Gap, GapReason, GroupNotice, HelloOk, Membership, MembershipChange, NewMessage,
    PresenceUpdate, Receipt, ReceiptStatus, Rejected, ServerFrame, ServerFrameError, TypingIndicator,
};

/// The WebSocket subprotocol that the server echoes.
pub const SUBPROTOCOL: &str = "heddle.v1";
/// What stands before the token in the subprotocol by which a browser authenticates; never echoed.
pub const SUBPROTOCOL_TOKEN_PREFIX: &str = "heddle.jwt.";
/// The path of the WebSocket.
pub const WS_PATH: &str = "/v1/ws";
