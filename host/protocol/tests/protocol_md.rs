//! PROTOCOL.md is true: every example is read by this crate and loses nothing, every frame, code and limit is there.
//!
//! An example is a ```` ```json ```` block. Under "From the client" and "From the server" it is a frame; elsewhere a word
//! after `json` names the type that it is.

use heddle_protocol::rest::{
    AddMember, Blocks, ChangeGroup, Contacts, Conversations, CreateGroup, Group, GroupCreated,
};
use heddle_protocol::rest::{History, Presences};
use heddle_protocol::{Accepted, CloseCode, ErrorCode, Problem, RejectCode, ServerFrame, limits, parse, parse_send};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const PAGE: &str = include_str!("../../../PROTOCOL.md");

/// A block of JSON, with where it stands.
struct Example {
    chapter: String,
    /// The word after `json`.
    shape: Option<String>,
    line: usize,
    text: String,
}

fn examples() -> Vec<Example> {
    let (mut found, mut chapter, mut open) = (Vec::new(), String::new(), None::<Example>);
    for (number, line) in PAGE.lines().enumerate() {
        match &mut open {
            Some(_) if line == "```" => found.extend(open.take()),
            Some(example) => {
                example.text.push_str(line);
                example.text.push('\n');
            }
            None if line.starts_with("## ") => line[3..].clone_into(&mut chapter),
            None => {
                if let Some(shape) = line.strip_prefix("```json") {
                    let shape = Some(shape.trim().to_owned()).filter(|shape| !shape.is_empty());
                    open = Some(Example { chapter: chapter.clone(), shape, line: number + 1, text: String::new() });
                }
            }
        }
    }
    assert!(open.is_none(), "a block of PROTOCOL.md does not end");
    found
}

/// What the example says, all of it: a field that the crate does not know, or writes otherwise, makes them differ.
fn same(example: &Example, written: &str) {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(value(&example.text), value(written), "PROTOCOL.md, line {}", example.line);
}

fn body<T: DeserializeOwned + Serialize>(example: &Example) {
    let read: T = serde_json::from_str(&example.text)
        .unwrap_or_else(|error| panic!("PROTOCOL.md, line {}: {error}", example.line));
    same(example, &serde_json::to_string(&read).expect("a body is JSON"));
}

fn client_frame(example: &Example) -> &'static str {
    let command = parse(&example.text).unwrap_or_else(|error| panic!("PROTOCOL.md, line {}: {error}", example.line));
    same(example, &command.to_text());
    command.frame.type_name()
}

fn server_frame(example: &Example) -> &'static str {
    let frame =
        ServerFrame::parse(&example.text).unwrap_or_else(|error| panic!("PROTOCOL.md, line {}: {error}", example.line));
    same(example, &frame.to_text());
    frame.type_name()
}

/// The types of the frames of one chapter, each checked.
fn frames(chapter: &str, read: fn(&Example) -> &'static str) -> Vec<&'static str> {
    examples().iter().filter(|example| example.chapter == chapter && example.shape.is_none()).map(read).collect()
}

/// The rows of all tables whose first cell is this one, as cells without backticks.
fn row(first: &str) -> Vec<String> {
    let cells =
        |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>();
    let mut rows = PAGE.lines().filter(|line| line.starts_with('|')).map(cells).filter(|cells| cells[0] == first);
    let found = rows.next().unwrap_or_else(|| panic!("PROTOCOL.md has no row for `{first}`"));
    assert!(rows.next().is_none(), "PROTOCOL.md has two rows for `{first}`");
    found
}

#[test]
fn every_command_has_an_example_that_the_server_reads() {
    let shown = frames("From the client", client_frame);
    // The crate's own list of commands, as it tells it to a client that says something else.
    let unknown = parse(r#"{"type":"?"}"#).expect_err("no such type").to_frame().expect("an answer").to_text();
    let answer: Value = serde_json::from_str(&unknown).expect("json");
    let commands = answer["hint"].as_str().and_then(|hint| hint.strip_prefix("the commands are ")).expect("the list");
    for command in commands.split(", ") {
        assert!(shown.contains(&command), "PROTOCOL.md has no example of `{command}`");
    }
}

#[test]
fn every_frame_of_the_server_has_an_example_that_a_client_reads() {
    let shown = frames("From the server", server_frame);
    for ty in [
        "hello_ok",
        "accepted",
        "rejected",
        "new_message",
        "caught_up",
        "receipt",
        "membership",
        "group_notice",
        "typing_indicator",
        "presence_update",
        "error",
        "pong",
    ] {
        assert!(shown.contains(&ty), "PROTOCOL.md has no example of `{ty}`");
    }
}

#[test]
fn every_other_example_is_of_the_shape_that_it_names() {
    for example in examples() {
        match example.shape.as_deref() {
            None => assert!(
                ["From the client", "From the server"].contains(&example.chapter.as_str()),
                "PROTOCOL.md, line {}: name the shape of this example",
                example.line
            ),
            Some("Send") => {
                let message =
                    parse_send(&example.text).unwrap_or_else(|error| panic!("line {}: {error}", example.line));
                same(&example, &serde_json::to_string(&message).expect("a message is JSON"));
            }
            Some("ClientFrame") => _ = client_frame(&example),
            Some("ServerFrame") => _ = server_frame(&example),
            Some("Accepted") => body::<Accepted>(&example),
            Some("Problem") => body::<Problem>(&example),
            Some("Conversations") => body::<Conversations>(&example),
            Some("History") => body::<History>(&example),
            Some("CreateGroup") => body::<CreateGroup>(&example),
            Some("GroupCreated") => body::<GroupCreated>(&example),
            Some("Group") => body::<Group>(&example),
            Some("ChangeGroup") => body::<ChangeGroup>(&example),
            Some("AddMember") => body::<AddMember>(&example),
            Some("Blocks") => body::<Blocks>(&example),
            Some("Contacts") => body::<Contacts>(&example),
            Some("Presences") => body::<Presences>(&example),
            // Claims of a token: whose shape is not this crate's.
            Some("claims") => same(&example, &example.text),
            Some(other) => panic!("PROTOCOL.md, line {}: there is no shape `{other}`", example.line),
        }
    }
}

#[test]
fn every_close_code_stands_there_with_its_reason_and_advice() {
    for code in CloseCode::ALL {
        let row = row(&code.number().to_string());
        assert_eq!(row[1], code.reason());
        assert_eq!(row[2], if code.reconnect() { "reconnect" } else { "stop" }, "{}", code.number());
    }
}

#[test]
fn every_code_stands_there_with_whether_to_try_again_and_its_http_status() {
    let again = |retryable: bool| if retryable { "yes" } else { "no" };
    // One table for both: where a code answers sends and other commands, it means the same.
    let sends = [
        RejectCode::RateLimited,
        RejectCode::Refused,
        RejectCode::PolicyUnavailable,
        RejectCode::Unavailable,
        RejectCode::Conflict,
        RejectCode::NotMember,
        RejectCode::TooLarge,
        RejectCode::Invalid,
        RejectCode::UnknownUser,
    ];
    for code in sends {
        let row = row(code.as_str());
        assert!(row[1].contains("rejected"), "{row:?}");
        assert_eq!(row[2..4], [again(code.retryable()).to_owned(), code.status().to_string()], "{row:?}");
    }
    let others = [
        ErrorCode::UnknownType,
        ErrorCode::Invalid,
        ErrorCode::HelloExpected,
        ErrorCode::HelloRepeated,
        ErrorCode::Unauthorized,
        ErrorCode::Forbidden,
        ErrorCode::RateLimited,
        ErrorCode::Refused,
        ErrorCode::PolicyUnavailable,
        ErrorCode::Unavailable,
        ErrorCode::TryLater,
        ErrorCode::AckAboveSent,
        ErrorCode::TooManyConnections,
        ErrorCode::NotFound,
        ErrorCode::NotMember,
        ErrorCode::MethodNotAllowed,
        ErrorCode::Conflict,
        ErrorCode::TooLarge,
        ErrorCode::Internal,
    ];
    for code in others {
        let row = row(code.as_str());
        assert!(row[1].contains("error") || row[1].contains("REST"), "{row:?}");
        assert_eq!(row[2..4], [again(code.retryable()).to_owned(), code.status().to_string()], "{row:?}");
    }
}

#[test]
fn every_limit_of_the_wire_stands_there_with_its_number() {
    let check = |what: &str, number: &str| assert_eq!(row(what)[1], number, "{what}");
    check("a frame", &format!("{} KiB", limits::FRAME_BYTES_MAX >> 10));
    check("text and data of a message", &format!("{} KiB", limits::BODY_BYTES_MAX >> 10));
    check("nesting of a frame", &format!("{} levels", limits::NESTING_MAX));
    check("an id, a device, a ref", &format!("1 to {} characters", limits::ID_CHARS_MAX));
    check("a user id", &format!("1 to {} bytes", limits::USER_ID_BYTES_MAX));
    check("an integer", &format!("0 to {}", limits::INTEGER_MAX));
    check("users in one command", &limits::USERS_MAX.to_string());
    check("tags on a message", &limits::TAGS_MAX.to_string());
    check("a tag's value", &format!("{} bytes", limits::TAG_VALUE_BYTES_MAX));
    check("a token", &format!("{} KiB", limits::TOKEN_BYTES_MAX >> 10));
    check("a group's name", &format!("1 to {} characters", limits::GROUP_NAME_CHARS_MAX));
    check("a page of history", &format!("{}, {} if not said", limits::HISTORY_PAGE_MAX, limits::HISTORY_PAGE_DEFAULT));
    check("from the socket's opening to hello", &format!("{} s", limits::HELLO_DEADLINE_MS / 1_000));
}
