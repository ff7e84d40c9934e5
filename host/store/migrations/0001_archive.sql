-- Integers: positions, orders and times in milliseconds are below 2^63; partition = topic code + 4 * partition.
-- Text: users and groups as they are, conversations as `user:NAME` and `group:ID` from the side of the row's user.
PRAGMA application_id = 1212435525;

-- A record as it stands in the log, once.
CREATE TABLE records (
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    appended_at INTEGER NOT NULL,
    message_id BLOB,
    bytes BLOB NOT NULL,
    PRIMARY KEY (partition, position)
) WITHOUT ROWID;
CREATE INDEX records_message ON records (message_id) WHERE message_id IS NOT NULL;

-- One event of one user. `shown` is what its conversation is sorted by: the lamport of a direct message, the order of a group's.
CREATE TABLE stream (
    user TEXT NOT NULL,
    position INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    conversation TEXT,
    shown INTEGER,
    message_id BLOB,
    incoming INTEGER NOT NULL,
    ord INTEGER NOT NULL,
    PRIMARY KEY (user, position)
) WITHOUT ROWID;
CREATE INDEX stream_shown ON stream (user, conversation, shown, message_id) WHERE conversation IS NOT NULL;
CREATE INDEX stream_order ON stream (user, conversation, incoming, ord) WHERE conversation IS NOT NULL;

-- The newest message of each conversation in a user's stream.
CREATE TABLE conversations (
    user TEXT NOT NULL,
    conversation TEXT NOT NULL,
    position INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    PRIMARY KEY (user, conversation)
) WITHOUT ROWID;

CREATE TABLE receipts (
    sender TEXT NOT NULL,
    conversation TEXT NOT NULL,
    reader TEXT NOT NULL,
    delivered INTEGER NOT NULL,
    read INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (sender, conversation, reader),
    CHECK (read <= delivered)
) WITHOUT ROWID;

CREATE TABLE groups (
    grp TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Intervals [joined, left_at) by order.
CREATE TABLE group_members (
    grp TEXT NOT NULL,
    user TEXT NOT NULL,
    joined INTEGER NOT NULL,
    left_at INTEGER,
    role INTEGER NOT NULL,
    PRIMARY KEY (grp, user, joined)
) WITHOUT ROWID;
CREATE INDEX group_members_user ON group_members (user, grp, joined, left_at);

-- The newest message of a group that was not discarded.
CREATE TABLE group_heads (
    grp TEXT NOT NULL PRIMARY KEY,
    head INTEGER NOT NULL
) WITHOUT ROWID;

-- Pulled messages that were not discarded. `audience`: a JSON array of the only members who may see it.
CREATE TABLE pulled (
    grp TEXT NOT NULL,
    ord INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    sender TEXT NOT NULL,
    audience TEXT,
    PRIMARY KEY (grp, ord)
) WITHOUT ROWID;

CREATE TABLE users (
    user TEXT NOT NULL PRIMARY KEY,
    since INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE contacts (
    user TEXT NOT NULL,
    other TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (user, other)
) WITHOUT ROWID;

CREATE TABLE mutes (
    user TEXT NOT NULL,
    conversation TEXT NOT NULL,
    PRIMARY KEY (user, conversation)
) WITHOUT ROWID;
CREATE INDEX mutes_conversation ON mutes (conversation, user);

CREATE TABLE devices (
    user TEXT NOT NULL,
    device TEXT NOT NULL,
    position INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (user, device)
) WITHOUT ROWID;

CREATE TABLE reads (
    user TEXT NOT NULL,
    conversation TEXT NOT NULL,
    ord INTEGER NOT NULL,
    PRIMARY KEY (user, conversation)
) WITHOUT ROWID;

CREATE TABLE cursors (
    partition INTEGER NOT NULL PRIMARY KEY,
    upto INTEGER NOT NULL,
    judge BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE dead_letters (
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    given_up_by TEXT NOT NULL,
    error TEXT NOT NULL,
    at INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (partition, position, given_up_by)
) WITHOUT ROWID;

CREATE TABLE plugins (
    digest BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    bytes BLOB NOT NULL
);

CREATE TABLE generations (
    number INTEGER NOT NULL PRIMARY KEY,
    content BLOB NOT NULL,
    json TEXT NOT NULL,
    at INTEGER NOT NULL,
    why TEXT NOT NULL
);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    why TEXT NOT NULL,
    detail TEXT NOT NULL
);

-- Which life of a log has which epoch; the largest of a pair counts.
CREATE TABLE epochs (
    epoch INTEGER NOT NULL PRIMARY KEY,
    identity BLOB NOT NULL,
    partitions INTEGER NOT NULL
);

PRAGMA user_version = 1;
