use heddle_protocol::{ServerFrame, Target};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn chat() -> Chat {
    let mut chat = Chat { me: "alice".to_owned(), caught_up: true, ..Chat::default() };
    chat.select(&Conversation::User("bob".to_owned()));
    chat.sending(&Target::User("bob".to_owned()), "c1", "How are you? \u{1b}[31m I am well, and the loom runs.", 1);
    let typing = r#"{"type":"typing_indicator","from":"bob","typing":true}"#;
    chat.frame(ServerFrame::parse(typing).unwrap(), Duration::ZERO);
    chat
}

fn shown(chat: &Chat, width: u16, height: u16, overlay: bool) -> String {
    let mut input = Input::default();
    input.insert("a line that is being typed, and a long one");
    let overlay = overlay.then(|| ("help".to_owned(), super::super::input::HELP.to_owned()));
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let screen = Screen {
        input: &input,
        link: "alice (terminal) at 127.0.0.1:7600",
        decides: "generation 2 (1.4 s)",
        connected: true,
        overlay: overlay.as_ref(),
        scroll: 0,
        now: Duration::ZERO,
        wall: 1,
    };
    terminal
        .draw(|frame| {
            let _ = draw(frame, chat, &screen);
        })
        .unwrap();
    terminal.backend().to_string()
}

#[test]
fn a_screen_shows_who_what_and_how_far() {
    let text = shown(&chat(), 80, 12, false);
    for part in [
        "○ bob",
        "alice  now  …",
        "the loom runs.",
        "bob types…",
        "● alice (terminal)",
        "generation 2 (1.4 s)",
        "> a line",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "what others write does not command the terminal");
}

#[test]
fn a_dot_says_who_is_on_line_who_is_away_and_who_is_not() {
    let mut chat = chat();
    for (status, looks) in [("online", "● ".green()), ("away", "● ".yellow()), ("offline", "○ ".dark_gray())] {
        let update = format!(r#"{{"type":"presence_update","user":"bob","status":"{status}","last_seen":1}}"#);
        chat.frame(ServerFrame::parse(&update).unwrap(), Duration::ZERO);
        assert_eq!(dot(&chat, chat.open().unwrap()), looks, "{status}");
    }
}

#[test]
fn where_nothing_was_said_yet_it_is_said_how_to_begin() {
    let mut chat = Chat { me: "alice".to_owned(), caught_up: true, ..Chat::default() };
    chat.select(&Conversation::User("bob".to_owned()));
    let text = shown(&chat, 110, 12, false);
    assert!(text.contains("press Enter to send it to bob; /help"), "{text}");
}

#[test]
fn every_size_is_drawn() {
    for chat in [chat(), Chat::default()] {
        for width in (1..100).step_by(7) {
            for height in 0..20 {
                let _ = (shown(&chat, width, height, false), shown(&chat, width, height, true));
            }
        }
    }
}

#[test]
fn lines_break_at_spaces_and_wide_characters_fit() {
    let check = |text: &str, columns, expected: &[&str]| assert_eq!(wrap(text, columns), expected);
    check("", 5, &[""]);
    check("one two three", 8, &["one two ", "three"]);
    check("abcdefgh", 3, &["abc", "def", "gh"]);
    check("织机织机", 5, &["织机", "织机"]);
}
