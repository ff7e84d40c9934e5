//! What a client sends, and what it hears when that is wrong.

use heddle_protocol::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, INTEGER_MAX, NESTING_MAX};
use heddle_protocol::{ClientFrame, ErrorCode, ParseError, Reference, RejectCode, ServerFrame, Target};
use heddle_protocol::{parse, parse_send};

fn chat(text: &str) -> heddle_protocol::ChatMessage {
    match parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).frame {
        ClientFrame::ChatMessage(message) => message,
        other => panic!("{text}: {other:?}"),
    }
}

fn error(text: &str) -> ParseError {
    parse(text).expect_err(text)
}

#[test]
fn data_passes_through_byte_for_byte() {
    for data in [r#"{ "b" :1.0, "a":[ 1e3 ,"\u00e9"] }"#, "null", "0", r#""\/""#, "[]"] {
        let message = chat(&format!(r#"{{"type":"chat_message","client_id":"c","to":"bob","data":{data}}}"#));
        assert_eq!(message.data.expect("data").get(), data);
    }
}

#[test]
fn unknown_fields_are_ignored_and_null_means_absent() {
    let message = chat(
        r#"{"colour":{"a":[]},"type":"chat_message","to":"bob","group":null,"client_id":"c","text":"hi","lamport":null}"#,
    );
    assert_eq!(message.target, Target::User("bob".to_owned()));
    assert_eq!((message.text.as_deref(), message.lamport), (Some("hi"), None));
}

#[test]
fn a_reference_is_a_string_or_an_integer_and_comes_back_as_it_was() {
    assert_eq!(parse(r#"{"type":"ping","ref":7}"#).expect("ping").reference, Some(Reference::Number(7)));
    assert_eq!(parse(r#"{"type":"ping","ref":"a"}"#).expect("ping").reference, Some("a".into()));
    let Some(ServerFrame::Error(frame)) = error(r#"{"type":"dance","ref":"r9"}"#).to_frame() else { panic!() };
    assert_eq!((frame.reference, frame.code), (Some("r9".into()), ErrorCode::UnknownType));
    assert_eq!(frame.command.as_deref(), Some("dance"));
    assert!(matches!(error(r#"{"type":"ping","ref":[1]}"#), ParseError::Invalid { field, .. } if field == "ref"));
}

#[test]
fn what_is_no_object_or_too_deep_or_too_large_is_malformed() {
    let deep = |levels: usize| {
        let data = "[".repeat(levels) + &"]".repeat(levels);
        format!(r#"{{"type":"chat_message","client_id":"c","to":"b","data":{data}}}"#)
    };
    chat(&deep(NESTING_MAX - 1));
    let large = format!(r#"{{"type":"ping","x":"{}"}}"#, "x".repeat(FRAME_BYTES_MAX));
    let malformed =
        ["", "hello", "[]", "7", "null", "{", r#"{"type":"ping"} x"#, r#"{"type":"ping",}"#, &deep(100_000), &large]
            .map(str::to_owned)
            .into_iter()
            .chain([deep(NESTING_MAX), "\u{feff}{}".to_owned(), "{\"type\":\"pi\0ng\"}".to_owned()]);
    for text in malformed {
        let error = error(&text);
        assert!(matches!(error, ParseError::Malformed(_)), "{error}");
        assert!(error.to_frame().is_none());
    }
}

#[test]
fn brackets_inside_strings_are_not_depth() {
    let text = format!(r#"{{"type":"chat_message","client_id":"c","to":"b","text":"{}\\"}}"#, "[{\\\"".repeat(1_000));
    assert!(chat(&text).text.is_some());
}

#[test]
fn a_wrong_field_is_named_with_its_value() {
    let lines: Vec<String> = [
        r"{}",
        r#"{"type":5}"#,
        r#"{"type":"hello"}"#,
        r#"{"type":"hello","device":""}"#,
        r#"{"type":"hello","device":"d","resume":-1}"#,
        r#"{"type":"hello","device":"d","resume":"7"}"#,
        r#"{"type":"hello","device":"d","device":"e"}"#,
        r#"{"type":"ack"}"#,
        r#"{"type":"ack","offset":null}"#,
        r#"{"type":"ack","offset":1.5}"#,
        r#"{"type":"read_receipt","message_id":"x\u0007"}"#,
        r#"{"type":"typing_start"}"#,
        r#"{"type":"typing_stop","to":"a","group":"b"}"#,
        r#"{"type":"presence_set","status":"busy"}"#,
        r#"{"type":"presence_get"}"#,
        r#"{"type":"presence_get","users":"bob"}"#,
        r#"{"type":"presence_get","users":["bob",1]}"#,
        r#"{"type":"chat_message","to":"bob","text":"x"}"#,
        r#"{"type":"chat_message","client_id":"c","to":"bob"}"#,
        r#"{"type":"chat_message","client_id":"c","to":"bob","text":7}"#,
        r#"{"type":"chat_message","client_id":"c","to":"bob","text":"a\u0000b"}"#,
        r#"{"type":"chat_message","client_id":"c","to":"bob","text":"\ud800"}"#,
        r#"{"type":"chat_message","client_id":"c","to":"bob","data":{"a":"\udc00"}}"#,
        r#"{"type":"chat_message","client_id":"c","to":"bob","text":"x","lamport":9007199254740992}"#,
        r#"{"type":"chat_message","client_id":"c","to":"bob","text":"x","tags":["a"]}"#,
        r#"{"type":"chat_message","client_id":"c","to":"bob","text":"x","mentions":["\n"]}"#,
        r#"{"type":"chat_message","client_id":"c","to":"bob","text":"x","resend":1}"#,
        r#"{"type":"chat_message","client_id":"c","group":"","text":"x"}"#,
    ]
    .into_iter()
    .map(|text| format!("{text}\n  {}", error(text).to_frame().expect("an answer").to_text()))
    .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_send_whose_id_is_known_is_rejected_by_that_id() {
    let long = "n".repeat(10_000);
    let text = format!(r#"{{"type":"chat_message","ref":"r","client_id":"c1","to":"{long}","text":"x"}}"#);
    let Some(ServerFrame::Rejected(rejected)) = error(&text).to_frame() else { panic!() };
    assert_eq!((rejected.client_id.as_str(), rejected.code), ("c1", RejectCode::Invalid));
    assert!(rejected.reason.contains("10000 bytes") && rejected.reason.len() < 200, "{}", rejected.reason);
}

#[test]
fn the_largest_body_fits_and_one_byte_more_is_too_large() {
    let send = |bytes: usize| {
        let text = "x".repeat(bytes - 2);
        format!(r#"{{"type":"chat_message","client_id":"c","to":"bob","text":"{text}","data":{{}}}}"#)
    };
    assert_eq!(chat(&send(BODY_BYTES_MAX)).body_bytes(), BODY_BYTES_MAX);
    let too_large = error(&send(BODY_BYTES_MAX + 1));
    let Some(ServerFrame::Rejected(rejected)) = too_large.to_frame() else { panic!("{too_large:?}") };
    assert_eq!((rejected.client_id.as_str(), rejected.code, rejected.retryable), ("c", RejectCode::TooLarge, false));
}

#[test]
fn integers_reach_to_two_to_the_53_minus_one() {
    let ack = |offset: u64| parse(&format!(r#"{{"type":"ack","offset":{offset}}}"#));
    assert!(ack(INTEGER_MAX).is_ok());
    assert!(ack(INTEGER_MAX + 1).is_err());
}

#[test]
fn a_send_over_rest_needs_no_type() {
    let message = parse_send(r#"{"client_id":"c","group":"g","data":[1]}"#).expect("a send");
    assert_eq!(message.target, Target::Group("g".to_owned()));
    assert!(matches!(parse_send("[]"), Err(ParseError::Malformed(_))));
}
