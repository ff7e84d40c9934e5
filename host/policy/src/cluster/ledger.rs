//! What the records of the control log mean: a pure function of their sequence.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_model::{Digest, Millis, NodeId};
use heddle_store::{AuditEntry, CatalogGeneration};
use serde::{Deserialize, Serialize};

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Entry {
    /// This is to be the next generation.
    Prepare {
        /// Above all that were prepared before it.
        number: u64,
        by: NodeId,
        proposal: Proposal,
    },
    /// A node has loaded it.
    Ready { number: u64, by: NodeId },
    /// From here on it decides.
    Activate { number: u64, by: NodeId },
    /// It never will.
    Abandon { number: u64, by: NodeId, why: String },
    /// The log is to be cut into that many partitions: nobody sends until it is.
    Repartition { partitions: u32, by: NodeId, who: String },
    /// It is.
    Repartitioned { partitions: u32, by: NodeId },
}

/// A policy set, and what the audit will say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// The content, canonical JSON.
    pub(crate) json: String,
    pub(crate) at: Millis,
    pub(crate) who: String,
    pub(crate) what: String,
    pub(crate) why: String,
    /// Before and after, JSON.
    pub(crate) detail: String,
}

impl Proposal {
    /// SHA-256 of its content.
    pub(crate) fn content(&self) -> Digest {
        Digest::of(self.json.as_bytes())
    }
}

/// A proposal that won its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) number: u64,
    pub(crate) by: NodeId,
    pub(crate) proposal: Proposal,
}

impl Agreed {
    /// SHA-256 of its content.
    pub(crate) fn content(&self) -> Digest {
        self.proposal.content()
    }

    /// As the catalog records it.
    pub(crate) fn row(&self) -> CatalogGeneration {
        let Proposal { json, at, why, .. } = self.proposal.clone();
        CatalogGeneration { number: self.number, content: self.content(), json, at, why }
    }

    pub(crate) fn audit(&self) -> AuditEntry {
        let Proposal { at, who, what, why, detail, .. } = self.proposal.clone();
        AuditEntry { at, who, what, why, detail }
    }
}

/// Prepared, and neither activated nor abandoned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) agreed: Arc<Agreed>,
    pub(crate) ready: BTreeSet<NodeId>,
}

/// Into how many partitions the log is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// So many, since it was cut anew; none: as many as it was made with.
    pub done: Option<u32>,
    /// So many it is to have.
    pub under_way: Option<u32>,
}

/// All that was agreed so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// The largest number that was prepared.
    pub(crate) last: u64,
    pub(crate) active: Option<Arc<Agreed>>,
    pub(crate) pending: Option<Pending>,
    /// The last that was abandoned, and who says why.
    pub(crate) abandoned: Option<(Arc<Agreed>, String)>,
    pub(crate) cut: Cut,
}

/// What a record changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// To be loaded.
    Prepared(Arc<Agreed>),
    /// One more node is ready.
    Ready,
    /// It decides.
    Activated(Arc<Agreed>),
    /// What was prepared goes.
    Abandoned,
    /// The log is being cut, or was.
    Cut,
    /// It came too late, or twice.
    Void,
}

impl Ledger {
    /// The next record.
    pub(crate) fn apply(&mut self, entry: Entry) -> News {
        match entry {
            Entry::Prepare { number, by, proposal } if self.pending.is_none() && number > self.last => {
                let agreed = Arc::new(Agreed { number, by, proposal });
                self.last = number;
                self.pending = Some(Pending { agreed: Arc::clone(&agreed), ready: BTreeSet::new() });
                News::Prepared(agreed)
            }
            Entry::Ready { number, by } => match self.pending.as_mut().filter(|it| it.agreed.number == number) {
                Some(pending) => match pending.ready.insert(by) {
                    true => News::Ready,
                    false => News::Void,
                },
                None => News::Void,
            },
            Entry::Activate { number, .. } => match self.take(number) {
                Some(agreed) => {
                    self.active = Some(Arc::clone(&agreed));
                    News::Activated(agreed)
                }
                None => News::Void,
            },
            Entry::Abandon { number, by, why } => match self.take(number) {
                Some(agreed) => {
                    self.abandoned = Some((agreed, format!("{by}: {why}")));
                    News::Abandoned
                }
                None => News::Void,
            },
            Entry::Repartition { partitions, .. }
                if self.cut.under_way.is_none() && self.cut.done.is_none_or(|done| done < partitions) =>
            {
                self.cut.under_way = Some(partitions);
                News::Cut
            }
            Entry::Repartitioned { partitions, .. } if self.cut.under_way == Some(partitions) => {
                self.cut = Cut { done: Some(partitions), under_way: None };
                News::Cut
            }
            Entry::Prepare { .. } | Entry::Repartition { .. } | Entry::Repartitioned { .. } => News::Void,
        }
    }

    fn take(&mut self, number: u64) -> Option<Arc<Agreed>> {
        self.pending.take_if(|pending| pending.agreed.number == number).map(|pending| pending.agreed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    fn prepare(number: u64, by: &str) -> Entry {
        let text = |text: &str| text.to_owned();
        let proposal = Proposal {
            json: format!("{{\"from\":\"{by}\"}}"),
            at: 1,
            who: text("op"),
            what: text("deploy"),
            why: text("because"),
            detail: text("{}"),
        };
        Entry::Prepare { number, by: node(by), proposal }
    }

    fn ready(number: u64, by: &str) -> Entry {
        Entry::Ready { number, by: node(by) }
    }

    fn activate(number: u64, by: &str) -> Entry {
        Entry::Activate { number, by: node(by) }
    }

    fn abandon(number: u64, by: &str) -> Entry {
        Entry::Abandon { number, by: node(by), why: "too slow".to_owned() }
    }

    fn all(entries: impl IntoIterator<Item = Entry>) -> Ledger {
        let mut ledger = Ledger::default();
        for entry in entries {
            ledger.apply(entry);
        }
        ledger
    }

    #[test]
    fn the_first_to_prepare_a_number_has_it() {
        let ledger = all([prepare(1, "a"), prepare(1, "b"), prepare(2, "c"), activate(1, "b")]);
        assert_eq!(ledger.active.map(|it| (it.number, it.by.clone())), Some((1, node("a"))));
        // What came while another was pending is void, and its number free.
        assert_eq!((ledger.last, ledger.pending), (1, None));
    }

    #[test]
    fn the_first_of_activate_and_abandon_counts() {
        let won = all([prepare(1, "a"), activate(1, "a"), abandon(1, "b")]);
        assert_eq!((won.active.map(|it| it.number), won.abandoned), (Some(1), None));
        let lost = all([prepare(1, "a"), abandon(1, "b"), activate(1, "a")]);
        let abandoned = lost.abandoned.map(|(agreed, why)| (agreed.number, why));
        assert_eq!((lost.active, abandoned), (None, Some((1, "b: too slow".to_owned()))));
    }

    #[test]
    fn an_abandoned_number_is_not_given_again() {
        let ledger = all([prepare(1, "a"), abandon(1, "a"), prepare(1, "b"), activate(1, "b")]);
        assert_eq!((ledger.active, ledger.pending, ledger.last), (None, None, 1));
    }

    #[test]
    fn a_node_is_ready_once_and_only_for_what_is_pending() {
        let mut ledger = all([prepare(1, "a"), ready(1, "b"), ready(2, "c")]);
        assert_eq!(ledger.pending.as_ref().map(|it| it.ready.len()), Some(1));
        assert_eq!(ledger.apply(ready(1, "b")), News::Void);
        assert_eq!(ledger.apply(ready(1, "c")), News::Ready);
    }

    #[test]
    fn a_log_is_cut_once_at_a_time_and_only_into_more() {
        let cut = |partitions| Entry::Repartition { partitions, by: node("a"), who: "op".to_owned() };
        let done = |partitions| Entry::Repartitioned { partitions, by: node("b") };
        let ledger = all([done(16), cut(16), cut(32), done(32)]);
        assert_eq!(ledger.cut, Cut { done: None, under_way: Some(16) });
        let ledger = all([cut(16), done(16), done(16), cut(16), cut(8)]);
        assert_eq!(ledger.cut, Cut { done: Some(16), under_way: None });
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let by = || node("a");
        let cut = [
            Entry::Repartition { partitions: 16, by: by(), who: "op".to_owned() },
            Entry::Repartitioned { partitions: 16, by: by() },
        ];
        for entry in [prepare(1, "a"), ready(1, "b"), activate(1, "a"), abandon(1, "c")].into_iter().chain(cut) {
            let text = serde_json::to_string(&entry).expect("JSON");
            assert_eq!(serde_json::from_str::<Entry>(&text).expect("an entry"), entry, "{text}");
        }
    }

    proptest::proptest! {
        /// Whatever nodes write in whatever order: numbers of what decides only grow, and nothing decides that was not prepared.
        #[test]
        fn what_decides_only_grows(picks in proptest::collection::vec((0u8..4, 1u64..6, 0u8..3), 0..60)) {
            let mut ledger = Ledger::default();
            let mut decided = 0;
            for (kind, number, by) in picks {
                let by = ["a", "b", "c"][usize::from(by)];
                let entry = match kind {
                    0 => prepare(number, by),
                    1 => ready(number, by),
                    2 => activate(number, by),
                    _ => abandon(number, by),
                };
                let pending = ledger.pending.clone();
                if let News::Activated(agreed) = ledger.apply(entry) {
                    proptest::prop_assert!(agreed.number > decided);
                    proptest::prop_assert_eq!(Some(&agreed), pending.as_ref().map(|it| &it.agreed));
                    decided = agreed.number;
                }
                proptest::prop_assert_eq!(decided, ledger.active.as_ref().map_or(0, |it| it.number));
            }
        }
    }
}
