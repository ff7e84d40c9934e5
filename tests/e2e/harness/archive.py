"""What a log holds and what the archive made of it."""

import json
from collections import defaultdict

from .server import heddle

EPOCH_BITS, TOPICS = 43, {"messages": 0, "group_messages": 1}


def archive_of(postgres, database):
    """(partition code, log offset + 1) of every record in the archive, each once, whatever its epoch."""
    rows = postgres.sql(database, "SELECT partition, position FROM records")
    places = [(int(partition), int(position) % (1 << EPOCH_BITS)) for partition, position in rows]
    assert len(places) == len(set(places)), "a record is there twice"
    return set(places)


def count_of(postgres, database):
    """How many records are in the archive."""
    return int(postgres.sql(database, "SELECT count(*) FROM records")[0][0])


def records_of(postgres, database):
    """Every record in the archive: where, and the hash of its bytes."""
    rows = postgres.sql(database, "SELECT partition, position, encode(sha256(bytes), 'hex') FROM records")
    return [{"partition": int(partition), "position": int(position), "sha256": sha256} for partition, position, sha256 in rows]


def receipts_of(postgres, database):
    """Every receipt in the archive."""
    rows = postgres.sql(database, "SELECT sender, conversation, reader, delivered, read FROM receipts")
    names = ("sender", "conversation", "reader", "delivered", "read")
    return [dict(zip(names, [*row[:3], *map(int, row[3:])], strict=True)) for row in rows]


def cuts_of(postgres, database):
    """Where partitions began when the log was cut anew: by epoch, (partition code, first offset)."""
    cuts = defaultdict(list)
    for epoch, code, start in postgres.sql(database, "SELECT epoch, partition, start FROM epoch_starts"):
        cuts[int(epoch)].append((int(code), int(start)))
    return cuts


def topics_of(server, topics=tuple(TOPICS)):
    """Every record of the topics that a server's configuration names, in the order of each partition, those that do not stand too."""
    rows = []
    for topic in topics:
        done = heddle("log", "cat", "--topic", topic, "--config", server.side / "heddle.toml", timeout_s=120)
        assert done.returncode == 0, done.stderr
        rows += [json.loads(line) for line in done.stdout.splitlines()]
    return rows
