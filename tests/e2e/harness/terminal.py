"""A command on a terminal of its own: keys in, and the screen as somebody would see it."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import unicodedata

from .server import binary
from .waiting import until

ROWS, COLUMNS = 30, 120
_SEQUENCE = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>78]|\x1b\][^\x07]*\x07")


class Terminal:
    """One command of the binary on a terminal; `close` ends it."""

    def __init__(self, *args):
        self.cells = [[" "] * COLUMNS for _ in range(ROWS)]
        self.row = self.column = 0
        self.lock = threading.Lock()
        self.main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.child = subprocess.Popen(
            [binary(), *map(str, args)], stdin=side, stdout=side, stderr=side, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(side)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        kept = b""
        while True:
            try:
                data = os.read(self.main, 65_536)
            except OSError:
                return
            if not data:
                return
            kept = self._take(kept + data)

    def _take(self, data):
        """Draws what is whole; hands back the rest."""
        text = data.decode(errors="ignore")
        cut = text.rfind("\x1b")
        rest = ""
        if cut >= 0 and not _SEQUENCE.match(text, cut):
            text, rest = text[:cut], text[cut:]
        with self.lock:
            at = 0
            while at < len(text):
                found = _SEQUENCE.match(text, at)
                if found:
                    self._obey(found.group(1) or "", found.group(2) or "")
                    at = found.end()
                else:
                    self._put(text[at])
                    at += 1
        return rest.encode()

    def _obey(self, numbers, letter):
        values = [int(n) if n.isdigit() else 0 for n in numbers.strip("?").split(";")]
        if letter in "Hf":
            self.row, self.column = max(values[0], 1) - 1, (max(values[1], 1) if len(values) > 1 else 1) - 1
        elif letter == "J":
            self.cells = [[" "] * COLUMNS for _ in range(ROWS)]
        elif letter == "C":
            self.column += max(values[0], 1)
        elif letter == "n" and values[0] == 6:
            os.write(self.main, f"\x1b[{self.row + 1};{self.column + 1}R".encode())

    def _put(self, char):
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.row = min(self.row + 1, ROWS - 1)
        elif char >= " " and self.row < ROWS and self.column < COLUMNS:
            self.cells[self.row][self.column] = char
            self.column += 2 if unicodedata.east_asian_width(char) in "WF" else 1

    def screen(self):
        """What stands there now."""
        with self.lock:
            return "\n".join("".join(row).rstrip() for row in self.cells)

    def shows(self, pattern, deadline_s=15):
        """Waits until the screen has it, and returns the match."""
        try:
            return until(lambda: re.search(pattern, self.screen()), pattern, deadline_s)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.screen()}") from None

    def type(self, text):
        """Presses keys."""
        os.write(self.main, text.encode())

    def close(self):
        """Ends it."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGTERM)
            self.child.wait(timeout=10)
        # The number of what is closed is the next terminal's: who still read there would take its output away.
        self.reader.join(timeout=10)
        assert not self.reader.is_alive(), "what ran on the terminal is gone, and somebody holds it still"
        os.close(self.main)
