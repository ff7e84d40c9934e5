"""The broker stands still under load: every answer comes in time, memory stays bounded, and it mends by itself."""

import asyncio
import time

import pytest

from harness.device import Device
from harness.kafka import Kafka

MIB = 1 << 20
# Of each sender, without waiting for answers.
SENDS = 16
TEXT = "x" * 50_000
APPEND_S = 2


@pytest.mark.timeout(180)
async def test_a_broker_that_stands_still_under_load_costs_a_deadline_and_bounded_memory(start, name):
    broker = Kafka()
    try:
        server = start(config={"log": {"backend": "kafka"}, "kafka": broker.config(
            append_deadline=f"{APPEND_S} s", queue_max=64, queue_bytes_max="2 MiB", ids_max=2_048)})
        bob = name("bob")
        senders = [Device(server, name(f"s{number}"), auto_ack=True) for number in range(20)]
        async with Device(server, bob, auto_ack=True) as b:
            for sender in senders:
                await sender.connect()
                await sender.say(bob, "before")
            before = server.resident_bytes()
            broker.pause()
            try:
                slowest = await _load(senders)
                grown = server.resident_bytes() - before
            finally:
                broker.resume()
            # 16 MiB were sent, and 2 MiB may wait for the broker.
            assert grown < 120 * MIB, f"{grown / MIB:.0f} MiB"
            # One after the other, until the node notices that nobody knows what decides.
            assert slowest < 5 * APPEND_S + 5, f"{slowest:.1f} s until it was told"
            await asyncio.gather(*(_until_accepted(sender, bob) for sender in senders))
            await b.until(lambda: sum(text == "after" for text in b.texts()) == len(senders), "one of each, and no more", 60)
            ids = [message["message_id"] for message in b.messages]
            assert len(ids) == len(set(ids))
        for sender in senders:
            await sender.leave()
    finally:
        broker.end()


async def _load(senders):
    """Everybody sends, each text to somebody else, for what comes later in a conversation waits: nothing is accepted. The longest that an answer took."""
    began = time.monotonic()

    async def send(sender):
        sent = [await sender.post(f"to {sender.user} {n}", TEXT, client_id=f"{sender.user} {n}") for n in range(SENDS)]
        for client_id in sent:
            outcome = await sender.outcome(client_id, 60)
            assert outcome["type"] == "rejected" and outcome["code"] == "unavailable", outcome

    await asyncio.gather(*(send(sender) for sender in senders))
    return time.monotonic() - began


async def _until_accepted(sender, bob):
    """Sends again until it is accepted."""
    end = time.monotonic() + 60
    while True:
        outcome = await sender.outcome(await sender.post(bob, "after", client_id=f"{sender.user} after", resend=True), 30)
        if outcome["type"] == "accepted":
            return
        assert outcome["code"] == "unavailable" and time.monotonic() < end, outcome
        await asyncio.sleep(0.2)
