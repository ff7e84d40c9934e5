//! What holds for any input.

use heddle_protocol::{ChatMessage, ClientFrame, Command, ParseError, RawJson, Reference, ServerFrame, Target, parse};
use proptest::prelude::*;

fn user() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,40}"
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', ""))
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map("[a-z\\\\\"\u{e9}]{0,6}", inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn send()(
        client_id in "[^\\p{Cc}]{1,64}",
        target in prop_oneof![user().prop_map(Target::User), "[a-z0-9]{1,64}".prop_map(Target::Group)],
        text in text(),
        data in prop::option::of(json()),
        lamport in prop::option::of(0..(1_u64 << 53)),
        tags in prop::collection::btree_map("[a-z]{1,8}", "[^\\x00]{0,20}", 0..4),
        mentions in prop::collection::vec(user(), 0..4),
        resend: bool,
    ) -> ChatMessage {
        let data = data.map(|value| RawJson::of(&value).expect("a JSON value"));
        ChatMessage { client_id, target, text: Some(text), data, lamport, tags, mentions, resend }
    }
}

proptest! {
    #[test]
    fn a_send_reads_back_as_it_was_written(message in send(), reference in prop::option::of(0..100_u64)) {
        let command =
            Command { reference: reference.map(Reference::Number), frame: ClientFrame::ChatMessage(message) };
        prop_assert_eq!(parse(&command.to_text()), Ok(command));
    }

    #[test]
    fn any_text_gets_an_answer_and_never_a_panic(text in any::<String>()) {
        if let Err(error) = parse(&text) {
            let malformed = matches!(error, ParseError::Malformed(_));
            prop_assert_eq!(error.to_frame().is_none(), malformed);
        }
        let _ = ServerFrame::parse(&text);
    }

    #[test]
    fn any_field_values_get_an_answer_that_is_a_frame(
        ty in prop::sample::select(vec!["hello", "chat_message", "ack", "presence_get", "typing_start", "nope"]),
        fields in prop::collection::btree_map(
            prop::sample::select(vec!["client_id", "to", "group", "text", "data", "offset", "users", "device", "ref"]),
            json(),
            0..6,
        ),
    ) {
        let mut object: serde_json::Map<String, serde_json::Value> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        object.insert("type".to_owned(), ty.into());
        let text = serde_json::Value::Object(object).to_string();
        if let Err(error) = parse(&text) {
            let answer = error.to_frame().map(|frame| frame.to_text());
            let answer = answer.ok_or_else(|| TestCaseError::fail(format!("{text}: {error}")))?;
            prop_assert!(ServerFrame::parse(&answer).is_ok(), "{}", answer);
        }
    }

    #[test]
    fn cutting_a_frame_anywhere_makes_it_malformed(message in send(), at in any::<prop::sample::Index>()) {
        let text = ClientFrame::ChatMessage(message).to_text();
        let mut end = at.index(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        prop_assert!(matches!(parse(&text[..end]), Err(ParseError::Malformed(_))));
    }
}
