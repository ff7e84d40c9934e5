"""Three nodes on a real Kafka and PostgreSQL whose Redis is configured and was never there: everything arrives, nearly all of it soon."""

import asyncio
import os

import pytest

from harness.cluster import Cluster, needed
from harness.talk import Crowd

TALK_S = float(os.environ.get("HEDDLE_E2E_NO_REDIS_S", "8"))
CLIENTS = int(os.environ.get("HEDDLE_E2E_FAULTS_CLIENTS", "16"))
SEED = int(os.environ.get("HEDDLE_E2E_SEED", "7"))
# 99 of 100 messages are at their readers after so long.
SOON_S = 6


@pytest.fixture
def cluster(start):
    """Three nodes."""
    made = needed(lambda: Cluster(start, redis=False))
    yield made
    made.end()


@pytest.mark.timeout(TALK_S + 300)
async def test_without_redis_everything_arrives_and_99_of_100_within_six_seconds(cluster, name, capsys):
    crowd = Crowd(cluster, name, CLIENTS, SEED)
    await crowd.talk(asyncio.sleep(TALK_S))
    await crowd.check()
    delays_s = crowd.delays_s()
    p99_s = delays_s[int(len(delays_s) * 0.99)]
    with capsys.disabled():
        print(f"\n  {crowd.figures()}; to a reader: median {delays_s[len(delays_s) // 2]:.2f} s, p99 {p99_s:.2f} s")
    assert p99_s < SOON_S
