//! The loop: keys, events and answers in, frames and calls out, the screen in between.

use std::time::Duration;

use crossterm::event::{Event as Key, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use heddle_client::{Client, ClientConfig, ClientHandle, Draft, Event};
use heddle_model::{Clock as _, SystemClock};
use heddle_protocol::rest::{Conversations, CreateGroup, GroupCreated, History};
use heddle_protocol::{ClientFrame, Conversation, PresenceSet, PresenceStatus, ReadReceipt, Target, Users};
use hyper::Method;
use ratatui::DefaultTerminal;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::decides::Decides;
use super::input::{Command, HELP, Input, command};
use super::position::PositionFile;
use super::rest::{Place, piece};
use super::state::Chat;
use super::view::{Screen, draw};
use crate::failure::Failure;

/// Answers that may wait for the screen.
const ANSWERS_MAX: usize = 64;
/// Events that are taken before the screen is drawn again.
const EVENTS_AT_ONCE: usize = 256;
/// How often the screen is drawn when nothing happens: somebody stops typing, a message grows older.
const REDRAW: Duration = Duration::from_millis(500);
/// How often we say that we still type.
const TYPING: Duration = Duration::from_secs(3);

/// Somebody sits there and waits: the pauses between tries stay short.
const RETRY_MS_MAX: u64 = 3_000;

/// Who, where, as which device.
#[derive(Debug)]
pub struct Terms {
    /// The user.
    pub user: String,
    /// The device.
    pub device: String,
    /// The server for clients.
    pub server: Place,
    /// The server for operators.
    pub admin: Place,
    /// Whom to begin with.
    pub to: Option<String>,
}

/// What a call brought.
enum Answer {
    Conversations(Result<Value, String>),
    History(Conversation, Result<Value, String>),
    Group(Result<Value, String>),
    Why(Result<Value, String>),
    Version(Result<Value, String>),
    Changes(Result<Value, String>),
}

struct Ui {
    terms: Terms,
    clock: SystemClock,
    chat: Chat,
    input: Input,
    handle: ClientHandle,
    answers: mpsc::Sender<Answer>,
    position: PositionFile,
    decides: Decides,
    link: String,
    connected: bool,
    overlay: Option<(String, String)>,
    scroll: usize,
    scrollable: usize,
    /// To whom we type, and when we said so.
    typing: Option<(Target, Duration)>,
    /// Whose presence we asked for on this connection.
    watched: usize,
    sent: u64,
}

/// Takes the terminal, and gives it back.
///
/// # Errors
/// If the terminal does not do what it is told.
pub async fn run(terms: Terms) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("the terminal cannot be used: {error}"));
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let _ = crossterm::execute!(std::io::stdout(), crossterm::event::EnableBracketedPaste);
    let outcome = converse(&mut terminal, terms).await.map_err(failed);
    let _ = crossterm::execute!(std::io::stdout(), crossterm::event::DisableBracketedPaste);
    ratatui::restore();
    outcome
}

async fn converse(terminal: &mut DefaultTerminal, terms: Terms) -> std::io::Result<()> {
    let position = PositionFile::find(terms.server.address.authority(), &terms.user, &terms.device);
    let mut config = ClientConfig::new(terms.server.address.clone(), &terms.server.token, &terms.device);
    config.resume = position.get();
    config.retry_ms_max = RETRY_MS_MAX;
    let (handle, mut events) = Client::connect(config);
    let (answers, mut answers_in) = mpsc::channel(ANSWERS_MAX);
    let mut ui = Ui::new(terms, handle, answers, position);
    let (mut keys, mut beat) = (EventStream::new(), tokio::time::interval(REDRAW));
    let (mut end, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut running = true;
    while running {
        terminal.draw(|frame| {
            let screen = ui.screen();
            ui.scrollable = draw(frame, &ui.chat, &screen);
        })?;
        tokio::select! {
            key = keys.next() => running = ui.key(key.transpose()?),
            Some(event) = events.recv() => {
                ui.event(event);
                for _ in 0..EVENTS_AT_ONCE {
                    let Ok(event) = events.try_recv() else { break };
                    ui.event(event);
                }
            }
            Some(answer) = answers_in.recv() => ui.answer(answer),
            _ = beat.tick() => {
                ui.keep_position();
                ui.ask_who_decides();
            }
            _ = end.recv() => running = false,
            _ = hangup.recv() => running = false,
        }
        ui.follow();
    }
    ui.keep_position();
    Ok(())
}

impl Ui {
    fn new(terms: Terms, handle: ClientHandle, answers: mpsc::Sender<Answer>, position: PositionFile) -> Self {
        let mut chat = Chat { me: terms.user.clone(), ..Chat::default() };
        if let Some(to) = &terms.to {
            chat.select(&Conversation::User(to.clone()));
        }
        Self {
            link: format!("connecting to {}…", terms.server.address),
            terms,
            clock: SystemClock::new(),
            chat,
            input: Input::default(),
            handle,
            answers,
            position,
            decides: Decides::default(),
            connected: false,
            overlay: None,
            scroll: 0,
            scrollable: 0,
            typing: None,
            watched: 0,
            sent: 0,
        }
    }

    fn screen(&self) -> Screen<'_> {
        Screen {
            input: &self.input,
            link: &self.link,
            decides: self.decides.line(),
            connected: self.connected,
            overlay: self.overlay.as_ref(),
            scroll: self.scroll,
            now: self.clock.monotonic(),
            wall: self.clock.now(),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected(hello) => {
                (self.connected, self.watched, self.chat.caught_up) = (true, 0, false);
                self.link = format!("{} ({})", hello.user, hello.device);
                if hello.gap.is_some() {
                    self.chat.notice = "older messages may be missing here; they are in the history".to_owned();
                    self.chat.threads.iter_mut().for_each(|thread| thread.loaded = false);
                }
                self.chat.me = hello.user;
                self.say(ClientFrame::PresenceSet(PresenceSet { status: PresenceStatus::Online }));
            }
            Event::Disconnected { reason, retry_in } => {
                self.connected = false;
                self.link = format!("again in {:.1} s: {reason}", retry_in.as_secs_f32());
            }
            Event::Frame(frame) => self.chat.frame(frame, self.clock.monotonic()),
            Event::Stopped(stopped) => {
                self.connected = false;
                self.link = format!("stopped: {}; /quit, then start again", stopped.reason);
            }
        }
    }

    /// What follows from the state: calls, receipts, whom to watch.
    fn follow(&mut self) {
        if self.connected && self.chat.caught_up && self.chat.stale {
            self.chat.listing();
            self.call(
                self.terms.server.clone(),
                Method::GET,
                "/v1/conversations".to_owned(),
                None,
                Answer::Conversations,
            );
        }
        if let Some(thread) = self.chat.threads.get_mut(self.chat.selected).filter(|thread| !thread.loaded)
            && self.connected
        {
            thread.loaded = true;
            let id = thread.id.clone();
            let path = format!("/v1/conversations/{}/messages?limit=100", piece(&id.to_string()));
            self.call(self.terms.server.clone(), Method::GET, path, None, |answer| Answer::History(id, answer));
        }
        if self.connected {
            if let Some(message_id) = self.chat.reads() {
                self.say(ClientFrame::ReadReceipt(ReadReceipt { message_id }));
            }
            let users: Vec<String> = self
                .chat
                .threads
                .iter()
                .skip(self.watched)
                .filter_map(|thread| match &thread.id {
                    Conversation::User(user) if *user != self.chat.me => Some(user.clone()),
                    _ => None,
                })
                .collect();
            self.watched = self.chat.threads.len();
            if !users.is_empty() {
                self.say(ClientFrame::PresenceSubscribe(Users { users }));
            }
        }
    }

    fn say(&mut self, frame: ClientFrame) {
        if let Err(error) = self.handle.say(frame) {
            self.chat.notice = error.to_string();
        }
    }

    fn call<F>(&self, place: Place, method: Method, path: String, body: Option<String>, answer: F)
    where
        F: FnOnce(Result<Value, String>) -> Answer + Send + 'static,
    {
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let _ = answers.send(answer(place.call(method, path, body).await)).await;
        });
    }

    fn ask_who_decides(&mut self) {
        if self.connected && self.decides.asks() {
            self.call(self.terms.admin.clone(), Method::GET, "/version".to_owned(), None, Answer::Version);
        }
    }

    fn answer(&mut self, answer: Answer) {
        let read = match answer {
            Answer::Conversations(answer) => {
                body(answer).map(|list: Conversations| self.chat.listed(list.conversations))
            }
            Answer::History(id, answer) => body(answer).map(|history: History| self.chat.past(&id, history.messages)),
            Answer::Group(answer) => body(answer).map(|made: GroupCreated| {
                self.chat.select(&Conversation::Group(made.group));
                self.chat.stale = true;
            }),
            Answer::Version(answer) => {
                if self.decides.said(&answer) {
                    let path = "/policies/history?limit=1".to_owned();
                    self.call(self.terms.admin.clone(), Method::GET, path, None, Answer::Changes);
                }
                Ok(())
            }
            // Who may not ask sees the number alone.
            Answer::Changes(answer) => {
                answer.iter().for_each(|history| self.decides.explained(history));
                Ok(())
            }
            Answer::Why(answer) => answer.map(|why| {
                self.overlay = Some(("why".to_owned(), crate::explain::people(&why)));
            }),
        };
        if let Err(why) = read {
            self.chat.notice = why;
        }
    }

    fn keep_position(&mut self) {
        let position = self.handle.position();
        // 0 is a position too, and "nothing known yet": the server knows better.
        if position > 0 && self.position.store(position).is_err() {
            tracing::debug!("the position cannot be kept");
        }
    }

    /// Takes a key; false is the end.
    fn key(&mut self, key: Option<Key>) -> bool {
        match key {
            None => return false,
            Some(Key::Paste(text)) => self.input.insert(&text),
            Some(Key::Key(key)) if key.kind != KeyEventKind::Release => return self.press(key),
            Some(_) => {}
        }
        true
    }

    fn press(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return false;
        }
        if self.overlay.take().is_some() && matches!(key.code, KeyCode::Esc | KeyCode::Enter) {
            return true;
        }
        match key.code {
            KeyCode::Enter => return self.enter(),
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(-1),
            KeyCode::Char('n') if control => self.turn(1),
            KeyCode::Char('p') if control => self.turn(-1),
            KeyCode::Char('u') if control => drop(self.input.take()),
            KeyCode::Char('d') if control => return !self.input.text().is_empty(),
            KeyCode::PageUp => self.scroll = (self.scroll + 10).min(self.scrollable),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Up => self.scroll = (self.scroll + 1).min(self.scrollable),
            KeyCode::Down => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Left => self.input.step(-1),
            KeyCode::Right => self.input.step(1),
            KeyCode::Home => self.input.step(isize::MIN),
            KeyCode::End => self.input.step(isize::MAX),
            KeyCode::Backspace => self.input.backspace(),
            KeyCode::Delete => self.input.delete(),
            KeyCode::Esc => self.chat.notice.clear(),
            KeyCode::Char(c) if !control => self.input.insert(c.encode_utf8(&mut [0; 4])),
            _ => {}
        }
        self.tell_typing();
        true
    }

    fn turn(&mut self, by: isize) {
        self.chat.turn(by);
        self.chat.notice.clear();
        self.scroll = 0;
    }

    /// Says that we type, every few seconds, or that we stopped.
    fn tell_typing(&mut self) {
        let text = self.input.text();
        let types = !text.is_empty() && !text.starts_with('/');
        let target = self.chat.open().map(|thread| Target::from(thread.id.clone())).filter(|_| types);
        let now = self.clock.monotonic();
        match (&self.typing, target) {
            (Some((to, since)), Some(target)) if *to == target && now < *since + TYPING => return,
            (Some((to, _)), target) if target.as_ref() != Some(to) => {
                let stopped = ClientFrame::TypingStop(to.clone());
                self.say(stopped);
                self.typing = None;
            }
            _ => {}
        }
        let text_target = self.chat.open().map(|thread| Target::from(thread.id.clone())).filter(|_| types);
        if let (true, Some(target)) = (self.connected, text_target) {
            self.say(ClientFrame::TypingStart(target.clone()));
            self.typing = Some((target, now));
        }
    }

    /// Does what the line asks for; false is the end.
    fn enter(&mut self) -> bool {
        self.chat.notice.clear();
        let asked = match command(&self.input.text()) {
            Ok(asked) => asked,
            Err(why) => {
                self.chat.notice = why;
                return true;
            }
        };
        match asked {
            None => {}
            Some(Command::Quit) => return false,
            Some(Command::Help) => self.overlay = Some(("help".to_owned(), HELP.to_owned())),
            Some(Command::To(user)) => {
                self.chat.select(&Conversation::User(user));
                self.scroll = 0;
            }
            Some(Command::Group { name, members }) => self.open_group(name, members),
            Some(Command::Why(nth)) => self.why(nth),
            // What could not be sent stays in the line.
            Some(Command::Say(text)) if !self.send(&text) => return true,
            Some(Command::Say(_)) => {}
        }
        drop(self.input.take());
        self.tell_typing();
        true
    }

    /// An id that no other message of this user has.
    fn new_id(&mut self) -> String {
        self.sent += 1;
        format!("c-{:x}-{:x}-{}", self.clock.now(), std::process::id(), self.sent)
    }

    fn send(&mut self, text: &str) -> bool {
        let Some(target) = self.chat.open().map(|thread| Target::from(thread.id.clone())) else {
            self.chat.notice = "to whom? Type /to USER first".to_owned();
            return false;
        };
        let client_id = self.new_id();
        if let Err(error) = self.handle.send(Draft::text(&client_id, target.clone(), text)) {
            self.chat.notice = error.to_string();
            return false;
        }
        self.chat.sending(&target, &client_id, text, self.clock.now());
        // The message itself ends the typing.
        (self.typing, self.scroll) = (None, 0);
        true
    }

    fn open_group(&mut self, name: String, members: Vec<String>) {
        let group = CreateGroup { client_id: self.new_id(), name, members };
        let body = serde_json::to_string(&group).ok();
        self.call(self.terms.server.clone(), Method::POST, "/v1/groups".to_owned(), body, Answer::Group);
    }

    fn why(&mut self, nth: usize) {
        let entry = self.chat.open().and_then(|thread| thread.entries.iter().rev().nth(nth - 1));
        match entry.and_then(|entry| entry.id.clone()) {
            Some(id) => {
                let path = format!("/explain/{}", piece(&id));
                self.call(self.terms.admin.clone(), Method::GET, path, None, Answer::Why);
            }
            None => self.chat.notice = "there is no such message, or it is not accepted yet".to_owned(),
        }
    }
}

fn body<T: serde::de::DeserializeOwned>(answer: Result<Value, String>) -> Result<T, String> {
    answer.and_then(|answer| serde_json::from_value(answer).map_err(|error| format!("an answer does not fit: {error}")))
}
