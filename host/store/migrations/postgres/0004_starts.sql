-- Where the partitions of an epoch begin, if the log was cut into another number of them.
CREATE TABLE epoch_starts (
    epoch bigint NOT NULL,
    partition bigint NOT NULL,
    start bigint NOT NULL,
    PRIMARY KEY (epoch, partition)
);
