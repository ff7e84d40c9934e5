"""One person at each node, each a contact of all others: what they see of each other is right, or it is waited for."""

import asyncio
import contextlib
import itertools
import time

from .device import Device
from .waiting import NotInTime, until_async

# Who types does so again after so long if nobody saw it: nothing of typing is kept.
AGAIN_S = 0.5


class Onlookers:
    """Their connections are never to close."""

    def __init__(self, nodes, name):
        self.nodes = nodes
        self.devices = [Device(node, name(f"onlooker{number}"), auto_ack=True) for number, node in enumerate(nodes)]
        self.pairs = list(itertools.permutations(self.devices, 2))
        self._statuses = itertools.cycle(("away", "online"))
        # How long it took each time until all was right.
        self.took_s = []

    async def __aenter__(self):
        for one, other in self.pairs:
            one.server.rest(one.user).put(f"/v1/contacts/{other.user}").ok()
        for device in self.devices:
            await device.connect()
            await device.frame({"type": "presence_subscribe", "users": [other.user for other in self.devices if other is not device]})
        return self

    async def __aexit__(self, *_):
        for device in self.devices:
            await device.leave()

    async def see(self, deadline_s):
        """Each sees whoever types, that they stop, and what they say that they are; and all are still there."""
        began = time.monotonic()
        status = next(self._statuses)
        for device in self.devices:
            await device.frame({"type": "presence_set", "status": status})
        for one, other in self.pairs:
            for typing in (True, False):
                await self._types(one, other, typing, began + deadline_s)
        for one, other in self.pairs:
            left_s = began + deadline_s - time.monotonic()
            await until_async(lambda one=one, other=other: _last(other, one.user) == status, f"{other.user} sees that {one.user} is {status}", left_s)
        self.took_s.append(time.monotonic() - began)
        for device in self.devices:
            assert not device.closed, (device.user, device.closed)
            device.inbox[:] = [frame for frame in device.inbox if frame["type"] == "presence_update"]

    async def _types(self, one, other, typing, end):
        while time.monotonic() < end:
            await one.frame({"type": "typing_start" if typing else "typing_stop", "to": other.user})
            with contextlib.suppress(NotInTime):
                await other.next("typing_indicator", AGAIN_S, **{"from": one.user}, typing=typing)
                return
        raise NotInTime(f"{other.user} never sees that {one.user} {'types' if typing else 'stops'}")

    async def talk(self):
        """Each says something to each other, and it comes at once."""
        for one, other in self.pairs:
            text = f"from {one.user} {len(self.took_s)}"
            await one.say(other.user, text)
            await other.next("new_message", text=text)


def _last(device, user):
    """What it was told last of somebody."""
    told = [frame["status"] for frame in device.inbox if frame["type"] == "presence_update" and frame["user"] == user]
    return told[-1] if told else None


async def five_connections(nodes, user):
    """Of one user five are let in, at whichever nodes, and then none at any."""
    devices = [Device(nodes[number % len(nodes)], user, f"d{number}", auto_ack=True) for number in range(5)]
    await asyncio.gather(*(device.connect() for device in devices))
    for node in nodes:
        await until_async(lambda node=node: _refused(node, user), "the sixth connection is refused", 30)
    for device in devices:
        await device.ping()
        await device.leave()


async def _refused(node, user):
    """One that is let in, because news of the others are on their way, goes again."""
    device = Device(node, user, "one-more")
    await device.open()
    await device.frame({"type": "hello", "device": "one-more"})
    await device.until(lambda: device.closed or device.has("hello_ok"), "an answer", even_closed=True)
    await device.leave()
    return device.closed[0] == 4403
