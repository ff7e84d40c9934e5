"""A drain lets 500 clients go at a pace; all resume, nothing comes twice."""

import asyncio
import contextlib
import re
import signal
import time

import pytest

from harness.device import Device
from harness.raw import RawSocket

CLIENTS = 500


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_a_drain_with_500_clients_is_paced_all_resume_and_nothing_comes_twice(start, name):
    server = start(config={"gateway": {"drain_pace": "2 s"}})
    users = [f"{name('u')}-{i}" for i in range(CLIENTS)]
    devices = [Device(server, user) for user in users]
    for at in range(0, CLIENTS, 50):
        await asyncio.gather(*(d.connect() for d in devices[at : at + 50]))
    async with Device(server, name("alice")) as alice:
        for user in users:
            await alice.post(user, f"before {user}")
            if len(alice.pending) >= 200:
                await alice.until(lambda: len(alice.pending) < 100, "room")
            if alice.position and len(alice.messages) % 100 == 99:
                await alice.ack()
        await alice.until(lambda: not alice.pending, "all accepted", 60)
    await asyncio.gather(*(d.until(lambda d=d: len(d.messages) == 1, "its message", 60) for d in devices))
    times = {}

    async def watch(device):
        await device.close_code(deadline_s=60)
        times[device.user] = time.monotonic()

    watchers = [asyncio.create_task(watch(d)) for d in devices]
    server.signal(signal.SIGTERM)
    await asyncio.wait(watchers, return_when=asyncio.FIRST_COMPLETED)
    # It may have ended before we come.
    with contextlib.suppress(ConnectionError, EOFError), RawSocket(server.client) as late:
        assert late.upgrade(server.token(name("late"))) == 503, "somebody came in while others are sent away"
    await asyncio.gather(*watchers)
    codes = {d.closed[0] for d in devices}
    assert codes == {4001}, codes
    delays = [int(re.search(r"(\d+) ?ms", d.closed[1])[1]) for d in devices]
    assert len(set(delays)) > 20, "the delays are not jittered"
    spread = max(times.values()) - min(times.values())
    assert spread > 0.5, f"500 clients were closed within {spread:.2f} s"
    assert server.child.wait(timeout=30) == 0
    server.start()
    for at in range(0, CLIENTS, 50):
        await asyncio.gather(*(d.connect() for d in devices[at : at + 50]))
    assert all(d.hello["resumed"] for d in devices)
    async with Device(server, name("alice"), "later") as alice:
        for user in users:
            await alice.post(user, f"after {user}")
            if len(alice.pending) >= 200:
                await alice.until(lambda: len(alice.pending) < 100, "room")
                await alice.ack()
        await alice.until(lambda: not alice.pending, "all accepted", 60)
    for device in devices:
        await device.until(lambda d=device: len(d.messages) >= 2, "the second message", 60)
        assert device.texts() == [f"before {device.user}", f"after {device.user}"] and device.stale == []
    await asyncio.gather(*(d.leave() for d in devices))


async def test_ctrl_c_drains_and_says_what_is_safe_where(start, name):
    server = start()
    bob = name("bob")
    async with Device(server, name("alice")) as a:
        await a.say(bob, "safe")
        server.signal(signal.SIGINT)
        assert await a.close_code() == 4001
    assert server.child.wait(timeout=30) == 0
    said = server.stderr()
    assert "1 connection was sent away" in said and f"Every accepted message is on disk in {server.data}" in said, said
    server.start()
    async with Device(server, bob) as b:
        assert (await b.next("new_message"))["text"] == "safe"
