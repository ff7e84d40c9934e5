"""Two users who talk to each other all the time, while something else is done to the server."""

import asyncio

from .device import Device


class Chat:
    """Each says the next line when the one before has its outcome. Every outcome is kept: (device, text, frame).

    `again`: what nobody knows the outcome of is said again until somebody does; `unknown` counts it.
    """

    def __init__(self, server, one, other, again=False):
        self.again, self.unknown = again, 0
        self.devices = [Device(server, one, auto_ack=True), Device(server, other, auto_ack=True)]
        self.outcomes = []
        self.stopped = False

    async def __aenter__(self):
        for device in self.devices:
            await device.connect()
        pairs = [self.devices, self.devices[::-1]]
        self.tasks = [asyncio.create_task(self._talk(speaker, listener)) for speaker, listener in pairs]
        return self

    async def __aexit__(self, kind, *_):
        self.stopped = True
        await asyncio.gather(*self.tasks, return_exceptions=kind is not None)
        for device in self.devices:
            await device.leave()

    async def _talk(self, speaker, listener):
        number = 0
        while not self.stopped:
            number += 1
            text = f"{speaker.user} {number}"
            frame = await speaker.outcome(await speaker.post(listener.user, text), 60)
            while self.again and frame.get("code") == "unavailable":
                self.unknown += 1
                await asyncio.sleep(0.05)
                frame = await speaker.outcome(
                    await speaker.post(listener.user, text, client_id=frame["client_id"], resend=True), 60)
            self.outcomes.append((speaker, text, frame))
            speaker.inbox.clear()
            await asyncio.sleep(0.005)

    async def more(self, count, accept=lambda frame: True, what="the chat goes on"):
        """Waits for so many new outcomes that fit, and returns them."""
        seen = len(self.outcomes)
        found = []

        def look():
            found[:] = [frame for _, _, frame in self.outcomes[seen:] if accept(frame)]
            return len(found) >= count

        while not look():
            for task in self.tasks:
                if task.done():
                    task.result()
            await self.devices[0].until(look, what, 60)
        return found

    async def check(self):
        """Every accepted line came to the other, once and in order; nobody was disconnected."""
        self.stopped = True
        await asyncio.gather(*self.tasks)
        for speaker, listener in (self.devices, self.devices[::-1]):
            said = [text for who, text, frame in self.outcomes if who is speaker and frame["type"] == "accepted"]
            await listener.until(lambda: len(listener.texts()) >= len(said), "all that was accepted comes", 60)
            assert listener.texts() == said
        assert [device.closed for device in self.devices] == [None, None], "a connection was closed"
