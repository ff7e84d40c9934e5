//! Shared states in Redis: one script compares the version and sets.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::HashesInterface as _;
use fred::types::Value;
use fred::types::scripts::Script;
use heddle_model::Millis;

use super::keys::Keys;
use super::link::Link;
use crate::{KeyedStates, RegistryError, Swap, Versioned};

/// KEYS: the state. ARGV: version seen, bytes, milliseconds to keep. A version is the server's time in microseconds, so that it grows over
/// an expiry too: who read a state that has gone since cannot overwrite what came after it.
static SWAP: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local there = redis.call('HMGET', KEYS[1], 'version', 'bytes')
local version = there[1] or '0'
if version ~= ARGV[1] then return {0, version, there[2] or ''} end
if ARGV[2] == '' or ARGV[3] == '0' then redis.call('DEL', KEYS[1]) return {1, '0', ''} end
local time = redis.call('TIME')
local next = math.max(time[1] * 1000000 + time[2], version + 1)
next = string.format('%.0f', next)
redis.call('HSET', KEYS[1], 'version', next, 'bytes', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {1, next, ''}",
    )
});

/// States that all nodes share, in Redis.
#[derive(Clone)]
pub struct RedisStates {
    link: Arc<Link>,
    keys: Arc<Keys>,
}

impl RedisStates {
    pub(super) fn new(link: Arc<Link>, keys: Arc<Keys>) -> Self {
        Self { link, keys }
    }
}

#[async_trait]
impl KeyedStates for RedisStates {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, RegistryError> {
        let key = self.keys.state(key);
        let get = async move |client: Client| {
            client.hmget::<(Option<u64>, Option<Bytes>), _, _>(key, vec!["version", "bytes"]).await
        };
        let (version, bytes) = self.link.call(0, get).await?;
        Ok(version.zip(bytes).map(|(version, bytes)| Versioned { bytes, version }))
    }

    async fn swap(&self, key: &str, seen: u64, bytes: &[u8], keep: Millis) -> Result<Swap, RegistryError> {
        let args = vec![
            Value::from(seen.to_string()),
            Value::Bytes(Bytes::copy_from_slice(bytes)),
            Value::from(keep.to_string()),
        ];
        let (done, version, bytes): (i64, u64, Bytes) = self.link.script(&SWAP, self.keys.state(key), args).await?;
        Ok(match (done, version) {
            (1, version) => Swap::Done(version),
            (_, 0) => Swap::Conflict(None),
            (_, version) => Swap::Conflict(Some(Versioned { bytes, version })),
        })
    }
}
