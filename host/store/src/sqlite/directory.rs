//! Users, contacts, mutes.

use async_trait::async_trait;
use heddle_model::{Conversation, GroupId, Millis, UserId};
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::rows::texts;
use super::work::Work;
use crate::cell::{conversation, time, uint, user};
use crate::fault::Fault;
use crate::{Contact, Directory, StoreError};

#[async_trait]
impl Directory for SqliteStore {
    async fn user_since(&self, user: &UserId) -> Result<Option<Millis>, StoreError> {
        let user = user.clone();
        let read = self.reader.read("user since", move |connection| {
            Box::pin(async move {
                let since: Option<i64> = sqlx::query_scalar("SELECT since FROM users WHERE user = ?1")
                    .bind(user.as_str())
                    .fetch_optional(connection)
                    .await?;
                since.map(|since| uint("users", since)).transpose()
            })
        });
        read.await
    }

    async fn see_user(&self, user: &UserId, at: Millis) -> Result<(), StoreError> {
        self.writer.write(Work::SeeUser { user: user.clone(), at }).await.map(drop)
    }

    async fn contacts(&self, user: &UserId) -> Result<Vec<Contact>, StoreError> {
        let user = user.clone();
        self.reader.read("contacts", move |connection| Box::pin(contacts(connection, user))).await
    }

    async fn listed(&self, user: &UserId, viewers: &[UserId]) -> Result<Vec<bool>, StoreError> {
        let (user, viewers) = (user.clone(), texts(viewers.iter().map(UserId::as_str)));
        let read = self.reader.read("listed", move |connection| {
            Box::pin(async move {
                Ok(sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM contacts c WHERE c.user = ?1 AND c.other = j.value)
                     FROM json_each(?2) j ORDER BY j.key",
                )
                .bind(user.as_str())
                .bind(viewers)
                .fetch_all(connection)
                .await?)
            })
        });
        read.await
    }

    async fn set_contact(&self, user: &UserId, other: &UserId, listed: bool, at: Millis) -> Result<bool, StoreError> {
        let work = Work::SetContact { user: user.clone(), other: other.clone(), listed, at };
        Ok(self.writer.write(work).await?.changed())
    }

    async fn set_mute(&self, user: &UserId, conversation: &Conversation, muted: bool) -> Result<(), StoreError> {
        let work = Work::SetMute { user: user.clone(), conversation: conversation.clone(), muted };
        self.writer.write(work).await.map(drop)
    }

    async fn mutes(&self, user: &UserId) -> Result<Vec<Conversation>, StoreError> {
        let user = user.clone();
        self.reader.read("mutes", move |connection| Box::pin(async move { mutes(connection, &user).await })).await
    }

    async fn muted_members(&self, group: &GroupId) -> Result<Vec<UserId>, StoreError> {
        let name = Conversation::Group(group.clone()).to_string();
        let read = self.reader.read("muted members", move |connection| {
            Box::pin(async move {
                let rows: Vec<String> =
                    sqlx::query_scalar("SELECT user FROM mutes WHERE conversation = ?1 ORDER BY user")
                        .bind(name)
                        .fetch_all(connection)
                        .await?;
                rows.iter().map(|row| user("mutes", row)).collect()
            })
        });
        read.await
    }
}

async fn contacts(connection: &mut SqliteConnection, of: UserId) -> Result<Vec<Contact>, Fault> {
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT other, since FROM contacts WHERE user = ?1 ORDER BY other")
        .bind(of.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|(other, since)| Ok(Contact { user: user("contacts", other)?, since: uint("contacts", *since)? }))
        .collect()
}

/// What the user muted.
pub(super) async fn mutes(connection: &mut SqliteConnection, of: &UserId) -> Result<Vec<Conversation>, Fault> {
    let rows: Vec<String> = sqlx::query_scalar("SELECT conversation FROM mutes WHERE user = ?1 ORDER BY conversation")
        .bind(of.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| conversation("mutes", row)).collect()
}

pub(super) async fn see_user(connection: &mut SqliteConnection, user: &UserId, at: Millis) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO users (user, since) VALUES (?1, ?2)
         ON CONFLICT (user) DO UPDATE SET since = excluded.since WHERE excluded.since < since",
    )
    .bind(user.as_str())
    .bind(time(at))
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn set_contact(
    connection: &mut SqliteConnection,
    user: &UserId,
    other: &UserId,
    listed: bool,
    at: Millis,
) -> Result<bool, Fault> {
    let done = if listed {
        sqlx::query("INSERT INTO contacts (user, other, since) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")
            .bind(user.as_str())
            .bind(other.as_str())
            .bind(time(at))
            .execute(connection)
            .await?
    } else {
        sqlx::query("DELETE FROM contacts WHERE user = ?1 AND other = ?2")
            .bind(user.as_str())
            .bind(other.as_str())
            .execute(connection)
            .await?
    };
    Ok(done.rows_affected() > 0)
}

pub(super) async fn set_mute(
    connection: &mut SqliteConnection,
    user: &UserId,
    conversation: &Conversation,
    muted: bool,
) -> Result<(), Fault> {
    let query = if muted {
        sqlx::query("INSERT INTO mutes (user, conversation) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
    } else {
        sqlx::query("DELETE FROM mutes WHERE user = ?1 AND conversation = ?2")
    };
    query.bind(user.as_str()).bind(conversation.to_string()).execute(connection).await?;
    Ok(())
}
