//! What a member may see, against a model of intervals.

use std::collections::BTreeMap;

use heddle_model::Role;
use heddle_store::{ArchiveBatch, GroupDelta, HistoryAnchor, MemberDelta, Store};
use proptest::prelude::*;

use crate::fixture::*;
use crate::{open, run};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

#[derive(Debug, Clone)]
enum Step {
    Change(Vec<(usize, u8)>),
    /// By whom, and for whom alone.
    Message(usize, Option<Vec<usize>>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let user = 0..USERS.len();
    let change = proptest::collection::vec((user.clone(), 0..3u8), 1..5).prop_map(Step::Change);
    let only = proptest::option::weighted(0.2, proptest::collection::vec(user.clone(), 0..3));
    proptest::collection::vec(
        prop_oneof![2 => change, 3 => (user, only).prop_map(|(by, only)| Step::Message(by, only))],
        1..40,
    )
}

/// Intervals [joined, left) of each member.
#[derive(Default)]
struct Model(BTreeMap<usize, Vec<(u64, Option<u64>)>>);

impl Model {
    fn apply(&mut self, order: u64, changes: &[(usize, u8)]) {
        for (member, what) in changes {
            let intervals = self.0.entry(*member).or_default();
            let open = intervals.last_mut().filter(|(_, left)| left.is_none());
            match (what, open) {
                (0, None) => match intervals.last_mut() {
                    Some(last) if last.0 == order => last.1 = None,
                    _ => intervals.push((order, None)),
                },
                (1, Some(open)) => open.1 = Some(order),
                _ => {}
            }
        }
    }

    fn was_member(&self, member: usize, order: u64) -> bool {
        let intervals = self.0.get(&member).map_or(&[][..], Vec::as_slice);
        intervals.iter().any(|(joined, left)| *joined <= order && left.is_none_or(|left| order < left))
    }

    fn is_member(&self, member: usize) -> bool {
        self.was_member(member, u64::MAX)
    }
}

fn deltas(changes: &[(usize, u8)]) -> Vec<MemberDelta> {
    let delta = |(member, what): &(usize, u8)| match what {
        0 => joined(USERS[*member]),
        1 => left(USERS[*member]),
        _ => MemberDelta::Role(user(USERS[*member]), Role::Admin),
    };
    changes.iter().map(delta).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn a_member_sees_what_was_sent_while_it_was_one(steps in steps(), page in 1..6u32) {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let opened = open(&directory.path().join("store.db")).await;
            let store = opened.store();
            let (mut model, mut messages) = (Model::default(), Vec::new());
            let mut batch = ArchiveBatch { groups: vec![made("g", 1, &["alice", "bob"])], ..ArchiveBatch::default() };
            model.apply(1, &[(0, 0), (1, 0)]);
            for (step, order) in steps.iter().zip((10..).step_by(10)) {
                match step {
                    Step::Change(changes) => {
                        batch.groups.push(GroupDelta { ..change("g", order, deltas(changes)) });
                        model.apply(order, changes);
                    }
                    Step::Message(by, only) => {
                        pulled(&mut batch, "g", order, USERS[*by], order);
                        batch.group_log.last_mut().unwrap().only =
                            only.as_ref().map(|only| only.iter().map(|one| user(USERS[*one])).collect());
                        messages.push((order, *by, only.clone()));
                    }
                }
            }
            store.archive.write(batch).await.unwrap();
            for (nth, name) in USERS.iter().enumerate() {
                let may_see = |(order, by, only): &&(u64, usize, Option<Vec<usize>>)| {
                    model.was_member(nth, *order) && only.as_ref().is_none_or(|only| *by == nth || only.contains(&nth))
                };
                let seen: Vec<_> = messages.iter().filter(may_see).map(|(order, ..)| *order).collect();
                assert_eq!(walk(&store, name, page, false).await, seen, "{name}, newest first");
                assert_eq!(walk(&store, name, page, true).await, seen, "{name}, oldest first");
                let head = seen.last().copied().unwrap_or(0);
                let groups = store.groups.groups_of(&user(name)).await.unwrap();
                assert_eq!(groups, if model.is_member(nth) { vec![(group("g"), at(head))] } else { Vec::new() }, "{name}");
                let listed = store.archive.conversations(&user(name), home(name), 9).await.unwrap();
                assert_eq!(listed.len(), usize::from(model.is_member(nth) || head > 0), "{name}");
                let by_others = |order: &&u64| messages.iter().any(|(at, by, _)| at == *order && *by != nth);
                let unread = seen.iter().filter(by_others).count() as u64;
                assert_eq!(listed.first().map_or(0, |row| row.unread), unread, "{name}");
                let share = store.groups.share_a_group(&user("alice"), &[user(name)]).await.unwrap();
                assert_eq!(share, [model.is_member(0) && model.is_member(nth)], "{name}");
            }
            opened.close().await;
        });
    }
}

/// All that the viewer sees, page by page, oldest first.
async fn walk(store: &Store, viewer: &str, limit: u32, upwards: bool) -> Vec<u64> {
    let mut page = history(store, viewer, "group:g", HistoryAnchor::Newest, if upwards { 100 } else { limit }).await;
    let orders = |page: &heddle_store::HistoryPage| page.rows.iter().map(|row| row.order.0).collect::<Vec<_>>();
    let mut seen = orders(&page);
    if upwards {
        // From the oldest on.
        seen.truncate(1);
        page.more = true;
    }
    while page.more && !seen.is_empty() {
        let (first, last) = (message_id(seen[0]), message_id(seen[seen.len() - 1]));
        let anchor = if upwards { HistoryAnchor::After(last) } else { HistoryAnchor::Before(first) };
        page = history(store, viewer, "group:g", anchor, limit).await;
        if upwards {
            seen.extend(orders(&page));
        } else {
            seen.splice(0..0, orders(&page));
        }
    }
    seen
}
