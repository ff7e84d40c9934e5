-- Who denies whom. Every change of both tables gets the next version, so that who knows all up to one asks for what came after it.
-- `forgotten`: rows that deny nothing any more are kept for a while, and those up to this version may be gone.
-- Whoever changes something holds this row until the commit: versions become visible in their order.
CREATE TABLE denial_version (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    version BIGINT NOT NULL,
    forgotten BIGINT NOT NULL
);
INSERT INTO denial_version (one, version, forgotten) VALUES (1, 0, 0);

-- `usr` blocked `other`, or did so once.
CREATE TABLE blocks (
    usr TEXT COLLATE "C" NOT NULL,
    other TEXT COLLATE "C" NOT NULL,
    holds BOOLEAN NOT NULL,
    at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (usr, other)
);
CREATE UNIQUE INDEX blocks_version ON blocks (version);
CREATE INDEX blocks_over ON blocks (at) WHERE NOT holds;

-- Tokens of the user that were issued at `upto` or before are refused.
CREATE TABLE revocations (
    usr TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    holds BOOLEAN NOT NULL,
    upto BIGINT NOT NULL,
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    version BIGINT NOT NULL
);
CREATE UNIQUE INDEX revocations_version ON revocations (version);
CREATE INDEX revocations_over ON revocations (at) WHERE NOT holds;
