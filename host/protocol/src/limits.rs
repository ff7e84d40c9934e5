//! The limits of the wire, by name. Whoever is configurable may be stricter, never laxer.

/// Bytes of one frame, as text; above it the connection is closed with 4501.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a message's text (as UTF-8) and data (as JSON) together; above it the message is `rejected too_large`.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How deep arrays and objects may nest in a frame, the frame's own object included; deeper is malformed.
pub const NESTING_MAX: usize = 64;
/// Characters of an id: `client_id`, `message_id`, group, device, `ref`.
pub const ID_CHARS_MAX: usize = 64;
/// Bytes of a user id in UTF-8.
pub const USER_ID_BYTES_MAX: usize = 256;
/// The largest integer on the wire, 2^53 - 1: what every JSON reader keeps exactly.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// Users in one presence command, in `mentions`, and in one `POST /v1/groups`.
pub const USERS_MAX: usize = 500;
/// Tags on a message.
pub const TAGS_MAX: usize = 16;
/// Bytes of one tag's value in UTF-8.
pub const TAG_VALUE_BYTES_MAX: usize = 256;
/// Bytes of a token, in whichever place it comes.
pub const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// Characters of a group's name.
pub const GROUP_NAME_CHARS_MAX: usize = 128;
/// Bytes of a close reason: what a WebSocket control frame leaves for it.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;
/// Messages in one page of history at most.
pub const HISTORY_PAGE_MAX: u32 = 200;
/// Messages in one page of history if the request does not say.
pub const HISTORY_PAGE_DEFAULT: u32 = 50;
/// Milliseconds from a connection's first byte until its `hello` must be there.
pub const HELLO_DEADLINE_MS: u64 = 5_000;
