"""Reads what `strace -f -y` wrote, and says what was durable when."""

import re

LINE = re.compile(r"^(?P<pid>\d+)\s+(?P<at>[\d.]+)\s+(?P<rest>.*)$", re.S)
CALL = re.compile(r"^(?P<name>\w+)\((?P<args>.*)$", re.S)
RESUMED = re.compile(r"^<\.\.\. (?P<name>\w+) resumed>")
WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg")


class Trace:
    """Events in the order of the file: writes to segments, syncs (start and end), writes to sockets."""

    def __init__(self, text):
        self.events = []
        self.syncs = 0
        open_calls = {}
        for index, line in enumerate(text.splitlines()):
            found = LINE.match(line)
            if not found:
                continue
            pid, rest = found["pid"], found["rest"]
            resumed = RESUMED.match(rest)
            if resumed:
                started = open_calls.pop(pid, None)
                if started and started[0] in ("fdatasync", "fsync") and rest.rstrip().endswith("= 0"):
                    self._sync(started[1], index, started[2])
                elif started and started[0] in WRITES:
                    # Bytes go out from when the call began.
                    self._write(started[0], started[2] + rest, started[1], index)
                continue
            call = CALL.match(rest)
            if not call:
                continue
            if rest.rstrip().endswith("<unfinished ...>"):
                open_calls[pid] = (call["name"], index, call["args"])
            elif call["name"] in ("fdatasync", "fsync") and rest.rstrip().endswith("= 0"):
                self._sync(index, index, call["args"])
            elif call["name"] in WRITES:
                self._write(call["name"], call["args"], index, index)
        # Under way when the tracer went: their bytes may have arrived.
        for name, began, args in open_calls.values():
            if name in WRITES:
                self._write(name, args, began, began)

    def _sync(self, began, ended, args):
        self.syncs += 1
        self.events.append(("sync", began, ended, _file(args)))

    def _write(self, name, args, began, ended):
        self.events.append(("socket" if _socket(args) else "file", began, ended, args))

    def check(self, client_id, mark):
        """`accepted` of that send left after a sync that began after its bytes were in the segment."""
        sent = [e for e in self.events if e[0] == "socket" and "accepted" in e[3] and client_id in e[3]]
        assert sent, f"no accepted of {client_id} in the trace"
        wrote = [e for e in self.events if e[0] == "file" and ".seg" in _file(e[3]) and mark in e[3]]
        assert wrote, f"no write of {mark} to a segment in the trace"
        written, file = wrote[0][2], _file(wrote[0][3])
        durable = [e[2] for e in self.events if e[0] == "sync" and e[1] >= written and e[3] == file]
        assert durable, f"no sync after {mark} was written"
        assert min(durable) <= min(e[1] for e in sent), f"accepted of {client_id} left before its fdatasync returned"


def _file(args):
    found = re.match(r"\s*\d+<([^>]*)>", args)
    return found[1] if found else ""


def _socket(args):
    name = _file(args)
    return name.startswith(("socket:", "TCP", "UNIX"))
