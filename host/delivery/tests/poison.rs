//! A record that fails for its own sake is isolated, kept, counted and passed, by whoever meets it: the partition goes on. (DELIVERY 13)

mod world;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use heddle_log::Log as _;
use heddle_model::{Position, Record, TopicPartition};
use heddle_store::DeadLetterRow;
use world::{World, direct, user};

/// What the archive has of a user, by text.
async fn archived(world: &World, name: &str) -> Vec<String> {
    let home = world.home(name);
    let page = world.store.archive.stream(&user(name), home, Position::START, 100).await.unwrap();
    let text = |bytes: &Bytes| Record::decode(bytes).unwrap().message().and_then(|message| message.text.clone());
    page.rows.iter().filter_map(|row| text(&row.bytes)).map(|text| text.to_string()).collect()
}

async fn dead(world: &World) -> Vec<(TopicPartition, u64, String)> {
    let rows = world.store.archive.dead_letters(100).await.unwrap();
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|DeadLetterRow { partition, position, by, .. }| (partition, position.0, by.to_string()))
        .collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn a_record_that_does_not_decode_is_given_up_by_worker_and_archiver_and_what_follows_comes() {
    let world = World::new().await;
    let _counting = metrics::set_default_local_recorder(&*world.counters);
    let home = world.home("bob");
    for bytes in [
        direct("alice", "bob", "before", 1).encode(),
        Bytes::from_static(b"\x01no record"),
        direct("alice", "bob", "behind", 2).encode(),
    ] {
        world.log.append(home, None, bytes).await.unwrap();
    }
    let delivery = world.deliver().await;
    world.until(async || archived(&world, "bob").await.len() == 2, "what is behind it is archived").await;
    assert_eq!(archived(&world, "bob").await, ["before", "behind"]);
    let place = delivery.numbering().position(1).0;
    assert_eq!(dead(&world).await, [(home, place, "archiver".to_owned()), (home, place, "worker".to_owned())]);
    let rows = world.store.archive.dead_letters(1).await.unwrap();
    assert!(rows[0].error.contains("10 bytes does not decode") && rows[0].bytes == 10, "{rows:?}");
    assert!(world.counters.dead.load(Ordering::Relaxed) >= 1, "it is not counted");
    // The sender's own copies too: the worker went on.
    world.until(async || archived(&world, "alice").await.len() == 2, "the own copies are archived").await;
    assert_eq!(world.counters.passed.load(Ordering::Relaxed), 0, "a log of one node has all its readers here");
}

#[tokio::test]
async fn at_a_record_of_a_newer_build_the_partition_stands_still_and_nothing_is_given_up() {
    let world = World::new().await;
    let (home, other) = (world.home("bob"), world.home("carol"));
    assert_ne!(home, other);
    let behind = direct("alice", "bob", "behind", 2).encode();
    for bytes in [direct("alice", "bob", "before", 1).encode(), Bytes::from_static(b"\xffof tomorrow"), behind] {
        world.log.append(home, None, bytes).await.unwrap();
    }
    let _delivery = world.deliver().await;
    world.until(async || archived(&world, "bob").await == ["before"], "what is before it is archived").await;
    world.log.append(other, None, direct("alice", "carol", "elsewhere", 3).encode()).await.unwrap();
    world.until(async || archived(&world, "carol").await == ["elsewhere"], "other partitions go on").await;
    world.until(async || archived(&world, "alice").await.len() == 2, "and so do their copies").await;
    assert_eq!(archived(&world, "bob").await, ["before"]);
    assert_eq!(dead(&world).await, []);
    assert_eq!(world.log.derived(home), 1, "the cursor passed what was not understood");
}

#[tokio::test]
async fn a_record_that_the_store_refuses_is_found_by_halving_and_the_others_of_its_batch_are_archived() {
    let world = World::new().await;
    let _counting = metrics::set_default_local_recorder(&*world.counters);
    let home = world.home("bob");
    for number in 0..9 {
        // No gateway takes such a time; a row of the archive has no room for it.
        let lamport = if number == 5 { u64::MAX } else { number };
        world.log.append(home, None, direct("alice", "bob", &format!("m{number}"), lamport).encode()).await.unwrap();
    }
    let delivery = world.deliver().await;
    let upto = delivery.numbering().upto(9);
    let passed = async || {
        let cursors = world.store.archive.cursors().await.unwrap();
        cursors.iter().any(|cursor| cursor.partition == home && cursor.upto == upto)
    };
    world.until(passed, "the cursor passes it").await;
    let others: Vec<_> = (0..9).filter(|number| *number != 5).map(|number| format!("m{number}")).collect();
    assert_eq!(archived(&world, "bob").await, others);
    // Its own copy, in alice's stream, fares alike.
    world.until(async || archived(&world, "alice").await.len() == 8, "the own copies are archived").await;
    world.until(async || dead(&world).await.len() == 2, "both are given up").await;
    let place = delivery.numbering().position(5).0;
    let dead = dead(&world).await;
    assert!(dead.contains(&(home, place, "archiver".to_owned())), "{dead:?}");
    assert!(dead.iter().any(|(partition, ..)| *partition == world.home("alice")), "{dead:?}");
    assert_eq!(world.counters.dead.load(Ordering::Relaxed), 2);
    // It lives on: the next message is archived without anybody's help.
    world.log.append(home, None, direct("alice", "bob", "later", 9).encode()).await.unwrap();
    world.until(async || archived(&world, "bob").await.len() == 9, "the next one is archived").await;
}
