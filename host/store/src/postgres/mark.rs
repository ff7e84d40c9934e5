//! What a database says of itself when the archive is spread over several: which of them it is. So a list that was changed is refused, before
//! rows of one partition lie in two places.

use sqlx::postgres::PgConnection;

use super::migrate::LOCK_MARKS;
use super::{PostgresError, PostgresStore};
use crate::StoreError;
use crate::fault::Fault;

/// The place of the main database.
const MAIN: i64 = -1;

/// Place, name of the whole, number of shards.
type Row = (i64, String, i64);

/// A database is not what the list says, in a clause.
type Wrong = Option<String>;

impl PostgresStore {
    /// A database that is no part of several.
    pub(super) async fn must_be_whole(&self) -> Result<(), PostgresError> {
        let read = self.connections.read("read its marks", |connection| {
            Box::pin(async move {
                let rows = rows(connection).await?;
                Ok(rows.iter().map(|(place, _, count)| (*place == MAIN, *count)).max())
            })
        });
        match self.opened(read.await)? {
            None => Ok(()),
            Some((true, count)) => Err(self.unfit(format!(
                "it is the main one of {count} shards, which hold its archive: name them in store.shards, in their order"
            ))),
            Some((false, count)) => Err(self.unfit(format!(
                "it is one of {count} shards: give the main database here, and all of them in store.shards, in their order"
            ))),
        }
    }

    /// Marks the main database of so many shards, or finds it marked; answers the name of the whole.
    pub(super) async fn mark_main(&self, count: usize) -> Result<String, PostgresError> {
        let count = count as i64;
        let write = self.connections.write("mark it", move |connection| Box::pin(mark_main(connection, count)));
        self.opened(write.await)?.map_err(|reason| self.unfit(reason))
    }

    /// Marks a shard of it, or finds it marked. `begun`: the main database says that this shard was begun.
    pub(super) async fn mark_shard(
        &self,
        whole: &str,
        nth: usize,
        count: usize,
        begun: bool,
    ) -> Result<(), PostgresError> {
        let row = (nth as i64, whole.to_owned(), count as i64);
        let write =
            self.connections.write("mark it", move |connection| Box::pin(mark_shard(connection, row.clone(), begun)));
        match self.opened(write.await)? {
            None => Ok(()),
            Some(reason) => Err(self.unfit(reason)),
        }
    }

    /// Whether this main database has seen that shard begun.
    pub(super) async fn shard_begun(&self, nth: usize) -> Result<bool, PostgresError> {
        let read = self.connections.read("read its marks", move |connection| {
            Box::pin(async move { Ok(rows(connection).await?.iter().any(|(place, ..)| *place == nth as i64)) })
        });
        self.opened(read.await)
    }

    /// Notes in the main database that a shard was begun.
    pub(super) async fn note_shard(&self, whole: &str, nth: usize, count: usize) -> Result<(), PostgresError> {
        let row = (nth as i64, whole.to_owned(), count as i64);
        let write = self.connections.write("mark it", move |connection| Box::pin(insert(connection, row.clone())));
        self.opened(write.await)
    }

    fn unfit(&self, reason: String) -> PostgresError {
        PostgresError::Unfit { server: self.place.to_string(), reason }
    }

    fn opened<T>(&self, answer: Result<T, StoreError>) -> Result<T, PostgresError> {
        answer.map_err(|error| {
            let (server, reason) = (self.place.to_string(), error.to_string());
            PostgresError::Database { server, operation: "read or write its marks", reason }
        })
    }
}

async fn mark_main(connection: &mut PgConnection, count: i64) -> Result<Result<String, String>, Fault> {
    lock(connection).await?;
    let rows = rows(connection).await?;
    match rows.iter().find(|(place, ..)| *place == MAIN) {
        Some((_, whole, known)) if *known == count => return Ok(Ok(whole.clone())),
        Some((_, _, known)) => {
            return Ok(Err(format!(
                "its archive lies in {known} shards, and store.shards names {count}: name those {known}, in their order; the number cannot be changed"
            )));
        }
        None if !rows.is_empty() => {
            return Ok(Err("it is a shard: give the main database here, or a new one".to_owned()));
        }
        None if holds_an_archive(connection).await? => {
            return Ok(Err(
                "it holds an archive of its own, which is not spread over shards: leave out store.shards, or begin with new databases".to_owned(),
            ));
        }
        None => {}
    }
    let whole: String = sqlx::query_scalar("SELECT gen_random_uuid()::text").fetch_one(&mut *connection).await?;
    insert(connection, (MAIN, whole.clone(), count)).await?;
    Ok(Ok(whole))
}

async fn mark_shard(connection: &mut PgConnection, wanted: Row, begun: bool) -> Result<Wrong, Fault> {
    lock(connection).await?;
    let rows = rows(connection).await?;
    let Some((place, whole, count)) = rows.first() else {
        if begun {
            return Ok(Some(format!(
                "it is empty, and shard {} was begun in another database: name that one, or restore its backup here",
                wanted.0
            )));
        }
        if holds_an_archive(connection).await? {
            return Ok(Some("it holds an archive of its own: give a new database".to_owned()));
        }
        insert(connection, wanted).await?;
        return Ok(None);
    };
    Ok(if *place == MAIN {
        Some("it is a main database, which is no shard: give another one".to_owned())
    } else if *whole != wanted.1 {
        Some("it is a shard of another main database than that of store.url: give a new one".to_owned())
    } else if (*place, *count) != (wanted.0, wanted.2) {
        let (stands, of) = (wanted.0, wanted.2);
        Some(format!(
            "it is shard {place} of {count}, and stands in the list as {stands} of {of}, counted from 0: write the list as it was; shards cannot be added, removed or exchanged"
        ))
    } else {
        None
    })
}

/// Marks stand in the order of their places.
async fn rows(connection: &mut PgConnection) -> Result<Vec<Row>, Fault> {
    Ok(sqlx::query_as("SELECT place, whole, count FROM shards ORDER BY place").fetch_all(connection).await?)
}

async fn insert(connection: &mut PgConnection, (place, whole, count): Row) -> Result<(), Fault> {
    sqlx::query("INSERT INTO shards (place, whole, count) VALUES ($1, $2, $3) ON CONFLICT (place) DO NOTHING")
        .bind(place)
        .bind(whole)
        .bind(count)
        .execute(connection)
        .await?;
    Ok(())
}

/// Nodes that begin at once agree.
async fn lock(connection: &mut PgConnection) -> Result<(), Fault> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK_MARKS).execute(connection).await?;
    Ok(())
}

async fn holds_an_archive(connection: &mut PgConnection) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM cursors) OR EXISTS (SELECT FROM archive_ranges) OR EXISTS (SELECT FROM receipts)",
    )
    .fetch_one(connection)
    .await?)
}
