-- Records of a partition that neither log nor archive has: those in (after, upto].
CREATE TABLE holes (
    partition INTEGER NOT NULL,
    after INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    PRIMARY KEY (partition, upto)
) WITHOUT ROWID;

-- Users who had something in the hole that ends there.
CREATE TABLE losses (
    user TEXT NOT NULL,
    upto INTEGER NOT NULL,
    PRIMARY KEY (user, upto)
) WITHOUT ROWID;

PRAGMA user_version = 2;
