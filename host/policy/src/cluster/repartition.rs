//! The log cut into another number of partitions, as nodes agree on it: from `repartition` to `repartitioned` nobody sends. (DELIVERY 26)

use std::time::Duration;

use tokio::time::timeout;

use super::{Cut, Entry};
use crate::{ChangeError, Policies};

/// How long the log may take to carry what is said.
const HEARD_WITHIN: Duration = Duration::from_secs(30);

impl Policies {
    /// Whether several nodes agree on what decides.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.shared.following.is_some()
    }

    /// Waits for such a state of the log's partitions; for ever where this node is alone.
    pub async fn cut_until(&self, until: impl Fn(Cut) -> bool) -> Cut {
        match &self.shared.following {
            Some(following) => following.cut_until(until).await,
            None => std::future::pending().await,
        }
    }

    /// The state of the log's partitions now.
    #[must_use]
    pub fn cut(&self) -> Cut {
        self.shared.following.as_ref().map_or_else(Cut::default, |following| following.ledger.borrow().cut)
    }

    /// Tells all nodes that the log is to be cut into so many partitions. From when they read it on, none accepts a send.
    ///
    /// # Errors
    /// This node is alone, or cut off; another cut is under way; the log has as many already.
    pub async fn repartition(&self, partitions: u32, who: String) -> Result<(), ChangeError> {
        let apart = |reason| ChangeError::Cluster { reason };
        let Some(following) = &self.shared.following else {
            return Err(apart("only a log on Kafka is cut into another number of partitions".to_owned()));
        };
        following.knows().map_err(apart)?;
        let entry = Entry::Repartition { partitions, by: following.node().clone(), who };
        let written = following.say(&entry).await;
        let met = following.cut_until(|cut| cut.under_way.is_some() || cut.done.is_some_and(|done| done >= partitions));
        match timeout(HEARD_WITHIN, met).await {
            Ok(Cut { under_way: Some(other), .. }) if other != partitions => Err(ChangeError::Busy),
            Ok(_) => Ok(()),
            Err(_) => {
                let reason = written.err().unwrap_or_else(|| "this node does not read what it wrote".to_owned());
                Err(apart(format!("the control log does not take it: {reason}")))
            }
        }
    }

    /// Tells all nodes that it is cut: each starts anew with that number, and accepts again.
    pub async fn repartitioned(&self, partitions: u32) {
        if let Some(following) = &self.shared.following {
            following.insist(Entry::Repartitioned { partitions, by: following.node().clone() }).await;
        }
    }
}
