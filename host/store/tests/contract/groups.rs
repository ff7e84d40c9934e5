//! Groups and their intervals.

use heddle_model::Role;
use heddle_store::{ArchiveBatch, GroupDelta, GroupMember, MemberDelta, Store};

use crate::fixture::*;

async fn apply(store: &Store, groups: Vec<GroupDelta>) {
    store.archive.write(ArchiveBatch { groups, ..ArchiveBatch::default() }).await.unwrap();
}

fn member(name: &str, role: Role, joined: u64, left: Option<u64>) -> GroupMember {
    GroupMember { user: user(name), role, joined: at(joined), left: left.map(at) }
}

pub(crate) async fn a_group_keeps_every_interval(store: &Store) {
    let renamed = GroupDelta { name: Some("other".into()), ..change("g", 50, Vec::new()) };
    apply(
        store,
        vec![
            made("g", 10, &["alice", "bob"]),
            change("g", 20, vec![joined("bob"), joined("carol"), left("bob")]),
            change("g", 30, vec![MemberDelta::Role(user("carol"), Role::Admin)]),
            change("g", 40, vec![joined("bob")]),
            renamed,
        ],
    )
    .await;
    let row = store.groups.group(&group("g")).await.unwrap().unwrap();
    assert_eq!((&*row.name, row.created_at, row.order, row.deleted), ("other", 10, at(50), false));
    assert_eq!(row.created_by, user("alice"));
    assert_eq!(
        row.members,
        [
            member("alice", Role::Admin, 10, None),
            member("bob", Role::Member, 10, Some(20)),
            member("bob", Role::Member, 40, None),
            member("carol", Role::Admin, 20, None),
        ]
    );
    assert_eq!(store.groups.group(&group("h")).await.unwrap(), None);
}

pub(crate) async fn a_change_that_is_not_newer_changes_nothing(store: &Store) {
    let changes = vec![made("g", 10, &["alice", "bob"]), change("g", 20, vec![left("bob")])];
    apply(store, changes.clone()).await;
    let before = store.groups.group(&group("g")).await.unwrap();
    apply(store, changes.clone()).await;
    apply(store, vec![changes[0].clone(), change("g", 15, vec![joined("carol")])]).await;
    assert_eq!(store.groups.group(&group("g")).await.unwrap(), before);
}

pub(crate) async fn a_deleted_group_has_no_open_interval(store: &Store) {
    let deleted = GroupDelta { deleted: true, ..change("g", 20, vec![left("alice")]) };
    apply(store, vec![made("g", 10, &["alice", "bob"]), deleted]).await;
    let row = store.groups.group(&group("g")).await.unwrap().unwrap();
    assert!(row.deleted);
    assert!(row.members.iter().all(|member| member.left == Some(at(20))));
    assert!(store.groups.groups_of(&user("bob")).await.unwrap().is_empty());
}

pub(crate) async fn heads_are_what_the_member_may_pull(store: &Store) {
    let mut batch = ArchiveBatch {
        groups: vec![
            made("g", 1, &["alice", "bob", "carol"]),
            change("g", 25, vec![left("bob")]),
            change("g", 40, vec![joined("bob"), left("carol")]),
            made("h", 1, &["bob"]),
        ],
        ..ArchiveBatch::default()
    };
    for order in [10, 20, 30] {
        pulled(&mut batch, "g", order, "alice", order);
    }
    batch.group_log[2].pulled = false;
    pulled(&mut batch, "g", 35, "alice", 35);
    store.archive.write(batch).await.unwrap();
    assert_eq!(store.groups.groups_of(&user("alice")).await.unwrap(), [(group("g"), at(35))]);
    let bobs = store.groups.groups_of(&user("bob")).await.unwrap();
    assert_eq!(bobs, [(group("g"), at(20)), (group("h"), at(0))]);
    assert!(store.groups.groups_of(&user("carol")).await.unwrap().is_empty());
    assert_eq!(store.groups.group(&group("g")).await.unwrap().unwrap().head, at(35));
}

pub(crate) async fn users_share_a_group_only_while_both_are_in_it(store: &Store) {
    apply(store, vec![made("g", 1, &["alice", "bob", "carol"]), change("g", 2, vec![left("carol")])]).await;
    let others = [user("bob"), user("carol"), user("dave"), user("bob")];
    assert_eq!(store.groups.share_a_group(&user("alice"), &others).await.unwrap(), [true, false, false, true]);
    assert!(store.groups.share_a_group(&user("alice"), &[]).await.unwrap().is_empty());
}

pub(crate) async fn a_change_of_an_unknown_group_changes_nothing(store: &Store) {
    apply(store, vec![change("g", 5, vec![joined("bob")])]).await;
    assert_eq!(store.groups.group(&group("g")).await.unwrap(), None);
    assert!(store.groups.groups_of(&user("bob")).await.unwrap().is_empty());
}
