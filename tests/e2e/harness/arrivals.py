"""Traffic at a constant rate, whatever the answers do, from a process of its own: what else the tests do takes none of its time.

`Arrivals` is that process seen from the test. Each send is measured from the moment at which it was due, so that a stall of
the server counts for everybody who would have come meanwhile (open loop). The child (`python -m harness.arrivals`) says one
line of JSON for each outcome, and at its end what every device received.
"""

import asyncio
import gc
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from .device import Device
from .waiting import NotInTime, until_async

SETTLED_S = 60


class Arrivals:
    """`per_second` sends, in turn by each of `senders`: to `to` directly, and every `group_every`th into `group`."""

    def __init__(self, server, *, senders, to, group, members, per_second, group_every=5, token=None):
        self.users = [*senders, to, *(m for m in members if m not in (*senders, to))]
        self.plan = {
            "client": server.client, "senders": senders, "to": to, "group": group, "per_second": per_second,
            "group_every": group_every, "tokens": {user: (token or server.token)(user) for user in self.users},
        }
        # (due on time.monotonic, seconds, generation or None, client_id, frame)
        self.outcomes = []
        self.by_generation = {}
        self.facts = None

    async def __aenter__(self):
        folder = pathlib.Path(__file__).resolve().parents[1]
        self.child = subprocess.Popen(
            [sys.executable, "-m", "harness.arrivals"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(folder)}, text=True)
        self.child.stdin.write(json.dumps(self.plan) + "\n")
        self.child.stdin.flush()
        threading.Thread(target=self._read, daemon=True).start()
        return self

    async def __aexit__(self, *_):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()

    def _read(self):
        for line in self.child.stdout:
            said = json.loads(line)
            if "facts" in said:
                self.facts = said["facts"]
                continue
            generation = said["frame"].get("generation")
            self.outcomes.append((said["due"], said["took"], generation, said["frame"]["client_id"], said["frame"]))
            kind = "group" if said["grouped"] else "direct"
            self.by_generation.setdefault(generation, {}).setdefault(kind, said["frame"])

    async def until(self, condition, what, deadline_s=30):
        """Waits for a condition over the outcomes."""
        def look():
            assert self.child.poll() is None or self.facts, "the traffic ended by itself"
            return condition()

        await until_async(look, what, deadline_s)

    async def decided(self, generation, kinds=("direct", "group")):
        """Waits until that generation has decided about a message of each kind."""
        await self.until(lambda: all(kind in self.by_generation.get(generation, {}) for kind in kinds),
                         f"generation {generation} decides about {kinds}")

    async def stop(self):
        """Stops sending, waits until everything has come, and returns what every device received."""
        self.child.stdin.close()
        try:
            await until_async(lambda: self.facts or self.child.poll() is not None, "it has settled", SETTLED_S + 10)
        except NotInTime:
            self.child.kill()
        await until_async(lambda: self.facts, "it says what came", 5)
        return self.facts

    def took(self, since, until):
        """Seconds of each send that was due within that time."""
        return [took for due, took, *_ in self.outcomes if since <= due < until]


def check(arrivals, facts):
    """Everything that was accepted came to everybody it was for, once and in order; nobody was disconnected."""
    assert facts["closed"] == {user: None for user in arrivals.users}, facts["closed"]
    frames = [frame for *_, frame in arrivals.outcomes]
    assert {frame["type"] for frame in frames} == {"accepted"}, [f for f in frames if f["type"] != "accepted"][:3]
    assert facts["sent"] == len(frames), (facts["sent"], len(frames))
    by_id = {frame["message_id"]: frame for frame in frames}
    assert len(by_id) == len(frames), "two sends have one id"
    for user, received in facts["received"].items():
        offsets = [message["offset"] for message in received]
        assert offsets == sorted(set(offsets)), f"{user}: offsets do not grow"
        ids = [message["message_id"] for message in received]
        assert len(ids) == len(set(ids)), f"{user}: a message came twice"
        assert set(ids) <= set(by_id), f"{user}: a message that nobody was told about"
        wanted, come = {}, {}
        for message in received:
            come.setdefault((message["from"], message.get("group")), []).append(message["number"])
        for client_id, number, sender, grouped in facts["sends"]:
            if user == arrivals.plan["to"] or grouped or user == sender:
                wanted.setdefault((sender, arrivals.plan["group"] if grouped else None), []).append(number)
        assert come == wanted, f"{user}: something is missing, or in another order"


class _Timed(Device):
    """Notes when an outcome came."""

    def __init__(self, *words, **more):
        super().__init__(*words, **more)
        # Whom to tell of outcomes, once the traffic has begun.
        self.heard = None

    def _take(self, frame, text):
        super()._take(frame, text)
        if self.heard is None:
            return
        # Nobody takes anything out of it; what acknowledges looks at the last one.
        del self.inbox[:-1]
        if frame["type"] in ("accepted", "rejected") and "offset" not in frame:
            self.outcomes.pop(frame["client_id"], None)
            self.heard(frame, time.monotonic())


class _Server:
    """As much of a server as a device asks for."""

    def __init__(self, plan):
        self.client, self.tokens = plan["client"], plan["tokens"]

    def token(self, user):
        """From the plan."""
        return self.tokens[user]


class _Traffic:
    """The child."""

    def __init__(self, plan):
        self.plan, self.due, self.sends = plan, {}, []
        server = _Server(plan)
        self.devices = {user: _Timed(server, user, auto_ack=True) for user in plan["tokens"]}
        self.out = sys.stdout

    def heard(self, frame, now):
        due, grouped = self.due.pop(frame["client_id"])
        print(json.dumps({"due": due, "took": now - due, "grouped": grouped, "frame": frame}), file=self.out, flush=True)

    async def send(self, number):
        """One, by whose turn it is."""
        senders = self.plan["senders"]
        sender = senders[number % len(senders)]
        grouped = number % self.plan["group_every"] == 0
        client_id = f"{sender}#{number}"
        self.due[client_id] = (self.began + number / self.plan["per_second"], grouped)
        self.sends.append((client_id, number, sender, grouped))
        where = {"group": self.plan["group"]} if grouped else {"to": self.plan["to"]}
        await self.devices[sender].post(text=str(number), client_id=client_id, **where)

    def whole(self):
        """Has everything come?"""
        direct = sum(not grouped for *_, grouped in self.sends)
        grouped = len(self.sends) - direct
        members = len(self.devices)
        # Own copies come too.
        return not self.due and sum(len(d.messages) for d in self.devices.values()) >= 2 * direct + members * grouped

    async def run(self):
        """Until the other side closes the pipe."""
        await asyncio.gather(*(device.connect() for device in self.devices.values()))
        for device in self.devices.values():
            device.heard = self.heard
        gc.disable()
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stopped.set)), daemon=True).start()
        self.began, number = time.monotonic(), 0
        while not stopped.is_set() and not any(device.closed for device in self.devices.values()):
            await self.send(number)
            number += 1
            await asyncio.sleep(max(0.0, self.began + number / self.plan["per_second"] - time.monotonic()))
        try:
            await until_async(self.whole, "everything has come", SETTLED_S)
        except NotInTime:
            pass
        print(json.dumps({"facts": self.facts()}), file=self.out, flush=True)

    def facts(self):
        """For the judge on the other side."""
        def of(message):
            return {"number": int(message["text"])} | {
                name: message[name] for name in ("offset", "message_id", "from", "group", "tags", "quiet") if name in message}

        return {
            "sent": len(self.sends), "sends": self.sends,
            "closed": {user: device.closed for user, device in self.devices.items()},
            "received": {user: [of(m) for m in device.messages] for user, device in self.devices.items()},
        }


if __name__ == "__main__":
    asyncio.run(_Traffic(json.loads(sys.stdin.readline())).run())
