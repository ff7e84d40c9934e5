"""A real redis-server as a child process, empty at each start, always ended by its id."""

import shutil
import signal
import socket
import subprocess
import tempfile

from . import versions
from .needs import need
from .server import _dies_with_the_tests
from .waiting import until


def needed():
    """Skips where redis-server is missing; in CI that is a failure."""
    need(shutil.which("redis-server"), "redis-server is not installed: deploy/setup.sh test installs the Debian package redis-server")


def free_port(host="127.0.0.1"):
    """Nobody listens there now."""
    with socket.socket() as free:
        free.bind((host, 0))
        return free.getsockname()[1]


class Redis:
    """One server on a free port of loopback; `args`: more of its settings."""

    def __init__(self, host="127.0.0.1", args=()):
        needed()
        self.host, self.args = host, list(args)
        self.dir = tempfile.mkdtemp(prefix="heddle-redis-")
        self.port = free_port(host)
        self.child, self.frozen = None, False

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    @property
    def url(self):
        """For a client."""
        return f"redis://{self.host}:{self.port}"

    def end(self):
        """Ends it for good."""
        self.__exit__()

    def start(self):
        """Starts it, and waits until it answers."""
        self.child = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=_dies_with_the_tests,
        )
        until(self._answers, "redis-server answers")
        self._tell()
        return self

    def version(self):
        """As the server tells it over the wire."""
        told = dict(line.split(":", 1) for line in self.ask("INFO", "server").splitlines() if ":" in line)
        return told["redis_version"]

    def _tell(self):
        versions.told("Redis", self.version)

    def _command(self):
        return ["redis-server", *self._listens(), "--bind", self.host, "--protected-mode", "no", "--save", "", "--appendonly", "no",
                "--dir", self.dir, *self.args]

    def _listens(self):
        return ["--port", str(self.port)]

    def _connect(self):
        return socket.create_connection((self.host, self.port), timeout=5)

    def _answers(self):
        try:
            return self.ask("PING") == "PONG"
        except OSError:
            return False

    def kill(self):
        """kill -9."""
        if self.child and self.child.poll() is None:
            self.child.kill()
            self.child.wait(timeout=10)

    def freeze(self):
        """Stops its time."""
        self.child.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self):
        """Lets its time go on."""
        self.child.send_signal(signal.SIGCONT)
        self.frozen = False

    def ask(self, *words):
        """Sends a command; text, a number, None or a list comes back."""
        with self._connect() as connection:
            parts = [str(word).encode() for word in words]
            connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
            return _read(connection.makefile("rb"))


def _read(stream):
    line = stream.readline().rstrip(b"\r\n")
    if not line:
        raise OSError("redis-server closed")
    kind, rest = line[:1], line[1:]
    if kind == b"+":
        return rest.decode()
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if int(rest) < 0 else stream.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == b"*":
        return [_read(stream) for _ in range(int(rest))]
    raise AssertionError(f"redis-server refuses: {rest.decode()}")
