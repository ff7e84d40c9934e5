"""Twenty power cuts: the disk as it was, with torn pages where no fsync had returned."""

import asyncio
import os
import random
import statistics
import subprocess
import time

import pytest

from harness.device import Device
from harness.faults import Image, stopped, tear
from harness.needs import need
from harness.ledger import Ledger, Sender

ROUNDS = int(os.environ.get("HEDDLE_E2E_POWER_CUTS", "20"))


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_twenty_power_cuts_lose_nothing_that_was_accepted(start, name, tmp_path, capsys):
    need(Image.possible(), "mount loop images (needs root)")
    chance = random.Random(7)
    image = Image(tmp_path / "disk-0", tmp_path / "mount-0")
    image.__enter__()
    server = start(data=image.mount / "data", launch=False, config={"log": {"segment_bytes": "8 MiB"}})
    server.side = tmp_path
    server.start()
    bob = Device(server, name("bob"))
    ledger = Ledger(bob)
    senders = [Sender(server, f"{name('s')}-{i}", bob.user, ledger, mark="~") for i in range(3)]
    torn, pending, began = 0, [], time.monotonic()
    try:
        for number in range(1, ROUNDS + 1):
            await bob.connect()
            await asyncio.gather(*(s.connect() for s in senders))
            work = [asyncio.create_task(s.flood()) for s in senders]
            goal = len(ledger.accepted) + chance.randrange(20, 150)
            await ledger.until(lambda goal=goal: len(ledger.accepted) >= goal, "load")
            if chance.random() < 0.5 and bob.position:
                await bob.ack()
            stopped(server.pid)
            if number % 2:
                # As if the kernel had written everything back just before: then what no fsync covered is there too.
                subprocess.run(["sync", "-f", str(image.mount)], check=True)
            cut = image.copy(tmp_path / f"disk-{number}", tmp_path / f"mount-{number}")
            # What was on its way to the clients still counts as seen.
            await asyncio.sleep(0)
            await ledger.drain(senders)
            server.kill()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await asyncio.gather(*(d.abort() for d in [bob, *(s.device for s in senders)]))
            for sender in senders:
                sender.collect()
            pending.append(sum(len(s.device.pending) for s in senders))
            image.__exit__()
            image.path.unlink()
            image = cut
            image.__enter__()
            server.data = image.mount / "data"
            seen = ledger.accepted | {m["text"] for m in bob.messages}
            torn += tear(server.data / "log", seen, chance)
            server.start()
        await bob.connect()
        await asyncio.gather(*(s.connect() for s in senders))
        for sender in senders:
            await sender.settle()
        await ledger.until(lambda: ledger.missing() == 0, "everything accepted is delivered", 60)
        await bob.next("caught_up")
        ledger.check()
        await asyncio.gather(bob.leave(), *(s.device.leave() for s in senders))
    finally:
        server.kill()
        image.__exit__()
    assert torn > 0 or ROUNDS < 10, "no page was torn: the cuts came where nothing was being written"
    with capsys.disabled():
        print(
            f"\n  power cuts: {ROUNDS} in {time.monotonic() - began:.0f} s, {len(ledger.accepted)} accepted, torn pages "
            f"in {torn}; unacknowledged at the cut: median {statistics.median(pending)}"
        )
