"""Traffic that fills every table of the archive, damage to all of them, and `heddle archive rebuild`."""

import json
import sqlite3
import subprocess

from .device import Device
from .server import binary, heddle
from .waiting import until, until_async

# More than three members pull; REST of a test stays readable.
CONFIG = {"policies": {"config": {"group-fanout": {"push_up_to": 3}}}}


async def talk(servers, name):
    """Everything that makes rows. Returns who talked, and the groups."""
    first, last = servers[0], servers[-1]
    who = {short: name(short) for short in ("alice", "bob", "carol", "dave")}
    alice, bob, carol, dave = who.values()
    rest = first.rest(alice)
    async with Device(first, alice, auto_ack=True) as a, Device(last, bob, auto_ack=True) as b, \
            Device(first, carol, auto_ack=True) as c:
        for number in range(12):
            await a.say(bob, f"m{number}")
            await b.say(alice, f"answer {number}")
        await a.say(alice, "a note to herself")
        await b.until(lambda: len(b.texts()) == 12, "twelve messages")
        await b.frame({"type": "read_receipt", "message_id": [m for m in b.messages if m["from"] == alice][3]["message_id"]})
        await a.next("receipt", status="read")
        small = rest.group("small", [bob])
        await b.next("membership", change="joined", user=bob)
        await a.say(group=small, text="to both")
        await b.next("new_message", text="to both")
        await b.frame({"type": "read_receipt", "message_id": b.messages[-1]["message_id"]})
        await a.next("receipt", status="read", conversation=f"group:{small}")
        rest.post(f"/v1/groups/{small}/members", {"user": carol}).ok()
        await a.say(group=small, text="to three")
        last.rest(bob).delete(f"/v1/groups/{small}/members/{bob}").ok()
        await a.say(group=small, text="without bob")
        rest.post(f"/v1/groups/{small}/members", {"user": bob}).ok()
        rest.patch(f"/v1/groups/{small}", {"name": "renamed", "roles": {carol: "admin"}}).ok()
        await c.next("new_message", text="without bob")
        large = rest.group("large", [bob, carol, dave])
        for number in range(5):
            await a.say(group=large, text=f"pulled {number}")
        gone = rest.group("gone", [carol])
        rest.delete(f"/v1/groups/{gone}").ok()
        first.rest(bob).put(f"/v1/contacts/{alice}").ok()
        first.rest(bob).put(f"/v1/conversations/group:{small}/mute").ok()
        await b.ping()
        # What the acknowledgements make comes once a second.
        order = (await a.say(bob, "the last"))["order"]
        await until_async(lambda: a.has("receipt", status="delivered", order=order), "the last receipt")
    return who, {"small": small, "large": large, "gone": gone}


def told(server, who, groups):
    """All histories and lists, over REST."""
    alice, bob, carol, dave = who.values()
    out = {}
    for user in (alice, bob, carol, dave):
        rest = server.rest(user)
        out[user, "conversations"] = rest.get("/v1/conversations").ok().json
        for other in (alice, bob):
            out[user, other] = rest.history(f"user:{other}", limit=100)
        for label in ("small", "large"):
            out[user, label] = rest.get(f"/v1/conversations/group%3A{groups[label]}/messages?limit=100").json
            out[user, label, "members"] = rest.get(f"/v1/groups/{groups[label]}").json
    return out


def archived(server):
    """Nothing of the log is missing in the archive."""
    until(lambda: server.metrics().get("heddle_archive_lag_records") == 0, "the archive has caught up", 60)


class Sqlite:
    """The tables of a store in a file, while no server runs."""

    user = "user"

    def __init__(self, server):
        self.path = server.data / "store.sqlite"

    def run(self, *statements):
        """Changes it."""
        link = sqlite3.connect(self.path)
        with link:
            for statement in statements:
                link.execute(statement)
        link.close()

    def tables(self):
        """Every row of every table, all columns."""
        link = sqlite3.connect(self.path)
        names = [row[0] for row in link.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: sorted(map(repr, link.execute(f"SELECT * FROM {name}"))) for name in names}
        indices = sorted(row[0] for row in link.execute("SELECT name FROM sqlite_master WHERE type = 'index'"))
        link.close()
        return {**rows, "indices": indices}


class Database:
    """The tables of a database."""

    user = "usr"

    def __init__(self, postgres, database):
        self.postgres, self.database = postgres, database

    def run(self, *statements):
        """Changes it."""
        for statement in statements:
            self.postgres.sql(self.database, statement)

    def tables(self):
        """Every row of every table, all columns."""
        names = [row[0] for row in self.postgres.sql(
            self.database, "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
                           "AND relnamespace = 'public'::regnamespace")]
        rows = {name: sorted(map(repr, self.postgres.sql(self.database, f'SELECT * FROM "{name}"'))) for name in names}
        indices = self.postgres.sql(self.database, "SELECT relname FROM pg_class WHERE relkind IN ('i', 'I') AND "
                                                   "relnamespace = 'public'::regnamespace ORDER BY relname")
        return {**rows, "indices": indices}


def damage(store, who, groups):
    """Rows go, rows change, rows come that the log does not have: in every table that the log fills."""
    alice, bob = who["alice"], who["bob"]
    user, small = store.user, groups["small"]
    lite = user == "user"
    true, blob, id_ = ("1", "X'0102'", f"X'{'00' * 16}'") if lite else ("true", r"'\x0102'", rf"'\x{'00' * 16}'")
    at = f"({user}, position, partition, conversation, shown, message_id, incoming, ord)"
    store.run(
        "DELETE FROM records WHERE position % 3 = 0",
        f"UPDATE records SET bytes = {blob} WHERE position % 3 = 1 AND partition % 8 < 4",
        "UPDATE records SET message_id = NULL WHERE position % 3 = 2",
        f"INSERT INTO records (partition, position, appended_at, message_id, bytes) VALUES (0, 70000, 5, NULL, {blob})",
        "DELETE FROM stream WHERE position % 2 = 0",
        f"UPDATE stream SET incoming = {true}, ord = ord + 1 WHERE position % 4 = 1",
        f"UPDATE stream SET conversation = 'user:nobody' WHERE position % 4 = 3 AND {user} = '{bob}'",
        "UPDATE stream SET partition = partition + 4 WHERE position % 7 = 3",
        f"INSERT INTO stream {at} VALUES ('{alice}', 70000, 0, 'user:ghost', 1, {id_}, {true}, 9)",
        f"DELETE FROM conversations WHERE {user} = '{alice}'",
        "UPDATE conversations SET position = position + 1",
        f"INSERT INTO conversations ({user}, conversation, position, partition) VALUES ('{alice}', 'user:ghost', 70000, 0)",
        f"DELETE FROM receipts WHERE reader = '{bob}' AND conversation LIKE 'group:%'",
        "UPDATE receipts SET delivered = delivered + 1000, read = read + 1000",
        "DELETE FROM group_members WHERE role = 1",
        "UPDATE group_members SET left_at = NULL, joined = joined + 1",
        f"UPDATE groups SET name = 'damaged', changed = changed + 5, deleted = {true}",
        f"DELETE FROM groups WHERE grp = '{groups['large']}'",
        "UPDATE group_heads SET head = head + 3",
        "DELETE FROM pulled WHERE ord % 2 = 0",
        f"INSERT INTO pulled (grp, ord, partition, sender, audience) VALUES ('{small}', 70000, 1, '{bob}', NULL)",
    )
    if lite:
        store.run(
            "INSERT INTO receipts VALUES ('ghost', 'user:x', 'x', 5, 5, 5)",
            "INSERT INTO groups VALUES ('ghost', 'g', 'x', 5, 0, 5, 5)",
            "INSERT INTO group_members VALUES ('ghost', 'x', 5, NULL, 0)",
            "INSERT INTO group_heads VALUES ('ghost', 5)",
        )
    else:
        store.run(
            "INSERT INTO receipts VALUES ('ghost', 'user:x', 'x', 5, 5, 5, 5)",
            "INSERT INTO groups VALUES ('ghost', 'g', 'x', 5, false, 5, 5)",
            "INSERT INTO group_members VALUES ('ghost', 'x', 5, NULL, 0)",
            "INSERT INTO group_heads VALUES ('ghost', 5)",
        )


def words(server):
    """How the command is asked for this server's archive."""
    return ["archive", "rebuild", "--config", server.side / "heddle.toml"]


def rebuilt(server, *more):
    """`heddle archive rebuild`; what it found."""
    done = heddle(*words(server), "--output", "json", *more, timeout_s=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cut_off(server, lines):
    """The same, killed after it has said so many lines. Whether it was in the middle."""
    child = subprocess.Popen([binary(), *map(str, words(server))], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for _ in range(lines):
        child.stderr.readline()
    child.kill()
    child.stderr.close()
    return child.wait(timeout=30) != 0
