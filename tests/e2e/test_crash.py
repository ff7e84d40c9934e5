"""kill -9 under load, fifty times: what was accepted is delivered, in order, once; in a group too, and receipts come to where they were."""

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
    bob, carol = Device(server, name("bob")), Device(server, name("carol"))
    ledger, of_group = Ledger(bob), Ledger(carol)
    senders = [Sender(server, f"{name('s')}-{i}", bob.user, ledger) for i in range(3)]
    # Two more write to a group of four, which carol reads: in between stand the workers' expansions.
    writers = [Sender(server, f"{name('g')}-{i}", None, of_group) for i in range(2)]
    group = server.rest(carol.user).group("under fire", [bob.user, *(w.device.user for w in writers)])
    for writer in writers:
        writer.group = group
    senders += writers
    pending, began = [], time.monotonic()
    for _ in range(ROUNDS):
        await bob.connect()
        await carol.connect()
        await asyncio.gather(*(s.connect() for s in senders))
        work = [asyncio.create_task(s.flood()) for s in senders]
        goal = len(ledger.accepted) + chance.randrange(30, 300)
        await ledger.until(lambda goal=goal: len(ledger.accepted) >= goal, "load")
        for device in (bob, carol):
            if chance.random() < 0.5 and device.position:
                await device.ack()
        server.kill()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await asyncio.gather(*(d.abort() for d in [bob, carol, *(s.device for s in senders)]))
        pending.append(sum(len(s.device.pending) for s in senders))
        server.start()
    await bob.connect()
    await carol.connect()
    await asyncio.gather(*(s.connect() for s in senders))
    for sender in senders:
        await sender.settle()
    at_bob = Ledger(bob)
    at_bob.accepted = of_group.accepted
    all_of_them = (ledger, of_group, at_bob)
    await ledger.until(lambda: not sum(it.missing() for it in all_of_them), "everything accepted is delivered", 60)
    for device in (bob, carol):
        await device.next("caught_up")
    # Bob is in the group as well, and has each of its messages once, in the order in which carol has them.
    texts = [m["text"] for m in bob.messages if "group" in m]
    bob.messages = [m for m in bob.messages if "group" not in m]
    assert len(texts) == len(set(texts)) and of_group.accepted <= set(texts)
    assert texts == [m["text"] for m in carol.messages]
    ledger.check()
    of_group.check()
    # A receipt ends at the reader's last message, whatever was lost on the way: the archive says so of each.
    for device in (bob, carol):
        await device.ack()
    for sender, reader in [(s, bob) for s in senders[:3]] + [(w, carol) for w in writers]:
        mine = [m for m in reader.messages if m["from"] == sender.device.user]
        conversation = f"group:{group}" if sender.group else f"user:{bob.user}"

        def ticked(sender=sender, last=mine[-1], conversation=conversation):
            page = server.rest(sender.device.user).history(conversation, limit=100)["messages"]
            status = {m["message_id"]: m["status"] for m in page if m["from"] == sender.device.user}
            assert set(status.values()) <= {"sent", "delivered"}, status
            return status[last["message_id"]] == "delivered"

        await ledger.until(ticked, f"{sender.device.user} sees that all was delivered", 30)
    with capsys.disabled():
        print(
            f"\n  kill -9: {ROUNDS} rounds in {time.monotonic() - began:.0f} s, {len(ledger.accepted)} accepted "
            f"and {len(of_group.accepted)} in a group, "
            f"unacknowledged at the kill: median {statistics.median(pending)}, {min(pending)} to {max(pending)}; "
            f"{len(bob.stale)} events came twice, all at offsets seen before"
        )
    assert statistics.median(pending) > 0
    await asyncio.gather(bob.leave(), carol.leave(), *(s.device.leave() for s in senders))


def test_heddle_is_the_process_that_was_killed(start):
    """The harness kills the server itself, not a shell around it."""
    server = start()
    assert "heddle" in os.readlink(f"/proc/{server.pid}/exe")
