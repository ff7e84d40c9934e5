//! Proposes a policy set to all nodes, and carries it through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heddle_model::NodeId;
use tokio::time::{sleep, timeout};

use super::ledger::Ledger;
use super::{Entry, Following, Proposal};
use crate::guard::is_own;
use crate::{ChangeError, Generation};

/// How long the log may take to carry what is said.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked who lives.
const LOOK: Duration = Duration::from_millis(200);

/// What this node carries through; dropping it lets others end it.
struct Carrying<'a>(&'a Following, Arc<Generation>);

impl Drop for Carrying<'_> {
    fn drop(&mut self) {
        self.0.proposing.store(0, Ordering::Release);
        self.0.let_go(&self.1);
    }
}

impl Following {
    /// Proposes what is loaded, waits until every node that lives has it, and activates it. Answers when this node obeys.
    pub(crate) async fn agree(&self, generation: Arc<Generation>, proposal: Proposal) -> Result<(), ChangeError> {
        let number = generation.number();
        let apart = |reason| ChangeError::Cluster { reason };
        self.knows().map_err(apart)?;
        // Without the store nobody knows who lives: no deploy.
        self.control().members().await.map_err(apart)?;
        {
            let ledger = self.ledger.borrow();
            // What it follows decides no more, or whoever took its number was abandoned: it is not written, for nobody would obey it.
            if ledger.last >= number {
                return Err(ChangeError::Conflict);
            }
        }
        // One at a time is carried through, of an operator's and of what takes a plugin back.
        if self.proposing.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return Err(ChangeError::Busy);
        }
        self.hold(proposal.content(), Arc::clone(&generation));
        let carrying = Carrying(self, generation);
        let by = self.node().clone();
        let prepare = Entry::Prepare { number, by: by.clone(), proposal: proposal.clone() };
        let written = self.say(&prepare).await;
        let mut ledger = self.ledger.subscribe();
        let met = timeout(HEARD_WITHIN, ledger.wait_for(|ledger| ledger.last >= number)).await.is_ok();
        if !met {
            let reason = written.err().unwrap_or_else(|| "this node does not read what it wrote".to_owned());
            return Err(apart(format!("the control log does not take the proposal: {reason}")));
        }
        if !won(&self.ledger.borrow(), number, &proposal) {
            return Err(ChangeError::Conflict);
        }
        if let Err(why) = self.all_ready(number).await {
            self.insist(Entry::Abandon { number, by, why }).await;
        } else {
            self.insist(Entry::Activate { number, by }).await;
        }
        let settled = ledger.wait_for(|ledger| ledger.pending.as_ref().is_none_or(|it| it.agreed.number != number));
        if timeout(HEARD_WITHIN, settled).await.is_err() {
            return Err(apart(format!(
                "nobody knows yet whether generation {number} decides, see `heddle plugin history`"
            )));
        }
        drop(carrying);
        let ledger = self.ledger.borrow();
        if let Some((_, why)) = ledger.abandoned.as_ref().filter(|(abandoned, _)| abandoned.number == number) {
            return Err(ChangeError::Abandoned { why: why.clone() });
        }
        Ok(())
    }

    /// Waits until nodes do not agree on anything just now, but no longer than the log may take to carry what ends it.
    pub(crate) async fn settled(&self) {
        let mut ledger = self.ledger.subscribe();
        let none = ledger.wait_for(|ledger| ledger.pending.is_none());
        // Else the caller is told that it came too early.
        let _late = timeout(HEARD_WITHIN, none).await.is_err();
    }

    /// Ends what is pending, if somebody asked for it: a plugin that goes on failing is taken back first.
    pub(crate) async fn preempt(&self) {
        let pending = self.ledger.borrow().pending.as_ref().map(|pending| Arc::clone(&pending.agreed));
        if let Some(agreed) = pending.filter(|agreed| !is_own(&agreed.proposal.who, &agreed.proposal.what)) {
            let why = "a plugin that goes on failing is taken back first, try again".to_owned();
            self.insist(Entry::Abandon { number: agreed.number, by: self.node().clone(), why }).await;
        }
    }

    /// Waits until nobody is missing; or says who is.
    async fn all_ready(&self, number: u64) -> Result<(), String> {
        let mut ledger = self.ledger.subscribe();
        let mut missing = Vec::new();
        let waited = timeout(self.cluster.ready_within, async {
            loop {
                let ready = match &ledger.borrow_and_update().pending {
                    Some(pending) if pending.agreed.number == number => pending.ready.clone(),
                    // Somebody else ended it.
                    _ => return,
                };
                match self.control().members().await {
                    Ok(members) => {
                        missing = members;
                        missing.retain(|node| node != self.node() && !ready.contains(node));
                        if missing.is_empty() {
                            return;
                        }
                    }
                    Err(reason) => tracing::debug!(reason, "nobody says which nodes live"),
                }
                tokio::select! {
                    changed = ledger.changed() => if changed.is_err() { return },
                    () = sleep(LOOK) => {}
                }
            }
        });
        if waited.await.is_ok() {
            return Ok(());
        }
        let names: Vec<&str> = missing.iter().map(NodeId::as_str).collect();
        let who = if names.is_empty() { "the nodes that live could not be told".to_owned() } else { names.join(", ") };
        Err(format!("not ready within {} s: {who}", self.cluster.ready_within.as_secs()))
    }

    /// Where nothing was agreed yet, nobody decides yet: the first that is prepared is activated at once, whoever prepared it.
    pub(crate) async fn found(&self, number: u64, proposal: Proposal) -> Result<(), String> {
        let by = self.node().clone();
        if self.ledger.borrow().pending.is_none() {
            let number = number.max(self.next_number());
            self.say(&Entry::Prepare { number, by: by.clone(), proposal }).await?;
            self.catch_up().await?;
        }
        let pending = self.ledger.borrow().pending.as_ref().map(|pending| pending.agreed.number);
        if let Some(number) = pending {
            self.say(&Entry::Activate { number, by }).await?;
        }
        self.catch_up().await
    }
}

/// Whether the number went to this proposal.
fn won(ledger: &Ledger, number: u64, proposal: &Proposal) -> bool {
    let pending = ledger.pending.as_ref().map(|pending| &pending.agreed);
    let mine = |agreed: &Arc<super::Agreed>| agreed.number == number && agreed.proposal == *proposal;
    pending.is_some_and(mine) || ledger.active.as_ref().is_some_and(mine) || {
        // It won, and another node could not load it.
        pending.is_none() && ledger.abandoned.as_ref().is_some_and(|(abandoned, _)| mine(abandoned))
    }
}
