"""Files to be swapped under load: good ones that can be told apart at every hook, and bad ones of every kind with the words that each earns."""

import asyncio
import contextlib
import functools
import itertools
import json
import os
import pathlib
import sqlite3
import time

from .hostile import compile_bomb, hostile, oversized, packed
from .policies import FOLDER, built, digest, fixture, truncated
from .server import heddle

HOOKS = ("rate-limit", "routing", "fanout", "presence")
# So much CPU time for the compiler is enough for anything that serves here, and too little for the bomb.
COMPILE_TIME_S = 2
_numbers = itertools.count(1)


def either(folder, letter, *, case=None, more="", thinks=0):
    """The fixture `either`, configured to decide in that way, after some thought; another file each time."""
    folder = folder / f"either-{letter}-{next(_numbers)}"
    folder.mkdir()
    source = FOLDER / "either"
    text = (source / "plugin.toml").read_text().replace('letter = "a"', f'letter = "{letter}"')
    text = text.replace("../target", str(FOLDER / "target")).replace('"cargo"', f'"env", "-C", "{source}", "cargo"')
    (folder / "plugin.toml").write_text(f"{text}thinks = {thinks}\n# {folder.name}\n{more}")
    if case:
        (folder / "cases").mkdir()
        (folder / "cases" / "wrong.json").write_text(json.dumps(case))
    return built(folder, folder / "either.wasm")


def fresh(folder, letter):
    """The same under a digest that no server has seen, quickly: only the manifest is made anew."""
    artifact = _artifact(folder)
    folder = folder / f"fresh-{letter}"
    folder.mkdir()
    hooks = "\n".join(f'[hooks.{hook}]\non_failure = "builtin"' for hook in HOOKS)
    (folder / "plugin.toml").write_text(
        f'name = "either"\nversion = "0.1.0"\n{hooks}\n[build]\ncommand = ["true"]\nartifact = "{artifact}"\n'
        f'[config]\nletter = "{letter}"\n')
    return built(folder, folder / "either.wasm")


@functools.cache
def _artifact(folder):
    either(folder, "a")
    return FOLDER / "target" / "wasm32-wasip2" / "release" / "either.wasm"


class Deployment:
    """A deployment that is killed in the stage that is wanted, as far as one can see from outside where it is."""

    def __init__(self, server, file, known):
        self.server, self.file, self.known = server, file, known
        self.compiling = False

    async def killed(self, wanted, luck):
        """Deploys, kills the server in that stage, or a little later by `luck` (0 to 1), and returns the answer, if there was one."""
        answering = asyncio.create_task(asyncio.to_thread(deployed, self.server, self.file))
        reached = {
            "before it compiles": lambda: True,
            "while it compiles": self._compiling,
            "compiled": self._native,
            "recorded": self._recorded,
            "serving": answering.done,
        }[wanted]
        later_s = luck * {"before it compiles": 0.03, "while it compiles": 0.1}.get(wanted, 0)
        await asyncio.to_thread(self._kill, lambda: reached() or answering.done(), later_s)
        answer, _ = await answering
        return answer

    def _kill(self, reached, later_s):
        # Some stages take a millisecond: whoever sleeps between two looks misses them.
        while not reached():
            pass
        if later_s:
            time.sleep(later_s)
        self.compiling = self._compiling()
        self.server.kill()

    def stage(self, answer):
        """Where it was: from what it left on the disk. The server is gone."""
        if answer:
            return "serving"
        if self._recorded():
            return "recorded"
        if self._native():
            return "compiled"
        return "while it compiles" if self.compiling else "before it compiles"

    def _compiling(self):
        tasks = pathlib.Path(f"/proc/{self.server.pid}/task").glob("*/children")
        try:
            return any(task.read_text().strip() for task in tasks)
        except OSError:
            return False

    def _native(self):
        return any((self.server.data / "native").glob(f"{digest(self.file)}-*.native"))

    def _recorded(self):
        with contextlib.closing(sqlite3.connect(f"file:{self.server.data / 'store.sqlite'}?mode=ro", uri=True)) as store:
            return store.execute("SELECT max(number) FROM generations").fetchone()[0] > self.known


def bad_files(folder, key):
    """By kind: the file, and what the operator reads. All but one are signed."""
    wrong = {"hook": "routing", "at": {"now": 1, "seed": 1},
             "request": {"sender": "alice", "to": {"direct": "bob"}, "size": 1, "members": 2}, "expect": {"decision": "discard"}}
    # Built for another hook than its manifest promises.
    fixture("everyone-offline")
    artifact = FOLDER / "target" / "wasm32-wasip2" / "release" / "everyone_offline.wasm"
    good = either(folder, "a")
    files = {
        "trap": (hostile("unreachable-at-start"), ("failed in `configure`", "unreachable")),
        "spin": (hostile("spin-at-start"), ("failed in `configure`", "500 ms")),
        "wrong world": (packed(artifact, {"routing": "builtin"}, name="promises"), ("exports no `heddle:policy/routing",)),
        "wrong type": (fixture("wrong-type"), ("has another type", "build it against this host's wit/")),
        "truncated": (truncated(good, 60_000), ("truncated",)),
        "oversized": (oversized(), ("more than 67108864 bytes",)),
        # By the clock, on a machine that gives it no processor.
        "compile bomb": (compile_bomb(), ("compiling took more than", "policies.compile_time")),
        "unsigned": (either(folder, "b"), ("it is not signed", "heddle plugin sign")),
        "failing case": (either(folder, "a", case=wrong), ('case "wrong"', "expects", "discard")),
    }
    for kind, (file, _) in files.items():
        if kind != "unsigned":
            key.sign(file)
    return files


def deployed(server, file, *words):
    """`heddle plugin deploy FILE` as from an operator's own machine: it takes no time from the server. (Answer, or none; what it said.)"""
    done = heddle("plugin", "deploy", file, *words, "--data", server.data, "--output", "json", timeout_s=120, nice=19)
    return (json.loads(done.stdout) if done.returncode == 0 else None), done.stderr


def quantile(took, share):
    """Nearest rank."""
    ordered = sorted(took)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def env_number(name, default):
    """A number of rounds that a longer run asks for."""
    return int(os.environ.get(name, default))
