//! Going away without a stampede: closes are spread, and so are the reconnects that they ask for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use heddle_model::ConnectionId;

use crate::core::Core;
use crate::gateway::Drained;

/// Between two looks at what is still open.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) async fn drain(core: &Core) -> Drained {
    let connections = core.open.load(Ordering::Relaxed);
    core.drain_total.store(connections, Ordering::Relaxed);
    core.draining.cancel();
    let all_gone = async {
        while core.open.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(Duration::from_millis(core.config().drain_ms), all_gone).await.is_err() {
        tracing::warn!(left = core.open.load(Ordering::Relaxed), "some connections did not end in time");
    }
    Drained { connections, left: core.open.load(Ordering::Relaxed) }
}

/// Different for each connection, the same for the same one; up to `max_ms`.
pub(crate) fn reconnect_delay(connection: ConnectionId, device: &str, max_ms: u64) -> u64 {
    // FNV-1a: spreads, needs no randomness, and is no secret.
    let bytes = connection.0.to_be_bytes().into_iter().chain(device.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash >> 11) % max_ms.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_are_spread_over_the_whole_span() {
        let delays: Vec<u64> = (0..500).map(|id| reconnect_delay(ConnectionId(id), "phone", 5_000)).collect();
        assert!(delays.iter().all(|delay| *delay <= 5_000));
        for tenth in 0..10 {
            let within = delays.iter().filter(|delay| **delay / 500 == tenth).count();
            assert!((20..=90).contains(&within), "tenth {tenth} has {within} of 500");
        }
    }
}
