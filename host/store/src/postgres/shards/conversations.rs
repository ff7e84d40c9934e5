//! The conversations of a user: what is in the stream, and the groups.

use std::collections::{HashMap, HashSet};

use heddle_model::{Conversation, GroupId, Position, UserId};
use sqlx::postgres::PgConnection;

use super::PostgresShards;
use super::memberships::{Memberships, Newest};
use crate::cell::Interval;
use crate::fault::Fault;
use crate::layout::{From, end};
use crate::postgres::conversations::{Candidate, add_group, newest_of, streamed, unread_pulled, unread_streamed};
use crate::postgres::{devices, directory, history};
use crate::{ConversationRow, HistoryRow, StoreError, UNREAD_MAX};

/// What one shard says of a conversation: its newest message, and how many are unread.
type Said = (Option<HistoryRow>, u64);

/// What is asked of a group's shard: where the user was a member, and what was read.
type Asked = (Vec<Interval>, Position);

impl PostgresShards {
    pub(super) async fn list(&self, user: &UserId, limit: u32) -> Result<Vec<ConversationRow>, StoreError> {
        let read = self.with_memberships(user, |groups| self.list_for(user, groups, limit));
        read.await.map(|(_, rows)| rows)
    }

    async fn list_for(
        &self,
        user: &UserId,
        groups: Memberships,
        limit: u32,
    ) -> Result<Vec<ConversationRow>, StoreError> {
        let candidates = self.candidates(user, &groups, limit).await?;
        let (reads, muted) = self.reads_and_mutes(user).await?;
        let read = |conversation: &Conversation| reads.get(conversation).copied().unwrap_or_default();
        let names: Vec<_> =
            candidates.iter().map(|(conversation, _)| (conversation.clone(), read(conversation))).collect();
        let mut streamed = self.said_of_streams(user, names.clone()).await?;
        let asked = names.into_iter().filter_map(|(conversation, read)| match conversation {
            Conversation::Group(group) => {
                let intervals = groups.get(&group)?.intervals.clone();
                Some((group, (intervals, read)))
            }
            Conversation::Direct(_) => None,
        });
        let mut pulled = self.said_of_groups(user, asked.collect()).await?;
        let rows = candidates.into_iter().map(|(conversation, candidate)| {
            let (own, unread) = streamed.remove(&conversation).unwrap_or_default();
            let (of_group, more) = pulled.remove(&conversation).unwrap_or_default();
            // Of an own copy and its record the copy.
            let last = [own, of_group].into_iter().flatten().max_by_key(|row| (row.order, row.position));
            ConversationRow {
                position: candidate.position,
                order: last.as_ref().map_or(Position::START, |last| last.order),
                last: last.map(|last| last.bytes),
                unread: UNREAD_MAX.min(unread + more),
                muted: muted.contains(&conversation),
                name: candidate.name,
                conversation,
            }
        });
        Ok(rows.collect())
    }

    /// Those that are listed.
    async fn candidates(
        &self,
        user: &UserId,
        groups: &Memberships,
        limit: u32,
    ) -> Result<Vec<(Conversation, Candidate)>, StoreError> {
        let of = user.clone();
        let ask = self.ask(self.of_user(user), |shard| async move {
            let read = shard.connections.read("conversations", move |connection| {
                let user = of.clone();
                Box::pin(async move { streamed(connection, &user).await })
            });
            read.await
        });
        let mut candidates = ask.await?;
        let newest = self.newest_pulled(user, groups).await?;
        for (group, of) in groups {
            let pulled_at = newest.get(group).map(|Newest { at, .. }| *at);
            let key = Conversation::Group(group.clone());
            add_group(&mut candidates, key, of.name.clone(), of.lasts(), of.changed_at, pulled_at);
        }
        Ok(newest_of(candidates, limit))
    }

    async fn reads_and_mutes(
        &self,
        user: &UserId,
    ) -> Result<(HashMap<Conversation, Position>, HashSet<Conversation>), StoreError> {
        let user = user.clone();
        let read = self.main.connections.read("conversations", move |connection| {
            let user = user.clone();
            Box::pin(async move {
                let reads = devices::reads(connection, &user).await?;
                let mutes = directory::mutes(connection, &user).await?;
                Ok((reads.into_iter().collect(), mutes.into_iter().collect()))
            })
        });
        read.await
    }

    /// Of these conversations, with what was read of each, what the user's stream has.
    async fn said_of_streams(
        &self,
        user: &UserId,
        asked: Vec<(Conversation, Position)>,
    ) -> Result<HashMap<Conversation, Said>, StoreError> {
        let of = user.clone();
        let ask = self.ask(self.of_user(user), |shard| async move {
            let read = shard.connections.read("conversations", move |connection| {
                Box::pin(said_of_streams(connection, of.clone(), asked.clone()))
            });
            read.await
        });
        ask.await
    }

    /// Of these groups what the user may pull.
    async fn said_of_groups(
        &self,
        user: &UserId,
        asked: Vec<(GroupId, Asked)>,
    ) -> Result<HashMap<Conversation, Said>, StoreError> {
        let mut said = HashMap::new();
        for (nth, asked) in self.by_shard(asked.into_iter()) {
            let of = user.clone();
            let ask = self.ask(nth, |shard| async move {
                let read = shard.connections.read("conversations", move |connection| {
                    Box::pin(said_of_groups(connection, of.clone(), asked.clone()))
                });
                read.await
            });
            said.extend(ask.await?);
        }
        Ok(said)
    }
}

async fn said_of_streams(
    connection: &mut PgConnection,
    user: UserId,
    asked: Vec<(Conversation, Position)>,
) -> Result<HashMap<Conversation, Said>, Fault> {
    let mut said = HashMap::with_capacity(asked.len());
    for (conversation, read) in asked {
        let newest = history::from_stream(connection, &user, &conversation, &From::Below(end()), 1).await?;
        let unread = unread_streamed(connection, &user, &conversation, read).await?;
        said.insert(conversation, (newest.into_iter().map(|found| found.row).next(), unread));
    }
    Ok(said)
}

async fn said_of_groups(
    connection: &mut PgConnection,
    user: UserId,
    asked: Vec<(GroupId, Asked)>,
) -> Result<HashMap<Conversation, Said>, Fault> {
    let mut said = HashMap::with_capacity(asked.len());
    for (group, (intervals, read)) in asked {
        let unread = unread_pulled(connection, &user, &group, &intervals, read).await?;
        let newest = history::from_pulled(connection, &user, &group, intervals, &From::Below(end()), 1).await?;
        said.insert(Conversation::Group(group), (newest.into_iter().map(|found| found.row).next(), unread));
    }
    Ok(said)
}
