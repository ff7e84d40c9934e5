//! Conversations and their history, as one user may see them.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Conversation, Message, Position, Record, UserId};
use heddle_store::{HistoryAnchor, HistoryQuery, HistoryRow, ReceiptState, StoreError};

use crate::Event;
use crate::delivery::Delivery;
use crate::event::Variant;

/// How far others have come with a message of one's own: with some of them, in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// In the log.
    Sent,
    /// A device of a recipient has it.
    Delivered,
    /// A recipient has read it.
    Read,
}

/// A message of a history.
#[derive(Debug, Clone)]
pub struct ViewedMessage {
    /// The viewer's event; 0 for a message that was pulled.
    pub position: Position,
    /// The position of its first record.
    pub order: Position,
    /// The message.
    pub message: Arc<Message>,
    /// The viewer should not have been notified.
    pub quiet: bool,
    /// Of a message of the viewer's own.
    pub status: Status,
}

/// A page of a history, oldest first.
#[derive(Debug, Clone, Default)]
pub struct HistoryView {
    /// The messages.
    pub messages: Vec<ViewedMessage>,
    /// There are more beyond the far end.
    pub more: bool,
}

/// A conversation of a user.
#[derive(Debug, Clone)]
pub struct ConversationView {
    /// As the user names it.
    pub conversation: Conversation,
    /// Its newest message.
    pub last: Option<ViewedMessage>,
    /// Incoming messages that the user has not read.
    pub unread: u64,
    /// Muted by the user.
    pub muted: bool,
    /// A group's name.
    pub name: Option<Box<str>>,
}

impl Delivery {
    /// A page of a conversation; none if it is a group that the viewer was never in.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn history(
        &self,
        viewer: &UserId,
        conversation: &Conversation,
        anchor: HistoryAnchor,
        limit: u32,
    ) -> Result<Option<HistoryView>, StoreError> {
        self.settle(viewer, Some(conversation)).await;
        let partitioning = self.shared.numbering.partitioning;
        let group_home = match conversation {
            Conversation::Group(group) => {
                let row = self.shared.store.groups.group(group).await?;
                if !row.is_some_and(|row| row.members.iter().any(|member| member.user == *viewer)) {
                    return Ok(None);
                }
                Some(partitioning.group_home(group))
            }
            Conversation::Direct(_) => None,
        };
        let (viewer_id, conversation) = (viewer.clone(), conversation.clone());
        let home = partitioning.home(viewer);
        let query = HistoryQuery { viewer: viewer_id, conversation, home, group_home, anchor, limit };
        let page = self.shared.store.archive.history(query).await?;
        let mut messages: Vec<ViewedMessage> =
            page.rows.iter().filter_map(|row| viewed(row, viewer, &page.receipts)).collect();
        self.leave_out_pulled(viewer, &mut messages).await;
        Ok(Some(HistoryView { messages, more: page.more }))
    }

    /// The user's conversations, the newest first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn conversations(&self, user: &UserId, limit: u32) -> Result<Vec<ConversationView>, StoreError> {
        self.settle(user, None).await;
        let home = self.shared.numbering.partitioning.home(user);
        let rows = self.shared.store.archive.conversations(user, home, limit).await?;
        let mut views = Vec::with_capacity(rows.len());
        for row in rows {
            let last = row.last.map(|bytes| HistoryRow { position: row.position, order: row.order, bytes });
            let mut receipts = Vec::new();
            if let Conversation::Direct(other) = &row.conversation {
                receipts.extend(self.shared.store.archive.receipt(user, &row.conversation, other).await?);
            }
            views.push(ConversationView {
                last: last.and_then(|last| viewed(&last, user, &receipts)),
                name: self.name(user, &row.conversation, row.name).await,
                conversation: row.conversation,
                unread: row.unread,
                muted: row.muted,
            });
        }
        Ok(views)
    }

    /// A group's name, in which the archive may be behind: what made and what renamed it is on another partition than the user's own.
    async fn name(&self, user: &UserId, conversation: &Conversation, archived: Option<Box<str>>) -> Option<Box<str>> {
        let Conversation::Group(group) = conversation else { return archived };
        let view = match self.shared.groups.peek(group).filter(|view| view.is_member(user)) {
            None if archived.is_none() => self.shared.group_of(group, user).await.ok().flatten(),
            known => known,
        };
        view.map(|view| view.name.clone()).or(archived)
    }

    /// What was pushed was left out when it was; what is pulled has no record of each member, so it counts who blocks whom now.
    async fn leave_out_pulled(&self, viewer: &UserId, messages: &mut Vec<ViewedMessage>) {
        let pulled = |shown: &ViewedMessage| shown.position == Position::START && shown.message.sender != *viewer;
        let mut senders: Vec<UserId> =
            messages.iter().filter(|shown| pulled(shown)).map(|shown| shown.message.sender.clone()).collect();
        senders.sort();
        senders.dedup();
        if senders.is_empty() {
            return;
        }
        let pairs = self.shared.denials.between(viewer, &senders).await;
        let apart: Vec<&UserId> =
            senders.iter().zip(pairs).filter(|(_, pair)| pair.apart()).map(|(sender, _)| sender).collect();
        messages.retain(|shown| !(pulled(shown) && apart.contains(&&shown.message.sender)));
    }

    /// Waits, bounded, until the archive has what the viewer may already have seen.
    async fn settle(&self, viewer: &UserId, conversation: Option<&Conversation>) {
        let shared = &self.shared;
        let partitioning = shared.numbering.partitioning;
        let mut homes = vec![partitioning.home(viewer)];
        let source = conversation.map(|conversation| match conversation {
            Conversation::Direct(peer) => partitioning.home(peer),
            Conversation::Group(group) => partitioning.group_home(group),
        });
        if let Some(Conversation::Group(_)) = conversation {
            homes.extend(source);
        }
        let all = async {
            // What the viewer just sent stands there; a moment later a copy of it in the viewer's own stream.
            if let Some(source) = source.filter(|source| *shared.partition(*source).owned.borrow()) {
                let head = *shared.log.head(source).borrow();
                let mut made = shared.partition(source).made.subscribe();
                drop(made.wait_for(|made| *made >= head).await);
            }
            for home in homes {
                let head = *shared.log.head(home).borrow();
                self.archived(home, head).await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(shared.config.history_wait_ms), all).await.is_err() {
            tracing::debug!(%viewer, "history is served as far as the archive has come");
        }
    }
}

fn viewed(row: &HistoryRow, viewer: &UserId, receipts: &[ReceiptState]) -> Option<ViewedMessage> {
    let record = match Record::decode(&row.bytes) {
        Ok(record) => record,
        Err(error) => {
            tracing::error!(position = %row.position, %error, "a row of the archive does not decode");
            return None;
        }
    };
    let message = Arc::clone(record.message()?);
    let quiet = Event::new(row.position, record, row.bytes.len()).is_some_and(|e| e.variant(viewer) == Variant::Quiet);
    let status = if receipts.iter().any(|receipt| receipt.read >= row.order) {
        Status::Read
    } else if receipts.iter().any(|receipt| receipt.delivered >= row.order) {
        Status::Delivered
    } else {
        Status::Sent
    };
    Some(ViewedMessage { position: row.position, order: row.order, message, quiet, status })
}
