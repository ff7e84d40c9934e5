//! A page of a conversation: the viewer's stream lies in one shard, what a group's members pull in the group's.

use std::collections::HashSet;

use heddle_model::{Conversation, GroupId, MessageId, Position};

use super::PostgresShards;
use crate::cell::{Interval, place};
use crate::layout::{self, Found, From, Key, end};
use crate::postgres::fault::of;
use crate::postgres::history;
use crate::postgres::stream::cursor;
use crate::{HistoryAnchor, HistoryPage, HistoryQuery, StoreError};

/// What the group's shard has for a page.
#[derive(Default)]
struct Pulled {
    found: Vec<Found>,
    archived: Position,
}

impl PostgresShards {
    pub(super) async fn page(&self, query: HistoryQuery) -> Result<HistoryPage, StoreError> {
        let elsewhere = match query.anchor {
            HistoryAnchor::Newest => Vec::new(),
            HistoryAnchor::Before(id) | HistoryAnchor::After(id) => self.orders(&query, id).await,
        };
        let group = match &query.conversation {
            Conversation::Group(group) => group.clone(),
            Conversation::Direct(_) => {
                let read = self.ask(self.of_user(&query.viewer), |shard| async move {
                    let page = shard.connections.read("history", move |connection| {
                        Box::pin(history::page(connection, query.clone(), elsewhere.clone()))
                    });
                    page.await
                });
                return read.await;
            }
        };
        let key = match query.anchor {
            HistoryAnchor::Newest => Some(From::Below(end())),
            HistoryAnchor::Before(id) => self.find(&query, &group, id, &elsewhere).await?.map(From::Below),
            HistoryAnchor::After(id) => self.find(&query, &group, id, &elsewhere).await?.map(From::Above),
        };
        // Pulled after streamed: an own copy that comes between is met in the group's shard, as one that may be pulled.
        let (mut page, streamed) = self.streamed(&query, key.clone()).await?;
        let read = self.with_memberships(&query.viewer, |groups| {
            let intervals = groups.get(&group).map(|of| of.intervals.clone()).unwrap_or_default();
            self.pulled(&query, &group, intervals, key.clone())
        });
        let (_, pulled) = read.await?;
        page.group_archived = pulled.archived;
        if let Some(from) = key {
            let there: HashSet<Position> = streamed.iter().map(|found| found.row.order).collect();
            let pulled = pulled.found.into_iter().filter(|found| !there.contains(&found.row.order));
            (page.rows, page.more) = layout::cut(streamed.into_iter().chain(pulled).collect(), &from, query.limit);
        }
        Ok(page)
    }

    /// What the viewer's stream has for a page, in one snapshot with its cursor and the receipts.
    async fn streamed(
        &self,
        query: &HistoryQuery,
        from: Option<From>,
    ) -> Result<(HistoryPage, Vec<Found>), StoreError> {
        let (viewer, conversation) = (query.viewer.clone(), query.conversation.clone());
        let (home, wanted) = (query.home, i64::from(query.limit) + 1);
        let ask = self.ask(self.of_user(&query.viewer), |shard| async move {
            let read = shard.connections.read("history", move |connection| {
                let (viewer, conversation, from) = (viewer.clone(), conversation.clone(), from.clone());
                Box::pin(async move {
                    let archived = cursor(connection, home).await?;
                    let receipts = history::receipts(connection, &viewer, &conversation).await?;
                    let found = match &from {
                        Some(from) => history::from_stream(connection, &viewer, &conversation, from, wanted).await?,
                        None => Vec::new(),
                    };
                    Ok((HistoryPage { archived, receipts, ..HistoryPage::default() }, found))
                })
            });
            read.await
        });
        ask.await
    }

    /// What the viewer may pull for a page.
    async fn pulled(
        &self,
        query: &HistoryQuery,
        group: &GroupId,
        intervals: Vec<Interval>,
        from: Option<From>,
    ) -> Result<Pulled, StoreError> {
        let (viewer, group, home) = (query.viewer.clone(), group.clone(), query.group_home);
        let wanted = i64::from(query.limit) + 1;
        let ask = self.ask(self.of_group(&group), |shard| async move {
            let read = shard.connections.read("history", move |connection| {
                let (viewer, group, intervals, from) = (viewer.clone(), group.clone(), intervals.clone(), from.clone());
                Box::pin(async move {
                    let archived = match home {
                        Some(home) => cursor(connection, home).await?,
                        None => Position::START,
                    };
                    let found = match &from {
                        Some(from) => {
                            history::from_pulled(connection, &viewer, &group, intervals, from, wanted).await?
                        }
                        None => Vec::new(),
                    };
                    Ok(Pulled { found, archived })
                })
            });
            read.await
        });
        ask.await
    }

    /// Where a message's first records stand that are not in the viewer's shard: they find the anchor in a few steps. Who does not answer is done without.
    async fn orders(&self, query: &HistoryQuery, id: MessageId) -> Vec<i64> {
        let nth = match &query.conversation {
            Conversation::Direct(other) => self.of_user(other),
            Conversation::Group(group) => self.of_group(group),
        };
        if nth == self.of_user(&query.viewer) {
            return Vec::new();
        }
        let ask = self.ask(nth, |shard| async move {
            shard.connections.read("orders", move |connection| Box::pin(history::orders(connection, id))).await
        });
        ask.await.unwrap_or_default()
    }

    /// The key of a message that the viewer has in this group, or may pull.
    async fn find(
        &self,
        query: &HistoryQuery,
        group: &GroupId,
        id: MessageId,
        elsewhere: &[i64],
    ) -> Result<Option<Key>, StoreError> {
        let (viewer, conversation, elsewhere) = (query.viewer.clone(), query.conversation.clone(), elsewhere.to_vec());
        let streamed = self.ask(self.of_user(&query.viewer), |shard| async move {
            let read = shard.connections.read("history", move |connection| {
                let (viewer, conversation, elsewhere) = (viewer.clone(), conversation.clone(), elsewhere.clone());
                Box::pin(async move {
                    match history::find_by_order(connection, &viewer, &conversation, id, &elsewhere).await? {
                        None => history::find_by_id(connection, &viewer, &conversation, id).await,
                        found => Ok(found),
                    }
                })
            });
            read.await
        });
        if let Some(key) = streamed.await? {
            return Ok(Some(key));
        }
        let (viewer, of_group) = (query.viewer.clone(), group.clone());
        let pulled = self.ask(self.of_group(group), |shard| async move {
            let read = shard.connections.read("history", move |connection| {
                let (viewer, group) = (viewer.clone(), of_group.clone());
                Box::pin(async move { history::find_pulled(connection, &viewer, &group, id).await })
            });
            read.await
        });
        let Some(order) = pulled.await? else { return Ok(None) };
        // Asked after the message was found: a change that lies before it is applied by now.
        let groups = self.memberships(&query.viewer).await?;
        if !groups.get(group).is_some_and(|of| of.intervals.iter().any(|interval| interval.contains(order))) {
            return Ok(None);
        }
        let shown = place("pulled", order).map_err(|fault| of(fault, "history"))?;
        Ok(Some((shown, id.0.to_vec())))
    }
}
