"""The log of three nodes is cut into more partitions, with clients on line: a pause, nothing lost, no position goes backwards."""

import asyncio
import json
import os
import signal
import subprocess
import time

import pytest

from harness.cluster import Cluster, needed
from harness.device import Device
from harness.operator import roll
from harness.server import binary, heddle
from harness.talk import Crowd
from harness.waiting import until

CLIENTS = 12
SEED = int(os.environ.get("HEDDLE_E2E_SEED", "7"))


@pytest.fixture
def cluster(start):
    """Three nodes whose log has 8 partitions."""
    made = needed(lambda: Cluster(start, kafka={"partitions": 8}))
    yield made
    made.end()


def partitions(server, *words):
    """`heddle log partitions`."""
    return heddle("log", "partitions", *map(str, words), "--data", server.data, "--output", "json", timeout_s=240)


def has(server, count):
    """That node works with so many partitions, and nothing is under way."""
    done = partitions(server)
    return done.returncode == 0 and json.loads(done.stdout) == {"partitions": count, "under_way": None}


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_a_log_is_cut_from_8_to_16_with_clients_on_line(cluster, name, capsys):
    one, two, three = cluster.nodes
    crowd = Crowd(cluster, name, CLIENTS, SEED)
    away = name("away")
    async with Device(two, away) as device:
        await device.ping()
    took, said = [], []

    async def cut():
        # Who is not there finds everything from before and after it in one stream.
        async with Device(one, name("writer")) as writer:
            for number in range(20):
                await writer.say(away, f"before {number}")
        await asyncio.sleep(3)
        began = time.monotonic()
        done = await asyncio.to_thread(partitions, one, 16)
        assert done.returncode == 0, done.stderr
        said.append(json.loads(done.stdout))
        for node in cluster.nodes:
            await asyncio.to_thread(until, lambda node=node: has(node, 16), "every node has 16 partitions", 60)
        took.append(time.monotonic() - began)
        async with Device(three, writer.user) as writer:
            for number in range(20):
                await writer.say(away, f"after {number}")
        await asyncio.sleep(3)

    await crowd.talk(cut())
    assert said == [{"partitions": 16, "under_way": None}]
    until(lambda: sum(node["partitions"] for node in roll(one).values()) == 32, "each partition has one owner", 30)
    await crowd.check()
    async with Device(two, away) as device:
        await device.next("caught_up")
        assert "gap" not in device.hello and not device.stale
        assert device.texts() == [f"before {n}" for n in range(20)] + [f"after {n}" for n in range(20)]
        offsets = [message["offset"] for message in device.messages]
        assert offsets == sorted(offsets)
    # What was accepted before the cut is known as what it was.
    early = min(crowd.books.accepted.values(), key=lambda frame: frame["order"])
    explained = one.admin_rest(one.ready["admin_token"]).get(f"/explain/{early['message_id']}").ok().json
    assert explained["order"] == early["order"]
    # A node that starts later takes the count from the store, whatever its configuration says.
    three.restart()
    assert has(three, 16)
    async with Device(three, name("late")) as late:
        await late.say(away, "at last")
    with capsys.disabled():
        print(f"\n  {crowd.figures()}; cut from 8 to 16 partitions in {took[0]:.0f} s")


async def test_a_cut_goes_on_when_the_node_that_was_asked_dies_and_one_stands_still(cluster, name):
    one, two, three = cluster.nodes
    alice, bob = name("alice"), name("bob")
    async with Device(two, alice) as a:
        first = await a.say(bob, "first", client_id="c1")
        asked = subprocess.Popen([binary(), "log", "partitions", "12", "--data", one.data], stderr=subprocess.DEVNULL)
        await asyncio.to_thread(until, lambda: '"under_way":12' in partitions(two).stdout, "the others know", 30)
        one.kill()
        asked.kill()
        asked.wait()
        three.signal(signal.SIGSTOP)
        try:
            await asyncio.to_thread(until, lambda: has(two, 12), "the log is cut", 60)
        finally:
            three.signal(signal.SIGCONT)
        await asyncio.to_thread(until, lambda: has(three, 12), "who stood still knows", 60)
        one.start()
        assert has(one, 12)
    async with Device(three, alice) as a, Device(one, bob) as b:
        # Sent again, it is what it was; and what is new stands behind it.
        again = await a.say(bob, "first", client_id="c1", resend=True)
        assert {key: again[key] for key in ("message_id", "order", "sent_at")} == {key: first[key] for key in ("message_id", "order", "sent_at")}
        second = await a.say(bob, "second")
        assert second["order"] > first["order"]
        await b.next("new_message", text="second")
        assert b.texts() == ["first", "second"]


def test_what_cannot_be_is_refused_in_words(cluster, start):
    one = cluster.nodes[0]
    for wanted, said in ((8, "which can become more"), (4, "which can become more"), (5000, "at most 1024")):
        done = partitions(one, wanted)
        assert done.returncode == 1 and said in done.stderr and f"{wanted} partitions" in done.stderr, done.stderr
    alone = start()
    done = partitions(alone, 32)
    assert done.returncode == 1 and "only a log on Kafka" in done.stderr, done.stderr
    assert json.loads(partitions(alone).stdout) == {"partitions": 16, "under_way": None}
    assert heddle("log", "partitions", "--data", one.data).stdout == "the log has 8 partitions\n"
