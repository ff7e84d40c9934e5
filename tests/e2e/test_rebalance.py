"""Partitions change hands again and again under traffic, whichever way a node comes or goes: nobody misses anything."""

import asyncio
import os
import signal
import time

import pytest

from harness.cluster import Cluster, needed
from harness.questions import Broker
from harness.talk import Crowd
from harness.waiting import until_async

# So many must be; without the variable, what fits in the short time, of each way at least one.
WANTED = os.environ.get("HEDDLE_E2E_REBALANCES")
REBALANCES = int(WANTED or "50")
REBALANCES_S = float(os.environ.get("HEDDLE_E2E_REBALANCES_S", "20"))
CLIENTS = 8
SEED = int(os.environ.get("HEDDLE_E2E_SEED", "7"))
PARTITIONS = 12


class Hands:
    """Who holds which partition, by the broker's word, and how often that changed."""

    def __init__(self, cluster):
        self.broker = Broker(cluster.kafka, cluster.prefix)
        self.held, self.count, self.moved = {}, 0, 0

    async def until_with(self, names):
        """Waits until all partitions are shared among exactly these nodes, and counts it, if any partition has another node than before."""
        def settled():
            now = self.broker.shares()
            return now if now and len(now) == PARTITIONS and set(now.values()) == names else None

        now = await until_async(lambda: asyncio.to_thread(settled), f"the partitions are shared among {sorted(names)}", 60)
        moved = sum(self.held.get(place) != node for place, node in now.items())
        if self.held and moved:
            self.count, self.moved = self.count + 1, self.moved + moved
        self.held = now


class Comings:
    """A node that only works comes and goes; one that serves clients stands still for a while."""

    def __init__(self, cluster):
        self.cluster, self.hands, self.done = cluster, Hands(cluster), []
        self.three = {node.config["node"]["id"] for node in cluster.nodes}
        self.guest = cluster.node("w1", launch=False, node={"roles": ["worker"]})

    async def run(self):
        """One change after another, until there were enough or the time is over; whatever stood still goes on."""
        await self.hands.until_with(self.three)
        end, turn = time.monotonic() + REBALANCES_S, 0
        ways = [self._in_order, self._killed, self._frozen, self._node_frozen]
        while self.hands.count < REBALANCES and (time.monotonic() < end or turn < len(ways)):
            await ways[turn % len(ways)]()
            self.done.append(ways[turn % len(ways)].__name__.strip("_"))
            turn += 1

    async def _comes(self):
        await asyncio.to_thread(self.guest.start)
        await self.hands.until_with(self.three | {"w1"})
        await asyncio.sleep(0.3)

    async def _in_order(self):
        await self._comes()
        assert await asyncio.to_thread(self.guest.stop) == 0
        await self.hands.until_with(self.three)

    async def _killed(self):
        await self._comes()
        self.guest.kill()
        await self.hands.until_with(self.three)

    async def _frozen(self):
        await self._comes()
        self.guest.signal(signal.SIGSTOP)
        try:
            await self.hands.until_with(self.three)
        finally:
            # It still believes that it works on them.
            self.guest.signal(signal.SIGCONT)
        await self.hands.until_with(self.three | {"w1"})
        await asyncio.sleep(0.3)
        assert await asyncio.to_thread(self.guest.stop) == 0
        await self.hands.until_with(self.three)

    async def _node_frozen(self):
        node = self.cluster.nodes[len(self.done) // 4 % 3]
        self.cluster.up.discard(node)
        node.signal(signal.SIGSTOP)
        try:
            await self.hands.until_with(self.three - {node.config["node"]["id"]})
        finally:
            node.signal(signal.SIGCONT)
        self.cluster.up.add(node)
        await self.hands.until_with(self.three)


@pytest.fixture
def cluster(start):
    """Three nodes, of whom the group of workers forgets one that is silent for a second."""
    made = needed(lambda: Cluster(start, kafka={"session_timeout": "1 s"}))
    yield made
    made.end()


@pytest.mark.heavy
@pytest.mark.timeout(REBALANCES_S + 900)
async def test_partitions_change_hands_under_traffic_and_everything_arrives_once_and_in_order(cluster, name, capsys):
    crowd = Crowd(cluster, name, CLIENTS, SEED)
    comings = Comings(cluster)
    began = time.monotonic()
    await crowd.talk(comings.run())
    took = time.monotonic() - began
    await crowd.check()
    assert comings.hands.count >= (REBALANCES if WANTED else 6), f"only {comings.hands.count} rebalances in {took:.0f} s"
    with capsys.disabled():
        print(f"\n  {comings.hands.count} rebalances in {took:.0f} s, {comings.hands.moved} partitions moved; {crowd.figures()}; "
              f"a node {', '.join(comings.done)}")
