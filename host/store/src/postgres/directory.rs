//! Users, contacts, mutes.

use async_trait::async_trait;
use heddle_model::{Conversation, GroupId, Millis, UserId};
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::text::names;
use crate::cell::{conversation, time, uint, user};
use crate::fault::Fault;
use crate::{Contact, Directory, StoreError};

#[async_trait]
impl Directory for PostgresStore {
    async fn user_since(&self, user: &UserId) -> Result<Option<Millis>, StoreError> {
        let user = user.clone();
        let read = self.connections.read("user since", move |connection| {
            let user = user.clone();
            Box::pin(async move {
                let since: Option<i64> = sqlx::query_scalar("SELECT since FROM users WHERE usr = $1")
                    .bind(user.as_str())
                    .fetch_optional(connection)
                    .await?;
                since.map(|since| uint("users", since)).transpose()
            })
        });
        read.await
    }

    async fn see_user(&self, user: &UserId, at: Millis) -> Result<(), StoreError> {
        let user = user.clone();
        self.connections.write("see user", move |connection| Box::pin(see_user(connection, user.clone(), at))).await
    }

    async fn contacts(&self, user: &UserId) -> Result<Vec<Contact>, StoreError> {
        let user = user.clone();
        self.connections.read("contacts", move |connection| Box::pin(contacts(connection, user.clone()))).await
    }

    async fn listed(&self, user: &UserId, viewers: &[UserId]) -> Result<Vec<bool>, StoreError> {
        let (user, viewers) = (user.clone(), names(viewers));
        let read = self.connections.read("listed", move |connection| {
            let (user, viewers) = (user.clone(), viewers.clone());
            Box::pin(async move {
                Ok(sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM contacts c WHERE c.usr = $1 AND c.other = v.usr)
                     FROM unnest($2::text[]) WITH ORDINALITY AS v (usr, nth) ORDER BY v.nth",
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
        let (user, other) = (user.clone(), other.clone());
        let write = self.connections.write("set contact", move |connection| {
            Box::pin(set_contact(connection, user.clone(), other.clone(), listed, at))
        });
        write.await
    }

    async fn set_mute(&self, user: &UserId, conversation: &Conversation, muted: bool) -> Result<(), StoreError> {
        let (user, name) = (user.clone(), conversation.to_string());
        let write = self
            .connections
            .write("set mute", move |connection| Box::pin(set_mute(connection, user.clone(), name.clone(), muted)));
        write.await
    }

    async fn mutes(&self, user: &UserId) -> Result<Vec<Conversation>, StoreError> {
        let user = user.clone();
        let read = self.connections.read("mutes", move |connection| {
            let user = user.clone();
            Box::pin(async move { mutes(connection, &user).await })
        });
        read.await
    }

    async fn muted_members(&self, group: &GroupId) -> Result<Vec<UserId>, StoreError> {
        let name = Conversation::Group(group.clone()).to_string();
        let read = self.connections.read("muted members", move |connection| {
            let name = name.clone();
            Box::pin(async move {
                let rows: Vec<String> =
                    sqlx::query_scalar("SELECT usr FROM mutes WHERE conversation = $1 ORDER BY usr")
                        .bind(name)
                        .fetch_all(connection)
                        .await?;
                rows.iter().map(|row| user("mutes", row)).collect()
            })
        });
        read.await
    }
}

async fn contacts(connection: &mut PgConnection, of: UserId) -> Result<Vec<Contact>, Fault> {
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT other, since FROM contacts WHERE usr = $1 ORDER BY other")
        .bind(of.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|(other, since)| Ok(Contact { user: user("contacts", other)?, since: uint("contacts", *since)? }))
        .collect()
}

/// What the user muted.
pub(super) async fn mutes(connection: &mut PgConnection, of: &UserId) -> Result<Vec<Conversation>, Fault> {
    let rows: Vec<String> = sqlx::query_scalar("SELECT conversation FROM mutes WHERE usr = $1 ORDER BY conversation")
        .bind(of.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| conversation("mutes", row)).collect()
}

async fn see_user(connection: &mut PgConnection, user: UserId, at: Millis) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO users AS u (usr, since) VALUES ($1, $2)
         ON CONFLICT (usr) DO UPDATE SET since = excluded.since WHERE excluded.since < u.since",
    )
    .bind(user.as_str())
    .bind(time(at))
    .execute(connection)
    .await?;
    Ok(())
}

async fn set_contact(
    connection: &mut PgConnection,
    user: UserId,
    other: UserId,
    listed: bool,
    at: Millis,
) -> Result<bool, Fault> {
    let done = if listed {
        sqlx::query("INSERT INTO contacts (usr, other, since) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(user.as_str())
            .bind(other.as_str())
            .bind(time(at))
            .execute(connection)
            .await?
    } else {
        sqlx::query("DELETE FROM contacts WHERE usr = $1 AND other = $2")
            .bind(user.as_str())
            .bind(other.as_str())
            .execute(connection)
            .await?
    };
    Ok(done.rows_affected() > 0)
}

async fn set_mute(connection: &mut PgConnection, user: UserId, name: String, muted: bool) -> Result<(), Fault> {
    let query = if muted {
        sqlx::query("INSERT INTO mutes (usr, conversation) VALUES ($1, $2) ON CONFLICT DO NOTHING")
    } else {
        sqlx::query("DELETE FROM mutes WHERE usr = $1 AND conversation = $2")
    };
    query.bind(user.as_str()).bind(name).execute(connection).await?;
    Ok(())
}
