"""Bad company: closed with its code, the others unaffected, memory bounded."""

import asyncio
import contextlib
import time

import pytest

from websockets.exceptions import ConnectionClosed

from harness.device import Closed, Device
from harness.raw import PING, RawSocket
from harness.waiting import until, until_async

PROXY = {"loopback_exempt": False, "trusted_proxies": ["127.0.0.1/32"]}
MIB = 1 << 20


def _closes(server, code):
    """So many connections were closed with that code."""
    return server.metrics().get(f'heddle_gateway_closes_total{{code="{code}"}}', 0)


def _bounded(server, before, most=64 * MIB):
    """What was done to it did not cost more memory than that."""
    grown = server.resident_bytes() - before
    assert grown < most, f"{grown / MIB:.0f} MiB more"


async def _others_are_well(server, name):
    """A pair of users talks, and quickly."""
    bob = name("well-bob")
    async with Device(server, name("well-alice")) as a, Device(server, bob) as b:
        began = time.monotonic()
        await a.say(bob, "well?")
        await b.next("new_message", text="well?")
        assert time.monotonic() - began < 2


@pytest.mark.timeout(120)
async def test_a_reader_that_acknowledges_nothing_is_closed_with_4008_and_resumes_whole(start, name):
    server = start(config={"delivery": {"slow_timeout": "2 s", "unacknowledged_max": 50}})
    bob = name("bob")
    async with Device(server, name("alice")) as a, Device(server, bob) as b:
        for i in range(120):
            await a.post(bob, f"m{i}")
        assert await b.close_code(deadline_s=20) == 4008
        assert len(b.messages) <= 50, len(b.messages)
        await _others_are_well(server, name)
        b.auto_ack = True
        await b.connect()
        await b.until(lambda: len(b.messages) == 120, "all of them")
        assert b.texts() == [f"m{i}" for i in range(120)]


async def test_no_more_bytes_than_are_configured_wait_for_an_acknowledgement(start, name):
    server = start(config={"delivery": {"slow_timeout": "30 s", "unacknowledged_bytes_max": "100 KiB"}})
    bob = name("bob")
    async with Device(server, name("alice"), auto_ack=True) as a, Device(server, bob) as b:
        for i in range(40):
            await a.say(bob, f"m{i}", data="x" * 10_000)
        await b.until(lambda: len(b.messages) >= 9, "what fits")
        for _ in range(20):
            await b.ping()
        # One more than fits may be under way when the bound is met.
        assert len(b.messages) <= 11, len(b.messages)
        b.auto_ack = True
        await b.ack()
        await b.until(lambda: len(b.messages) == 40, "the rest")
        assert b.texts() == [f"m{i}" for i in range(40)]


@pytest.mark.timeout(180)
async def test_a_reader_that_never_reads_is_closed_with_bounded_memory(start, name):
    sends = 4_000
    server = start(config={"delivery": {"slow_timeout": "3 s", "tail_bytes_max": "32 MiB"}, "gateway": {"heartbeat": "2 s"}})
    bob = name("bob")
    async with Device(server, name("alice")) as a:
        with RawSocket(server.client, receive_buffer_bytes=4096, timeout_s=60) as slow:
            assert slow.upgrade(server.token(bob)) == 101
            slow.hello()
            before = server.resident_bytes()
            # Each stands in the log twice, for bob and for alice: 400 MB.
            for i in range(sends):
                await a.say(bob, f"{i}", data="x" * 50_000)
                if i % 50 == 49:
                    await a.ack()
            grown = server.resident_bytes() - before
            assert grown < 300 * MIB, f"{grown / MIB:.0f} MiB for 200 MB that nobody reads"
            await _others_are_well(server, name)
            # It reads nothing, so no close frame reaches it: what the server closed it with is counted.
            closed = lambda: _closes(server, 4008) + _closes(server, 4012) == 1  # noqa: E731
            await until_async(closed, "the reader that never reads is closed", 30)
        async with Device(server, bob, "raw", auto_ack=True) as b:
            await b.until(lambda: len(b.messages) == sends, "everything", 60)
            assert b.texts() == [str(i) for i in range(sends)]


def test_half_a_handshake_is_closed_within_its_deadline(start, name):
    server = start(config={"gateway": {"handshake_deadline": "1 s"}})
    halves = [b"", b"GET /v1/ws HT", b"GET /v1/ws HTTP/1.1\r\nHost: heddle\r\nX-Slow: "]
    for half in halves:
        with RawSocket(server.client, timeout_s=6) as socket:
            began = time.monotonic()
            socket.write(half)
            while socket.read()[0] is not None:
                pass
            assert time.monotonic() - began < 4, half
    with RawSocket(server.client, timeout_s=6) as socket:
        assert socket.upgrade(server.token(name("silent"))) == 101
        assert socket.close_code() == 4012


async def test_a_thousand_half_open_handshakes_do_not_keep_anybody_out(start, name):
    server = start(config={"gateway": {"handshake_deadline": "2 s"}})
    before = server.resident_bytes()
    sockets = [RawSocket(server.client) for _ in range(1000)]
    for socket in sockets:
        socket.write(b"GET /v1/ws HTTP/1.1\r\n")
    await _others_are_well(server, name)
    _bounded(server, before)
    for socket in sockets:
        socket.socket.close()


async def test_half_open_handshakes_hold_no_more_than_a_head_may_have(start, name):
    server = start(config={"gateway": {"handshake_deadline": "10 s"}})
    before = server.resident_bytes()
    sockets = [RawSocket(server.client) for _ in range(400)]
    for socket in sockets:
        socket.socket.setblocking(False)
        socket.socket.send(b"GET /v1/ws HTTP/1.1\r\n")
    # A megabyte for each; those that had enough are ended, or read no further.
    for _ in range(64):
        for socket in sockets:
            with contextlib.suppress(OSError):
                socket.socket.send(b"X-More: " + 16_000 * b"m" + b"\r\n")
        await asyncio.sleep(0)
    await _others_are_well(server, name)
    _bounded(server, before)
    for socket in sockets:
        socket.socket.close()


async def test_a_flood_of_frames_is_closed_with_4013(start, name):
    server = start(config={"gateway": {"frames_per_second_max": 20}})
    flooder = Device(server, name("flood"))
    await flooder.connect()
    before = server.resident_bytes()
    with pytest.raises((Closed, ConnectionClosed)):
        for _ in range(5000):
            await flooder.ping()
    assert await flooder.close_code() == 4013
    _bounded(server, before)
    await _others_are_well(server, name)


@pytest.mark.timeout(60)
async def test_a_flood_of_websocket_pings_is_closed_with_4013(start, name):
    server = start(config={"gateway": {"frames_per_second_max": 20}})
    before = server.resident_bytes()

    def pings(waiting):
        with RawSocket(server.client) as socket:
            socket.upgrade(server.token(name("pings")))
            socket.hello(f"pings-{waiting}")
            try:
                for _ in range(5000):
                    socket.frame(PING, b"x")
                    # Who reads each pong leaves nothing unread behind: the close frame comes whole.
                    if waiting and (code := socket.close_code_at_pong()):
                        return code
            except ConnectionError:
                pass
            return socket.close_code()

    assert await asyncio.to_thread(pings, True) == 4013
    # The close frame may be lost behind the reset that a flooded socket ends with: the server's own count tells.
    await asyncio.to_thread(pings, False)
    await until_async(lambda: _closes(server, 4013) == 2, "both floods are closed with 4013", 20)
    _bounded(server, before)
    await _others_are_well(server, name)


async def test_a_half_dead_peer_is_closed_with_4012_and_one_that_answers_pings_is_not(start, name):
    server = start(config={"gateway": {"heartbeat": "500 ms"}})
    async with Device(server, name("alive")) as alive:
        assert alive.hello["heartbeat_ms"] == 500

        def dead():
            with RawSocket(server.client) as socket:
                socket.upgrade(server.token(name("dead")))
                socket.hello()
                return socket.close_code()

        assert await asyncio.to_thread(dead) == 4012
        await alive.ping()


async def test_the_sixth_connection_of_a_user_is_closed_with_4403(server, name):
    alice = name("alice")
    devices = [Device(server, alice, f"d{i}") for i in range(5)]
    for device in devices:
        await device.connect()
    sixth = Device(server, alice, "d5")
    await sixth.open()
    await sixth.frame({"type": "hello", "device": "d5"})
    assert await sixth.close_code() == 4403
    for device in devices:
        await device.ping()
    await devices[0].leave()
    await devices[1].ping()
    again = Device(server, alice, "d6")

    async def admitted():
        try:
            await again.connect()
            return True
        except AssertionError:
            return False

    end = time.monotonic() + 10
    while not await admitted():
        assert time.monotonic() < end, "the place that became free is not given again"
    await again.leave()
    for device in devices[1:]:
        await device.leave()


async def test_the_eleventh_connection_from_one_address_is_refused_and_others_are_not(start, name):
    server = start(config={"gateway": PROXY})
    from_one = {"X-Forwarded-For": "203.0.113.7"}
    devices = [Device(server, f"{name('u')}-{i}", headers=from_one) for i in range(10)]
    for device in devices:
        await device.connect()
    with RawSocket(server.client) as socket:
        status = socket.upgrade(server.token(name("eleventh")), headers=from_one.items())
        assert status == 429
    async with Device(server, name("elsewhere"), headers={"X-Forwarded-For": "203.0.113.8"}) as other:
        await other.ping()
    for device in devices:
        await device.ping()
        await device.leave()


async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(start, name):
    server = start(config={"gateway": {"loopback_exempt": False}})
    devices = []
    for i in range(10):
        device = Device(server, f"{name('u')}-{i}", headers={"X-Forwarded-For": f"203.0.113.{i}"})
        await device.connect()
        devices.append(device)
    with RawSocket(server.client) as socket:
        status = socket.upgrade(server.token(name("eleventh")), headers=[("X-Forwarded-For", "203.0.113.99")])
        assert status == 429
    for device in devices:
        await device.leave()


def test_a_closed_socket_gives_its_place_back(start, name):
    server = start(config={"gateway": {"connections_per_user": 1}})
    alice = server.token(name("alice"))
    for _ in range(5):
        def enters():
            with RawSocket(server.client) as socket:
                if socket.upgrade(alice) != 101:
                    return False
                try:
                    return bool(socket.hello())
                except AssertionError:
                    return False

        until(enters, "a place", 10)
