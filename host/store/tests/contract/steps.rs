//! Steps of a log, and the rows that they make: for properties over batches.

use heddle_model::{ReceiptStatus, Role};
use heddle_store::{ArchiveBatch, DeadLetter, GroupDelta, MemberDelta, ReceiptRow, StreamRow};
use proptest::prelude::*;

use crate::fixture::*;

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const GROUPS: [&str; 2] = ["g", "h"];

/// One record of the log, without its place.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Message { to: usize, from: usize, lamport: u64, incoming: bool },
    GroupMessage { group: usize, from: usize, pulled: bool, discarded: bool, only: Option<usize> },
    Receipt { by: usize, of: usize, read: bool, order: u64 },
    Made { group: usize, by: usize },
    Changed { group: usize, member: usize, what: u8 },
    Notice { to: usize },
    Dead { to: usize },
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (user, group) = (0..USERS.len(), 0..GROUPS.len());
    let step = prop_oneof![
        4 => (user.clone(), user.clone(), 0..50u64, any::<bool>())
            .prop_map(|(to, from, lamport, incoming)| Step::Message { to, from, lamport, incoming }),
        3 => (group.clone(), user.clone(), any::<bool>(), proptest::bool::weighted(0.2), proptest::option::of(user.clone()))
            .prop_map(|(group, from, pulled, discarded, only)| Step::GroupMessage { group, from, pulled, discarded, only }),
        3 => (user.clone(), user.clone(), any::<bool>(), 0..60u64)
            .prop_map(|(by, of, read, order)| Step::Receipt { by, of, read, order }),
        2 => (group.clone(), user.clone()).prop_map(|(group, by)| Step::Made { group, by }),
        4 => (group, user.clone(), 0..6u8).prop_map(|(group, member, what)| Step::Changed { group, member, what }),
        1 => user.clone().prop_map(|to| Step::Notice { to }),
        1 => user.prop_map(|to| Step::Dead { to }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The rows of the step at this place.
fn add(batch: &mut ArchiveBatch, step: &Step, nth: usize) {
    let (position, id) = (10 * (nth as u64 + 1), nth as u64 + 1);
    match *step {
        Step::Message { to, from, lamport, incoming } => {
            let (to, from) = (USERS[to], USERS[from]);
            batch.records.push(record(home(to), position, incoming.then_some(id), &format!("m{id}")));
            batch.stream.push(StreamRow { lamport, incoming, ..event(to, position, &format!("user:{from}"), id) });
            batch.users.push((user(from), 5_000 - position));
            batch.cursors.push(cursor(home(to), position));
        }
        Step::GroupMessage { group, from, pulled: is_pulled, discarded, only } => {
            pulled(batch, GROUPS[group], position, USERS[from], id);
            let row = batch.group_log.last_mut().unwrap();
            (row.pulled, row.discarded) = (is_pulled, discarded);
            row.only = only.map(|only| vec![user(USERS[only])]);
            batch.cursors.push(cursor(group_home(GROUPS[group]), position));
        }
        Step::Receipt { by, of, read, order } => {
            batch.receipts.push(ReceiptRow {
                sender: user(USERS[of]),
                conversation: conversation(&format!("user:{}", USERS[by])),
                by: user(USERS[by]),
                status: if read { ReceiptStatus::Read } else { ReceiptStatus::Delivered },
                order: at(order),
                at: position,
            });
            batch.cursors.push(cursor(home(USERS[of]), position));
        }
        Step::Made { group, by } => {
            batch.groups.push(made(GROUPS[group], position, &[USERS[by], USERS[0], USERS[1]]));
            batch.cursors.push(cursor(group_home(GROUPS[group]), position));
        }
        Step::Changed { group, member, what } => {
            let name = USERS[member];
            let members = match what {
                0 | 1 => vec![joined(name)],
                2 => vec![left(name)],
                3 => vec![left(name), joined(name)],
                4 => vec![MemberDelta::Role(user(name), Role::Admin), joined(USERS[3])],
                _ => Vec::new(),
            };
            let renamed = (what == 5).then(|| format!("renamed at {position}").into());
            batch.groups.push(GroupDelta { name: renamed, ..change(GROUPS[group], position, members) });
            batch.cursors.push(cursor(group_home(GROUPS[group]), position));
        }
        Step::Notice { to } => {
            batch.records.push(record(home(USERS[to]), position, None, "a notice"));
            batch.stream.push(notice(USERS[to], position));
            batch.cursors.push(cursor(home(USERS[to]), position));
        }
        Step::Dead { to } => {
            batch.dead.push(DeadLetter {
                partition: home(USERS[to]),
                position: at(position),
                by: if id % 2 == 0 { "worker" } else { "archiver" },
                error: format!("no record at {position}"),
                at: position,
                bytes: vec![nth as u8; 9].into(),
            });
            batch.cursors.push(cursor(home(USERS[to]), position));
        }
    }
}

/// The rows of these steps.
pub(crate) fn batch(steps: &[Step], range: std::ops::Range<usize>) -> ArchiveBatch {
    let mut batch = ArchiveBatch::default();
    for nth in range {
        add(&mut batch, &steps[nth], nth);
    }
    batch
}

/// `parts`: how far each batch goes on, how far before the end of the last one it starts, and how often it is written.
pub(crate) fn parts() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    proptest::collection::vec((1..9usize, 0..12usize, 1..3usize), 1..12)
}

/// The batches of an archiver that starts again and again, from the very start too, as after a database that was restored.
pub(crate) fn batches(steps: &[Step], parts: &[(usize, usize, usize)]) -> Vec<ArchiveBatch> {
    let (mut batches, mut reached) = (Vec::new(), 0);
    for &(more, back, times) in parts {
        let range = reached - reached.min(back)..(reached + more).min(steps.len());
        reached = range.end;
        batches.extend((0..times).map(|_| batch(steps, range.clone())));
    }
    batches.push(batch(steps, reached - reached.min(3)..steps.len()));
    batches.push(batch(steps, 0..steps.len()));
    batches
}
