//! Rules of `KeyedStates`.

use std::sync::Arc;

use heddle_registry::{Swap, Versioned};

use crate::worlds::{Node, World};

const DAY: u64 = 86_400_000;

async fn get(node: &Node, key: &str) -> Option<Versioned> {
    node.states.get(key).await.unwrap()
}

async fn swap(node: &Node, key: &str, seen: u64, bytes: &[u8], keep: u64) -> Swap {
    node.states.swap(key, seen, bytes, keep).await.unwrap()
}

async fn store(node: &Node, key: &str, seen: u64, bytes: &[u8], keep: u64) -> u64 {
    match swap(node, key, seen, bytes, keep).await {
        Swap::Done(version) => version,
        Swap::Conflict(there) => panic!("{key} should have version {seen}, has {there:?}"),
    }
}

pub(crate) async fn a_state_is_read_as_it_was_stored_by_whoever_stored_it(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    assert_eq!(get(&n1, "k").await, None);
    let every_byte: Vec<u8> = (0..=255).collect();
    let texts: [(&str, &[u8]); 4] =
        [("k", &every_byte), ("p/1/user/{alice} ü", b"plain"), ("nul", b"\0"), ("digits", b"42")];
    for (key, bytes) in texts {
        let version = store(&n1, key, 0, bytes, DAY).await;
        assert!(version > 0);
        assert_eq!(get(&n2, key).await, Some(Versioned { bytes: bytes.to_vec().into(), version }));
    }
}

pub(crate) async fn a_change_needs_the_version_that_is_there(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    let first = store(&n1, "k", 0, b"1", DAY).await;
    let second = store(&n2, "k", first, b"2", DAY).await;
    assert!(second > first);
    let there = Some(Versioned { bytes: b"2".to_vec().into(), version: second });
    assert_eq!(swap(&n1, "k", first, b"x", DAY).await, Swap::Conflict(there.clone()));
    assert_eq!(swap(&n1, "k", 0, b"x", DAY).await, Swap::Conflict(there.clone()));
    assert_eq!(swap(&n1, "k", first, b"", DAY).await, Swap::Conflict(there.clone()));
    assert_eq!(get(&n1, "k").await, there);
    assert_eq!(swap(&n1, "none", second, b"x", DAY).await, Swap::Conflict(None));
}

pub(crate) async fn of_many_changes_at_once_none_is_lost(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    let count = |turn: usize| {
        let states = Arc::clone(if turn.is_multiple_of(2) { &n1.states } else { &n2.states });
        tokio::spawn(async move {
            for _ in 0..25 {
                let mut there = states.get("count").await.unwrap();
                loop {
                    let (seen, number) = there.as_ref().map_or((0, 0), |state| {
                        (state.version, std::str::from_utf8(&state.bytes).unwrap().parse::<u64>().unwrap())
                    });
                    match states.swap("count", seen, (number + 1).to_string().as_bytes(), DAY).await.unwrap() {
                        Swap::Done(_) => break,
                        Swap::Conflict(other) => there = other,
                    }
                }
            }
        })
    };
    for task in (0..8).map(count).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(get(&n1, "count").await.unwrap().bytes, "200");
}

pub(crate) async fn a_state_ends_with_its_time_and_its_version_never_returns(world: &World) {
    let n1 = world.node("n1").await;
    let first = store(&n1, "k", 0, b"1", 50).await;
    world.pass("a state ends", 51, async || get(&n1, "k").await.is_none()).await;
    assert_eq!(swap(&n1, "k", first, b"late", DAY).await, Swap::Conflict(None));
    let second = store(&n1, "k", 0, b"2", DAY).await;
    assert!(second > first, "{second} after {first}: whoever still holds the first could overwrite the second");
}

pub(crate) async fn no_bytes_or_no_time_forget(world: &World) {
    let n1 = world.node("n1").await;
    let first = store(&n1, "k", 0, b"1", DAY).await;
    assert_eq!(swap(&n1, "k", first, b"", DAY).await, Swap::Done(0));
    assert_eq!(get(&n1, "k").await, None);
    let second = store(&n1, "k", 0, b"2", DAY).await;
    assert_eq!(swap(&n1, "k", second, b"3", 0).await, Swap::Done(0));
    assert_eq!(get(&n1, "k").await, None);
}
