"""Nodes that are cut off in one direction only, each in a network namespace of its own: nothing is lost, doubled, reordered or leaked.

`make faults` runs it; it is no part of the other tests, for it needs root and makes interfaces.
"""

import asyncio
import os
import random
import socket

import pytest

from harness.cluster import Cluster, needed
from harness.needs import missing
from harness.settings import merged
from harness.talk import Crowd
from harness.waiting import until
from harness.wires import Missing, Wires

CUTS = int(os.environ.get("HEDDLE_E2E_CUTS", "9"))
CLIENTS = 12
SEED = int(os.environ.get("HEDDLE_E2E_SEED", "7"))
# Longer than a node's lease, its session in the group of workers, and what it may not know of control.
CUT_S = 12


class Apart(Cluster):
    """Three nodes, each at the end of a wire."""

    def __init__(self, start, wires):
        self.made, self.wires = wires, {}
        super().__init__(start, host=wires.host)

    def node(self, name, launch=True, **more):
        """One in a namespace of its own, which reaches Redis without a proxy."""
        self.wires[name] = wire = self.made.wire()
        listen = {"listen": f"{wire.address}:0"}
        own = {"node": {"id": name}, "registry": {"url": self.redis.url}, "gateway": listen, "admin": listen}
        return self._start(config=merged(self.common, merged(own, more)), launch=launch, wrapper=wire.wrapper)


@pytest.fixture
def wires():
    """Removed whatever happens."""
    try:
        made = Wires()
    except Missing as why:
        missing(str(why))
    yield made
    made.end()


@pytest.fixture
def cluster(start, wires):
    """Three nodes apart."""
    made = needed(lambda: Apart(start, wires))
    yield made
    made.end()


@pytest.mark.timeout(CUTS * 30 + 600)
async def test_nothing_is_lost_while_nodes_are_cut_off_in_one_direction(cluster, name, capsys):
    rng = random.Random(SEED)
    crowd = Crowd(cluster, name, CLIENTS, SEED)
    done = []

    async def cut():
        ways = ["cut_out", "cut_in", "both"]
        for turn in range(CUTS):
            node, way = rng.choice(cluster.nodes), ways[turn % len(ways)]
            wire = cluster.wires[node.config["node"]["id"]]
            cluster.up.discard(node)
            for direction in ("cut_out", "cut_in") if way == "both" else (way,):
                getattr(wire, direction)()
            await asyncio.sleep(CUT_S)
            if way == "cut_out":
                # It can be asked, and cannot ask.
                assert (await asyncio.to_thread(node.metrics))["heddle_control_known"] == 0
            else:
                with pytest.raises(OSError):
                    socket.create_connection(tuple(node.client.split(":")), timeout=1)
            wire.mend()
            known = lambda node=node: node.metrics().get("heddle_control_known") == 1  # noqa: E731
            await asyncio.to_thread(until, known, f"{node.config['node']['id']} knows what decides", 60)
            cluster.up.add(node)
            done.append(way)
            await asyncio.sleep(3 + rng.random())

    await crowd.talk(cut())
    await crowd.check()
    with capsys.disabled():
        print(f"\n  {crowd.figures()}; {len(done)} cuts of {CUT_S} s: {', '.join(done)}")
