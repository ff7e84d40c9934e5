//! A history, sorted by what its lines are about.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use anyhow::Context as _;

use crate::lines::{Frame, Line, Record};

/// What a device met, in order.
#[derive(Debug, Clone)]
pub enum Step {
    /// A new connection: (asked for, told, gap).
    Connect(Option<u64>, u64, Option<String>),
    /// A frame.
    Frame(Frame),
}

/// A user and one of its devices.
pub type DeviceOf = (String, String);

/// A send that got an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// By whom it was sent.
    pub user: String,
    /// Where.
    pub conversation: String,
    /// The sender's name for it.
    pub client_id: String,
    /// `accepted`, or the code.
    pub code: String,
    /// Of an accepted one.
    pub message_id: Option<String>,
    /// Of an accepted one.
    pub order: Option<u64>,
    /// Of an accepted one.
    pub generation: Option<u64>,
}

/// A history, sorted by what its lines are about.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Within so long a second record of one id does not stand.
    pub dedupe_ms: u64,
    /// In groups of more than so many members nobody's receipts are records.
    pub receipts_members_max: usize,
    /// Members that groups were made with.
    pub groups: BTreeMap<String, BTreeSet<String>>,
    /// How often and as which of its sender's to that conversation each message was sent: (user, conversation, client_id) to (number, times).
    pub sends: BTreeMap<(String, String, String), (usize, usize)>,
    /// Answers, in order.
    pub answers: Vec<Answer>,
    /// What devices met.
    pub devices: BTreeMap<DeviceOf, Vec<Step>>,
    /// Pages of history: (user, conversation, limit, message ids).
    pub told: Vec<(String, String, usize, Vec<String>)>,
    /// The log, if it was dumped.
    pub records: Vec<Record>,
    /// Where epochs began.
    pub epochs: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// Records in the archive: (partition, position) to the hash of each.
    pub archived: Vec<((u64, u64), String)>,
    /// Receipts in the archive: (sender, conversation, reader) to (delivered, read).
    pub archived_receipts: BTreeMap<(String, String, String), (u64, u64)>,
    /// All that was waited for came.
    pub settled: bool,
    /// Nothing was left to derive or to archive.
    pub worked: bool,
}

impl History {
    /// Reads lines of JSON.
    ///
    /// # Errors
    /// A line is none, an answer to what was never sent, or no `end`.
    pub fn read(lines: impl BufRead) -> anyhow::Result<Self> {
        let mut history = Self { dedupe_ms: 600_000, receipts_members_max: 32, ..Self::default() };
        let (mut last, mut ended) = (BTreeMap::new(), false);
        let mut numbers: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (number, line) in lines.lines().enumerate() {
            let line = line.with_context(|| format!("line {} cannot be read", number + 1))?;
            let parsed: Line = serde_json::from_str(&line)
                .with_context(|| format!("line {} is no line of a history: {line:.200}", number + 1))?;
            ended = matches!(parsed, Line::End { .. });
            match parsed {
                Line::Send { user, conversation, client_id } => {
                    last.insert((user.clone(), client_id.clone()), conversation.clone());
                    let next = numbers.entry((user.clone(), conversation.clone())).or_default();
                    let known = history.sends.entry((user, conversation, client_id)).or_insert_with(|| {
                        *next += 1;
                        (*next, 0)
                    });
                    known.1 += 1;
                }
                Line::Outcome { user, client_id, code, message_id, order, generation } => {
                    let conversation = last.get(&(user.clone(), client_id.clone())).cloned();
                    let conversation =
                        conversation.with_context(|| format!("line {}: {user} never sent {client_id}", number + 1))?;
                    let answer = Answer { user, conversation, client_id, code, message_id, order, generation };
                    history.answers.push(answer);
                }
                other => history.add(other),
            }
        }
        anyhow::ensure!(ended, "the history is cut short: its last line is not `end`");
        Ok(history)
    }

    fn add(&mut self, line: Line) {
        match line {
            Line::Settings { dedupe_ms, receipts_members_max } => {
                (self.dedupe_ms, self.receipts_members_max) = (dedupe_ms, receipts_members_max);
            }
            Line::Group { group, members } => {
                self.groups.insert(group, members);
            }
            Line::Connect { user, device, resume, offset, gap } => {
                self.devices.entry((user, device)).or_default().push(Step::Connect(resume, offset, gap));
            }
            Line::Event { user, device, frame } => {
                self.devices.entry((user, device)).or_default().push(Step::Frame(frame));
            }
            Line::Told { user, conversation, limit, message_ids } => {
                self.told.push((user, conversation, limit, message_ids));
            }
            Line::Record(record) => self.records.push(*record),
            Line::Epoch { epoch, starts } => {
                self.epochs.insert(epoch, starts.into_iter().collect());
            }
            Line::Archived { partition, position, sha256 } => self.archived.push(((partition, position), sha256)),
            Line::ArchivedReceipt { sender, conversation, reader, delivered, read } => {
                self.archived_receipts.insert((sender, conversation, reader), (delivered, read));
            }
            Line::End { settled, worked } => (self.settled, self.worked) = (settled, worked),
            Line::Send { .. } | Line::Outcome { .. } => {}
        }
    }
}
