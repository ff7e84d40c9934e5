"""Three nodes on a real Kafka, PostgreSQL and Redis, while all of them fail: nothing is lost, doubled, reordered or leaked."""

import asyncio
import os
import random
import signal
import time

import pytest

from harness.cluster import Cluster, Crowd, needed

FAULTS_S = float(os.environ.get("HEDDLE_E2E_FAULTS_S", "45"))
CLIENTS = int(os.environ.get("HEDDLE_E2E_FAULTS_CLIENTS", "16"))
SEED = int(os.environ.get("HEDDLE_E2E_SEED", "7"))
# Of the faults only these, by name.
ONLY = os.environ.get("HEDDLE_E2E_FAULTS_ONLY", "")
# A node that stands still for longer has lost its partitions.
FROZEN_S = 5


class Faults:
    """One fault after another, each healed before the next."""

    def __init__(self, cluster, rng):
        self.cluster, self.rng = cluster, rng
        self.done = []

    async def run(self, seconds):
        """Each kind once, then by chance, until the time is over."""
        kinds = [self.kill_a_node, self.freeze_a_node, self.kill_the_broker, self.freeze_the_broker, self.flush_redis,
                 self.kill_redis, self.stop_postgres, self.freeze_postgres, self.lose_messages_between_nodes]
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

    async def kill_a_node(self):
        node = self._node()
        self.cluster.up.discard(node)
        node.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(node.start)
        self.cluster.up.add(node)

    async def freeze_a_node(self):
        node = self._node()
        self.cluster.up.discard(node)
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(FROZEN_S)
        node.signal(signal.SIGCONT)
        self.cluster.up.add(node)

    async def kill_the_broker(self):
        self.cluster.kafka.kill()
        await asyncio.sleep(1)
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

    async def lose_messages_between_nodes(self):
        self.cluster.lose(True)
        await asyncio.sleep(3)
        self.cluster.lose(False)

    async def stop_postgres(self):
        await asyncio.to_thread(self.cluster.postgres.stop)
        await asyncio.sleep(4)
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
    crowd = Crowd(cluster, name, CLIENTS, SEED)
    faults = Faults(cluster, random.Random(SEED))
    await crowd.talk(faults.run(FAULTS_S))
    crowd.check_archive()
    with capsys.disabled():
        print(f"\n  {crowd.figures()}; {len(faults.done)} faults: {', '.join(faults.done)}")
