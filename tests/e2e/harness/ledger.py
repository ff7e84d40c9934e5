"""What was sent, accepted and delivered, and the check over it."""

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

    def check(self):
        """Every accepted message came, once, in order per sender."""
        assert self.missing() == 0
        ids = [m["message_id"] for m in self.receiver.messages]
        assert len(ids) == len(set(ids)), "a message came twice under two offsets"
        offsets = [m["offset"] for m in self.receiver.messages]
        assert offsets == sorted(set(offsets)), "offsets do not grow"
        for sender, texts in self.delivered().items():
            numbers = [int(text.rsplit("#", 1)[1]) for text in texts]
            assert numbers == sorted(set(numbers)), f"{sender}: out of order or twice"
            assert numbers == list(range(len(numbers))), f"{sender}: a hole"


class Sender:
    """Sends numbered messages with a window of unacknowledged ones, and goes on after each crash."""

    def __init__(self, server, user, to, ledger):
        self.device = Device(server, user)
        self.to, self.ledger, self.number = to, ledger, 0
        self.taken = 0

    async def connect(self):
        """Connects, and sends again what has no outcome."""
        await self.device.connect()

    async def flood(self):
        """Sends until it is cancelled or the connection ends."""
        while True:
            await self.device.until(lambda: self._collect() or len(self.device.pending) < WINDOW, "room", 30)
            text = f"{self.device.user}#{self.number}"
            self.number += 1
            await self.device.post(self.to, text, client_id=text)

    async def settle(self):
        """Waits until nothing is without an outcome."""
        await self.device.until(lambda: self._collect() or not self.device.pending, "all outcomes", 30)

    def _collect(self):
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
