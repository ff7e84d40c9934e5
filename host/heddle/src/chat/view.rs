//! Draws. Any size will do: what does not fit is left out.

use std::time::Duration;

use heddle_protocol::{Conversation, PresenceStatus};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::input::Input;
use super::state::{Chat, Entry, Thread, Tick};

/// Columns of the list of conversations.
const LIST_COLUMNS: u16 = 24;
/// On narrower screens there is no list.
const LIST_SCREEN_MIN: u16 = 60;

/// What is drawn beside the conversations.
#[derive(Debug)]
pub struct Screen<'a> {
    /// The line that is typed.
    pub input: &'a Input,
    /// How the connection is.
    pub link: &'a str,
    /// Which generation decides.
    pub decides: &'a str,
    /// Whether it works.
    pub connected: bool,
    /// What lies over everything: a title and a text.
    pub overlay: Option<&'a (String, String)>,
    /// Lines that the messages are scrolled up.
    pub scroll: usize,
    /// The monotonic clock.
    pub now: Duration,
    /// Milliseconds since 1970.
    pub wall: u64,
}

/// Draws everything; says how far the messages can be scrolled.
pub fn draw(frame: &mut Frame<'_>, chat: &Chat, screen: &Screen<'_>) -> usize {
    let [body, status, input] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(1), Constraint::Length(1)]).areas(frame.area());
    let columns = if body.width >= LIST_SCREEN_MIN { LIST_COLUMNS } else { 0 };
    let [list, messages] = Layout::horizontal([Constraint::Length(columns), Constraint::Min(0)]).areas(body);
    draw_list(frame, chat, list);
    let scrollable = draw_messages(frame, chat, screen, messages);
    draw_status(frame, chat, screen, status);
    draw_input(frame, screen.input, input);
    if let Some((title, text)) = screen.overlay {
        draw_overlay(frame, title, text);
    }
    scrollable
}

fn draw_list(frame: &mut Frame<'_>, chat: &Chat, area: Rect) {
    // The open one stays in sight.
    let from = (chat.selected + 2).saturating_sub(usize::from(area.height));
    let lines: Vec<Line<'_>> = chat
        .threads
        .iter()
        .enumerate()
        .skip(from)
        .map(|(at, thread)| {
            let unread = if thread.unread > 0 { format!(" ({})", thread.unread) } else { String::new() };
            let room = usize::from(area.width).saturating_sub(4 + unread.len());
            let line =
                Line::from(vec![dot(chat, thread), Span::raw(cut(thread.title(), room)), unread.bold().yellow()]);
            if at == chat.selected { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("heddle")), area);
}

fn dot(chat: &Chat, thread: &Thread) -> Span<'static> {
    match &thread.id {
        Conversation::Group(_) => "# ".cyan(),
        Conversation::User(user) => match chat.presence.get(user) {
            Some(PresenceStatus::Online) => "● ".green(),
            Some(PresenceStatus::Away) => "● ".yellow(),
            Some(PresenceStatus::Offline) | None => "○ ".dark_gray(),
        },
    }
}

fn draw_messages(frame: &mut Frame<'_>, chat: &Chat, screen: &Screen<'_>, area: Rect) -> usize {
    let Some(thread) = chat.open() else {
        let text = "Nobody is here yet. Type /to bob and press Enter; /help lists the rest.";
        let welcome = Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }).block(Block::bordered());
        frame.render_widget(welcome, area);
        return 0;
    };
    let (width, height) = (usize::from(area.width.saturating_sub(2)), usize::from(area.height.saturating_sub(2)));
    let mut lines: Vec<Line<'_>> = Vec::new();
    for entry in &thread.entries {
        lines.extend(entry_lines(chat, thread, entry, width, screen.wall));
    }
    if lines.is_empty() {
        let hint = format!(
            "Nothing was said yet. Type, and press Enter to send it to {}; /help lists the rest.",
            thread.title()
        );
        lines.extend(wrap(&clean(&hint), width).into_iter().map(|line| Line::from(line.dark_gray())));
    }
    let scrollable = lines.len().saturating_sub(height);
    let from = scrollable.saturating_sub(screen.scroll);
    let shown: Vec<Line<'_>> = lines.into_iter().skip(from).take(height).collect();
    let typing = thread.typing(screen.now);
    let below = if typing.is_empty() { String::new() } else { format!(" {} types… ", clean(&typing.join(", "))) };
    let title = format!(" {} ", clean(thread.title()));
    let block = Block::bordered().title(title).title_bottom(below.italic().yellow());
    frame.render_widget(Paragraph::new(shown).block(block), area);
    scrollable
}

fn entry_lines(chat: &Chat, thread: &Thread, entry: &Entry, width: usize, wall: u64) -> Vec<Line<'static>> {
    let own = entry.from == chat.me;
    let name = Span::styled(clean(&entry.from), Style::new().fg(if own { Color::Cyan } else { Color::Magenta }).bold());
    let mut head = vec![name, Span::raw("  "), age(wall, entry.sent_at).dark_gray()];
    if own {
        let mark = match thread.tick(entry) {
            Tick::UnderWay => "  …".dark_gray(),
            Tick::Sent => "  ✓".dark_gray(),
            Tick::Delivered => "  ✓✓".dark_gray(),
            Tick::Read => "  ✓✓".light_blue(),
            Tick::Failed => "  ✗".red(),
        };
        head.push(mark);
    }
    let mut lines = vec![Line::from(head)];
    lines.extend(entry.text.lines().flat_map(|line| wrap(&clean(line), width.saturating_sub(2))).map(|line| {
        let indented = format!("  {line}");
        Line::from(indented)
    }));
    let failed = entry.failed.iter().flat_map(|why| wrap(&clean(why), width.saturating_sub(2)));
    lines.extend(failed.map(|line| Line::from(format!("  {line}").red())));
    lines
}

fn draw_status(frame: &mut Frame<'_>, chat: &Chat, screen: &Screen<'_>, area: Rect) {
    let lamp = if screen.connected { "● ".green() } else { "○ ".red() };
    let behind = if screen.connected && !chat.caught_up { "  catching up…" } else { "" };
    let notice = if chat.notice.is_empty() { String::new() } else { format!("  {}", clean(&chat.notice)) };
    let decides = if screen.decides.is_empty() { String::new() } else { format!("  {}", clean(screen.decides)) };
    let line = Line::from(vec![lamp, Span::raw(clean(screen.link)), decides.cyan(), behind.yellow(), notice.yellow()]);
    frame.render_widget(Paragraph::new(line), area);
}

fn draw_input(frame: &mut Frame<'_>, input: &Input, area: Rect) {
    let before = input.before();
    let columns = Span::raw(before.as_str()).width() + 2;
    // The cursor stays in sight: the line moves left under it.
    let hidden = (columns + 1).saturating_sub(usize::from(area.width));
    let scroll = u16::try_from(hidden).unwrap_or(u16::MAX);
    let line = Line::from(vec!["> ".bold(), Span::raw(input.text())]);
    frame.render_widget(Paragraph::new(line).scroll((0, scroll)), area);
    let x = area.x.saturating_add(u16::try_from(columns - hidden.min(columns)).unwrap_or(0));
    if area.height > 0 && x < area.right() {
        frame.set_cursor_position(Position::new(x, area.y));
    }
}

fn draw_overlay(frame: &mut Frame<'_>, title: &str, text: &str) {
    let whole = frame.area();
    let longest = text.lines().map(|line| Span::raw(line).width()).max().unwrap_or(0);
    let width = whole.width.min(u16::try_from(longest + 4).unwrap_or(u16::MAX));
    let inner = usize::from(width.saturating_sub(2));
    let lines: Vec<Line<'_>> = text.lines().flat_map(|line| wrap(&clean(line), inner)).map(Line::from).collect();
    let height = whole.height.min(u16::try_from(lines.len() + 2).unwrap_or(u16::MAX));
    let x = whole.x + (whole.width - width) / 2;
    let area = Rect::new(x, whole.y + (whole.height - height) / 2, width, height);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(format!(" {title} "))), area);
}

/// Without what a terminal would obey.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn cut(text: &str, columns: usize) -> String {
    let text = clean(text);
    if Span::raw(text.as_str()).width() <= columns {
        return text;
    }
    let mut cut = String::new();
    for c in text.chars() {
        cut.push(c);
        if Span::raw(cut.as_str()).width() >= columns {
            cut.pop();
            break;
        }
    }
    cut + "…"
}

/// Lines of at most that many columns, broken at spaces where there are some; at least one line.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for c in text.chars() {
        let wide = Span::raw(c.to_string()).width();
        if used + wide > columns && !line.is_empty() {
            let rest = match line.rfind(' ') {
                Some(at) if c != ' ' => line.split_off(at + 1),
                _ => String::new(),
            };
            used = Span::raw(rest.as_str()).width();
            lines.push(std::mem::replace(&mut line, rest));
            if c == ' ' {
                continue;
            }
        }
        line.push(c);
        used += wide;
    }
    lines.push(line);
    lines
}

fn age(now: u64, at: u64) -> String {
    match now.saturating_sub(at) / 1_000 {
        0..60 => "now".to_owned(),
        s @ 60..3_600 => format!("{} min", s / 60),
        s @ 3_600..86_400 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
