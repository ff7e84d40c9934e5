"""What a log holds and what the archive made of it."""

import json

from .server import heddle

EPOCH_BITS, TOPICS = 43, {"messages": 0, "group_messages": 1}


def archive_of(postgres, database):
    """(partition code, log offset + 1) of every record in the archive, each once, whatever its epoch."""
    rows = postgres.sql(database, "SELECT partition, position FROM records")
    places = [(int(partition), int(position) % (1 << EPOCH_BITS)) for partition, position in rows]
    assert len(places) == len(set(places)), "a record is there twice"
    return set(places)


def topics_of(server, topics=tuple(TOPICS)):
    """Every record of the topics that a server's configuration names, in the order of each partition, those that do not stand too."""
    rows = []
    for topic in topics:
        done = heddle("log", "cat", "--topic", topic, "--config", server.side / "heddle.toml", timeout_s=120)
        assert done.returncode == 0, done.stderr
        rows += [json.loads(line) for line in done.stdout.splitlines()]
    return rows


def cut_of(postgres, database):
    """Where each partition began when the log was cut anew, by its code; nothing if it never was."""
    return {int(code): int(start) for code, start in postgres.sql(database, "SELECT partition, start FROM epoch_starts")}


def standing(rows, cut=None):
    """(partition code, log offset + 1) to row, of what stands: of one message id the first, of what workers derived what is above all before it, and
    nothing that a node derived that did not know of the cut yet. (DELIVERY 8, 23, 26)"""
    ids, derived, stands = set(), {}, {}
    for row in rows:
        code = TOPICS[row["topic"]] + 4 * row["partition"]
        if "source" in row:
            source = row["source"]
            if cut and row["offset"] >= cut.get(code, 0) and source["position"] < 1 << EPOCH_BITS:
                continue
            seen = (code, source["topic"], source["partition"])
            mark = (source["position"], source["chunk"])
            if mark <= derived.get(seen, (-1, -1)):
                continue
            derived[seen] = mark
        elif row["kind"] in ("direct", "group"):
            if (code, row["message_id"]) in ids:
                continue
            ids.add((code, row["message_id"]))
        stands[code, row["offset"] + 1] = row
    return stands
