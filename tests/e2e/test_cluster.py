"""Three nodes on a real Kafka, PostgreSQL and Redis, while all of them fail: nothing is lost, doubled, reordered or leaked."""

import asyncio
import os
import random
import signal
import time

import pytest

from harness.cluster import Cluster, needed
from harness.talk import Crowd
from harness.waiting import until_async

FAULTS_S = float(os.environ.get("HEDDLE_E2E_FAULTS_S", "45"))
CLIENTS = int(os.environ.get("HEDDLE_E2E_FAULTS_CLIENTS", "16"))
# So many, or three for each client.
CONVERSATIONS = int(os.environ.get("HEDDLE_E2E_FAULTS_CONVERSATIONS", "0")) or None
# How long the broker and the database are away, the first time.
OUTAGE_S = float(os.environ.get("HEDDLE_E2E_OUTAGE_S", "4"))
SEED = int(os.environ.get("HEDDLE_E2E_SEED", "7"))
# Of the faults only these, by name.
ONLY = os.environ.get("HEDDLE_E2E_FAULTS_ONLY", "")
# A node that stands still for longer has lost its partitions; and for longer than this all that it leases: its routes, its users' presence, its place
# among the nodes.
FROZEN_S, FORGOTTEN_S = 5, 12
# The longest that others take to take over from one that is dead.
TAKE_OVER_S = 60


class Faults:
    """One fault after another, each healed before the next."""

    def __init__(self, cluster, rng):
        self.cluster, self.rng = cluster, rng
        self.done = []
        self.takeovers = 0
        self.long = {self.kill_a_node.__name__: True, self.freeze_a_node.__name__: True}
        self.outages = {self.stop_the_broker.__name__: OUTAGE_S, self.stop_postgres.__name__: OUTAGE_S}

    async def run(self, seconds):
        """Each kind once, then by chance, until the time is over."""
        kinds = [self.kill_a_node, self.freeze_a_node, self.stop_the_broker, self.freeze_the_broker, self.flush_redis, self.kill_redis,
                 self.freeze_redis, self.stop_postgres, self.freeze_postgres, self.lose_messages_between_nodes]
        kinds = [kind for kind in kinds if not ONLY or kind.__name__ in ONLY.split(",")]
        end, turn = time.monotonic() + seconds, 0
        while time.monotonic() < end or turn < len(kinds):
            kind = kinds[turn] if turn < len(kinds) else self.rng.choice(kinds)
            turn += 1
            await kind()
            self.done.append(kind.__name__)
            await asyncio.sleep(1 + self.rng.random())

    def _node(self):
        return self.rng.choice(self.cluster.nodes)

    def _for_long(self, kind):
        """Every second time, the first included."""
        self.long[kind.__name__] = not self.long[kind.__name__]
        return not self.long[kind.__name__]

    async def kill_a_node(self):
        """For a moment, so that it comes back to its own partitions; or until others have them."""
        node = self._node()
        self.cluster.up.discard(node)
        node.kill()
        if self._for_long(self.kill_a_node):
            await self._taken_over(node)
        else:
            await asyncio.sleep(1)
        await asyncio.to_thread(node.start)
        self.cluster.up.add(node)

    async def freeze_a_node(self):
        """So that it loses its partitions; or everything that it leases."""
        node = self._node()
        self.cluster.up.discard(node)
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(FORGOTTEN_S if self._for_long(self.freeze_a_node) else FROZEN_S)
        node.signal(signal.SIGCONT)
        self.cluster.up.add(node)

    async def _taken_over(self, node):
        """The others work on all partitions."""
        others = [other for other in self.cluster.nodes if other is not node]
        every = 2 * self.cluster.common["kafka"]["partitions"]

        def all_of_them():
            return sum(other.metrics().get("heddle_partitions_owned", 0) for other in others) == every

        await until_async(lambda: asyncio.to_thread(all_of_them), "the others have all partitions", TAKE_OVER_S)
        self.takeovers += 1

    async def _away(self, kind, then_s):
        """For as long as it is said the first time, and for so long later."""
        await asyncio.sleep(self.outages.pop(kind.__name__, then_s))

    async def stop_the_broker(self):
        """By kill -9."""
        self.cluster.kafka.kill()
        await self._away(self.stop_the_broker, 1)
        await asyncio.to_thread(self.cluster.kafka.start)

    async def freeze_the_broker(self):
        self.cluster.kafka.pause()
        await asyncio.sleep(3)
        self.cluster.kafka.resume()

    async def flush_redis(self):
        await asyncio.to_thread(self.cluster.redis.ask, "FLUSHALL")

    async def kill_redis(self):
        self.cluster.redis.kill()
        await asyncio.sleep(2)
        await asyncio.to_thread(self.cluster.redis.start)

    async def freeze_redis(self):
        self.cluster.redis.freeze()
        await asyncio.sleep(3)
        self.cluster.redis.thaw()

    async def lose_messages_between_nodes(self):
        self.cluster.lose(True)
        await asyncio.sleep(3)
        self.cluster.lose(False)

    async def stop_postgres(self):
        await asyncio.to_thread(self.cluster.postgres.stop)
        await self._away(self.stop_postgres, 4)
        await asyncio.to_thread(self.cluster.postgres.start)

    async def freeze_postgres(self):
        self.cluster.postgres.pause()
        await asyncio.sleep(3)
        self.cluster.postgres.resume()


@pytest.fixture
def cluster(start):
    """Three nodes."""
    made = needed(lambda: Cluster(start))
    yield made
    made.end()


@pytest.mark.timeout(FAULTS_S + 900)
async def test_nothing_is_lost_doubled_reordered_or_leaked_while_everything_fails(cluster, name, capsys):
    crowd = Crowd(cluster, name, CLIENTS, SEED, CONVERSATIONS, restless=True)
    faults = Faults(cluster, random.Random(SEED))
    await crowd.talk(faults.run(FAULTS_S))
    await crowd.check()
    assert faults.takeovers or "kill_a_node" not in faults.done, "nobody took a dead node's partitions over"
    with capsys.disabled():
        print(f"\n  {crowd.figures()}; {faults.takeovers} takeovers, "
              f"{len(faults.done)} faults: {', '.join(faults.done)}")
