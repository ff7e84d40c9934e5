//! What one server, partition, broker, archive and Redis can do: the original design's figures and ours, each with where it comes from.

use super::amount::Unit;

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The original design says so.
    Design,
    /// It was measured; [`MACHINE`] says on what.
    Measured,
    /// Nobody measured it: a choice, or what such servers usually have.
    Assumed,
    /// The caller says so.
    Given,
}

impl Source {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Design => "design",
            Self::Measured => "measured",
            Self::Assumed => "assumed",
            Self::Given => "given",
        }
    }
}

/// What was measured, was measured here.
pub const MACHINE: &str = "two cores of a shared virtual machine (AMD EPYC, 23 GiB, Linux 6.18, ext4)";

/// A number with its source.
#[derive(Debug, Clone)]
pub struct Figure {
    /// In the unit of its row.
    pub value: u64,
    /// Where from.
    pub source: Source,
    /// More about it.
    pub says: &'static str,
}

impl Figure {
    /// For reckoning: no product of these leaves 128 bits.
    pub fn get(&self) -> u128 {
        u128::from(self.value)
    }
}

/// A figure as it is shown and set.
pub struct Row {
    /// `section.name`, as in a file and after `--set`.
    pub key: &'static str,
    /// What it is.
    pub meaning: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// The least and the most that are taken.
    pub range: (u64, u64),
}

macro_rules! original {
    ($ours:expr, ours) => {
        $ours
    };
    ($ours:expr, $value:literal, $says:literal) => {
        Figure { value: $value, source: Source::Design, says: $says }
    };
}

macro_rules! figures {
    ($($field:ident: $key:literal, $unit:ident [$min:literal, $max:literal], $meaning:literal;
        original $original:tt $(, $design:literal)?;
        ours $ours:literal $ours_source:ident $ours_says:literal;)*) => {
        /// All figures of one column.
        #[derive(Debug, Clone)]
        pub struct Figures {
            $(#[doc = $meaning] pub $field: Figure,)*
        }

        /// What there is, in the order in which it is shown.
        pub const ROWS: &[Row] = &[$(Row { key: $key, meaning: $meaning, unit: Unit::$unit, range: ($min, $max) },)*];

        impl Figures {
            /// Those of the original design; where it names none, ours.
            pub fn original() -> Self {
                let ours = Self::ours();
                Self { $($field: original!(ours.$field, $original $(, $design)?),)* }
            }

            /// Ours.
            pub fn ours() -> Self {
                Self { $($field: Figure { value: $ours, source: Source::$ours_source, says: $ours_says },)* }
            }

            /// In the order of [`ROWS`].
            pub fn all(&self) -> Vec<&Figure> {
                vec![$(&self.$field,)*]
            }

            /// The figure of a key.
            pub fn named(&mut self, key: &str) -> Option<&mut Figure> {
                match key {
                    $($key => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }
    };
}

figures! {
    server_connections_max: "server.connections_max", Count [1, 1_000_000_000], "connections that a server may hold, whatever its memory";
        original 10_000, "";
        ours 100_000 Assumed "what one lost server sends to the others at once; measured up to 9,000";
    server_connection_bytes: "server.connection_bytes", Bytes [1, 1_000_000_000], "memory of a connection";
        original 500_000, "";
        ours 12_800 Measured "7.6 KiB of the process and 4.9 KiB of the kernel for an idle one, slope from 1,000 to 9,000";
    server_memory: "server.memory", Bytes [1, 1_000_000_000_000_000], "memory of a server";
        original ours;
        ours 16_000_000_000 Assumed "a usual server";
    server_memory_percent: "server.memory_percent", Percent [1, 100], "share of it for connections";
        original ours;
        ours 50 Assumed "the rest is for messages on their way, policies and the page cache";
    server_cores: "server.cores", Count [1, 10_000], "cores of a server";
        original ours;
        ours 8 Assumed "a usual server";
    server_messages_per_core: "server.messages_per_core", PerSecond [1, 1_000_000_000], "1:1 messages per second of a core's time";
        original ours;
        ours 6_300 Measured "on Kafka, PostgreSQL and Redis, archive and receipts included, on one core (the embedded log: 27,000); that more cores do as many times as much is assumed";
    server_busy_percent: "server.busy_percent", Percent [1, 100], "how busy a server may be at the peak";
        original ours;
        ours 60 Assumed "the rest is for what comes back after a loss";
    server_follows_per_core: "server.follows_per_core", PerSecond [1, 1_000_000_000], "1:1 messages of others per second of a core's time, which a server that reads the whole log only follows";
        original ours;
        ours 80_000 Measured "three nodes on one core, beyond what they need while nothing happens";
    server_follow_percent: "server.follow_percent", Percent [1, 99], "share of a server's busy time that following may take";
        original ours;
        ours 10 Assumed "the rest is for its own clients; more makes fewer and larger logs, which brokers send to more servers";
    server_price: "server.price", Dollars [0, 1_000_000_000], "price of a server a month";
        original 150, "";
        ours 150 Design "taken over, for comparison";
    partition_messages: "partition.messages", PerSecond [1, 1_000_000_000], "messages a second of one partition";
        original 35_000, "its 3.5 million over 100 partitions";
        ours 15_100 Measured "the whole path of so many fits on one core, and the worker of a partition is a part of it";
    partition_max: "partition.max", Count [1, 1_000_000], "partitions of one log at most";
        original ours;
        ours 1_024 Assumed "log.partitions takes no more; beyond it, several logs that share nothing";
    log_read_by_all: "log.read_by_all", Count [0, 1], "1: every server reads the whole log, 0: only its own partitions";
        original 0, "a server consumes its own partitions";
        ours 1 Measured "a node judges every record, so that no push depends on Redis";
    log_records: "log.records", Count [1, 1_000], "records in the log for a 1:1 message";
        original 1, "forgets the sender's own copy";
        ours 2 Measured "the recipient's and the sender's; receipts are few, at most one a second and conversation";
    log_overhead_bytes: "log.overhead_bytes", Bytes [0, 1_000_000_000], "bytes that a record adds to its message";
        original 0, "reckons the message alone";
        ours 350 Measured "stamps, ids and frames: 349 at 100 bytes of text, 282 at 1,000, 16 pairs with 64 messages on their way";
    broker_write_bytes: "broker.write_bytes", BytesPerSecond [1, 1_000_000_000_000], "bytes a second that a broker writes";
        original ours;
        ours 250_000_000 Assumed "half of what a network of 10 Gbit/s and its disks would carry, consumers left room";
    broker_read_bytes: "broker.read_bytes", BytesPerSecond [1, 1_000_000_000_000], "bytes a second that servers read from a broker";
        original ours;
        ours 500_000_000 Assumed "half of what a network of 10 Gbit/s carries; most of it stands in the page cache";
    broker_disk: "broker.disk", Bytes [1, 1_000_000_000_000_000], "disk of a broker";
        original ours;
        ours 24_000_000_000_000 Assumed "";
    broker_disk_percent: "broker.disk_percent", Percent [1, 100], "share of a disk that may be full";
        original ours;
        ours 70 Assumed "";
    broker_price: "broker.price", Dollars [0, 1_000_000_000], "price of a broker a month";
        original ours;
        ours 1_000 Assumed "";
    archive_rows: "archive.rows", Count [1, 1_000], "rows in the archive for a 1:1 message";
        original ours;
        ours 4 Measured "two records, and each once in a stream";
    archive_copies: "archive.copies", Count [0, 1_000], "how often the archive holds a message's text";
        original ours;
        ours 2 Measured "on Postgres 15, from 100 to 1,000 bytes of text";
    archive_overhead_bytes: "archive.overhead_bytes", Bytes [0, 1_000_000_000], "bytes that all rows of a message add, indexes included";
        original ours;
        ours 1_600 Measured "on Postgres 15: 1,450 at 100 bytes of text, 1,600 at 1,000";
    archive_rows_per_second: "archive.rows_per_second", PerSecond [1, 1_000_000_000], "rows a second that a shard takes";
        original ours;
        ours 97_000 Measured "Postgres 15 alone, without Heddle: UNNEST of 1,000 rows, client on the same two cores";
    archive_disk: "archive.disk", Bytes [1, 1_000_000_000_000_000], "disk of a shard";
        original ours;
        ours 8_000_000_000_000 Assumed "";
    archive_servers: "archive.servers", Count [1, 100], "servers of a shard, standbys included";
        original ours;
        ours 2 Assumed "";
    archive_price: "archive.price", Dollars [0, 1_000_000_000], "price of one of them a month";
        original ours;
        ours 1_000 Assumed "";
    redis_connection_bytes: "redis.connection_bytes", Bytes [1, 1_000_000], "memory of a connection in Redis";
        original ours;
        ours 200 Measured "a field of its user's hash";
    redis_renewal_seconds: "redis.renewal_seconds", Seconds [1, 1_000_000], "how often a connection is written anew";
        original ours;
        ours 200 Measured "a third of the ten minutes after which it would go";
    redis_operations: "redis.operations", Count [0, 1_000], "calls to Redis for a 1:1 message";
        original ours;
        ours 2 Assumed "at most a look-up and a publish; most take the route from memory, and messages to one node share calls";
    redis_operations_per_second: "redis.operations_per_second", PerSecond [1, 1_000_000_000], "calls a second that a shard answers";
        original ours;
        ours 700_000 Measured "Redis 7.0 alone, calls pipelined by 16; 55,000 unpipelined";
    redis_memory: "redis.memory", Bytes [1, 1_000_000_000_000_000], "memory of a shard";
        original ours;
        ours 16_000_000_000 Assumed "half of it is used";
    redis_servers: "redis.servers", Count [1, 100], "servers of a shard, replicas included";
        original ours;
        ours 2 Assumed "";
    redis_price: "redis.price", Dollars [0, 1_000_000_000], "price of one of them a month";
        original ours;
        ours 150 Assumed "";
}
