-- Integers: positions, orders and times in milliseconds are below 2^63; partition = topic code + 4 * partition of the log.
-- Text: users and groups as they are, conversations as `user:NAME` and `group:ID` from the side of the row's user; compared by bytes.

-- A record as it stands in the log, once. Its tables hold ranges of positions and are made as the log grows (archive_ranges).
CREATE TABLE records (
    partition BIGINT NOT NULL,
    position BIGINT NOT NULL,
    appended_at BIGINT NOT NULL,
    message_id BYTEA,
    bytes BYTEA NOT NULL,
    PRIMARY KEY (partition, position)
) PARTITION BY RANGE (position);
CREATE INDEX records_message ON records (message_id) WHERE message_id IS NOT NULL;

-- One event of one user. `shown` is what its conversation is sorted by: the lamport of a direct message, the order of a group's.
CREATE TABLE stream (
    usr TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    partition BIGINT NOT NULL,
    conversation TEXT COLLATE "C",
    shown BIGINT,
    message_id BYTEA,
    incoming BOOLEAN NOT NULL,
    ord BIGINT NOT NULL,
    PRIMARY KEY (usr, position)
) PARTITION BY RANGE (position);
-- Histories, and unread counts.
CREATE INDEX stream_shown ON stream (usr, conversation, shown, message_id) WHERE conversation IS NOT NULL;
CREATE INDEX stream_order ON stream (usr, conversation, incoming, ord) WHERE conversation IS NOT NULL;

-- The positions in [low, high) stand in the tables records_LOW and stream_LOW. Both of a range are dropped together.
CREATE TABLE archive_ranges (
    low BIGINT NOT NULL PRIMARY KEY,
    high BIGINT NOT NULL,
    CHECK (low < high)
);

-- The newest message of each conversation in a user's stream.
CREATE TABLE conversations (
    usr TEXT COLLATE "C" NOT NULL,
    conversation TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    partition BIGINT NOT NULL,
    PRIMARY KEY (usr, conversation)
);

-- How far `reader` has come with what `sender` sent, and when that was.
CREATE TABLE receipts (
    sender TEXT COLLATE "C" NOT NULL,
    conversation TEXT COLLATE "C" NOT NULL,
    reader TEXT COLLATE "C" NOT NULL,
    delivered BIGINT NOT NULL,
    delivered_at BIGINT NOT NULL,
    read BIGINT NOT NULL,
    read_at BIGINT NOT NULL,
    PRIMARY KEY (sender, conversation, reader),
    CHECK (read <= delivered)
);

CREATE TABLE groups (
    grp TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    changed BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

-- Intervals [joined, left_at) by order.
CREATE TABLE group_members (
    grp TEXT COLLATE "C" NOT NULL,
    usr TEXT COLLATE "C" NOT NULL,
    joined BIGINT NOT NULL,
    left_at BIGINT,
    role BIGINT NOT NULL,
    PRIMARY KEY (grp, usr, joined)
);
CREATE INDEX group_members_user ON group_members (usr, grp, joined, left_at);

-- The newest message of a group that was not discarded.
CREATE TABLE group_heads (
    grp TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    head BIGINT NOT NULL
);

-- Pulled messages that were not discarded. `audience`: the only members who may see it.
CREATE TABLE pulled (
    grp TEXT COLLATE "C" NOT NULL,
    ord BIGINT NOT NULL,
    partition BIGINT NOT NULL,
    sender TEXT COLLATE "C" NOT NULL,
    audience TEXT[] COLLATE "C",
    PRIMARY KEY (grp, ord)
);

CREATE TABLE users (
    usr TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL
);

CREATE TABLE contacts (
    usr TEXT COLLATE "C" NOT NULL,
    other TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (usr, other)
);

CREATE TABLE mutes (
    usr TEXT COLLATE "C" NOT NULL,
    conversation TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (usr, conversation)
);
CREATE INDEX mutes_conversation ON mutes (conversation, usr);

CREATE TABLE devices (
    usr TEXT COLLATE "C" NOT NULL,
    device TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (usr, device)
);

CREATE TABLE reads (
    usr TEXT COLLATE "C" NOT NULL,
    conversation TEXT COLLATE "C" NOT NULL,
    ord BIGINT NOT NULL,
    PRIMARY KEY (usr, conversation)
);

CREATE TABLE cursors (
    partition BIGINT NOT NULL PRIMARY KEY,
    upto BIGINT NOT NULL,
    judge BYTEA NOT NULL
);

CREATE TABLE dead_letters (
    partition BIGINT NOT NULL,
    position BIGINT NOT NULL,
    given_up_by TEXT NOT NULL,
    error TEXT NOT NULL,
    at BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    PRIMARY KEY (partition, position, given_up_by)
);

CREATE TABLE plugins (
    digest BYTEA NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    bytes BYTEA NOT NULL
);

CREATE TABLE generations (
    number BIGINT NOT NULL PRIMARY KEY,
    content BYTEA NOT NULL,
    json TEXT NOT NULL,
    at BIGINT NOT NULL,
    why TEXT NOT NULL
);

-- `id` grows by one under the lock of `generations`: a sequence would be taken before the commit.
CREATE TABLE audit (
    id BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    why TEXT NOT NULL,
    detail TEXT NOT NULL
);

-- Which life of a log has which epoch; the largest of a pair counts.
CREATE TABLE epochs (
    epoch BIGINT NOT NULL PRIMARY KEY,
    identity BYTEA NOT NULL,
    partitions BIGINT NOT NULL
);

-- Records of a partition that neither log nor archive has: those in (after, upto].
CREATE TABLE holes (
    partition BIGINT NOT NULL,
    after BIGINT NOT NULL,
    upto BIGINT NOT NULL,
    PRIMARY KEY (partition, upto)
);

-- Users who had something in the hole that ends there.
CREATE TABLE losses (
    usr TEXT COLLATE "C" NOT NULL,
    upto BIGINT NOT NULL,
    PRIMARY KEY (usr, upto)
);
