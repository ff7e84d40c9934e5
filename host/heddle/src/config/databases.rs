//! Where the store's databases are: `store.url`, and `store.shards` beside it.

use super::choices::{LogBackend, StoreBackend};
use super::from_file;
use super::keys::{Config, StoreSection};

const WRITE: &str = "write postgres://USER:PASSWORD@HOST:5432/DATABASE";

/// What is wrong with these keys; takes what stands in files.
pub(super) fn check(config: &mut Config, say: &mut impl FnMut(&str, String, &str)) {
    let store = &mut config.store;
    from_file(&mut store.url, &store.url_file, ["store.url", "store.url_file"], say);
    shards_from_file(store, say);
    if store.backend == StoreBackend::Sqlite {
        let given = [("store.url", !store.url.is_empty()), ("store.shards", !store.shards.is_empty())];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let wrong = "is set, and store.backend is \"sqlite\"".to_owned();
            say(key, wrong, "remove it, or set store.backend to \"postgres\"");
        }
        return;
    }
    if store.url.is_empty() {
        let wrong = "is empty, and store.backend is \"postgres\"".to_owned();
        say("store.url", wrong, &format!("{WRITE}, or name a file in store.url_file"));
    } else {
        of_postgres("store.url", &store.url, say);
    }
    check_shards(config, say);
}

/// How an entry of the list is named, to people too.
pub fn shard_key(nth: usize) -> String {
    format!("store.shards[{nth}]")
}

fn of_postgres(key: &str, url: &str, say: &mut impl FnMut(&str, String, &str)) {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        say(key, "does not begin with postgres://".to_owned(), WRITE);
    }
}

fn shards_from_file(store: &mut StoreSection, say: &mut impl FnMut(&str, String, &str)) {
    let mut text = String::new();
    from_file(&mut text, &store.shards_file, ["store.shards", "store.shards_file"], say);
    if text.is_empty() {
        return;
    }
    if !store.shards.is_empty() {
        say("store.shards_file", "is set beside store.shards".to_owned(), "leave out one of them");
        return;
    }
    store.shards = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
}

fn check_shards(config: &Config, say: &mut impl FnMut(&str, String, &str)) {
    let shards = &config.store.shards;
    if shards.is_empty() {
        return;
    }
    for (nth, url) in shards.iter().enumerate() {
        let key = shard_key(nth);
        of_postgres(&key, url, say);
        if *url == config.store.url {
            say(&key, "is store.url".to_owned(), "name a database of its own");
        } else if let Some(before) = shards[..nth].iter().position(|other| other == url) {
            say(&key, format!("is {} again", shard_key(before)), "name a database of its own");
        }
    }
    let count = shards.len() as u64;
    if count == 1 {
        say(
            "store.shards",
            "has one entry".to_owned(),
            "name at least two, or leave it out: then store.url has everything",
        );
    }
    let (key, partitions) = match config.log.backend {
        LogBackend::Kafka => ("kafka.partitions", config.kafka.partitions),
        LogBackend::Embedded => ("log.partitions", config.log.partitions),
    };
    if !partitions.is_multiple_of(count) {
        let wrong = format!("names {count} databases, and {key} is {partitions}");
        let remedy = format!(
            "partitions are spread evenly: make {key} a multiple of {count} before the log is made, or name another number of databases"
        );
        say("store.shards", wrong, &remedy);
    }
}
