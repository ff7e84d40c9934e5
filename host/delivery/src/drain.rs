//! When is a policy set drained? When no gateway serves it, and the workers have passed what the log held after that. (DESIGN 3)

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Offset, TopicPartition};

use crate::delivery::Shared;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(250);
/// Where nodes share a log, another may accept under the one before for 5 s longer (DELIVERY 27), and a record that comes to stand more than 30 s
/// after it was sent does not stand (DELIVERY 23).
const ELSEWHERE: Duration = Duration::from_secs(5 + 30);

/// Tells the policies how far the log was worked on.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
        if let Err(reason) = look(&shared).await {
            tracing::debug!(reason, "older generations stay, nobody says how far the log was worked on");
        }
    }
}

async fn look(shared: &Shared) -> Result<(), String> {
    let quiet = shared.policies.quiet(if shared.follows { ELSEWHERE } else { Duration::ZERO });
    if !quiet.is_empty() {
        shared.log.catch_up().await?;
        let partitions = shared.numbering.partitioning.all();
        shared.policies.ended(&quiet, partitions.map(|p| (p, *shared.log.head(p).borrow())).collect());
    }
    if shared.policies.drains() {
        shared.policies.worked(&derived(shared).await?);
    }
    Ok(())
}

/// How far this node came with its own partitions, and as the store has it the others with theirs.
async fn derived(shared: &Shared) -> Result<HashMap<TopicPartition, Offset>, String> {
    let own = shared.owned().map(|partition| (partition, shared.log.derived(partition)));
    if !shared.follows {
        return Ok(own.collect());
    }
    let kept = shared.store.archive.derived().await.map_err(|error| error.to_string())?;
    let others = kept.into_iter().map(|(partition, upto)| (partition, shared.numbering.next(upto).unwrap_or(0)));
    Ok(others.chain(own).collect())
}
