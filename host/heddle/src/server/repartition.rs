//! Carries through that the log is cut into another number of partitions. Every node does, and the first to come is enough. (DELIVERY 26)

use std::time::Duration;

use heddle_delivery::Delivery;
use heddle_policy::{Cut, Policies};
use tokio::sync::watch;

use crate::failure::Failure;

/// A node that stood still knows after 5 s that it must not accept any more; what it accepted before is in the log by then.
const QUIET: Duration = Duration::from_secs(6);

/// Until the log is cut otherwise than this node takes it to be; says so.
pub(super) async fn carry(policies: Policies, delivery: Delivery, anew: watch::Sender<Option<u32>>) {
    let here = delivery.numbering().partitioning.count;
    let other = |cut: Cut| cut.done.filter(|done| *done != here);
    loop {
        let cut = policies.cut_until(|cut| cut.under_way.is_some() || other(cut).is_some()).await;
        let Some(partitions) = cut.under_way else {
            anew.send_replace(other(cut));
            return;
        };
        tracing::info!(partitions, "the log is to be cut anew; no node accepts sends until it is");
        if partitions != here {
            let cutting = async {
                tokio::time::sleep(QUIET).await;
                delivery.repartition(partitions).await;
            };
            tokio::select! {
                () = cutting => {}
                // Another node was quicker, and may be at work again.
                _ = policies.cut_until(|cut| cut.under_way.is_none()) => continue,
            }
        }
        policies.repartitioned(partitions).await;
        policies.cut_until(|cut| cut.under_way.is_none()).await;
    }
}

/// The store must know as many partitions as the nodes agreed on.
pub(super) fn check(policies: &Policies, partitions: u32) -> Result<(), Failure> {
    match policies.cut().done {
        Some(done) if done > partitions => Err(Failure::new(format!(
            "the nodes cut the log into {done} partitions, and the store knows it with {partitions}: is the store an older copy?"
        ))),
        _ => Ok(()),
    }
}
