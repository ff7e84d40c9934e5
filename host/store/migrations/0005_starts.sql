-- Where the partitions of an epoch begin, if the log was cut into another number of them.
CREATE TABLE epoch_starts (
    epoch INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    start INTEGER NOT NULL,
    PRIMARY KEY (epoch, partition)
);

PRAGMA user_version = 5;
