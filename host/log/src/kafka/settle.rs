//! Learning of everything that other nodes appended: for many askers at once, one question to the brokers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::consumer::Consumer as _;

use super::context::Consumer;
use super::{READ_WAIT, Shared, ask_heads};

/// Askers that wait for one round; those that come during it wait for the next, for what was appended before they came may be above its answer.
#[derive(Default)]
pub(crate) struct Settling {
    asked: AtomicU64,
    last: tokio::sync::Mutex<Round>,
}

/// A round that is over.
struct Round {
    /// It answered all askers up to this number.
    covers: u64,
    outcome: Result<(), String>,
}

impl Default for Round {
    fn default() -> Self {
        Self { covers: 0, outcome: Ok(()) }
    }
}

impl Settling {
    /// Waits, bounded, until the reader has met everything that the partitions it follows have now.
    pub(crate) async fn settle(&self, shared: &Arc<Shared>, asker: &Arc<Consumer>) -> Result<(), String> {
        self.once(|| round(shared, asker)).await
    }

    /// Shares what a round says among all who asked before it began. A round that fails fails for all of them: were each to try in turn, the last
    /// would wait for ever.
    async fn once<F: Future<Output = Result<(), String>>>(&self, round: impl FnOnce() -> F) -> Result<(), String> {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut last = self.last.lock().await;
        if last.covers >= number {
            return last.outcome.clone();
        }
        let covers = self.asked.load(Ordering::Acquire);
        let outcome = round().await;
        *last = Round { covers, outcome: outcome.clone() };
        outcome
    }
}

async fn round(shared: &Arc<Shared>, asker: &Arc<Consumer>) -> Result<(), String> {
    let (of, by) = (Arc::clone(shared), Arc::clone(asker));
    let ask = move || {
        ask_heads(&of, &by).or_else(|_| {
            // Leaders change hands, and what it knows of them may be a minute old.
            by.fetch_metadata(None, READ_WAIT)?;
            ask_heads(&of, &by)
        })
    };
    let heads = tokio::task::spawn_blocking(ask).await;
    let heads = heads.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    for (slot, head) in &heads {
        shared.grown(*slot, *head);
    }
    let all = async {
        for (slot, head) in heads {
            if shared.followed[slot].load(Ordering::Acquire) {
                let mut end = shared.ends[slot].subscribe();
                drop(end.wait_for(|end| *end >= head).await);
            }
        }
    };
    tokio::time::timeout(READ_WAIT, all).await.map_err(|_| "the reader is behind".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn those_who_come_during_a_round_share_the_next() {
        let (settling, rounds, go) = (Settling::default(), AtomicU32::new(0), Semaphore::new(0));
        let ask = || {
            settling.once(|| async {
                let number = rounds.fetch_add(1, Ordering::SeqCst) + 1;
                go.acquire().await.map_err(|error| error.to_string())?.forget();
                if number == 2 { Err("away".to_owned()) } else { Ok(()) }
            })
        };
        let first = ask();
        let others = async {
            // The first has begun: what comes now waits for the second round.
            tokio::task::yield_now().await;
            let others = futures_util::future::join_all((0..50).map(|_| ask()));
            let release = async {
                tokio::task::yield_now().await;
                go.add_permits(2);
            };
            tokio::join!(others, release).0
        };
        let (first, others) = tokio::join!(first, others);
        assert_eq!(first, Ok(()));
        assert!(others.iter().all(|other| *other == Err("away".to_owned())), "{others:?}");
        assert_eq!(rounds.load(Ordering::SeqCst), 2);
        go.add_permits(1);
        assert_eq!(ask().await, Ok(()));
        assert_eq!(rounds.load(Ordering::SeqCst), 3);
    }
}
