//! The rules: each goes through one outage.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;
use heddle_log::{AppendError, Appended, Derived, Log, Place};
use heddle_model::{MessageId, Offset, TopicPartition};

use super::stage::{Lane, Stage};
use crate::{place, text};

/// Records that a worker makes in one go.
const DERIVED: usize = 40;

fn id(lane: Lane, n: usize) -> MessageId {
    let mut id = [lane.source.partition as u8; 16];
    id[..8].copy_from_slice(&(n as u64).to_be_bytes());
    MessageId(id)
}

/// Everything in a partition up to its head, as it lies there; with what repeats another, where that one stands.
async fn all(log: &dyn Log, partition: TopicPartition) -> Vec<(Offset, Bytes, Option<Offset>)> {
    let (mut next, head, mut seen) = (0, *log.head(partition).borrow(), Vec::new());
    while next < head {
        let batch = log.read(partition, next, 1 << 10).await.unwrap();
        next = batch.next;
        seen.extend(batch.in_order().into_iter().map(|(stored, first)| (stored.offset, stored.bytes, first)));
    }
    let offsets: Vec<_> = seen.iter().map(|(offset, ..)| *offset).collect();
    assert_eq!(offsets, (0..head).collect::<Vec<_>>(), "{partition} has holes");
    seen
}

/// An append that must fail, in time, whether it is refused or nobody knows.
async fn fails(stage: &Stage, lane: Lane, id: Option<MessageId>, n: usize) {
    let log = stage.log();
    let (answer, took) = stage.timed("an append", log.append(lane.source, id, text(n))).await;
    assert!(answer.is_err(), "{n} was accepted while nothing could hold it: {answer:?}");
    assert!(took < stage.append_max, "{n} took {took:?} to fail");
}

/// Appends until it works.
async fn append_again(stage: &Stage, lane: Lane, n: usize) -> Place {
    let again = async {
        loop {
            match stage.log().append(lane.source, Some(id(lane, n)), text(n)).await {
                Ok(Appended::New(place) | Appended::Existing(place)) => return place,
                Err(AppendError::Unknown { .. } | AppendError::Refused { .. }) => tokio::task::yield_now().await,
            }
        }
    };
    stage.timed("an append works again", again).await.0
}

pub(super) async fn appends_fail_in_time_and_stand_once_when_they_are_sent_again(stage: &Stage, lane: Lane) {
    const BEFORE: usize = 5;
    const ALL: usize = 25;
    let mut known = Vec::new();
    for n in 0..BEFORE {
        known.push(place(&*stage.log(), lane.source, Some(id(lane, n)), text(n)).await);
    }
    stage.broken().await;
    join_all((BEFORE..ALL).map(|n| fails(stage, lane, Some(id(lane, n)), n))).await;
    // What is there is never new, whoever can tell.
    let (again, _) = stage.timed("an append", stage.log().append(lane.source, Some(id(lane, 0)), text(0))).await;
    assert!(matches!(again, Ok(Appended::Existing(there)) if there == known[0]) || again.is_err(), "{again:?}");
    stage.mended().await;

    for n in BEFORE..ALL {
        known.push(append_again(stage, lane, n).await);
    }
    let (seen, mut stands) = (all(&*stage.log(), lane.source).await, BTreeMap::new());
    for (offset, bytes, _) in seen.iter().filter(|(.., first)| first.is_none()) {
        assert_eq!(stands.insert(bytes.clone(), *offset), None, "{bytes:?} stands twice");
    }
    assert_eq!(stands.len(), ALL, "{:?}", stands.keys());
    for (n, place) in known.iter().enumerate() {
        let (.., repeats) = &seen[place.offset as usize];
        assert_eq!(stands[&text(n)], repeats.unwrap_or(place.offset), "{n} was said to be elsewhere");
        assert!(n >= BEFORE || place.offset == n as Offset, "{n} has moved");
    }
}

pub(super) async fn what_was_acknowledged_is_read_as_before_and_no_question_hangs(stage: &Stage, lane: Lane) {
    const COUNT: usize = 30;
    let mut first = None;
    for n in 0..COUNT {
        let place = place(&*stage.log(), lane.source, Some(id(lane, n)), text(n)).await;
        first = first.or(Some(place));
    }
    let there: Vec<_> = (0..COUNT).map(|n| (n as Offset, text(n), None)).collect();
    let (heard, unheard) = (id(lane, 0), id(lane, COUNT));
    // A follower may be behind the answer that its record is there.
    let whole = async || all(&*stage.log(), lane.source).await == there;
    assert!(stage.timed("all is read", whole()).await.0);

    stage.broken().await;
    let log = stage.log();
    assert!(stage.timed("a read", whole()).await.0, "what was acknowledged is not as it was");
    let (known, unknown, elsewhere, head) = stage
        .timed("a question", async {
            tokio::join!(
                log.lookup(&heard, true),
                log.lookup(&unheard, false),
                log.lookup(&unheard, true),
                log.head_now(lane.source),
            )
        })
        .await
        .0;
    // Who cannot tell says so, and nobody says what is not known.
    assert!(known.is_err() || known == Ok(first), "{known:?}");
    assert!(unknown.is_err() || unknown == Ok(None), "{unknown:?}");
    if log.layout().shared {
        assert!(elsewhere.is_err() && head.is_err(), "another node may have appended: {elsewhere:?}, {head:?}");
    } else {
        assert!(elsewhere.is_err() || elsewhere == Ok(None), "{elsewhere:?}");
        assert!(head.is_err() || head == Ok(COUNT as Offset), "{head:?}");
    }
    // Asked while it is away, and answered one way or the other; who asks now may have to wait for those who asked before.
    let catching_up = tokio::spawn(async move { log.catch_up().await });
    stage.mended().await;

    drop(stage.timed("catching up", catching_up).await.0.unwrap());
    stage.until("the head is told", async || stage.log().head_now(lane.source).await == Ok(COUNT as Offset)).await;
    stage.until("what is not there is told", async || stage.log().lookup(&unheard, true).await == Ok(None)).await;
    stage.until("all is caught up with", async || stage.log().catch_up().await.is_ok()).await;
    assert_eq!(stage.log().lookup(&heard, true).await, Ok(first));
    assert!(stage.timed("a read", whole()).await.0, "what was acknowledged is not as it was");
}

pub(super) async fn a_derivation_that_is_interrupted_is_whole_or_its_cursor_stands(stage: &Stage, lane: Lane) {
    let made = |upto: Offset| {
        let last = upto as usize * DERIVED;
        let records = (last - DERIVED..last).map(|n| (lane.target, text(n))).collect();
        Derived { source: lane.source, upto, records, patient: false }
    };
    for n in 0..2 {
        place(&*stage.log(), lane.source, None, text(n)).await;
    }
    assert_eq!(stage.log().derive(made(1)).await.unwrap().len(), DERIVED);
    stage.broken().await;
    let deriving = tokio::spawn({
        let (log, derived) = (stage.log(), made(2));
        async move { log.derive(derived).await }
    });
    fails(stage, lane, None, 9).await;
    assert_eq!(stage.log().derived(lane.source), 1, "it has passed what is not durable");
    if stage.derivations_wait {
        assert!(!deriving.is_finished());
    }
    stage.mended().await;

    let mut outcome = stage.timed("a derivation", deriving).await.0.unwrap();
    let worker = async {
        // Of one whose outcome is unknown the cursor tells, which has moved with its records or not at all.
        while outcome.is_err() && stage.log().derived(lane.source) != 2 {
            assert_eq!(stage.log().derived(lane.source), 1, "{outcome:?}");
            tokio::task::yield_now().await;
            outcome = stage.log().derive(made(2)).await;
        }
    };
    stage.timed("it is derived again from its cursor", worker).await;
    assert_eq!(stage.log().derived(lane.source), 2);
    // Of what is there more than once the first counts, as readers judge it: then nothing is left out and nothing came before another.
    let (mut next, seen) = (0, all(&*stage.log(), lane.target).await);
    for (_, bytes, _) in &seen {
        next += usize::from(*bytes == text(next));
    }
    assert_eq!(next, 2 * DERIVED, "{} records lie there", seen.len());
    if !stage.log().layout().shared {
        assert_eq!(seen.len(), 2 * DERIVED, "records that are durable together are there twice");
    }
}
