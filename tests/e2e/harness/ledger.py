"""What was sent, accepted and delivered, and the check over it."""

import asyncio
from collections import defaultdict

from .device import Device
from .waiting import until_async

WINDOW = 40


class Ledger:
    """The books of one receiver."""

    def __init__(self, receiver):
        self.receiver = receiver
        self.accepted = set()

    async def until(self, condition, what, deadline_s=30):
        """Waits for a condition over the books."""
        await until_async(condition, what, deadline_s)

    def delivered(self):
        """Texts by sender, in order of arrival."""
        by_sender = defaultdict(list)
        for message in self.receiver.messages:
            by_sender[message["from"]].append(message["text"])
        return by_sender

    def missing(self):
        """How many accepted messages have not come."""
        come = {m["text"] for m in self.receiver.messages}
        return len(self.accepted - come)

    async def drain(self, senders):
        """Takes what is still in the sockets of a server that stands still: until nothing comes for a while."""
        def state():
            return len(self.receiver.messages), sum(len(s.device.outcomes) for s in senders)

        quiet, before = 0, state()
        while quiet < 5:
            await asyncio.sleep(0.02)
            now = state()
            quiet, before = (quiet + 1, now) if now == before else (0, now)

    def check(self):
        """Every accepted message came, once, in order per sender."""
        assert self.missing() == 0
        ids = [m["message_id"] for m in self.receiver.messages]
        assert len(ids) == len(set(ids)), "a message came twice under two offsets"
        offsets = [m["offset"] for m in self.receiver.messages]
        assert offsets == sorted(set(offsets)), "offsets do not grow"
        for sender, texts in self.delivered().items():
            numbers = [int(text.rsplit("#", 1)[1].rstrip("~")) for text in texts]
            assert numbers == sorted(set(numbers)), f"{sender}: out of order or twice"
            assert numbers == list(range(len(numbers))), f"{sender}: a hole"


class Sender:
    """Sends numbered messages with a window of unacknowledged ones, and goes on after each crash."""

    def __init__(self, server, user, to, ledger, mark=""):
        self.device = Device(server, user)
        self.to, self.group, self.ledger, self.number, self.mark = to, None, ledger, 0, mark
        self.stopped = False

    async def connect(self):
        """Connects, and sends again what has no outcome."""
        await self.device.connect()

    async def flood(self):
        """Sends until it is stopped or the connection ends. Cancelled, it may leave a message that was never sent."""
        while not self.stopped:
            await self.device.until(lambda: self.collect() or len(self.device.pending) < WINDOW, "room", 30)
            text = f"{self.device.user}#{self.number}{self.mark}"
            self.number += 1
            await self.device.post(self.to, text, group=self.group, client_id=text)

    async def settle(self):
        """Waits until nothing is without an outcome."""
        await self.device.until(lambda: self.collect() or not self.device.pending, "all outcomes", 30)

    def collect(self):
        """Enters the outcomes in the books."""
        device = self.device
        for client_id, outcome in list(device.outcomes.items()):
            if outcome["type"] == "accepted":
                self.ledger.accepted.add(client_id)
                del device.outcomes[client_id]
            else:
                assert outcome["code"] == "unavailable", outcome
        # The own copy settles a send too.
        for message in device.messages:
            if "client_id" in message:
                self.ledger.accepted.add(message["client_id"])
        device.messages.clear()
        device.inbox.clear()
        return False
