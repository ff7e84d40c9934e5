//! The line that is typed, and what it asks for.

/// More than anybody types; what comes above it is not taken.
const CHARS_MAX: usize = 16_000;

/// What `/help` shows.
pub const HELP: &str = "Type and press Enter to send.

/to USER             talk with USER
/group NAME USER...  open a group
/why [N]             who decided about the last message, or the Nth last
/help                this
/quit                leave (also Ctrl-C)
//TEXT               a message that begins with a slash

Tab, Shift-Tab       the next, the previous conversation
PageUp, PageDown     older, newer messages
Ctrl-U               empty the line

✓ durable   ✓✓ on a device   ✓✓ (coloured) read
… under way  ✗ not sent
● online   ● (yellow) away   ○ offline

Esc closes this.";

/// A line with a cursor.
#[derive(Debug, Default)]
pub struct Input {
    text: Vec<char>,
    at: usize,
}

impl Input {
    /// Everything that stands there.
    pub fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// What stands before the cursor.
    pub fn before(&self) -> String {
        self.text[..self.at].iter().collect()
    }

    /// Puts text at the cursor; line ends become spaces, control characters vanish.
    pub fn insert(&mut self, text: &str) {
        for c in text.chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c }).filter(|c| !c.is_control()) {
            if self.text.len() < CHARS_MAX {
                self.text.insert(self.at, c);
                self.at += 1;
            }
        }
    }

    /// Takes the character before the cursor away.
    pub fn backspace(&mut self) {
        if self.at > 0 {
            self.at -= 1;
            self.text.remove(self.at);
        }
    }

    /// Takes the character under the cursor away.
    pub fn delete(&mut self) {
        if self.at < self.text.len() {
            self.text.remove(self.at);
        }
    }

    /// Moves the cursor.
    pub fn step(&mut self, by: isize) {
        self.at = self.at.saturating_add_signed(by).min(self.text.len());
    }

    /// Hands the line over and begins a new one.
    pub fn take(&mut self) -> String {
        self.at = 0;
        std::mem::take(&mut self.text).into_iter().collect()
    }
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Send it.
    Say(String),
    /// Open the conversation with that user.
    To(String),
    /// Open a group.
    Group {
        /// What it is called.
        name: String,
        /// Whom to add.
        members: Vec<String>,
    },
    /// Who decided about the Nth last message.
    Why(usize),
    /// Show the help.
    Help,
    /// Leave.
    Quit,
}

/// Reads a line; nothing at all asks for nothing.
///
/// # Errors
/// What to type instead.
pub fn command(line: &str) -> Result<Option<Command>, String> {
    let line = line.trim();
    let Some(rest) = line.strip_prefix('/') else {
        return Ok((!line.is_empty()).then(|| Command::Say(line.to_owned())));
    };
    if rest.starts_with('/') {
        return Ok(Some(Command::Say(rest.to_owned())));
    }
    let mut words = rest.split_whitespace();
    let word = words.next().unwrap_or_default();
    let rest: Vec<String> = words.map(str::to_owned).collect();
    let command = match (word, rest.as_slice()) {
        ("help" | "?", _) => Command::Help,
        ("quit" | "q" | "exit", _) => Command::Quit,
        ("to", [user]) => {
            heddle_protocol::check_user(user).map_err(|error| format!("{user:?} is no user: {error}"))?;
            Command::To(user.clone())
        }
        ("to", _) => return Err("write /to USER".to_owned()),
        ("group", [name, members @ ..]) if !members.is_empty() => {
            Command::Group { name: name.clone(), members: members.to_vec() }
        }
        ("group", _) => return Err("write /group NAME USER...".to_owned()),
        ("why", []) => Command::Why(1),
        ("why", [nth]) => match nth.parse() {
            Ok(nth @ 1..) => Command::Why(nth),
            _ => return Err("write /why, or /why 2 for the last but one".to_owned()),
        },
        _ => return Err(format!("there is no /{word}: /help lists what there is")),
    };
    Ok(Some(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_or_a_command_or_told_what_is_wrong() {
        assert_eq!(command("  "), Ok(None));
        assert_eq!(command(" hi there "), Ok(Some(Command::Say("hi there".into()))));
        assert_eq!(command("//etc"), Ok(Some(Command::Say("/etc".into()))));
        assert_eq!(command("/to bob"), Ok(Some(Command::To("bob".into()))));
        let group = Command::Group { name: "weavers".into(), members: vec!["bob".into(), "carol".into()] };
        assert_eq!(command("/group weavers bob carol"), Ok(Some(group)));
        assert_eq!(command("/why 3"), Ok(Some(Command::Why(3))));
        for wrong in ["/to", "/group x", "/why 0", "/why x", "/dance", "/"] {
            assert!(command(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_cursor_stays_within_the_line() {
        let mut input = Input::default();
        input.backspace();
        input.delete();
        input.insert("hé\nb\u{1b}");
        input.step(-99);
        input.delete();
        input.step(99);
        input.backspace();
        input.insert("ö");
        assert_eq!((input.text().as_str(), input.before().as_str()), ("é ö", "é ö"));
        assert_eq!(input.take(), "é ö");
        assert_eq!(input.text(), "");
    }
}
