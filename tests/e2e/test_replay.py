"""`heddle replay`: a device takes again what it had, once, from log and archive."""

import json
import time

import pytest

from harness.device import Device
from harness.server import heddle
from harness.settings import explain_args
from harness.waiting import until_async


def replay(server, user, since, *more):
    """The command; what it says."""
    done = heddle("replay", "--user", user, "--since", since, "--output", "json", *explain_args(server), *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(server, user, since, *more):
    """The same, where it does nothing; the exit code and what it said."""
    done = heddle("replay", "--user", user, "--since", since, *explain_args(server), *more)
    assert done.returncode != 0, done.stdout
    return done.returncode, done.stderr


async def fifty(server, alice, bob, pause_at=20, **more):
    """Bob has fifty messages of Alice's and has acknowledged all; the moment before that of `pause_at`, by the server's clock, and his device."""
    async with Device(server, alice) as a:
        async with Device(server, bob) as b:
            moment = None
            for number in range(50):
                if number == pause_at:
                    await b.until(lambda: len(b.texts()) == pause_at, "those before")
                    moment = await tick()
                await a.say(bob, f"m{number}", **more)
            await b.until(lambda: len(b.texts()) == 50, "fifty messages")
            await b.ack()
            await a.next("receipt", status="delivered", message_id=b.messages[-1]["message_id"])
    return moment, b


async def tick():
    """A moment behind all that came and before all that comes."""
    came = now_ms()
    await until_async(lambda: now_ms() > came + 5, "the clock moves on")
    seconds, ms = divmod(came + 3, 1_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{ms:03}Z"


def now_ms():
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def again(device, server=None):
    """It connects, with its position; what it gets before `caught_up`."""
    device.server = server or device.server
    device.messages.clear()
    device.token = device.server.token(device.user)
    await device.connect()
    await device.next("caught_up")
    return device.texts()


async def test_bob_gets_thirty_again_once_and_alice_no_receipts(server, name):
    alice, bob = name("alice"), name("bob")
    moment, b = await fifty(server, alice, bob)
    head = b.position
    said = replay(server, bob, moment, "-m", "his phone lost them")
    assert said["events"] == 30 and said["devices"] == ["phone"] and said["connections"] == 0, said
    async with Device(server, alice) as a:
        await a.next("caught_up")
        a.inbox.clear()
        assert b.position == head
        assert await again(b) == [f"m{number}" for number in range(20, 50)]
        assert b.hello["offset"] == said["after"] and b.hello["resumed"] is False and "gap" not in b.hello and not b.stale
        # Nothing is acknowledged yet, and the client had no time to keep its new position.
        await b.abort()
        b.position = head
        assert await again(b) == [f"m{number}" for number in range(20, 50)]
        await b.ack()
        await b.ping()
        await b.leave()
        assert await again(b) == [] and b.hello["resumed"] is True
        await b.leave()
        await a.nothing_before_pong("receipt")
    rows = server.admin_rest(server.ready["admin_token"]).get("/policies/history?limit=5").ok().json["changes"]
    row = next(row for row in rows if row["what"] == "replay" and row["detail"]["user"] == bob)
    assert row["why"] == "his phone lost them", row


async def test_a_device_that_is_connected_comes_again_at_once_and_another_is_left_alone(server, name):
    alice, bob = name("alice"), name("bob")
    moment, b = await fifty(server, alice, bob)
    b.messages.clear()
    async with b, Device(server, bob, "desk") as desk:
        await b.next("caught_up")
        await desk.next("caught_up")
        await desk.ack()
        said = replay(server, bob, moment, "--device", "phone")
        assert said["devices"] == ["phone"] and said["connections"] == 1, said
        assert await b.close_code() == 4003
        await desk.ping()
        assert await again(b) == [f"m{number}" for number in range(20, 50)]
        # What it had acknowledged before is saved within a second, and counts no more.
        await b.ack(b.messages[4]["offset"])
        await b.ping()
        await b.leave()
        async with Device(server, alice) as a:
            await a.say(bob, "new")
            await desk.next("new_message", text="new")
        b.position = None
        assert await again(b) == [*(f"m{number}" for number in range(25, 50)), "new"]


async def test_half_of_it_is_no_longer_in_the_log(start, name):
    server = start(config={"log": {"retention": "1 s", "retention_interval": "100 ms", "segment_bytes": "64 KiB"}})
    alice, bob, filler = name("alice"), name("bob"), "x" * 8000
    _, b = await fifty(server, alice, bob, data=filler)
    third = b.messages[2]["offset"]
    async with Device(server, alice) as a:
        extra = iter(range(10_000))

        async def removed():
            await a.say(name("other"), f"e{next(extra)}", data=filler)
            return server.metrics_sum("segments_removed") > 0

        await until_async(removed, "retention removes a segment", 40)
        said = replay(server, bob, str(third))
        assert said["events"] == 47, said
        assert await again(b) == [f"m{number}" for number in range(3, 50)]
        assert not b.stale and "gap" not in b.hello
        await b.leave()
        # From before all that is kept: all of it.
        said = replay(server, bob, "20 d")
        assert said["before_oldest"] is True and said["events"] == 50, said
        assert await again(b) == [f"m{number}" for number in range(50)]
        await b.leave()


async def test_what_cannot_be_replayed_is_said(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        await a.say(bob, "never here")
    assert refused(server, name("nobody"), "1 h")[0] == 66
    code, text = refused(server, bob, "1 h")
    assert code == 66 and bob in text, text
    code, text = refused(server, alice, "1 h", "--device", "fridge")
    assert code == 66 and "no device fridge: it has phone" in text, text
    code, text = refused(server, alice, "2999-01-01T00:00:00Z")
    assert code == 64 and "ahead of the clock" in text, text
    code, text = refused(server, alice, str((1 << 53) - 1))
    assert code == 64 and "is above" in text, text
    code, text = refused(server, alice, "yesterday")
    assert code == 64 and "is no moment" in text, text
    said = heddle("replay", "--user", alice, "--since", "1 h", *explain_args(server))
    assert said.returncode == 0 and "nothing from before" in said.stdout, said.stdout
    token = heddle("token", "--user", "eve", "--role", "viewer").stdout.strip()
    body = {"ago_ms": 5}
    server.admin_rest(token).post(f"/users/{alice}/replay", body).problem(401)
    admin = server.admin_rest(server.ready["admin_token"])
    admin.post(f"/users/{alice}/replay", {"ago_ms": 5, "at": 5}).problem(422)
    admin.post(f"/users/{alice}/replay", {"since": 5}).problem(400)


@pytest.mark.timeout(300)
async def test_the_device_may_go_to_any_node(nodes, postgres, name):
    first, second = nodes(2)
    alice, bob = name("alice"), name("bob")
    moment, b = await fifty(first, alice, bob)
    async with b:
        await b.next("caught_up")
        await b.ack()
        # The other node does not reach the connection without a bus: it goes back when it comes next, wherever that is.
        said = replay(second, bob, moment)
        assert said["events"] == 30 and said["connections"] == 0, said
        await b.ping()
        await b.leave()
        assert await again(b, second) == [f"m{number}" for number in range(20, 50)]
        await b.ack()
        # The first acknowledgement ends it at once, not with the positions of the second.
        database = first.config["store"]["url"].rsplit("/", 1)[1]
        open_replays = "SELECT count(*) FROM devices WHERE replay IS NOT NULL"
        await until_async(lambda: postgres.sql(database, open_replays) == [["0"]], "the end of the replay is kept")
        await b.leave()
        assert await again(b, first) == []

