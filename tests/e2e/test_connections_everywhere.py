"""Connections are counted over all nodes: by user, and by address."""

import pytest
from websockets.exceptions import InvalidStatus

from harness.device import Closed, Device
from harness.redis import Redis
from harness.waiting import until_async

LONG_S = 60


@pytest.fixture
def two(kafka, postgres, start):
    """Two nodes over one Redis; clients come through a proxy that says from where."""
    with Redis() as redis:
        common = {
            "log": {"backend": "kafka"}, "kafka": kafka.config(),
            "store": {"backend": "postgres", "url": postgres.url(postgres.database()), "deadline": "1 s"},
            "registry": {"backend": "redis", "url": redis.url, "lease": "3 s"}, "presence": {"node_lease": "3 s"},
            "gateway": {"loopback_exempt": False, "trusted_proxies": ["127.0.0.1/32"]},
        }
        yield [start(config={**common, "node": {"id": f"n{number}"}}) for number in (1, 2)]


async def _hears(server, connections):
    """It knows so many connections of the other."""
    told = lambda: server.metrics().get("heddle_presence_remote_connections") == connections  # noqa: E731
    await until_async(told, f"{connections} connections of the other node", LONG_S)


async def _let_in(device):
    """Connects, if it may."""
    try:
        await device.connect()
    except (Closed, InvalidStatus):
        return False
    return True


async def _refused(server, user, **more):
    """A device more is closed with 4403."""
    device = Device(server, user, "one-more", **more)
    await device.open()
    await device.frame({"type": "hello", "device": "one-more"})
    assert await device.close_code() == 4403


async def test_the_sixth_connection_of_a_user_is_refused_at_whichever_node(two, name):
    one, other = two
    alice = name("alice")
    devices = [Device(one if number < 3 else other, alice, f"d{number}") for number in range(5)]
    for device in devices:
        await device.connect()
    await _hears(one, 2)
    await _hears(other, 3)
    for server in two:
        await _refused(server, alice)
    # Whoever changes the node takes the own place.
    moved = Device(other, alice, "d0")
    await moved.connect()
    assert await devices[0].close_code() == 4509
    await devices[1].leave()
    free = Device(other, alice, "d5")
    await until_async(lambda: _let_in(free), "the place that became free at the other node", LONG_S)
    for device in (moved, free, *devices[2:]):
        await device.ping()
        await device.leave()


async def test_connections_from_one_address_are_counted_over_all_nodes(two, name):
    one, other = two
    here, elsewhere = ({"X-Forwarded-For": f"203.0.113.{number}"} for number in (7, 8))
    devices = [Device(two[number % 2], name(f"u{number}"), headers=here) for number in range(10)]
    for device in devices:
        await device.connect()
    for server in two:
        await _hears(server, 5)
        with pytest.raises(InvalidStatus) as refused:
            await Device(server, name("eleventh"), headers=here).open()
        assert refused.value.response.status_code == 429
        async with Device(server, name("somewhere"), headers=elsewhere) as device:
            await device.ping()
    # A node that is silent counts for nothing.
    other.kill()
    await _hears(one, 0)
    async with Device(one, name("twelfth"), headers=here) as device:
        await device.ping()
    for device in devices[::2]:
        await device.leave()
