"""Many users who each say something: a plugin that fails is spared a sender after two strikes, so one sender shows little."""

import asyncio

from .device import Device


class Crowd:
    """So many users, each with one connection, who all write to one who listens."""

    def __init__(self, server, name, count):
        self.listener = Device(server, name("listener"), auto_ack=True)
        self.devices = [Device(server, name(f"crowd-{number}"), auto_ack=True) for number in range(count)]
        self.said = 0

    async def __aenter__(self):
        await asyncio.gather(*(device.connect() for device in [self.listener, *self.devices]))
        return self

    async def __aexit__(self, *_):
        await asyncio.gather(*(device.leave() for device in [self.listener, *self.devices]))

    async def say(self, each=1, at_once=True, deadline_s=60, **more):
        """Each says so much; returns the outcomes. `at_once`: else one after the other."""
        async def one(device):
            outcomes = []
            for _ in range(each):
                self.said += 1
                posted = await device.post(self.listener.user, f"line {self.said}", **more)
                outcomes.append(await device.outcome(posted, deadline_s))
                device.inbox.clear()
            return outcomes

        if at_once:
            heard = await asyncio.gather(*(one(device) for device in self.devices))
        else:
            heard = [await one(device) for device in self.devices]
        self.listener.inbox.clear()
        return [outcome for outcomes in heard for outcome in outcomes]

    async def check(self, accepted):
        """All that was accepted came to the listener, and nobody was disconnected."""
        await self.listener.until(lambda: len(self.listener.messages) >= accepted, "all that was accepted comes", 60)
        assert len({message["message_id"] for message in self.listener.messages}) == accepted == len(self.listener.messages)
        assert {device.closed for device in [self.listener, *self.devices]} == {None}, "a connection was closed"
