"""kill -9 under load, fifty times: what was accepted is delivered, in order, once."""

import asyncio
import os
import random
import statistics
import time

import pytest

from harness.device import Device
from harness.ledger import Ledger, Sender

ROUNDS = int(os.environ.get("HEDDLE_E2E_KILLS", "50"))


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_kill_9_under_load_loses_nothing_doubles_nothing_and_keeps_each_senders_order(start, name, capsys):
    server = start()
    chance = random.Random(20)
    bob = Device(server, name("bob"))
    ledger = Ledger(bob)
    senders = [Sender(server, f"{name('s')}-{i}", bob.user, ledger) for i in range(3)]
    pending, began = [], time.monotonic()
    for _ in range(ROUNDS):
        await bob.connect()
        await asyncio.gather(*(s.connect() for s in senders))
        work = [asyncio.create_task(s.flood()) for s in senders]
        goal = len(ledger.accepted) + chance.randrange(30, 300)
        await ledger.until(lambda goal=goal: len(ledger.accepted) >= goal, "load")
        if chance.random() < 0.5 and bob.position:
            await bob.ack()
        server.kill()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await asyncio.gather(*(d.abort() for d in [bob, *(s.device for s in senders)]))
        pending.append(sum(len(s.device.pending) for s in senders))
        server.start()
    await bob.connect()
    await asyncio.gather(*(s.connect() for s in senders))
    for sender in senders:
        await sender.settle()
    await ledger.until(lambda: ledger.missing() == 0, "everything accepted is delivered", 60)
    await bob.next("caught_up")
    ledger.check()
    with capsys.disabled():
        print(
            f"\n  kill -9: {ROUNDS} rounds in {time.monotonic() - began:.0f} s, {len(ledger.accepted)} accepted, "
            f"unacknowledged at the kill: median {statistics.median(pending)}, {min(pending)} to {max(pending)}; "
            f"{len(bob.stale)} events came twice, all at offsets seen before"
        )
    assert statistics.median(pending) > 0
    await asyncio.gather(bob.leave(), *(s.device.leave() for s in senders))


def test_heddle_is_the_process_that_was_killed(start):
    """The harness kills the server itself, not a shell around it."""
    server = start()
    assert "heddle" in os.readlink(f"/proc/{server.pid}/exe")
