//! The store on several Postgres databases: a main one, and shards that have the archive, each that of whole partitions.
//!
//! A partition lies in the shard of its number modulo the number of shards. That number divides the number of partitions, whatever this becomes: so a
//! user's or a group's home lies in the same shard for ever, and all that a user's stream ever had is in one database, in one snapshot with its cursor.
//! Who belongs to a group, who is whose contact and the like stand in the main database, the `derived` cursors, epochs and holes too.
//!
//! What a batch has for the main database is written first, then each shard's part with the cursors of its partitions: groups are never behind
//! the messages of theirs that can be read. Every row may be written again, so a batch of which a part failed is handed in whole once more.

mod archive;
mod conversations;
mod epochs;
mod groups;
mod history;
mod memberships;
mod rebuild;
mod write;

use std::future::Future;
use std::sync::Arc;

use heddle_model::{Clock, GroupId, Partitioning, TopicPartition, UserId};

use super::{PostgresConfig, PostgresError, PostgresStore};
use crate::fault::unavailable;
use crate::{Store, StoreError};

/// A store in several databases: a cheap handle.
#[derive(Clone)]
pub struct PostgresShards {
    main: PostgresStore,
    shards: Arc<[Shard]>,
}

/// One of them, with the key that names it.
struct Shard {
    store: PostgresStore,
    key: Box<str>,
}

impl PostgresShards {
    /// Opens all of them, as [`PostgresStore::open`] does one, and checks that they are those that this store was begun with, in that order.
    ///
    /// # Errors
    /// What is wrong with the first that does not open.
    pub async fn open(
        main: PostgresConfig,
        shards: Vec<PostgresConfig>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PostgresError> {
        let (key, count) = (main.key.clone(), shards.len());
        let part = |key: &str| {
            let key = key.to_owned();
            move |error| PostgresError::Part { key, error: Box::new(error) }
        };
        let main = PostgresStore::connect(main, Arc::clone(&clock)).await.map_err(part(&key))?;
        let whole = main.mark_main(count).await.map_err(part(&key))?;
        let mut opened = Vec::with_capacity(count);
        for (nth, config) in shards.into_iter().enumerate() {
            let key = config.key.clone();
            let store = PostgresStore::connect(config, Arc::clone(&clock)).await.map_err(part(&key))?;
            let begun = main.shard_begun(nth).await.map_err(part(&key))?;
            store.mark_shard(&whole, nth, count, begun).await.map_err(part(&key))?;
            if !begun {
                main.note_shard(&whole, nth, count).await.map_err(part(&key))?;
            }
            opened.push(Shard { store, key: key.into() });
        }
        Ok(Self { main, shards: opened.into() })
    }

    /// The version of the main database's server, as it told it.
    #[must_use]
    pub fn server_version(&self) -> &str {
        self.main.server_version()
    }

    /// All its ports.
    #[must_use]
    pub fn store(&self) -> Store {
        Store {
            archive: Arc::new(self.clone()),
            groups: Arc::new(self.clone()),
            epochs: Arc::new(self.clone()),
            rebuild: Arc::new(self.clone()),
            ..self.main.store()
        }
    }

    /// Waits for what was handed in, and closes every connection; everything later is unavailable.
    pub async fn close(&self) {
        let _ = self
            .each(|_, store| async move {
                store.close().await;
                Ok(())
            })
            .await;
        self.main.close().await;
    }

    /// Which shard has a partition.
    fn of(&self, partition: TopicPartition) -> usize {
        partition.partition as usize % self.shards.len().max(1)
    }

    /// Which shard has a user's stream, and the receipts for what the user sent.
    fn of_user(&self, user: &UserId) -> usize {
        self.of(self.alike().home(user))
    }

    /// Which shard has a group's messages.
    fn of_group(&self, group: &GroupId) -> usize {
        self.of(self.alike().group_home(group))
    }

    /// With as many partitions as shards: the homes of all other numbers that are allowed lie in the same shards.
    fn alike(&self) -> Partitioning {
        Partitioning { count: self.shards.len() as u32 }
    }

    /// Asks one shard.
    async fn ask<T, F>(&self, nth: usize, ask: impl FnOnce(PostgresStore) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match self.shards.get(nth) {
            Some(shard) => ask(shard.store.clone()).await.map_err(|error| named(&shard.key, error)),
            None => Err(unavailable("archive", &format!("there is no shard {nth}"))),
        }
    }

    /// Asks all of them at once; answers come in their order.
    async fn each<T, F>(&self, ask: impl Fn(usize, PostgresStore) -> F) -> Vec<Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let tasks: Vec<_> =
            self.shards.iter().enumerate().map(|(nth, shard)| tokio::spawn(ask(nth, shard.store.clone()))).collect();
        let mut answers = Vec::with_capacity(tasks.len());
        for (task, shard) in tasks.into_iter().zip(self.shards.iter()) {
            let answer = task.await.unwrap_or_else(|error| Err(unavailable("archive", &error.to_string())));
            answers.push(answer.map_err(|error| named(&shard.key, error)));
        }
        answers
    }

    /// The same, where one that does not answer makes the others worthless.
    async fn all<T, F>(&self, ask: impl Fn(usize, PostgresStore) -> F) -> Result<Vec<T>, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        self.each(ask).await.into_iter().collect()
    }
}

/// Says which database it was.
fn named(key: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable { operation, reason } => {
            StoreError::Unavailable { operation, reason: format!("{key}: {reason}") }
        }
        broken @ StoreError::Broken { .. } => broken,
    }
}

impl std::fmt::Debug for PostgresShards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresShards").field("main", &self.main).field("shards", &self.shards.len()).finish()
    }
}
