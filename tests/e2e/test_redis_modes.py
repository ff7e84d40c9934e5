"""Three nodes on a real Kafka and PostgreSQL, and on Redis with Sentinel or on a Redis Cluster, of which servers die, stand still, forget, and give
their slots away: nothing is lost, doubled or reordered, nobody is disconnected, and who types and who is there is seen again soon."""

import asyncio
import os
import random

import pytest

from harness.cluster import Cluster
from harness.device import Device
from harness.onlookers import Onlookers, five_connections
from harness.operator import changed
from harness.policies import fixture
from harness.redis_modes import RedisCluster, Sentinels
from harness.talk import Crowd
from harness.waiting import until_async

# So many times each fault, one after the other.
ROUNDS = int(os.environ.get("HEDDLE_E2E_MODES_ROUNDS", "1"))
CLIENTS = int(os.environ.get("HEDDLE_E2E_MODES_CLIENTS", "8"))
SEED = int(os.environ.get("HEDDLE_E2E_SEED", "7"))
# Far more than it takes for servers to choose another primary, and for nodes to hear of each other.
SOON_S = 60
# As the fixture `tally` has it: so many messages of a user, ever, at all nodes together.
MESSAGES = 20
# Of the slots around that of everybody's channel, so many move.
SLOTS = 200


class Faults:
    """One after another; after each, and while those last who can, everybody must see the others right."""

    def __init__(self, redis, onlookers):
        self.redis, self.onlookers = redis, onlookers
        self.done = []

    async def run(self):
        """Each, so many times."""
        for _ in range(ROUNDS):
            for kind in self.kinds():
                await kind()
                await self.onlookers.see(SOON_S)
                self.done.append(f"{kind.__name__} {self.onlookers.took_s[-1]:.1f} s")

    async def _without(self, server, frozen):
        """A primary is dead, or stands still: others take its place, and all is right without it, before it comes back."""
        server.freeze() if frozen else server.kill()
        await until_async(lambda: asyncio.to_thread(self.replaced, server), "a replica is promoted", SOON_S)
        await self.onlookers.see(SOON_S)
        if frozen:
            server.thaw()
        else:
            await asyncio.to_thread(self.back, server)
        await asyncio.to_thread(self.redis.follow)

    async def flush(self):
        """One primary forgets everything."""
        await asyncio.to_thread(self.primary().ask, "FLUSHALL")

    async def kill(self):
        await self._without(self.primary(), False)

    async def freeze(self):
        """For longer than any deadline."""
        await self._without(self.primary(), True)


class OfSentinels(Faults):
    """Of the one primary."""

    def kinds(self):
        return self.flush, self.kill, self.freeze

    def primary(self):
        return self.redis.primary()

    def replaced(self, server):
        return self.redis.primary() not in (None, server)

    def back(self, server):
        self.redis.back(server)


class OfCluster(Faults):
    """Of the one that matters most, or of any."""

    rng = random.Random(SEED)
    victims = ()

    def kinds(self):
        return self.move, self.flush, self.freeze, self.kill

    def primary(self):
        """First who carries what is for everybody, then each other."""
        if not self.victims:
            first = self.redis.owner("heddle:bus")
            self.victims = [*(server for server in self.redis.primaries() if server is not first), first]
        return self.victims.pop()

    def replaced(self, server):
        primaries = self.redis.primaries()
        return server not in primaries and sum(map(len, primaries.values())) == 16_384

    def back(self, server):
        server.start()

    async def move(self):
        """A range of slots with everybody's channel, and the channels and leases of nodes and the routes of the onlookers."""
        first = max(0, self.redis.slot("heddle:bus") - SLOTS // 2)
        names = [f"heddle:{kind}:{node.config['node']['id']}" for node in self.onlookers.nodes for kind in ("bus", "node")]
        names += ["heddle:nodes", *(f"heddle:user:{device.user}" for device in self.onlookers.devices)]
        slots = {*range(first, first + SLOTS), *map(self.redis.slot, names)}
        await asyncio.to_thread(self.redis.move, sorted(slots))


@pytest.fixture(params=[(Sentinels, OfSentinels), (RedisCluster, OfCluster)], ids=["sentinel", "cluster"])
def ground(request, start, kafka, postgres):
    """Three nodes, and the faults of what they find each other by."""
    make, faults = request.param
    redis = make()
    cluster = Cluster(start, redis=redis, broker=kafka, server=postgres)
    yield cluster, faults
    cluster.end()


@pytest.mark.heavy
@pytest.mark.timeout(300 + 300 * ROUNDS)
async def test_nodes_find_each_other_and_lose_nothing_while_servers_of_redis_come_and_go(ground, name, capsys):
    cluster, make = ground
    async with Onlookers(cluster.nodes, name) as onlookers:
        await onlookers.see(SOON_S)
        await onlookers.talk()
        await five_connections(cluster.nodes, name("everywhere"))
        crowd, faults = Crowd(cluster, name, CLIENTS, SEED), make(cluster.redis, onlookers)
        await crowd.talk(faults.run())
        await crowd.check()
        assert [trouble for client in crowd.everybody for trouble in client.thrown_out] == []
        await onlookers.talk()
        await five_connections(cluster.nodes, name("everywhere again"))
        await _one_limit(cluster, name)
        await onlookers.see(SOON_S)
    with capsys.disabled():
        print(f"\n  {crowd.figures()}; to a reader at most {crowd.delays_s()[-1]:.1f} s; right again after {', '.join(faults.done)}")


async def _one_limit(cluster, name):
    """What a user says at three nodes counts together. Where Redis is late for once a node decides alone, and says so: another user tries again."""
    changed(cluster.nodes[0], "deploy", fixture("tally"), "-m", "so many messages of each")
    for attempt in range(20):
        alone = _counted(cluster, "away")
        devices = [Device(node, name(f"talker{attempt}"), f"d{number}", auto_ack=True) for number, node in enumerate(cluster.nodes)]
        for device in devices:
            await device.connect()
        passed = 0
        for number in range(3 * MESSAGES):
            outcome = await devices[number % 3].outcome(await devices[number % 3].post(name("listener"), "hello"))
            passed += outcome["type"] == "accepted"
        for device in devices:
            await device.leave()
        assert _counted(cluster, "shared") > 0
        if _counted(cluster, "away") == alone:
            assert passed == MESSAGES
            return
    raise AssertionError("Redis was late each time")


def _counted(cluster, outcome):
    return sum(node.metrics().get(f'heddle_rate_shared_total{{outcome="{outcome}"}}', 0) for node in cluster.nodes)
