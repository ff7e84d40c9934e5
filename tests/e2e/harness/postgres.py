"""A real PostgreSQL: on a free loopback port, in a temporary directory, ended with the tests by tests/servers/guard.sh."""

import itertools
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile

from . import versions
from .server import ROOT

GUARD = ROOT / "tests" / "servers" / "guard.sh"
_names = itertools.count(1)


class Missing(Exception):
    """PostgreSQL is not installed, or does not start."""


class Postgres:
    """One server with a superuser `heddle` and no password."""

    def __init__(self, host="127.0.0.1"):
        self.programs, self.host = _programs(), host
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="heddle-postgres-"))
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        self.guard = self.port = None
        made = subprocess.run(
            [*_as_postgres(), self.programs / "initdb", "--pgdata", self.directory / "data", "--auth=trust",
             "--username=heddle", "--encoding=UTF8", "--locale=C", "--no-sync"],
            capture_output=True, text=True, cwd="/", check=False,
        )
        if made.returncode:
            raise Missing(f"initdb: {made.stderr}")
        if host != "127.0.0.1":
            with open(self.directory / "data" / "pg_hba.conf", "a", encoding="utf-8") as trusted:
                trusted.write("host all all all trust\n")
        self._prepare()
        for _ in range(5):
            with socket.create_server((self.host, 0)) as free:
                self.port = free.getsockname()[1]
            if self._launch():
                versions.told("PostgreSQL", self.version)
                return
        raise Missing(f"PostgreSQL does not start: {self.log()}")

    def log(self):
        """The last that it said."""
        path = self.directory / "server.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def url(self, database):
        """Where to connect."""
        return f"postgres://heddle@{self.host}:{self.port}/{database}"

    def database(self):
        """The name of a new, empty database."""
        name = f"heddle_{next(_names)}"
        self._program("createdb", "--template=template0", name)
        return name

    def sql(self, database, statement):
        """Rows of a statement, each a list of texts."""
        done = self._program("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--field-separator=\t", "-v",
                             "ON_ERROR_STOP=1", "--dbname", database, "--command", statement)
        return [line.split("\t") for line in done.splitlines() if line]

    def version(self):
        """As the server tells it over the wire."""
        return self.sql("postgres", "SELECT version()")[0][0]

    def stop(self):
        """Stops it in order; `start` starts it again on the same port."""
        self.guard.stdin.write(b"keep\n")
        self._end()

    def kill(self):
        """kill -9, with all its processes."""
        self._signal(signal.SIGKILL)
        self.stop()

    def pause(self):
        """It takes connections, and says nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self):
        """It goes on."""
        self._signal(signal.SIGCONT)

    def start(self):
        """Starts it again."""
        for _ in range(5):
            if self._launch():
                return
        raise AssertionError(f"PostgreSQL does not start again: {self.log()}")

    def end(self):
        """Stops it for good, and removes its directory."""
        self._end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _prepare(self):
        """For those that are set up otherwise."""

    def _settings(self):
        return ()

    def _launch(self):
        ready = f"{self.programs / 'pg_isready'} --quiet --host={self.host} --port={self.port} --username=heddle"
        settings = (f"port={self.port}", f"unix_socket_directories={self.directory}", f"listen_addresses={self.host}",
                    "fsync=off", "full_page_writes=off", "max_connections=100",
                    *self._settings())
        command = ["sh", GUARD, self.directory, ready, "INT", *_as_postgres(), self.programs / "postgres", "-D",
                   self.directory / "data", *(word for setting in settings for word in ("-c", setting))]
        self.guard = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
        line = self.guard.stdout.readline().decode()
        if not line.startswith("ready "):
            self.guard.wait(timeout=30)
            return False
        self.pid = int(line.split()[1])
        return True

    def _end(self):
        if self.guard:
            self.guard.stdin.close()
            self.guard.wait(timeout=60)
            self.guard.stdout.close()
            self.guard = None

    def _signal(self, number):
        def children():
            path = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children")
            return [int(pid) for pid in path.read_text().split()] if path.exists() else []

        before = children()
        for pid in (self.pid, *before):
            _kill(pid, number)
        for pid in set(children()) - set(before):
            _kill(pid, number)

    def _program(self, name, *args):
        done = subprocess.run(
            [str(self.programs / name), f"--host={self.host}", f"--port={self.port}", "--username=heddle", *args],
            capture_output=True, text=True, check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _programs():
    """Where they are: the newest that Debian installed, or the PATH."""
    installed = [p for p in pathlib.Path("/usr/lib/postgresql").glob("*/bin") if (p / "initdb").exists()]
    installed.sort(key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    if not installed and not found:
        raise Missing("PostgreSQL is not installed: run deploy/setup.sh test, or apt-get install postgresql")
    return installed[-1] if installed else pathlib.Path(found).parent


def _as_postgres():
    """It refuses to run as root."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
