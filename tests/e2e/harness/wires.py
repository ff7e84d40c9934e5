"""Network namespaces: each node in one of its own, with a wire to this one that can be cut in either direction."""

import os
import shutil
import subprocess


class Missing(Exception):
    """Not root, or no `ip`."""


class Wire:
    """One namespace, and a pair of virtual interfaces from here to there."""

    def __init__(self, net, number, host):
        self.name, self.near = f"heddle-{os.getpid()}-{number}", f"hd{os.getpid() % 100_000}n{number}"
        self.host, self.here, self.address = host, f"{net}.{number}.1", f"{net}.{number}.2"
        far = f"{self.near}f"
        _ip("netns", "add", self.name)
        _ip("link", "add", self.near, "type", "veth", "peer", "name", far, "netns", self.name)
        _ip("addr", "add", f"{self.here}/30", "dev", self.near)
        _ip("link", "set", self.near, "up")
        self._there("addr", "add", f"{self.address}/30", "dev", far)
        self._there("link", "set", far, "up")
        self._there("link", "set", "lo", "up")
        self._there("route", "add", "default", "via", self.here)

    @property
    def wrapper(self):
        """What stands before a command that runs there."""
        return ["ip", "netns", "exec", self.name]

    def cut_out(self):
        """What the node sends to the servers goes nowhere; what they send arrives."""
        self._there("route", "add", "blackhole", f"{self.host}/32")

    def cut_in(self):
        """What anybody here sends to the node goes nowhere; what it sends arrives."""
        _ip("route", "add", "blackhole", f"{self.address}/32")

    def mend(self):
        """Both directions are whole again."""
        self._there("route", "del", "blackhole", f"{self.host}/32", check=False)
        _ip("route", "del", "blackhole", f"{self.address}/32", check=False)

    def end(self):
        """Removes it; the other end goes with its namespace."""
        self.mend()
        _ip("netns", "del", self.name, check=False)
        _ip("link", "del", self.near, check=False)

    def _there(self, *words, check=True):
        _ip("-n", self.name, *words, check=check)


class Wires:
    """Those of a test, and the address at which servers here are reached from there. All are removed by `end`."""

    def __init__(self):
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise Missing("network namespaces need root and `ip` (Debian package iproute2)")
        self.net = f"10.{200 + os.getpid() % 50}"
        self.host, self.wires = f"{self.net}.0.1", []
        _ip("addr", "add", f"{self.host}/32", "dev", "lo")

    def wire(self):
        """One more."""
        self.wires.append(Wire(self.net, len(self.wires) + 1, self.host))
        return self.wires[-1]

    def end(self):
        """Removes all of them."""
        for wire in self.wires:
            wire.end()
        _ip("addr", "del", f"{self.host}/32", "dev", "lo", check=False)


def _ip(*words, check=True):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
