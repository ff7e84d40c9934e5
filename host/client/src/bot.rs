//! The partner of a lone newcomer: answers direct messages as a person would, and teaches commands by the way.

use std::time::Duration;

use heddle_protocol::{ClientFrame, NewMessage, PresenceSet, PresenceStatus, ReadReceipt, ServerFrame, Target};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::{Client, ClientConfig, ClientHandle, Draft, Event};

/// Messages that may wait for an answer; later ones are read, but not answered.
const WAITING_MAX: usize = 32;
/// How long the bot types.
const TYPING: Duration = Duration::from_millis(1_100);
/// The data by which bots know each other.
const BOT_MARK: &str = "{\"bot\":true}";

/// Runs the bot until its client stops, as the user that the token names.
pub async fn run(config: ClientConfig) {
    let (handle, mut events) = Client::connect(config);
    let (letters, letters_in) = mpsc::channel(WAITING_MAX);
    let answering = tokio::spawn(answer_all(handle.clone(), letters_in));
    let mut user = String::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Connected(hello) => {
                user = hello.user;
                let _ = handle.say(ClientFrame::PresenceSet(PresenceSet { status: PresenceStatus::Online }));
            }
            Event::Frame(ServerFrame::NewMessage(message)) if is_for_me(&message, &user) => {
                let kept = letters.try_send(message).is_ok();
                tracing::debug!(kept, "a message for the bot");
            }
            Event::Stopped(stopped) => tracing::info!(reason = %stopped.reason, "the bot has stopped"),
            _ => {}
        }
    }
    drop(letters);
    let _ = answering.await;
}

/// A direct message of somebody else who is no bot.
fn is_for_me(message: &NewMessage, user: &str) -> bool {
    let direct = matches!(&message.target, Target::User(to) if to == user);
    let bot = message.data.as_ref().is_some_and(|data| data.get() == BOT_MARK);
    direct && message.from != user && !bot
}

/// One after the other, so that a flood costs time and nothing else.
async fn answer_all(handle: ClientHandle, mut letters: mpsc::Receiver<NewMessage>) {
    let mut answered = 0_usize;
    while let Some(message) = letters.recv().await {
        let target = Target::User(message.from.clone());
        let _ = handle.say(ClientFrame::TypingStart(target.clone()));
        sleep(TYPING).await;
        let _ = handle.say(ClientFrame::ReadReceipt(ReadReceipt { message_id: message.message_id.clone() }));
        // The id comes from the message that is answered: after a crash the same answer is not sent twice.
        let client_id = format!("re-{}", message.message_id);
        let mut draft = Draft::text(client_id, target.clone(), answer(&message, answered));
        draft.data = heddle_protocol::RawJson::new(BOT_MARK.to_owned()).ok();
        if handle.send(draft).is_err() {
            return;
        }
        let _ = handle.say(ClientFrame::TypingStop(target));
        answered += 1;
    }
}

const ANSWERS: [&str; 6] = [
    "Nice to hear from you! Your message went through four WebAssembly components before it reached me: /why shows them.",
    "Got it. Look at your ticks: one when it was durable, two when it reached me, coloured when I had read it.",
    "I am only a bot, but the log does not know that. Try /group weavers bob carol to open a group.",
    "Press Ctrl-C and come back: nothing is lost, and nothing comes twice.",
    "You can open a second window with --device tablet: both see everything.",
    "Is the page at /try open too? It shows the raw frames of this conversation.",
];

fn answer(message: &NewMessage, answered: usize) -> String {
    let text = message.text.as_deref().unwrap_or_default().to_lowercase();
    let asks =
        |words: &[&str]| words.iter().any(|word| text.split_whitespace().any(|part| part.trim_matches('!') == *word));
    if asks(&["hi", "hello", "hey", "hallo"]) {
        return format!(
            "Hello {}! I am bob, and I answer whatever you write. /help lists what you can do.",
            message.from
        );
    }
    if asks(&["bye", "ciao"]) {
        return "Until soon! Write while I am away if you like: I shall find it all.".to_owned();
    }
    if text.contains('?') {
        return format!("A good question. {}", ANSWERS[answered % ANSWERS.len()]);
    }
    ANSWERS[answered % ANSWERS.len()].to_owned()
}
