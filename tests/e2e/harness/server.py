"""The binary as a child process, always ended by its id."""

import ctypes
import json
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time

from . import settings
from .rest import Rest
from .tokens import token
from .waiting import NotInTime, until

ROOT = pathlib.Path(__file__).resolve().parents[3]
READY_S = float(os.environ.get("HEDDLE_E2E_READY_S", "60"))


def binary():
    """The binary under test: HEDDLE_BIN, or what `cargo build` leaves."""
    named = os.environ.get("HEDDLE_BIN")
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    return named or os.path.join(target, "debug", "heddle")


def heddle(*args, timeout_s=60, env=None, stdin=None, nice=0):
    """Runs a command of the binary to its end; `nice`: behind everybody else, as if on another machine."""
    first = ["nice", "-n", str(nice)] if nice else []
    return subprocess.run(
        [*first, binary(), *map(str, args)], capture_output=True, text=True, timeout=timeout_s, input=stdin,
        env={**os.environ, **(env or {})}, check=False,
    )


class Heddle:
    """One server. `start` waits for the ready line; `stop` drains; `kill` does not.

    `mode` is `serve` (with a configuration file) or `dev`. `policies` are pairs (hook, file). `wrapper` stands before
    the command: strace, for one.
    """

    alive = []

    def __init__(self, data, *, mode="serve", config=None, policies=(), wrapper=(), env=None, args=()):
        self.data = pathlib.Path(data)
        self.mode, self.policies, self.wrapper, self.args = mode, list(policies), list(wrapper), list(args)
        self.env = dict(env or {})
        self.config = settings.merged(settings.BASE, config or {})
        self.child = None
        self.ready = None
        self.lines = None
        self.number = 0
        self.side = pathlib.Path(str(self.data) + ".e2e")
        self.side.mkdir(parents=True, exist_ok=True)

    def command(self):
        """The command line."""
        if self.mode == "dev":
            words = [binary(), "dev", "--data", str(self.data), "--no-bot"]
            words += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        else:
            path = self.side / "heddle.toml"
            path.write_text(settings.toml_text(settings.placed(self.config, self.data)))
            words = [binary(), "serve", "--config", str(path)]
        words += ["--output", "json"]
        for hook, file in self.policies:
            words += ["--policy", f"{hook}={file}"]
        return [*self.wrapper, *words, *self.args]

    def launch(self):
        """Starts the process without waiting for it to be ready."""
        self.number += 1
        self.stderr_path = self.side / f"stderr-{self.number}.txt"
        with open(self.stderr_path, "wb") as stderr:
            self.child = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                env={**os.environ, **self.env}, start_new_session=True, preexec_fn=_dies_with_the_tests,
            )
        Heddle.alive.append(self)
        self.lines = queue.Queue(maxsize=10_000)
        threading.Thread(target=self._read, args=(self.child.stdout, self.lines), daemon=True).start()
        return self

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            try:
                lines.put_nowait(line.decode(errors="replace").rstrip("\n"))
            except queue.Full:
                pass
        lines.put(None)

    def start(self, deadline_s=READY_S):
        """Starts, and waits for the ready line."""
        self.launch()
        end = time.monotonic() + deadline_s
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise NotInTime(f"no ready line within {deadline_s} s\n{self.stderr()}") from None
            if line is None:
                code = self.child.wait(timeout=10)
                raise AssertionError(f"ended with {code} before it was ready\n{self.stderr()}")
            if line.startswith("{"):
                self.ready = json.loads(line)
                self.client, self.admin = self.ready["client"], self.ready["admin"]
                return self

    def refused(self, deadline_s=READY_S):
        """Starts a server that must not start; returns (exit code, what it said)."""
        self.launch()
        try:
            code = self.child.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it started although it should not\n{self.stderr()}") from None
        self._forget()
        return code, self.stderr()

    @property
    def pid(self):
        """The server's own process, behind a wrapper too."""
        if not self.wrapper:
            return self.child.pid
        children = pathlib.Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
        return int(children[0])

    def signal(self, number):
        """Sends a signal to the server."""
        os.kill(self.pid, number)

    def kill(self):
        """kill -9, and waits until it is gone."""
        if self.child and self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait(timeout=30)
        self._forget()

    def stop(self, deadline_s=30):
        """Asks it to drain, and returns its exit code."""
        if self.child.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            code = self.child.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end within {deadline_s} s of SIGTERM\n{self.stderr()}") from None
        self._forget()
        return code

    def _forget(self):
        if self in Heddle.alive:
            Heddle.alive.remove(self)

    def restart(self, hard=True):
        """Ends it (hard: kill -9) and starts it again on the same data."""
        self.kill() if hard else self.stop()
        return self.start()

    def stderr(self, lines=60):
        """The last lines that it said."""
        text = self.stderr_path.read_text(errors="replace").splitlines()
        return "\n".join(text[-lines:])

    def resident_bytes(self):
        """Memory of the process now."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def peak_bytes(self):
        """The most memory that it had since `forget_peak` (proc(5): VmHWM)."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) * 1024

    def forget_peak(self):
        """From now on it counts anew (proc(5): clear_refs)."""
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def token(self, user, **claims):
        """A token that this server takes: signed here for `serve`, by `heddle token` for `dev`."""
        if self.mode == "dev":
            return heddle("token", "--user", user).stdout.strip()
        return token(user, secret=self.secret(), **claims)

    def secret(self):
        """The HMAC secret in use."""
        return self.config["auth"]["secret"]

    def rest(self, user, **more):
        """REST as that user."""
        return Rest(self.client, self.token(user), **more)

    def admin_rest(self, token_=None):
        """REST of the admin listener."""
        return Rest(self.admin, token_)

    def metrics(self):
        """The metrics: name with labels to value."""
        text = self.admin_rest().get("/metrics").ok().raw.decode()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def metrics_sum(self, part):
        """The sum of all metrics whose name contains `part`."""
        return sum(value for name, value in self.metrics().items() if part in name)

    def policy_metrics(self, family, **labels):
        """By all their labels: those of that family of `heddle_policy_*` that have these."""
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        return {name: value for name, value in self.metrics().items()
                if name.startswith(f"heddle_policy_{family}{{") and all(label in name for label in wanted)}

    def operate(self, *words, **more):
        """A command of the binary on this server."""
        return heddle(*words, "--data", self.data, **more)

    def explain(self, message_id):
        """What `heddle explain` says."""
        return heddle("explain", message_id, *settings.explain_args(self))

    def explained(self, message_id):
        """The same for programs."""
        done = heddle("explain", message_id, "--output", "json", *settings.explain_args(self))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def faults(self, plugin, kind):
        """So many times that plugin failed in that way."""
        wanted = ("heddle_policy_faults_total{", f'plugin="{plugin}"', f'kind="{kind}"')
        return sum(value for name, value in self.metrics().items() if all(part in name for part in wanted))

    def logged(self):
        """Ids of all messages of which the log still has a record."""
        rows = [row for topic in ("messages", "group_messages") for row in self.log(topic)]
        return {row["message_id"] for row in rows if "message_id" in row}

    def log(self, topic, *more):
        """`heddle log cat`, parsed. While the server runs the newest may be missing."""
        done = heddle("log", "cat", "--topic", topic, "--data", self.data, *more)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _dies_with_the_tests():
    """Should the tests be killed themselves, the server goes too (prctl(2))."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_all():
    """Ends whatever a test left."""
    for server in list(Heddle.alive):
        server.kill()


__all__ = ["Heddle", "binary", "end_all", "heddle", "until"]
