"""What a plugin's author has on the desk: directories of plugins, and `heddle plugin dev` running."""

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time

from .server import ROOT, binary
from .waiting import NotInTime


def copied(name, folder):
    """A copy of the first-party plugin, with the SDK where it looks for it."""
    ignored = shutil.ignore_patterns("target", "*.wasm")
    shutil.copytree(ROOT / "sdk" / "rust", folder / "sdk" / "rust", ignore=ignored)
    return shutil.copytree(ROOT / "plugins" / name, folder / "plugins" / name, ignore=ignored)


def edited(file, old, new):
    """Replaces the first `old`, as an editor saves: beside it, then renamed."""
    text = file.read_text()
    assert old in text, (old, text)
    beside = file.with_suffix(".swp")
    beside.write_text(text.replace(old, new, 1))
    os.replace(beside, file)


class PluginDev:
    """`heddle plugin dev` as a child; `next` waits for what it says."""

    def __init__(self, folder, server, *args):
        self.child = subprocess.Popen(
            [binary(), "plugin", "dev", str(folder), "--data", str(server.data), "--output", "json", *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )
        self.events = queue.Queue(maxsize=1_000)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            self.events.put(json.loads(line))

    def next(self, event, deadline_s=120, **fields):
        """The next event; it must be that one."""
        end = time.monotonic() + deadline_s
        try:
            found = self.events.get(timeout=max(0.01, end - time.monotonic()))
        except queue.Empty:
            raise NotInTime(f"no {event} within {deadline_s} s") from None
        assert found["event"] == event, found
        for key, value in fields.items():
            assert found[key] == value, found
        return found

    def interrupt(self, deadline_s=30):
        """Ctrl-C; returns the exit code."""
        if self.child.poll() is None:
            os.kill(self.child.pid, signal.SIGINT)
        return self.child.wait(timeout=deadline_s)

    def end(self):
        """Ends it whatever it does, and what it started."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait(timeout=30)
