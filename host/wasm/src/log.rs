use std::collections::VecDeque;

use parking_lot::Mutex;

/// Bytes of a line; what is longer is cut.
pub(crate) const LINE_BYTES_MAX: usize = 1_024;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// By which way a line came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogSource {
    Log,
    Stdout,
    Stderr,
}

/// A line that a plugin wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The moment of the call, in milliseconds; 0 during start and `configure`.
    pub at: u64,
    /// As the plugin says; output is `Info`, errors are `Warn`.
    pub level: Level,
    /// By which way it came.
    pub source: LogSource,
    /// At most 1 KiB.
    pub text: String,
}

/// Takes the lines of one plugin. Called on the thread of the decision: it must be quick and may drop.
pub trait LogSink: Send + Sync + 'static {
    /// One line.
    fn line(&self, line: LogLine);
}

/// Drops everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _line: LogLine) {}
}

/// The last lines of a plugin, at most so many, and at most so many per second of the moments passed in.
#[derive(Debug)]
pub struct PluginLog {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    lines_max: usize,
    per_second_max: u32,
    lines: VecDeque<LogLine>,
    second: u64,
    in_second: u32,
    dropped: u64,
}

impl PluginLog {
    /// Keeps `lines_max` lines and takes `per_second_max` per second.
    pub fn new(lines_max: usize, per_second_max: u32) -> Self {
        let kept = Kept { lines_max, per_second_max, lines: VecDeque::new(), second: 0, in_second: 0, dropped: 0 };
        Self { kept: Mutex::new(kept) }
    }

    /// Other bounds hold, at once.
    pub fn bound(&self, lines_max: usize, per_second_max: u32) {
        let mut kept = self.kept.lock();
        (kept.lines_max, kept.per_second_max) = (lines_max, per_second_max);
        let above = kept.lines.len().saturating_sub(lines_max);
        kept.lines.drain(..above);
    }

    /// The kept lines, oldest first.
    pub fn lines(&self) -> Vec<LogLine> {
        self.kept.lock().lines.iter().cloned().collect()
    }

    /// Lines that came too fast.
    pub fn dropped(&self) -> u64 {
        self.kept.lock().dropped
    }
}

impl Default for PluginLog {
    fn default() -> Self {
        Self::new(1_000, 100)
    }
}

impl LogSink for PluginLog {
    fn line(&self, line: LogLine) {
        let mut kept = self.kept.lock();
        let second = line.at / 1_000;
        if second != kept.second {
            kept.second = second;
            kept.in_second = 0;
        }
        if kept.in_second >= kept.per_second_max {
            kept.dropped += 1;
            return;
        }
        kept.in_second += 1;
        if kept.lines.len() >= kept.lines_max {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line);
    }
}

/// At most [`LINE_BYTES_MAX`] bytes, cut between characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bounds_hold_for_the_lines_that_are_there() {
        let log = PluginLog::new(3, 100);
        let line = |text: &str| LogLine { at: 1_000, level: Level::Info, source: LogSource::Log, text: text.into() };
        ["a", "b", "c"].into_iter().for_each(|text| log.line(line(text)));
        log.bound(1, 4);
        ["d", "e"].into_iter().for_each(|text| log.line(line(text)));
        assert_eq!((log.lines().len(), log.lines()[0].text.clone(), log.dropped()), (1, "d".to_owned(), 1));
    }
}
