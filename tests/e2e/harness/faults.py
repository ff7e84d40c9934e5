"""Faults from outside: loop-mounted images, torn pages, strace. Each needs rights that not every machine gives."""

import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess

from .needs import need
from .waiting import until

PAGE = 4096
FRAME_MAGIC = b"\xffHDF"
IMAGE_MIB = 160


def need_strace():
    """strace, and the right to trace."""
    need(shutil.which("strace"), "run strace")
    done = subprocess.run(["strace", "-e", "trace=none", "true"], capture_output=True, check=False)
    need(done.returncode == 0, "trace a child with strace")


def run(*words):
    """A command that must succeed."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


class Image:
    """An ext4 file system in a file, mounted through a loop device."""

    def __init__(self, path, mount, mib=IMAGE_MIB):
        self.path, self.mount, self.mounted = pathlib.Path(path), pathlib.Path(mount), False
        self.mount.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            with open(self.path, "wb") as file:
                file.truncate(mib << 20)
            run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.path)

    @staticmethod
    def possible():
        """Whether loop mounts work here."""
        return os.geteuid() == 0 and shutil.which("mkfs.ext4") and os.path.exists("/dev/loop-control")

    def __enter__(self):
        run("mount", "-o", "loop,noatime", self.path, self.mount)
        self.mounted = True
        return self

    def __exit__(self, *_):
        if self.mounted:
            until(self._unmount, f"{self.mount} is unmounted", 20)
            self.mounted = False

    def _unmount(self):
        return subprocess.run(["umount", str(self.mount)], capture_output=True, check=False).returncode == 0

    def copy(self, path, mount):
        """What a disk would hold if the power went now."""
        run("cp", "--sparse=always", self.path, path)
        return Image(path, mount)


def last_frame(folder):
    """(file, offset, bytes) of the newest group commit in the log's segments."""
    for path in sorted(pathlib.Path(folder).glob("*.seg"), reverse=True):
        data = path.read_bytes()
        found = None
        for at in range(0, len(data), PAGE):
            if data[at : at + 4] == FRAME_MAGIC:
                sequence, length = struct.unpack_from("<Q8xI", data, at + 8)
                if found is None or sequence > found[0]:
                    found = (sequence, at, length)
        if found:
            return path, found[1], data[found[1] : found[1] + found[2]]
    return None


def tear(folder, seen, chance: random.Random):
    """Zeroes random pages of the newest frame if no client can have seen any of it; says whether it did.

    `seen` are texts that some client knows to be durable. A frame without any sends in it is left alone: what it
    derives may have been pushed.
    """
    found = last_frame(folder)
    if not found:
        return False
    path, at, data = found
    texts = set(re.findall(rb"[a-z0-9-]+#\d+~", data))
    if not texts or any(text.decode() in seen for text in texts):
        return False
    pages = range(at, at + len(data), PAGE)
    with open(path, "r+b") as file:
        for page in chance.sample(pages, chance.randint(1, len(pages))):
            file.seek(page)
            file.write(b"\0" * PAGE)
        os.fsync(file.fileno())
    return True


def attach(pid, *options, out=None):
    """Attaches strace to a running process, and returns once it traces."""
    words = ["strace", "-f", "-p", str(pid), *options]
    if out:
        words += ["-o", str(out)]
    log = open(str(out) + ".err" if out else os.devnull, "wb")  # noqa: SIM115: lives as long as the child
    child = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    threads = pathlib.Path(f"/proc/{pid}/task")

    def traced():
        assert child.poll() is None, "strace ended"
        return all(_tracer(task) for task in threads.iterdir())

    until(traced, "strace traces every thread", 20)
    return child


def _tracer(task):
    try:
        text = (task / "status").read_text()
    except FileNotFoundError:
        return True
    return int(re.search(r"TracerPid:\s+(\d+)", text)[1]) != 0


def detach(child):
    """Ends strace; the process that it traced goes on."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(timeout=10)


def stopped(pid):
    """SIGSTOP, and waits until every thread stands."""
    os.kill(pid, signal.SIGSTOP)
    tasks = pathlib.Path(f"/proc/{pid}/task")

    def stands():
        return all(_state(task) in "Tt" for task in tasks.iterdir())

    until(stands, f"{pid} stands still", 10)


def _state(task):
    try:
        return (task / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "T"


