"""Three nodes are restarted one after another while people talk: nobody is cut off, nobody comes in a crowd, nothing is lost or comes twice."""

import asyncio
import os
import time

import pytest

from harness.cluster import Cluster, needed
from harness.talk import Crowd
from harness.waiting import until_async

CLIENTS = int(os.environ.get("HEDDLE_E2E_ROLLING_CLIENTS", "120"))
CONVERSATIONS = 40
SEED = int(os.environ.get("HEDDLE_E2E_SEED", "7"))
# A drain spreads its closes over so long, and tells each client to stay away for up to so long.
PACE_S = DELAY_S = 2
# Of those who were at a node, this part at most comes to one other node within a second. A fifth is what it comes to, and as the places are dealt by
# chance some more.
AT_ONCE = 0.5


@pytest.fixture
def cluster(start):
    """Three nodes."""
    more = {"drain_pace": f"{PACE_S} s", "drain_reconnect_delay": f"{DELAY_S} s"}
    made = needed(lambda: Cluster(start, gateway=more))
    yield made
    made.end()


class Restarts:
    """One node after another, each when everybody is somewhere."""

    def __init__(self, cluster, crowd):
        self.cluster, self.crowd, self.began = cluster, crowd, {}

    async def run(self):
        for node in self.cluster.nodes:
            await until_async(self._everybody, "everybody is connected", 60)
            self.cluster.up.discard(node)
            self.began[node] = time.monotonic()
            assert await asyncio.to_thread(node.stop) == 0
            # Whoever was the last to be sent away had waited for that.
            away = sum(any(of is node for _, of, _ in client.closes) for client in self.crowd.everybody)
            took = time.monotonic() - self.began[node]
            assert took >= 0.9 * PACE_S * (away - 1) / away, f"{away} clients were sent away within {took:.2f} s"
            await asyncio.to_thread(node.start)
            self.cluster.up.add(node)

    async def _everybody(self):
        connected = await asyncio.to_thread(lambda: sum(node.metrics().get("heddle_gateway_connections", 0) for node in self.cluster.nodes))
        return connected >= len(self.crowd.everybody)


@pytest.mark.heavy
@pytest.mark.timeout(400)
async def test_a_rolling_restart_spreads_those_who_come_back_and_loses_nothing(cluster, name, capsys):
    crowd = Crowd(cluster, name, CLIENTS, SEED, CONVERSATIONS)
    restarts = Restarts(cluster, crowd)
    await crowd.talk(restarts.run())
    busiest = 0
    for node in cluster.nodes:
        sent_away = sorted((at, delay_s, client) for client in crowd.everybody for at, of, delay_s in client.closes if of is node)
        count = len(sent_away)
        assert count > CLIENTS // 8, f"only {count} were at {node.config['node']['id']}"
        comes = {}
        for place, (at, delay_s, client) in enumerate(sent_away):
            # Nobody is sent away before its turn; a connection that was just ending counts among the turns. A busy machine makes this later, never
            # earlier.
            turn_s = PACE_S * place / count
            assert at - restarts.began[node] >= 0.9 * turn_s, f"{client.user} was {place} of {count}, and went after {at - restarts.began[node]:.2f} s"
            comes.setdefault(client.went[node], []).append(turn_s + delay_s)
        # By what the node said, and not by when a busy machine got to it.
        for moments in comes.values():
            most = max(sum(moment <= other < moment + 1 for other in moments) for moment in moments)
            busiest = max(busiest, most / count)
            assert most <= AT_ONCE * count, f"{most} of the {count} who were sent away come to one node within a second"
    delays = [delay_s for client in crowd.everybody for _, _, delay_s in client.closes]
    assert 0 <= min(delays) and max(delays) <= DELAY_S and len({int(4 * delay_s / DELAY_S) for delay_s in delays}) >= 4, sorted(delays)
    # Each could go on where it was; that it did so whole, and got nothing twice, says the checker.
    assert all(all(client.resumed) for client in crowd.everybody)
    await crowd.check()
    with capsys.disabled():
        print(f"\n  {crowd.figures()}; {len(delays)} clients sent away by three nodes, at most {busiest:.0%} of a node's to one other within a second")
