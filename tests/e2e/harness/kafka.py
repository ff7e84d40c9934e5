"""A real Apache Kafka: one broker on a free loopback port, in a temporary directory, ended with the tests by tests/servers/guard.sh."""

import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

from . import versions
from .questions import Broker
from .server import ROOT

GUARD = ROOT / "tests" / "servers" / "guard.sh"
CLUSTER = "aGVkZGxlLXRlc3RzLWthZg"
# The release that brought each level of `metadata.version`: brokers tell that, and not their own.
RELEASES = {7: "3.3", 8: "3.4", 9: "3.5", 12: "3.6", 15: "3.7", 20: "3.8", 21: "3.9", 22: "4.0", 26: "4.1", 28: "4.2"}
# The longest that a broker whose port is open may take to answer.
STARTS_S = 60
_prefixes = itertools.count(1)


class Missing(Exception):
    """Java or Kafka's files are not here, or it does not start."""


class Kafka:
    """One broker that is its own controller; it keeps what it has over a restart."""

    # For the command that makes its directory ready.
    format_options = ""

    def __init__(self, host="127.0.0.1"):
        self.lib, self.host = _lib(), host
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="heddle-kafka-"))
        self.guard = self.port = self.pid = None
        for _ in range(3):
            self.port, controller = _free_port(), _free_port()
            self._configure(controller)
            if self._launch():
                self._tell()
                return
        said = self.log()
        shutil.rmtree(self.directory, ignore_errors=True)
        raise Missing(f"Kafka does not start: {said}")

    @property
    def brokers(self):
        """For a client."""
        return f"{self.host}:{self.port}"

    def version(self):
        """As the broker tells it over the wire."""
        broker = Broker(self, timeout_s=STARTS_S)
        try:
            level = broker.level()
        finally:
            broker.close()
        newest = max((known for known in RELEASES if known <= level), default=None)
        return f"metadata.version {level}, of release {RELEASES[newest] if newest else 'before 3.3'}"

    def log(self):
        """The last that it said."""
        path = self.directory / "server.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def config(self, **more):
        """The section of a server whose topics nobody else has."""
        prefix = f"e{os.getpid()}-{next(_prefixes)}"
        return {"brokers": self.brokers, "prefix": prefix, "partitions": 6, "replication": 1, "min_in_sync": 1,
                "lenient": True, "append_deadline": "2 s", "session_timeout": "3 s", **more}

    def kill(self):
        """kill -9; `start` starts it again on the same port, with what it had."""
        self._signal(signal.SIGKILL)
        self.guard.stdin.write(b"keep\n")
        self._end()

    def pause(self):
        """Connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self):
        """It goes on."""
        self._signal(signal.SIGCONT)

    def start(self):
        """Starts it again."""
        assert self._launch(), f"Kafka does not start again: {self.log()}"

    def end(self):
        """Stops it for good, and removes its directory."""
        self._end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _tell(self):
        versions.told("Kafka", self.version)

    def _configure(self, controller):
        (self.directory / "server.properties").write_text("\n".join([
            "process.roles=broker,controller", "node.id=1", f"controller.quorum.voters=1@127.0.0.1:{controller}",
            f"listeners=PLAINTEXT://{self.host}:{self.port},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners=PLAINTEXT://{self.host}:{self.port}", "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "inter.broker.listener.name=PLAINTEXT", f"log.dirs={self.directory}/data",
            "auto.create.topics.enable=false", "offsets.topic.replication.factor=1", "offsets.topic.num.partitions=1",
            "group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=1000",
            # A broker that was killed comes back as soon as its old self is forgotten.
            "broker.session.timeout.ms=1000", "broker.heartbeat.interval.ms=200", ""]))

    def _launch(self):
        java = f"java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '{self.lib}/*'"
        run = (f"{java} kafka.tools.StorageTool format -t {CLUSTER} -g -c \"$0\" {self.format_options} && "
               f"exec {java} kafka.Kafka \"$0\"")
        ready = f"bash -c 'exec 3<>/dev/tcp/{self.host}/{self.port}'"
        command = ["sh", GUARD, self.directory, ready, "TERM", "sh", "-c", run, self.directory / "server.properties"]
        self.guard = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
        line = self.guard.stdout.readline().decode()
        if not line.startswith("ready "):
            self.guard.wait()
            return False
        self.pid = int(line.split()[1])
        return True

    def _signal(self, number):
        os.kill(self.pid, number)

    def _end(self):
        self.guard.stdin.close()
        self.guard.wait()


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _lib():
    mend = "run deploy/setup.sh test"
    if not shutil.which("java"):
        raise Missing(f"java is not installed: {mend}")
    cache = os.environ.get("HEDDLE_CACHE")
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    lib = (pathlib.Path(cache) if cache else base / "heddle") / "kafka"
    if not list(lib.glob("kafka_2.13-*.jar")):
        raise Missing(f"{lib} does not have Kafka: {mend}")
    return lib
