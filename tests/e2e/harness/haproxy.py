"""A real HAProxy as a child process, with the sample that ships, adapted in its addresses only; always ended by its id."""

import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile

from .needs import need
from .server import ROOT, _dies_with_the_tests
from .waiting import until

SAMPLE = ROOT / "deploy" / "haproxy.cfg"
# Of each file that ships: where it listens, and where its runtime API is.
PLACES = {
    SAMPLE: (":443 ssl crt /etc/haproxy/chat.example.pem alpn http/1.1", "/run/haproxy/admin.sock"),
    ROOT / "deploy" / "compose" / "haproxy.cfg": (":8080", "/tmp/haproxy.sock"),
}


def binary():
    """Debian puts it where a user's PATH does not lead."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")


def needed():
    """Skips where HAProxy is missing; in CI that is a failure."""
    need(binary(), "haproxy is not installed: deploy/setup.sh test installs the Debian package haproxy")


def free_port():
    """A port of loopback that nobody has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class HAProxy:
    """`replaced` are pairs: what the file says, and what stands there for this test. Each must be in the file."""

    def __init__(self, replaced, file=SAMPLE):
        needed()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="heddle-haproxy-"))
        self.address = f"127.0.0.1:{free_port()}"
        self.socket = self.dir / "haproxy.sock"
        text = file.read_text()
        listens, api = PLACES[file]
        for old, new in [*replaced, (f"bind {listens}", f"bind {self.address}"), (api, str(self.socket))]:
            assert old in text, f"{file} does not say {old!r}"
            text = text.replace(old, new)
        self.file = self.dir / "haproxy.cfg"
        self.file.write_text(text)
        self.child = None

    @staticmethod
    def sample():
        """The text that ships."""
        return SAMPLE.read_text()

    def __enter__(self):
        checked = subprocess.run([binary(), "-c", "-f", str(self.file)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        self.said = open(self.dir / "said.txt", "wb")  # noqa: SIM115: lives as long as the child
        self.child = subprocess.Popen(
            [binary(), "-db", "-f", str(self.file)], stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said,
            start_new_session=True, preexec_fn=_dies_with_the_tests,
        )
        until(self._listens, "haproxy listens")
        return self

    def _listens(self):
        assert self.child.poll() is None, (self.dir / "said.txt").read_text()
        return self.socket.exists()

    def __exit__(self, *_):
        if self.child and self.child.poll() is None:
            self.child.kill()
            self.child.wait(timeout=10)
        self.said.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def ask(self, command):
        """A command of its runtime API; text comes back."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(str(self.socket))
            link.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: link.recv(65536), b"")).decode()

    def status(self, server):
        """"UP", "DOWN" or what else it says of a server."""
        head, *rows = self.ask("show stat").removeprefix("# ").strip().splitlines()
        names = head.split(",")
        rows = [dict(zip(names, row.split(","), strict=False)) for row in rows]
        return next(row["status"] for row in rows if row["svname"] == server).split(" ")[0]


def header_v1(source, port=40_000):
    """A PROXY header of version 1 for that client."""
    return f"PROXY TCP4 {source} 127.0.0.1 {port} 7600\r\n".encode()


def header_v2(source, port=40_000, more=b"", local=False):
    """A PROXY header of version 2, for that client or for the balancer itself; `more` are fields after the addresses."""
    body = b"" if local else socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", port, 7600)
    command, family = (0x20, 0x00) if local else (0x21, 0x11)
    body += more
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", command, family, len(body)) + body
