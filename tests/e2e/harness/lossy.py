"""A proxy before Redis that loses some of what is pushed to one node, and passes all else: it knows frames of RESP 2 and 3."""

import contextlib
import socket
import threading

PIECE = 1 << 16


class Lossy:
    """While told to, it loses every `every`th message of the channels; connections stay."""

    def __init__(self, port, every=3):
        self.port, self.every = port, every
        self.losing, self.seen, self.lost = False, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._links = []
        self._run(self._accept)

    @property
    def url(self):
        """For a node."""
        return f"redis://127.0.0.1:{self.listener.getsockname()[1]}"

    def close(self):
        """Ends it and what goes through it."""
        # A close alone would not wake who waits for a connection.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self._lock:
            for link in self._links:
                _end(link)

    @staticmethod
    def _run(what, *args):
        threading.Thread(target=what, args=args, daemon=True).start()

    def _accept(self):
        while True:
            try:
                node, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.port), timeout=5)
            except OSError:
                node.close()
                continue
            for link in (node, server):
                link.settimeout(None)
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._links = [link for link in self._links if link.fileno() >= 0] + [node, server]
            self._run(self._pass, node, server, lambda piece: piece)
            self._run(self._pass, server, node, Frames(self._goes).take)

    def _pass(self, source, target, through):
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                target.sendall(through(piece))
        _end(source)
        _end(target)

    def _goes(self, frame):
        """Whether the frame is passed on."""
        if not self.losing or not is_message(frame):
            return True
        with self._lock:
            self.seen += 1
            lost = self.seen % self.every == 0
            self.lost += lost
        return not lost


class Frames:
    """Cuts a stream into frames, and lets those through that go."""

    def __init__(self, goes):
        self.goes, self.buffer = goes, b""

    def take(self, piece):
        """What is passed on of this and of what waited."""
        self.buffer += piece
        out = []
        at = 0
        while (end := frame_end(self.buffer, at)) is not None:
            frame = self.buffer[at:end]
            if self.goes(frame):
                out.append(frame)
            at = end
        self.buffer = self.buffer[at:]
        return b"".join(out)


def frame_end(data, at=0):
    """Where the frame that begins there ends; None if it is not all there."""
    left = 1
    while left:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        kind, number = data[at : at + 1], data[at + 1 : line]
        at, left = line + 2, left - 1
        if kind in b"$!=" and int(number) >= 0:
            at += int(number) + 2
            if len(data) < at:
                return None
        elif kind in b"*~>":
            left += max(0, int(number))
        elif kind in b"%|":
            # An attribute comes before what it belongs to.
            left += 2 * int(number) + (kind == b"|")
    return at


def is_message(frame):
    """Whether a subscriber is told a message by it."""
    words = frame.split(b"\r\n", 3)
    return words[0] in (b"*3", b">3") and words[2] in (b"message", b"smessage")


def _end(link):
    # Both, for the other direction may wait in it.
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
    link.close()
