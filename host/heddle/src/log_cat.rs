//! `heddle log cat`: records as they stand in the log, one JSON object a line, each with the stamp of who decided it.

use std::io::{BufWriter, ErrorKind, Write};

use heddle_log::{KafkaReader, LogEntry, LogReader};
use heddle_model::{Decision, Digest, GroupChange, GroupChangeKind, Message, Record, Source, Stamp, TopicPartition};
use serde_json::{Value, json};

use crate::cli::LogCatArgs;
use crate::config::{LogBackend, Sources};
use crate::failure::Failure;
use crate::server::settings;

/// The log's directory within a data directory.
pub const LOG_DIR: &str = "log";

/// A log that is looked into, whichever it is.
#[allow(clippy::large_enum_variant, reason = "there is one, for as long as the command runs")]
enum Opened {
    Files(LogReader),
    Topics(KafkaReader),
}

type Entries<'a> = Box<dyn Iterator<Item = Result<LogEntry, Failure>> + 'a>;

impl Opened {
    fn open(args: &LogCatArgs) -> Result<Self, Failure> {
        let mut data = args.data.clone();
        if args.config.is_some() {
            let config = Sources { file: args.config.clone(), variables: Sources::environment(), ..Sources::default() }
                .load()?;
            if config.log.backend == LogBackend::Kafka {
                let reader = KafkaReader::open(settings::kafka(&config, None)?);
                return reader.map(Self::Topics).map_err(|error| Failure::missing(error.to_string()));
            }
            data = config.node.data_dir;
        }
        LogReader::open(data.join(LOG_DIR))
            .map(Self::Files)
            .map_err(|error| Failure::missing(format!("{error}; name the data directory with --data")))
    }

    fn partitions(&self) -> u32 {
        match self {
            Self::Files(files) => files.layout().partitions,
            Self::Topics(topics) => topics.partitions(),
        }
    }

    fn records(&self, partition: TopicPartition, from: u64) -> Result<Entries<'_>, Failure> {
        if partition.partition >= self.partitions() {
            let (asked, count) = (partition.partition, self.partitions());
            return Err(Failure::usage(format!("there is no partition {asked}: the log has {count}, from 0")));
        }
        let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
        Ok(match self {
            Self::Files(files) => {
                let records = files.records(partition, from).map_err(|error| Failure::usage(error.to_string()))?;
                Box::new(records.map(move |entry| entry.map_err(|error| failed(&error))))
            }
            Self::Topics(topics) => {
                let records = topics.records(partition, from).map_err(|error| failed(&error))?;
                Box::new(records.map(move |entry| entry.map_err(|error| failed(&error))))
            }
        })
    }
}

/// Writes the records to `out`, as far as the log goes now.
///
/// # Errors
/// No log there, no such partition, a record that this build cannot read.
pub fn cat(args: &LogCatArgs, out: impl Write) -> Result<(), Failure> {
    let log = Opened::open(args)?;
    let partitions = match args.partition {
        Some(partition) => partition..partition.saturating_add(1),
        None => 0..log.partitions(),
    };
    let mut out = BufWriter::new(out);
    for partition in partitions {
        let partition = match args.topic.as_str() {
            "group_messages" => TopicPartition::groups(partition),
            _ => TopicPartition::messages(partition),
        };
        for entry in log.records(partition, args.from)? {
            match writeln!(out, "{}", line(&entry?)) {
                // `heddle log cat | head` has seen enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                other => other.map_err(|error| Failure::new(format!("stdout: {error}")))?,
            }
        }
    }
    match out.flush() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(format!("stdout: {error}"))),
        _ => Ok(()),
    }
}

fn line(entry: &LogEntry) -> Value {
    let partition = entry.place.partition;
    let mut line = json!({
        "topic": partition.topic.name(), "partition": partition.partition, "offset": entry.place.offset,
        "appended_at": entry.appended_at, "commit": entry.commit, "handed_in": entry.handed_in,
        // So that whoever has its bytes elsewhere, as the archive has, can compare them.
        "sha256": Digest::of(&entry.bytes).to_string(),
    });
    let content = match Record::decode(&entry.bytes) {
        Ok(record) => describe(&record),
        Err(error) => json!({ "kind": "unreadable", "error": error.to_string(), "bytes": entry.bytes.len() }),
    };
    if let (Value::Object(line), Value::Object(content)) = (&mut line, content) {
        line.extend(content);
    }
    line
}

fn describe(record: &Record) -> Value {
    match record {
        Record::Direct(sent) => with("direct", message(sent), json!({})),
        Record::Group(sent) => with("group", message(sent), json!({ "plan": sent.plan })),
        Record::OwnCopy(copy) => {
            with("own_copy", message(&copy.message), json!({ "order": copy.order, "source": source(copy.source) }))
        }
        Record::GroupChunk(chunk) => {
            let members: Vec<Value> = chunk
                .members
                .iter()
                .map(|member| json!({ "user": member.user, "delivery": member.delivery }))
                .collect();
            let more = json!({
                "order": chunk.order, "members": members, "sorted_by": decisions(&chunk.decisions),
                "source": source(chunk.source),
            });
            with("group_chunk", message(&chunk.message), more)
        }
        Record::Receipt(receipt) => json!({
            "kind": "receipt", "to": receipt.to, "conversation": receipt.conversation.to_string(),
            "message_id": receipt.message_id.to_string(), "by": receipt.by, "status": receipt.status,
            "order": receipt.order, "at": receipt.at, "count": receipt.count,
        }),
        Record::GroupChange(change) => group_change(change),
        Record::Membership(notice) => json!({
            "kind": "membership", "targets": notice.targets, "group": notice.group, "user": notice.user,
            "change": notice.change, "by": notice.by, "at": notice.at, "name": notice.name,
            "source": source(notice.source),
        }),
        Record::Rejection(rejection) => json!({
            "kind": "rejection", "to": rejection.to, "client_id": rejection.client_id, "code": rejection.code,
            "reason": rejection.reason, "order": rejection.order, "source": source(rejection.source),
        }),
    }
}

fn with(kind: &str, mut message: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut message, more) {
        fields.insert("kind".to_owned(), kind.into());
        fields.extend(more);
    }
    message
}

fn message(message: &Message) -> Value {
    let tags: serde_json::Map<String, Value> =
        message.tags.iter().map(|(name, value)| (name.to_string(), value.to_string().into())).collect();
    // What the client sent as JSON is shown as JSON; were it not, as the text that it is.
    let data = message.data.as_ref().map(|data| {
        serde_json::from_slice(data).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(data).into_owned()))
    });
    json!({
        "message_id": message.id.to_string(), "from": message.sender, "client_id": message.client_id,
        "addressed": message.addressed.to_string(), "to": message.to.to_string(), "text": message.text,
        "data": data, "tags": tags, "mentions": message.mentions, "sent_at": message.sent_at,
        "lamport": message.lamport, "rewritten": message.rewritten, "only": message.only,
        "discarded": message.discarded, "stamp": stamp(&message.stamp),
    })
}

fn stamp(stamp: &Stamp) -> Value {
    json!({ "generation": stamp.generation, "decisions": decisions(&stamp.decisions) })
}

fn decisions(decisions: &[Decision]) -> Vec<Value> {
    let one = |decision: &Decision| {
        json!({
            "hook": decision.hook, "plugin": decision.plugin, "version": decision.version,
            "digest": decision.digest.to_string(), "micros": decision.micros, "verdict": decision.verdict,
            "fallback": decision.fallback,
        })
    };
    decisions.iter().map(one).collect()
}

fn source(source: Source) -> Value {
    json!({
        "topic": source.partition.topic.name(), "partition": source.partition.partition,
        "position": source.position, "chunk": source.chunk,
    })
}

fn group_change(change: &GroupChange) -> Value {
    let what = match &change.kind {
        GroupChangeKind::Created { name, members } => json!({ "change": "created", "name": name, "members": members }),
        GroupChangeKind::Joined { users } => json!({ "change": "joined", "users": users }),
        GroupChangeKind::Left { user } => json!({ "change": "left", "user": user }),
        GroupChangeKind::Role { user, role } => json!({ "change": "role", "user": user, "role": role }),
        GroupChangeKind::Renamed { name } => json!({ "change": "renamed", "name": name }),
        GroupChangeKind::Deleted => json!({ "change": "deleted" }),
    };
    with("group_change", json!({ "group": change.group, "by": change.by, "at": change.at }), what)
}

#[cfg(test)]
#[path = "log_cat_tests.rs"]
mod tests;
