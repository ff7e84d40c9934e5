"""Every third message between nodes is lost while later ones arrive: chats do not notice, and who looks at presence sees it a little later."""

import asyncio
import os

import pytest

from harness.cluster import Cluster, needed
from harness.device import Device
from harness.lossy import Frames, frame_end
from harness.talk import Crowd
from harness.waiting import until, until_async

LOSSY_S = float(os.environ.get("HEDDLE_E2E_LOSSY_S", "8"))
SEED = int(os.environ.get("HEDDLE_E2E_SEED", "7"))
# For the slowest on a busy machine.
ARRIVES_S = 30


@pytest.fixture
def cluster(start):
    """Three nodes, each with a proxy before Redis that loses messages."""
    made = needed(lambda: Cluster(start))
    made.lose(True)
    yield made
    made.end()


def test_the_proxy_cuts_frames_wherever_pieces_end():
    stream = (b"+OK\r\n:12\r\n$-1\r\n$4\r\na\r\nb\r\n*0\r\n*2\r\n*1\r\n$1\r\nx\r\n_\r\n%1\r\n+k\r\n~1\r\n#t\r\n"
              b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n|1\r\n+a\r\n+b\r\n+behind\r\n")
    whole, at = [], 0
    while at < len(stream):
        end = frame_end(stream, at)
        whole.append(stream[at:end])
        at = end
    assert len(whole) == 9 and b"".join(whole) == stream
    for size in (1, 2, 7, 1000):
        met = []
        frames = Frames(lambda frame, met=met: met.append(frame) or not frame.startswith(b">"))
        passed = b"".join(frames.take(stream[at : at + size]) for at in range(0, len(stream), size))
        assert met == whole and passed == b"".join(frame for frame in whole if not frame.startswith(b">"))


@pytest.mark.heavy
@pytest.mark.timeout(LOSSY_S + 600)
async def test_everything_arrives_in_order_and_soon_while_every_third_bus_message_is_lost(cluster, name, capsys):
    crowd = Crowd(cluster, name, 9, SEED)
    await crowd.talk(asyncio.sleep(LOSSY_S))
    await crowd.check()
    await _sees_right(*cluster.nodes[:2], name)
    delays = crowd.delays_s()
    # Chats reach every node over the topics; on the bus are typing, presence, and whose device has moved.
    lost, seen = (sum(getattr(proxy, what) for proxy in cluster.proxies) for what in ("lost", "seen"))
    assert lost >= seen // 3 - 3 > 0, "messages between nodes were lost"
    for node in cluster.nodes:
        until(lambda node=node: node.metrics().get("heddle_bus_lost_total", 0) > 0, "the node knows that it missed some")
    with capsys.disabled():
        at = [delays[int(len(delays) * part)] * 1000 for part in (0.5, 0.95, 0.99)]
        print(f"\n  {lost} of {seen} bus messages lost; {crowd.figures()}; sent to arrived p50 {at[0]:.0f} ms, p95 {at[1]:.0f} ms, "
              f"p99 {at[2]:.0f} ms, most {delays[-1] * 1000:.0f} ms")
    assert delays[-1] < ARRIVES_S


async def _sees_right(one, two, name):
    """A viewer at one node is told right of users who come to another and go."""
    viewer = name("viewer")
    users = [name(f"seen{number}") for number in range(6)]
    for user in users:
        one.rest(user).put(f"/v1/contacts/{viewer}").ok()
    async with Device(one, viewer) as v:
        await v.frame({"type": "presence_subscribe", "users": users})
        devices = [Device(two, user) for user in users]
        await asyncio.gather(*(device.connect() for device in devices))
        await until_async(lambda: _last(v, users) == {"online"}, "all are online", ARRIVES_S)
        await asyncio.gather(*(device.leave() for device in devices))
        await until_async(lambda: _last(v, users) == {"offline"}, "all are offline", 2 * ARRIVES_S)


def _last(viewer, users):
    """What it was told last of each."""
    told = {frame["user"]: frame["status"] for frame in viewer.inbox if frame["type"] == "presence_update"}
    return {told.get(user) for user in users}
