//! Receipts: how far each reader has come, as the receipts in the sender's stream say. (DELIVERY 19)

use std::collections::HashMap;

use heddle_model::{Conversation, Position, ReceiptStatus, Record, UserId};
use heddle_store::{ReceiptCut, ReceiptKept, ReceiptRow, StoreError};

use super::{RebuildError, Work};
use crate::rows::receipt_row;

/// The receipts that brought a reader as far as it came, with their turn in the stream.
#[derive(Debug, Clone, Default)]
struct Said {
    delivered: Option<(usize, ReceiptRow)>,
    read: Option<(usize, ReceiptRow)>,
}

impl Said {
    fn hear(&mut self, nth: usize, row: &ReceiptRow) {
        let raise = |furthest: &mut Option<(usize, ReceiptRow)>| {
            if furthest.as_ref().is_none_or(|(_, before)| before.order < row.order) {
                *furthest = Some((nth, row.clone()));
            }
        };
        raise(&mut self.delivered);
        if row.status == ReceiptStatus::Read {
            raise(&mut self.read);
        }
    }

    fn orders(&self) -> (Position, Position) {
        let order = |said: &Option<(usize, ReceiptRow)>| said.as_ref().map_or(Position::START, |(_, row)| row.order);
        (order(&self.delivered), order(&self.read))
    }

    /// In the order of the stream.
    fn rows(&self) -> Vec<ReceiptRow> {
        let mut rows: Vec<&(usize, ReceiptRow)> = self.delivered.iter().chain(&self.read).collect();
        rows.sort_by_key(|(nth, _)| *nth);
        rows.dedup_by_key(|(nth, _)| *nth);
        rows.into_iter().map(|(_, row)| row.clone()).collect()
    }
}

/// By conversation and reader.
type Sayings = HashMap<(Conversation, UserId), Said>;

impl Work<'_> {
    pub(super) async fn remake_receipts(&mut self) -> Result<(), RebuildError> {
        let mut last: Option<ReceiptKept> = None;
        // Of one sender, over the ends of pages.
        let mut rows: Vec<ReceiptKept> = Vec::new();
        loop {
            let page = self.store.rebuild.receipts_above(last.as_ref(), self.config.page_events).await?;
            let Some(newest) = page.last() else { break };
            last = Some(newest.clone());
            for row in page {
                if rows.first().is_some_and(|first| first.sender != row.sender) {
                    self.remake_receipts_of(std::mem::take(&mut rows)).await?;
                }
                rows.push(row);
            }
        }
        self.remake_receipts_of(rows).await
    }

    /// All rows of one sender.
    async fn remake_receipts_of(&mut self, rows: Vec<ReceiptKept>) -> Result<(), RebuildError> {
        let Some(sender) = rows.first().map(|row| row.sender.clone()) else { return Ok(()) };
        let mut above = Vec::new();
        for row in rows {
            let after = match &row.conversation {
                Conversation::Direct(other) => self.after(self.numbering.partitioning.home(other)),
                Conversation::Group(group) => self.after_in_group(group),
            };
            if row.delivered > after && !self.may_be_counted(&row.conversation).await? {
                above.push((row, after));
            }
        }
        if above.is_empty() {
            return Ok(());
        }
        let home = self.numbering.partitioning.home(&sender);
        let Some(retained) = self.sayings(&sender, self.after(home)).await? else {
            // In a trial that stream is not mended yet.
            self.rebuilt.receipts += above.len() as u64;
            return Ok(());
        };
        let mut everything: Option<Option<Sayings>> = None;
        let (mut cuts, mut anew) = (Vec::new(), Vec::new());
        for (row, after) in above {
            let key = (row.conversation.clone(), row.by.clone());
            let said = retained.get(&key).cloned().unwrap_or_default();
            let (delivered, read) = said.orders();
            if delivered == row.delivered && (row.read <= after || read == row.read) {
                let rows = said.rows();
                let newest = [rows.last().map(|said| said.at), rows.iter().map(|said| said.at).max()];
                if newest.contains(&Some(row.at)) {
                    continue;
                }
                // What was read below the retained log stays; all else is said again.
                let read = if read == row.read { Position::START } else { row.read };
                cuts.push(ReceiptCut { row, delivered: read, read });
                anew.extend(rows);
                continue;
            }
            // The retained log does not say so: perhaps what lies below it does.
            if everything.is_none() {
                everything = Some(self.sayings(&sender, Position::START).await?);
            }
            let Some(everything) = everything.as_ref().and_then(Option::as_ref) else {
                tracing::warn!(%sender, by = %row.by, "below the log the sender's stream does not read: a receipt stays as it is");
                continue;
            };
            let said = everything.get(&key).cloned().unwrap_or_default();
            if said.orders() != (row.delivered, row.read) {
                cuts.push(ReceiptCut { row, delivered: Position::START, read: Position::START });
                anew.extend(said.rows());
            }
        }
        self.rebuilt.receipts += cuts.len() as u64;
        if !cuts.is_empty() && !self.rebuilt.dry_run {
            self.store.rebuild.remake_receipts(cuts, anew).await?;
        }
        Ok(())
    }

    /// Receipts of large groups are counted in rows, and in no record: what is there stays.
    async fn may_be_counted(&self, conversation: &Conversation) -> Result<bool, RebuildError> {
        let Conversation::Group(group) = conversation else { return Ok(false) };
        let row = self.store.groups.group(group).await?;
        Ok(row.is_none_or(|row| row.members.len() > self.config.receipts_members_max))
    }

    /// What the receipts in a user's stream above a position say; none if a row of it does not read.
    async fn sayings(&self, sender: &UserId, after: Position) -> Result<Option<Sayings>, RebuildError> {
        let home = self.numbering.partitioning.home(sender);
        let (mut after, mut nth) = (after, 0);
        let mut sayings = Sayings::new();
        loop {
            let page = match self.store.archive.stream(sender, home, after, self.config.page_events).await {
                Err(StoreError::Broken { .. }) => return Ok(None),
                page => page?,
            };
            let Some(newest) = page.rows.last() else { return Ok(Some(sayings)) };
            after = newest.position;
            for row in &page.rows {
                if let Ok(Record::Receipt(receipt)) = Record::decode(&row.bytes) {
                    nth += 1;
                    let key = (receipt.conversation.clone(), receipt.by.clone());
                    sayings.entry(key).or_default().hear(nth, &receipt_row(&receipt));
                }
            }
        }
    }
}
