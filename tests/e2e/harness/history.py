"""What a run of many clients met, recorded as lines of JSON for the checker (`tests/checker`), which alone knows what must never be."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time

from .archive import count_of, cuts_of, receipts_of, records_of, topics_of
from .server import binary
from .waiting import NotInTime, until

# Of frames: what the checker reads of them.
_FIELDS = ("type", "offset", "message_id", "from", "to", "group", "order", "client_id", "conversation", "by", "status", "count")
# Of records: what only people read.
_PASSED_OVER = ("commit", "text", "data", "tags", "mentions", "sent_at", "lamport", "rewritten", "sorted_by", "reason", "code", "at", "name")
# What is there a moment later, because log and archive are read one after the other; so often both are read again.
_PASSING, TRIES = {"not-archived", "archived-too-much", "receipt-not-the-newest"}, 5
# Whoever acknowledged last makes receipts within a second, and those are archived after that.
QUIET_S = 3
# A page of a conversation.
PAGE = 200


class Anomaly(AssertionError):
    """Something that must never be, in the words of the checker."""


def checker():
    """The checker: HEDDLE_CHECKER, or what `cargo test` leaves beside the binary under test."""
    return os.environ.get("HEDDLE_CHECKER") or str(pathlib.Path(binary()).parent / "heddle-checker")


class History:
    """Lines in a file. HEDDLE_E2E_HISTORIES names a folder in which the files stay. Of the cluster: its `nodes`, and where its archive is (`postgres`,
    `database`)."""

    def __init__(self, cluster, groups):
        kept = os.environ.get("HEDDLE_E2E_HISTORIES")
        folder = pathlib.Path(kept or cluster.nodes[0].side)
        folder.mkdir(parents=True, exist_ok=True)
        self.cluster, self.path = cluster, folder / "history.jsonl"
        self._events = folder / "events.jsonl"
        self._file = open(self._events, "w", encoding="utf-8")
        self._count, self._since = None, 0
        # The defaults of `kafka.dedupe_window` and `groups.receipts_members_max`.
        self.note("settings", dedupe_ms=600_000, receipts_members_max=32)
        for group, members in groups.items():
            self.note("group", group=group, members=list(members))

    def note(self, what, **more):
        """One line."""
        self._file.write(_line(what, **more))

    def sent(self, device, value):
        """A device sends that frame."""
        conversation = f"group:{value['group']}" if "group" in value else f"user:{value['to']}"
        self.note("send", user=device.user, conversation=conversation, client_id=value["client_id"])

    def met(self, device, frame):
        """A frame came to a device, whatever the device makes of it."""
        kind, who = frame["type"], {"user": device.user, "device": device.name}
        if kind == "hello_ok":
            self.note("connect", **who, resume=device.asked, offset=frame["offset"], gap=frame.get("gap", {}).get("reason"))
        elif kind in ("accepted", "rejected") and "offset" not in frame:
            more = {name: frame[name] for name in ("message_id", "order", "generation") if name in frame}
            self.note("outcome", user=device.user, client_id=frame["client_id"], code=frame.get("code", "accepted"), **more)
        elif "offset" in frame:
            self.note("event", **who, frame={name: frame[name] for name in _FIELDS if name in frame})

    def told(self, node, user, conversation):
        """What that node tells that user of a conversation."""
        messages = node.rest(user).history(conversation, limit=PAGE)["messages"]
        self.note("told", user=user, conversation=conversation, limit=PAGE, message_ids=[m["message_id"] for m in messages])

    def check(self, settled=True):
        """Adds the log and the archive, and asks the checker: raises for what it says."""
        with contextlib.suppress(NotInTime):
            until(self._quiet, "nothing comes any more, and the archive has caught up", 90)
        for _ in range(TRIES):
            said = self._asked(settled)
            if not {line.split(": ")[1] for line in said} <= _PASSING or not said:
                break
        if said:
            raise Anomaly("\n".join(said))

    def _quiet(self):
        """The archive has all of the log, and has had as many records for a while."""
        now = count_of(self.cluster.postgres, self.cluster.database)
        if now != self._count:
            self._count, self._since = now, time.monotonic()
        return time.monotonic() > self._since + QUIET_S and self._worked()

    def _worked(self):
        return all(node.metrics().get("heddle_archive_lag_records") == 0 for node in self.cluster.nodes)

    def _asked(self, settled):
        self._file.flush()
        worked = self._worked()
        shutil.copyfile(self._events, self.path)
        with open(self.path, "a", encoding="utf-8") as file:
            for row in topics_of(self.cluster.nodes[0]):
                row = {name: value for name, value in row.items() if name not in _PASSED_OVER}
                if "stamp" in row:
                    row["stamp"] = {"generation": row["stamp"].get("generation")}
                file.write(_line("record", **row))
            of = self.cluster.postgres, self.cluster.database
            for epoch, starts in cuts_of(*of).items():
                file.write(_line("epoch", epoch=epoch, starts=starts))
            for row in records_of(*of):
                file.write(_line("archived", **row))
            for row in receipts_of(*of):
                file.write(_line("archived_receipt", **row))
            file.write(_line("end", settled=settled, worked=worked))
        done = subprocess.run([checker(), self.path], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout.splitlines()


def _line(what, **more):
    return json.dumps({"what": what, **more}, ensure_ascii=False) + "\n"
