use heddle_log::MemoryLog;
use heddle_model::{
    BodyHash, ChunkMember, ClientId, Conversation, Delivery, GroupChange, GroupChangeKind, GroupChunk, ManualClock,
    Message, MessageId, OwnCopy, Plan, ReceiptRecord, ReceiptStatus, Source, Stamp, SystemClock, UserId,
};
use heddle_store::{ArchiveBatch, Cursor, ReceiptRow, SqliteStore, StoreConfig};

use super::*;

const MESSAGES: TopicPartition = TopicPartition { topic: heddle_model::Topic::Messages, partition: 0 };
const GROUPS: TopicPartition = TopicPartition { topic: heddle_model::Topic::GroupMessages, partition: 0 };

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn group() -> GroupId {
    GroupId::new("g").unwrap()
}

/// The position of a log offset.
fn at(offset: u64) -> Position {
    Position::new(0, offset)
}

fn message(id: u8, from: &str, to: Conversation, plan: Plan) -> Arc<Message> {
    Arc::new(Message {
        id: MessageId([id; 16]),
        sender: user(from),
        client_id: ClientId::new("c").unwrap(),
        addressed: to.clone(),
        to,
        text: Some("hello".into()),
        data: None,
        tags: Vec::new(),
        mentions: Vec::new(),
        sent_at: 7,
        lamport: u64::from(id),
        body: BodyHash([0; 16]),
        rewritten: false,
        only: None,
        discarded: false,
        quiet: false,
        outsider: false,
        plan,
        stamp: Stamp::default(),
    })
}

fn to_group(id: u8, from: &str, plan: Plan) -> Record {
    Record::Group(message(id, from, Conversation::Group(group()), plan))
}

fn direct(id: u8) -> Record {
    Record::Direct(message(id, "alice", Conversation::Direct(user("bob")), Plan::Push))
}

fn change(kind: GroupChangeKind) -> Record {
    Record::GroupChange(GroupChange { group: group(), by: user("alice"), at: 5, kind })
}

fn created() -> Record {
    change(GroupChangeKind::Created { name: "the group".into(), members: vec![user("bob")] })
}

/// Made from the record of the group's partition at that offset.
fn source(offset: u64) -> Source {
    Source { partition: GROUPS, position: at(offset), chunk: 0 }
}

fn chunk(offset: u64, of: u8, members: &[&str]) -> Record {
    let member = |name: &&str| ChunkMember { user: user(name), delivery: Delivery::Push };
    Record::GroupChunk(GroupChunk {
        message: message(of, "bob", Conversation::Group(group()), Plan::Push),
        order: at(offset),
        members: members.iter().map(member).collect(),
        decisions: Vec::new(),
        source: source(offset),
    })
}

fn receipt(status: ReceiptStatus, order: Position) -> Record {
    Record::Receipt(ReceiptRecord {
        to: user("alice"),
        conversation: Conversation::Direct(user("bob")),
        message_id: MessageId([1; 16]),
        by: user("bob"),
        status,
        order,
        at: 9,
        count: None,
    })
}

struct World {
    log: Arc<MemoryLog>,
    store: Store,
    _directory: tempfile::TempDir,
}

impl World {
    /// An archive without a row, of a log of one partition that holds at most so many records.
    async fn new(records_max: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let config = StoreConfig::at(directory.path().join("store.db"));
        let store = SqliteStore::open(config, Arc::clone(&clock)).await.unwrap().store();
        // Two logs with the same records say the same of when they came.
        let log = MemoryLog::bounded(1, Arc::new(ManualClock::at(1_000)), records_max);
        Self { log, store, _directory: directory }
    }

    async fn append(&self, partition: TopicPartition, records: &[Record]) {
        for record in records {
            self.log.append(partition, None, record.encode()).await.unwrap();
        }
    }

    /// As if the archiver had come to the end of the log.
    async fn archived(&self) {
        self.store.epochs.epoch([0; 16], 1, &[]).await.unwrap();
        let cursors = [MESSAGES, GROUPS].map(|partition| Cursor {
            partition,
            upto: Position(Position::new(0, *self.log.head(partition).borrow()).0 - 1),
            judge: bytes::Bytes::new(),
        });
        self.store.archive.write(ArchiveBatch { cursors: cursors.into(), ..ArchiveBatch::default() }).await.unwrap();
    }

    async fn rebuild(&self, dry_run: bool) -> Result<Rebuilt, RebuildError> {
        let deps = RebuildDeps {
            log: Arc::clone(&self.log) as Arc<dyn Log>,
            store: self.store.clone(),
            clock: Arc::new(SystemClock::new()),
        };
        // Small pieces and pages, so that each has an end.
        let config = DeliveryConfig { read_bytes: 300, page_events: 2, ..DeliveryConfig::default() };
        rebuild(&config, deps, dry_run, &|_| {}).await
    }

    /// Which offsets of a partition are archived.
    async fn offsets(&self, partition: TopicPartition) -> Vec<u64> {
        let rows = self.store.rebuild.records_below(partition, Position(1 << 40), 1_000).await.unwrap();
        rows.iter().rev().map(|row| row.position.offset(0).unwrap()).collect()
    }

    async fn intervals(&self) -> Vec<(String, u64, Option<u64>)> {
        let row = self.store.groups.group(&group()).await.unwrap().unwrap();
        let of = |position: Position| position.offset(0).unwrap();
        row.members.iter().map(|m| (m.user.to_string(), of(m.joined), m.left.map(of))).collect()
    }
}

/// Bob is a member, goes, says something all the same, and comes again.
async fn group_with_a_stranger(world: &World) {
    world
        .append(
            GROUPS,
            &[
                created(),
                to_group(1, "bob", Plan::Push),
                change(GroupChangeKind::Left { user: user("bob") }),
                to_group(2, "bob", Plan::Push),
                change(GroupChangeKind::Joined { users: vec![user("bob")] }),
                to_group(3, "bob", Plan::Pull),
            ],
        )
        .await;
}

#[tokio::test]
async fn what_does_not_stand_makes_no_row_and_members_are_those_of_the_place() {
    let world = World::new(1_000).await;
    group_with_a_stranger(&world).await;
    let own = OwnCopy {
        message: message(3, "bob", Conversation::Group(group()), Plan::Pull),
        order: at(5),
        source: source(5),
    };
    let records = [
        chunk(1, 1, &["alice", "bob"]),
        // A worker that crashed, or a zombie, made it again.
        chunk(1, 1, &["alice", "bob"]),
        direct(4),
        receipt(ReceiptStatus::Read, at(2)),
        Record::OwnCopy(own),
    ];
    world.append(MESSAGES, &records).await;
    world.archived().await;
    let trial = world.rebuild(true).await.unwrap();
    assert!(world.offsets(GROUPS).await.is_empty() && trial.records.missing > 0);
    let found = world.rebuild(false).await.unwrap();
    assert_eq!(found.records, Tally { rows: 9, missing: 9, ..Tally::default() });
    assert_eq!(found.stream, Tally { rows: 5, missing: 5, ..Tally::default() });
    assert_eq!((found.pulled.missing, found.groups, found.read), (1, 1, 11));
    assert_eq!(world.offsets(GROUPS).await, [0, 1, 2, 4, 5]);
    assert_eq!(world.offsets(MESSAGES).await, [0, 2, 3, 4]);
    let bobs = [("alice", 0, None), ("bob", 0, Some(2)), ("bob", 4, None)];
    assert_eq!(world.intervals().await, bobs.map(|(name, joined, left)| (name.to_owned(), joined, left)));
    assert_eq!(world.store.groups.group(&group()).await.unwrap().unwrap().head, at(5));
    assert!(world.rebuild(false).await.unwrap().was_whole());
}

#[tokio::test]
async fn below_the_retained_log_rows_stay_and_say_what_was_derived_before() {
    let world = World::new(3).await;
    let whole = World::new(1_000).await;
    // In the middle bob has gone; what was derived from the first message is there again behind what the log still has.
    let records = [chunk(1, 1, &["alice", "bob"]), direct(4), direct(5), chunk(1, 1, &["alice", "bob"]), direct(6)];
    for world in [&world, &whole] {
        group_with_a_stranger(world).await;
        world.append(MESSAGES, &records).await;
        world.archived().await;
    }
    // The archive was made while the log had everything.
    let made =
        World { log: Arc::clone(&whole.log), store: world.store.clone(), _directory: tempfile::tempdir().unwrap() };
    made.rebuild(false).await.unwrap();
    let (groups, messages, members) =
        (world.offsets(GROUPS).await, world.offsets(MESSAGES).await, world.intervals().await);
    assert_eq!((&*groups, &*messages), (&[0, 1, 2, 4, 5][..], &[0, 1, 2, 4][..]));
    assert!(world.rebuild(false).await.unwrap().was_whole());

    // All of it goes that the log still has, and the group is where it was.
    let empty = ArchiveBatch::default;
    for (partition, after) in [(GROUPS, at(2)), (MESSAGES, at(1))] {
        let stretch = Stretch { partition, after, upto: Position(1 << 40) };
        world.store.rebuild.replace(stretch, empty()).await.unwrap();
    }
    assert!(world.store.rebuild.remake_group(&group(), at(2), Vec::new(), true).await.unwrap());
    world.store.rebuild.set_head(&group(), at(900)).await.unwrap();
    assert_eq!((world.offsets(GROUPS).await, world.offsets(MESSAGES).await), (vec![0, 1, 2], vec![0, 1]));
    let found = world.rebuild(false).await.unwrap();
    assert_eq!((found.records.missing, found.groups, found.read), (4, 1, 6));
    assert_eq!((world.offsets(GROUPS).await, world.offsets(MESSAGES).await), (groups, messages));
    assert_eq!(world.intervals().await, members);
    assert_eq!(world.store.groups.group(&group()).await.unwrap().unwrap().head, at(5));
}

#[tokio::test]
async fn receipts_are_what_the_senders_stream_says() {
    let world = World::new(1_000).await;
    let records = [
        direct(1),
        direct(2),
        receipt(ReceiptStatus::Delivered, at(0)),
        receipt(ReceiptStatus::Read, at(0)),
        receipt(ReceiptStatus::Delivered, at(1)),
    ];
    world.append(MESSAGES, &records).await;
    world.archived().await;
    world.rebuild(false).await.unwrap();
    let reached = async || {
        let (alice, conversation) = (user("alice"), Conversation::Direct(user("bob")));
        let state = world.store.archive.receipt(&alice, &conversation, &user("bob")).await.unwrap().unwrap();
        (state.delivered, state.read)
    };
    assert_eq!(reached().await, (at(1), at(0)));
    let too_far = |by: &str| ReceiptRow {
        sender: user("alice"),
        conversation: Conversation::Direct(user(by)),
        by: user(by),
        status: ReceiptStatus::Read,
        order: at(77),
        at: 1,
    };
    let receipts = vec![too_far("bob"), too_far("ghost")];
    world.store.archive.write(ArchiveBatch { receipts, ..ArchiveBatch::default() }).await.unwrap();
    assert_eq!(reached().await, (at(77), at(77)));
    assert_eq!(world.rebuild(false).await.unwrap().receipts, 2);
    assert_eq!(reached().await, (at(1), at(0)));
    let ghost = world.store.archive.receipt(&user("alice"), &Conversation::Direct(user("ghost")), &user("ghost")).await;
    assert_eq!(ghost.unwrap(), None);
    assert!(world.rebuild(false).await.unwrap().was_whole());
}

#[tokio::test]
async fn a_log_that_is_not_the_archives_is_refused() {
    let world = World::new(1_000).await;
    assert!(matches!(world.rebuild(false).await, Err(RebuildError::NoLog)));
    world.append(MESSAGES, &[direct(1)]).await;
    world.archived().await;
    let upto = at(4);
    let cursors = vec![Cursor { partition: MESSAGES, upto, judge: bytes::Bytes::new() }];
    world.store.archive.write(ArchiveBatch { cursors, ..ArchiveBatch::default() }).await.unwrap();
    let beyond = world.rebuild(false).await.unwrap_err();
    assert!(matches!(&beyond, RebuildError::Beyond { partition: MESSAGES, .. }), "{beyond}");
    world.store.epochs.epoch([9; 16], 4, &[]).await.unwrap();
    assert!(matches!(world.rebuild(false).await, Err(RebuildError::AnotherLog { found: 4 })));
}
