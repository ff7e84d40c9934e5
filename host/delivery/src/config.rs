//! Limits of delivery: every queue, buffer and map is bounded by one of them.

/// Limits and times. All counts are per node unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// Bytes that a worker or archiver reads from the log at once.
    pub read_bytes: usize,
    /// Un-archived events kept in memory per partition; a reader below them goes to the archive.
    pub tail_events_max: usize,
    /// Bytes of their records, of all partitions together; each may hold its share of them in any case.
    pub tail_bytes_max: usize,
    /// Records in one archive transaction.
    pub archive_batch_records: usize,
    /// Bytes of records in one archive transaction.
    pub archive_batch_bytes: usize,
    /// Milliseconds between archive transactions while there is little to write and nobody waits for it.
    pub archive_interval_ms: u64,
    /// Events of one session that are sent and not acknowledged.
    pub unacked_events_max: usize,
    /// Bytes of them.
    pub unacked_bytes_max: usize,
    /// Milliseconds without an acknowledgement while some are outstanding, after which a session is slow.
    pub slow_ms: u64,
    /// Events read from the archive at once.
    pub page_events: u32,
    /// Items waiting in a session's mailbox; beyond it the session reads its stream.
    pub mailbox_items: usize,
    /// Devices of one user; the least recently seen are forgotten.
    pub devices_per_user: u32,
    /// Members of one group.
    pub group_members_max: usize,
    /// Members in one chunk.
    pub chunk_members: usize,
    /// Groups kept in memory per partition.
    pub groups_cached: usize,
    /// Above so many members receipts are counted, not recorded one by one.
    pub receipts_members_max: usize,
    /// Milliseconds between receipts of one reader in one conversation.
    pub receipt_interval_ms: u64,
    /// Milliseconds between two writes of one device's position.
    pub position_interval_ms: u64,
    /// Milliseconds that a read of history waits for the archive.
    pub history_wait_ms: u64,
    /// Milliseconds that a change of a group waits to be applied.
    pub group_wait_ms: u64,
    /// Times that a record which fails for its own sake is tried.
    pub poison_tries: u32,
    /// Refuse messages to users that were never seen.
    pub reject_unknown_users: bool,
    /// Users whose facts (first seen) are kept in memory.
    pub users_cached: usize,
    /// Users that one user may block.
    pub blocks_max: u32,
    /// Blocks of all users that are kept in memory; with more of them the store is asked about each message.
    pub blocks_cached: usize,
    /// Users whose tokens are taken back; all of them are kept in memory.
    pub revocations_max: u32,
    /// Messages that may be under way under one id, and in all.
    pub in_flight_max: usize,
    /// Limits of presence, which runs beside the workers.
    pub presence: heddle_presence::PresenceConfig,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            read_bytes: 256 << 10,
            tail_events_max: 16_384,
            tail_bytes_max: 256 << 20,
            archive_batch_records: 2_000,
            archive_batch_bytes: 8 << 20,
            archive_interval_ms: 5_000,
            unacked_events_max: 1_000,
            unacked_bytes_max: 1 << 20,
            slow_ms: 60_000,
            page_events: 200,
            mailbox_items: 128,
            devices_per_user: 20,
            group_members_max: 10_000,
            chunk_members: 1_000,
            groups_cached: 2_000,
            receipts_members_max: 32,
            receipt_interval_ms: 1_000,
            position_interval_ms: 1_000,
            history_wait_ms: 2_000,
            group_wait_ms: 5_000,
            poison_tries: 3,
            reject_unknown_users: false,
            users_cached: 50_000,
            blocks_max: 1_000,
            blocks_cached: 1_000_000,
            revocations_max: 100_000,
            in_flight_max: 100_000,
            presence: heddle_presence::PresenceConfig::default(),
        }
    }
}
