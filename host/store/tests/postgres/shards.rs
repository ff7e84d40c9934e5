//! An archive over several databases: which row lies where, one of them away, lists that were changed, a cut that was not finished.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Position, SystemClock, TopicPartition};
use heddle_store::{
    ArchiveBatch, Cursor, HistoryAnchor, PostgresConfig, PostgresError, PostgresShards, PostgresStore, StoreError,
};
use heddle_test_servers::{Postgres, or_skip};
use sqlx::Executor as _;

use crate::fixture::*;
use crate::steps::{batch, steps};
use crate::writers::{cases, run};
use crate::{connect, dump, number, open, until};

/// With time enough on a busy machine: a server that is stopped refuses at once.
fn config(url: &str) -> PostgresConfig {
    PostgresConfig { deadline: Duration::from_secs(30), ..crate::config(url) }
}

fn shard(nth: usize, url: &str) -> PostgresConfig {
    PostgresConfig { key: format!("store.shards[{nth}]"), ..config(url) }
}

async fn try_open(main: &str, shards: &[&str]) -> Result<PostgresShards, PostgresError> {
    let shards = shards.iter().enumerate().map(|(nth, url)| shard(nth, url)).collect();
    PostgresShards::open(config(main), shards, Arc::new(SystemClock::new())).await
}

async fn open_shards(main: &str, shards: &[&str]) -> PostgresShards {
    try_open(main, shards).await.unwrap()
}

/// Two users, the first at home in shard 0 of two, the other in shard 1; and a group of shard 1.
fn of_both() -> (String, String, String) {
    let user = |nth: u32| (0..).map(|n| format!("u{n}")).find(|name| home(name).partition % 2 == nth).unwrap();
    let group = (0..).map(|n| format!("g{n}")).find(|name| group_home(name).partition % 2 == 1).unwrap();
    (user(0), user(1), group)
}

/// A message to the user, with its cursor.
fn message(batch: &mut ArchiveBatch, to: &str, position: u64, id: u64) {
    batch.records.push(record(home(to), position, Some(id), &format!("m{id}")));
    batch.stream.push(event(to, position, "user:writer", id));
    batch.cursors.push(cursor(home(to), position));
}

#[test]
fn over_two_databases_lie_the_rows_of_one_each_once() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    cases(3, steps(), |steps| {
        run(async {
            let (whole, main, one, two) = (server.database(), server.database(), server.database(), server.database());
            let rows = batch(&steps, 0..steps.len());
            let single = open(config(&whole)).await;
            single.store().archive.write(rows.clone()).await.unwrap();
            let shards = open_shards(&main, &[&one, &two]).await;
            for _ in 0..2 {
                shards.store().archive.write(rows.clone()).await.unwrap();
            }
            let mut spread = [dump(&main).await, dump(&one).await, dump(&two).await].concat();
            spread.sort();
            // Each database has the row that counts changes of denials.
            spread.dedup_by(|a, b| a == b && a.starts_with("denial_version"));
            let mut expected = dump(&whole).await;
            expected.sort();
            assert_eq!(spread, expected);
            // Streams and cursors of a partition lie in the shard of its number.
            for (nth, url) in [&one, &two].into_iter().enumerate() {
                let mut connection = connect(url).await;
                for sql in
                    ["SELECT partition FROM cursors", "SELECT partition FROM stream", "SELECT partition FROM records"]
                {
                    let codes: Vec<i64> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
                    assert!(codes.iter().all(|code| (code / 4) as usize % 2 == nth), "{sql} of shard {nth}: {codes:?}");
                }
            }
        });
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_shard_is_away_the_other_is_written_and_read_and_afterwards_nothing_is_missing() {
    let (Some(here), Some(mut away)) = (or_skip(Postgres::shared()), or_skip(Postgres::start())) else { return };
    let (main, one, two) = (here.database(), here.database(), away.database());
    let opened = open_shards(&main, &[&one, &two]).await;
    let store = opened.store();
    let (near, far, far_group) = of_both();
    let mut first = ArchiveBatch { groups: vec![made(&far_group, 1, &[&near, &far])], ..ArchiveBatch::default() };
    message(&mut first, &near, 10, 1);
    message(&mut first, &far, 10, 2);
    store.archive.write(first).await.unwrap();
    away.stop();

    let mut second = ArchiveBatch::default();
    message(&mut second, &near, 20, 3);
    message(&mut second, &far, 20, 4);
    pulled(&mut second, &far_group, 30, &far, 5);
    second.groups.push(change(&far_group, 25, vec![joined("later")]));
    second.cursors.push(cursor(group_home(&far_group), 30));
    let refused = store.archive.write(second.clone()).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Unavailable { reason, .. } if reason.starts_with("store.shards[1]: ")),
        "{refused}"
    );
    // What lies in the other is there, with its cursor, and is read.
    let mut third = ArchiveBatch::default();
    message(&mut third, &near, 30, 6);
    store.archive.write(third).await.unwrap();
    let page = store.archive.stream(&user(&near), home(&near), at(0), 9).await.unwrap();
    assert_eq!((page.rows.len(), page.archived), (3, at(30)));
    assert_eq!(bodies(&history(&store, &near, "user:writer", HistoryAnchor::Newest, 9).await), ["m1", "m3", "m6"]);
    assert!(store.archive.cursors_of(0).await.unwrap().iter().any(|cursor| cursor.upto == at(30)));
    assert!(store.archive.message(&message_id(3)).await.unwrap().is_some());
    // Of what lies in the one that is away nobody says that it is not there.
    assert!(store.archive.stream(&user(&far), home(&far), at(0), 9).await.is_err());
    assert!(store.archive.message(&message_id(2)).await.is_err());
    assert!(store.archive.cursors().await.is_err() && store.archive.cursors_of(1).await.is_err());
    // Who belongs to a group does not depend on it.
    let row = store.groups.group(&group(&far_group)).await.unwrap().unwrap();
    assert!(row.members.iter().any(|member| member.user == user("later")), "{row:?}");
    assert!(store.groups.groups_of(&user(&near)).await.is_err());

    away.launch();
    until("the batch is written", async || store.archive.write(second.clone()).await.is_ok()).await;
    let page = store.archive.stream(&user(&far), home(&far), at(0), 9).await.unwrap();
    assert_eq!((page.rows.len(), page.archived), (2, at(20)));
    assert_eq!(store.archive.stream(&user(&near), home(&near), at(0), 9).await.unwrap().archived, at(30));
    let name = format!("group:{far_group}");
    assert_eq!(bodies(&history(&store, &near, &name, HistoryAnchor::Newest, 9).await), ["m5"]);
    assert_eq!(store.groups.groups_of(&user(&near)).await.unwrap(), [(group(&far_group), at(30))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_the_main_database_does_not_take_moves_no_cursor() {
    let (Some(here), Some(mut away)) = (or_skip(Postgres::shared()), or_skip(Postgres::start())) else { return };
    let (main, one, two) = (away.database(), here.database(), here.database());
    let store = open_shards(&main, &[&one, &two]).await.store();
    let (near, _, group_name) = of_both();
    away.stop();
    let mut batch = ArchiveBatch { groups: vec![made(&group_name, 1, &[&near])], ..ArchiveBatch::default() };
    message(&mut batch, &near, 10, 1);
    pulled(&mut batch, &group_name, 30, &near, 2);
    batch.cursors.push(cursor(group_home(&group_name), 30));
    assert!(store.archive.write(batch.clone()).await.is_err());
    assert!(store.archive.cursors().await.unwrap().is_empty());
    away.launch();
    until("it is written", async || store.archive.write(batch.clone()).await.is_ok()).await;
    assert_eq!(store.archive.cursors().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_was_changed_is_refused_and_says_what_belongs_there() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let (main, one, two, other) = (server.database(), server.database(), server.database(), server.database());
    open_shards(&main, &[&one, &two]).await.close().await;
    open_shards(&main, &[&one, &two]).await.close().await;
    let empty = || server.database();
    let single = server.database();
    let mut archived = ArchiveBatch::default();
    message(&mut archived, "bob", 10, 1);
    open(config(&single)).await.store().archive.write(archived).await.unwrap();
    open_shards(&other, &[&empty(), &empty()]).await.close().await;
    for (main, list, key, words) in [
        (
            &main,
            vec![two.clone(), one.clone()],
            "store.shards[0]: ",
            "it is shard 1 of 2, and stands in the list as 0 of 2",
        ),
        (&main, vec![one.clone(), two.clone(), empty()], "store.url: ", "lies in 2 shards, and store.shards names 3"),
        (&main, vec![one.clone(), empty()], "store.shards[1]: ", "shard 1 was begun in another database"),
        (&main, vec![one.clone(), other.clone()], "store.shards[1]: ", "it is a main database"),
        (&other, vec![one.clone(), two.clone()], "store.shards[0]: ", "a shard of another main database"),
        (&one, vec![two.clone(), empty()], "store.url: ", "it is a shard"),
        (&single, vec![empty(), empty()], "store.url: ", "it holds an archive of its own"),
        (&empty(), vec![empty(), single.clone()], "store.shards[1]: ", "it holds an archive of its own"),
    ] {
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let error = try_open(main, &list).await.unwrap_err().to_string();
        assert!(error.starts_with(key) && error.contains(words), "{key}{words}: {error}");
    }
    for (url, words) in [(&main, "the main one of 2 shards"), (&one, "one of 2 shards")] {
        let error = PostgresStore::open(config(url), Arc::new(SystemClock::new())).await.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("store.shards"), "{error}");
    }
    open_shards(&main, &[&one, &two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_that_stopped_before_the_shards_heard_of_it_is_finished_by_whoever_comes_next() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let (main, one, two) = (server.database(), server.database(), server.database());
    let store = open_shards(&main, &[&one, &two]).await.store();
    let identity = [5; 16];
    let (even, odd) = (TopicPartition::messages(2), TopicPartition::messages(3));
    let cursors = |upto| ArchiveBatch {
        cursors: [even, odd].into_iter().map(|partition| Cursor { upto, ..cursor(partition, 0) }).collect(),
        ..ArchiveBatch::default()
    };
    assert_eq!(store.epochs.epoch(identity, 8, &[(even, 0), (odd, 0)]).await.unwrap(), 0);
    store.archive.write(cursors(Position::new(0, 4))).await.unwrap();
    store.archive.keep_derived(&[(even, Position::new(0, 4)), (odd, Position::new(0, 4))]).await.unwrap();
    let starts = [(even, 5), (odd, 5)];
    assert_eq!(store.epochs.repartition(identity, 16, &starts).await.unwrap(), Some(1));
    let moved = Position(Position::new(1, 5).0 - 1);
    for again in ["a start", "the same cut"] {
        // As it is when the node that cut died after the main database had decided: one shard has heard of it.
        let before = format!("UPDATE cursors SET upto = {}", Position::new(0, 4).0);
        connect(&two).await.execute(sqlx::AssertSqlSafe(before)).await.unwrap();
        let late = store.archive.write(cursors(Position::new(0, 6))).await.unwrap_err();
        assert!(late.to_string().contains("cut anew"), "{late}");
        assert_eq!(
            number(&mut connect(&two).await, "SELECT max(upto) FROM cursors").await as u64,
            Position::new(0, 4).0
        );
        match again {
            "a start" => assert_eq!(store.epochs.epoch(identity, 16, &[(even, 5), (odd, 5)]).await.unwrap(), 1),
            _ => assert_eq!(store.epochs.repartition(identity, 16, &starts).await.unwrap(), Some(1)),
        }
        let stand: Vec<Position> = store.archive.cursors().await.unwrap().iter().map(|cursor| cursor.upto).collect();
        assert_eq!(stand, [moved, moved], "{again}");
        assert_eq!(store.epochs.holes().await.unwrap(), []);
    }
    // Users would move to other shards.
    for refused in
        [store.epochs.epoch(identity, 15, &[]).await.map(Some), store.epochs.repartition(identity, 17, &[]).await]
    {
        assert!(refused.unwrap_err().to_string().contains("a multiple of 2"));
    }
    assert_eq!(store.epochs.newest().await.unwrap(), Some((identity, 16)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_of_a_group_joins_both_shards_and_pages_over_both() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let store = open_shards(&server.database(), &[&server.database(), &server.database()]).await.store();
    // The viewer lies in shard 0, the group in shard 1.
    let (viewer, sender, name) = of_both();
    let conversation = format!("group:{name}");
    let mut batch = ArchiveBatch { groups: vec![made(&name, 1, &[&viewer, &sender])], ..ArchiveBatch::default() };
    for order in [10, 20, 30, 40] {
        pulled(&mut batch, &name, order, if order == 30 { &viewer } else { &sender }, order);
    }
    // The viewer's own copy of the third, and a message that was pushed.
    for (position, order) in [(500, 30), (501, 25)] {
        batch.records.push(record(home(&viewer), position, None, &format!("copy {order}")));
        let copy = event(&viewer, position, &conversation, order);
        batch.stream.push(heddle_store::StreamRow { order: at(order), incoming: order == 25, ..copy });
    }
    store.archive.write(batch).await.unwrap();
    let page = async |anchor, limit| {
        let page = history(&store, &viewer, &conversation, anchor, limit).await;
        (bodies(&page).into_iter().map(str::to_owned).collect::<Vec<_>>(), page.more)
    };
    let all = ["m10", "m20", "copy 25", "copy 30", "m40"].map(str::to_owned);
    assert_eq!(page(HistoryAnchor::Newest, 9).await, (all.to_vec(), false));
    assert_eq!(page(HistoryAnchor::Newest, 2).await, (all[3..].to_vec(), true));
    assert_eq!(page(HistoryAnchor::Before(message_id(30)), 2).await, (all[1..3].to_vec(), true));
    assert_eq!(page(HistoryAnchor::Before(message_id(20)), 2).await, (all[..1].to_vec(), false));
    assert_eq!(page(HistoryAnchor::After(message_id(20)), 2).await, (all[2..4].to_vec(), true));
    assert_eq!(page(HistoryAnchor::After(message_id(25)), 9).await, (all[3..].to_vec(), false));
    let listed = store.archive.conversations(&user(&viewer), home(&viewer), 9).await.unwrap();
    let seen: Vec<_> = listed.iter().map(|row| (row.last.as_deref(), row.unread, row.order)).collect();
    assert_eq!(seen, [(Some(&b"m40"[..]), 4, at(40))]);
    // Once out, what comes later is not shown.
    let mut later = ArchiveBatch { groups: vec![change(&name, 45, vec![left(&viewer)])], ..ArchiveBatch::default() };
    pulled(&mut later, &name, 50, &sender, 50);
    store.archive.write(later).await.unwrap();
    assert_eq!(page(HistoryAnchor::Newest, 9).await, (all.to_vec(), false));
    assert_eq!(page(HistoryAnchor::After(message_id(50)), 9).await.0, Vec::<String>::new());
}
