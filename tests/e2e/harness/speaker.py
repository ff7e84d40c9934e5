"""A client that says one thing after another, whatever happens to its node."""

import asyncio
import time

from websockets.exceptions import WebSocketException

from .device import Closed, Device
from .waiting import NotInTime


class Speaker:
    """Sends at one node, one message after another, until each is accepted, whatever happens to the node; with a `group`, every second to that.
    `history`: where what it meets is recorded, if it is."""

    def __init__(self, node, user, to, group=None):
        self.node, self.user, self.to, self.group = node, user, to, group
        self.history = None
        # (client_id, message_id, generation, when it was sent first)
        self.accepted, self.done = [], False
        self.first = None

    @property
    def client_id(self):
        return f"{self.user}-{len(self.accepted) + 1}"

    async def run(self):
        """Until `done`, and what is under way is accepted."""
        while not self.done or self.first:
            try:
                device = Device(self.node, self.user)
                device.history = self.history
                async with device:
                    while not self.done or self.first:
                        await self._send(device)
            except (Closed, NotInTime, OSError, WebSocketException):
                await asyncio.sleep(0.2)

    async def _send(self, device):
        again = {"resend": True} if self.first else {}
        self.first = self.first or time.monotonic()
        group = self.group if len(self.accepted) % 2 else None
        await device.post(self.to, self.client_id, group=group, client_id=self.client_id, **again)
        outcome = await device.outcome(self.client_id, 20)
        if outcome["type"] != "accepted":
            assert outcome["code"] == "unavailable", outcome
            await asyncio.sleep(0.2)
            return
        # Whether this try was decided or an earlier one, none was before the first.
        self.accepted.append((self.client_id, outcome["message_id"], outcome["generation"], self.first))
        self.first = None
        await asyncio.sleep(0.02)
