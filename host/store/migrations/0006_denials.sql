-- Who denies whom. Every change of both tables gets the next version, so that who knows all up to one asks for what came after it.
-- `forgotten`: rows that deny nothing any more are kept for a while, and those up to this version may be gone.
CREATE TABLE denial_version (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,
    forgotten INTEGER NOT NULL
);
INSERT INTO denial_version (one, version, forgotten) VALUES (1, 0, 0);

-- `user` blocked `other`, or did so once.
CREATE TABLE blocks (
    user TEXT NOT NULL,
    other TEXT NOT NULL,
    holds INTEGER NOT NULL,
    at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (user, other)
) WITHOUT ROWID;
CREATE UNIQUE INDEX blocks_version ON blocks (version);
CREATE INDEX blocks_over ON blocks (at) WHERE holds = 0;

-- Tokens of the user that were issued at `upto` or before are refused.
CREATE TABLE revocations (
    user TEXT NOT NULL PRIMARY KEY,
    holds INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX revocations_version ON revocations (version);
CREATE INDEX revocations_over ON revocations (at) WHERE holds = 0;

PRAGMA user_version = 6;
