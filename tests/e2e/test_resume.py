"""Away and back: nothing missing, nothing twice, in order."""

import json

from harness.device import Device
from harness.waiting import until_async


async def _send(device, to, count, prefix="m"):
    ids = [await device.post(to, f"{prefix}{i}", client_id=f"{prefix}-{i}") for i in range(count)]
    for client_id in ids:
        assert (await device.outcome(client_id))["type"] == "accepted"


async def test_bob_is_away_while_alice_sends_50_and_returns_on_another_device(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, bob, "phone") as b:
        await b.next("caught_up")
    async with Device(server, alice) as a:
        await _send(a, bob, 50)
        async with Device(server, bob, "desk") as b:
            caught_up = await b.next("caught_up")
            assert b.texts() == [f"m{i}" for i in range(50)]
            assert all(m["missed"] is True for m in b.messages) and b.stale == []
            assert caught_up["offset"] >= b.messages[-1]["offset"]
            assert not a.has("receipt")
            await b.ack()
            last = b.messages[-1]
            await a.next("receipt", status="delivered", message_id=last["message_id"])
            await b.frame({"type": "read_receipt", "message_id": last["message_id"]})
            await a.next("receipt", status="read", message_id=last["message_id"])
            await a.say(bob, "live")
            assert not (await b.next("new_message", text="live")).get("missed")
        messages = server.rest(alice).history(f"user:{bob}", limit=100)["messages"]
        by_text = {m["text"]: m["status"] for m in messages}
        assert all(by_text[f"m{i}"] == "read" for i in range(50)), by_text


async def test_half_of_what_bob_missed_comes_from_the_archive_when_retention_is_short(start, name):
    """Segments of 64 KiB and a retention of a second: the first half is unlinked from the log before bob returns."""
    server = start(config={"log": {"retention": "1 s", "retention_interval": "100 ms", "segment_bytes": "64 KiB"}})
    alice, bob = name("alice"), name("bob")
    filler = "x" * 8000
    async with Device(server, bob, "phone") as b:
        await b.next("caught_up")
    # She acknowledges: what she sends meanwhile is more than may wait for that, and receipts stand behind it.
    async with Device(server, alice, auto_ack=True) as a:
        first = {(await a.say(bob, f"m{i}", data=filler))["message_id"] for i in range(25)}
        extra = iter(range(10_000))

        async def removed():
            await a.say(name("other"), f"e{next(extra)}", data=filler)
            return not first & server.logged()

        await until_async(removed, "retention removes all of the first half", 40)
        second = {(await a.say(bob, f"m{i}", data=filler))["message_id"] for i in range(25, 50)}
        assert second & server.logged(), "the log has nothing of the second half"
        async with Device(server, bob, "desk") as b:
            await b.next("caught_up")
            assert b.texts() == [f"m{i}" for i in range(50)]
            assert "gap" not in b.hello and b.stale == []
            await b.ack()
            await a.next("receipt", status="delivered", message_id=b.messages[-1]["message_id"])


async def test_a_known_device_goes_on_from_its_stored_position_without_resume(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        async with Device(server, bob) as b:
            await _send(a, bob, 10)
            await b.until(lambda: len(b.messages) == 10, "ten")
            await b.ack(b.messages[5]["offset"])
            await a.next("receipt", status="delivered", order=b.messages[5]["order"])
        again = Device(server, bob)
        await again.connect(resume=None)
        await again.next("caught_up")
        assert again.texts() == [f"m{i}" for i in range(6, 10)], again.texts()
        assert again.hello["resumed"] is True
        await again.leave()


async def test_a_new_device_starts_at_the_oldest_event_that_no_device_acknowledged(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        async with Device(server, bob, "one") as one, Device(server, bob, "two") as two:
            await _send(a, bob, 10)
            for device, count in ((one, 3), (two, 7)):
                await device.until(lambda: len(device.messages) == 10, "ten")
                await device.ack(device.messages[count - 1]["offset"])
            await a.next("receipt", status="delivered", order=two.messages[6]["order"])
        async with Device(server, bob, "three") as three:
            await three.next("caught_up")
            assert three.texts() == ["m7", "m8", "m9"], three.texts()


async def test_resume_zero_means_from_the_oldest_kept(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        async with Device(server, bob) as b:
            await _send(a, bob, 5)
            await b.until(lambda: len(b.messages) == 5, "five")
            await b.ack()
            await a.next("receipt", status="delivered", order=b.messages[-1]["order"])
        again = Device(server, bob)
        await again.connect(resume=0)
        await again.next("caught_up")
        assert again.texts() == [f"m{i}" for i in range(5)], again.texts()
        await again.leave()


async def test_an_exact_resume_gives_only_what_came_after_and_acknowledges_the_rest(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        b = Device(server, bob)
        await b.connect()
        await _send(a, bob, 5)
        await b.until(lambda: len(b.messages) == 5, "five")
        await b.abort()
        await _send(a, bob, 5, "late")
        await b.connect()
        await a.next("receipt", status="delivered", order=b.messages[4]["order"])
        await b.next("caught_up")
        assert b.texts() == [f"m{i}" for i in range(5)] + [f"late{i}" for i in range(5)]
        assert b.stale == [] and b.hello["resumed"] is True
        await b.leave()


async def test_a_resume_above_the_head_says_gap_and_goes_on_from_the_stored_position(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        async with Device(server, bob) as b:
            await _send(a, bob, 4)
            await b.until(lambda: len(b.messages) == 4, "four")
            await b.ack(b.messages[1]["offset"])
            await a.next("receipt", status="delivered", order=b.messages[1]["order"])
        again = Device(server, bob)
        hello = await again.connect(resume=(1 << 53) - 1)
        assert hello["resumed"] is False and hello["gap"] == {"reason": "above_head"}, hello
        await again.next("caught_up")
        assert again.texts() == ["m2", "m3"], again.texts()
        await again.leave()


async def test_a_foreign_position_neither_leaks_nor_loses(server, name):
    """A position of another user's stream is a number like any other: bob sees his own events above it or a gap."""
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    async with Device(server, alice) as a, Device(server, carol) as c:
        await _send(a, carol, 3, "for-carol")
        await c.until(lambda: len(c.messages) == 3, "three")
        foreign = c.messages[-1]["offset"]
        await _send(a, bob, 3, "for-bob")
        b = Device(server, bob)
        await b.connect(resume=foreign)
        await b.next("caught_up")
        assert not any(t.startswith("for-carol") for t in b.texts()), b.texts()
        await a.say(bob, "afterwards")
        await b.next("new_message", text="afterwards")
        await b.leave()


async def test_an_ack_above_what_was_sent_is_an_error_and_changes_nothing(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        async with Device(server, bob) as b:
            await a.say(bob, "one")
            await b.next("new_message")
            await b.frame({"type": "ack", "offset": b.position + 1000, "ref": "far"})
            error = await b.next("error")
            assert error["code"] == "ack_above_sent" and error["ref"] == "far", error
            await a.nothing_before_pong("receipt")
        again = Device(server, bob)
        await again.connect(resume=None)
        await again.next("caught_up")
        assert again.texts() == ["one"]
        await again.leave()


async def test_positions_from_before_the_log_was_made_anew_never_look_newer(start, name, tmp_path):
    """The store stays, the log is gone: the epoch grows, so new events lie above every old position."""
    server = start()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        b = Device(server, bob)
        await b.connect()
        await _send(a, bob, 20)
        await b.until(lambda: len(b.messages) == 20, "twenty")
        old = b.position
        await b.leave()
    server.stop()
    log = server.data / "log"
    assert log.is_dir(), sorted(p.name for p in server.data.iterdir())
    log.rename(tmp_path / "log-of-before")
    server.start()
    async with Device(server, alice) as a:
        await b.connect()
        await b.next("caught_up")
        await a.say(bob, "in the new log")
        got = await b.next("new_message", text="in the new log")
        assert got["offset"] > old, (got["offset"], old)
        await b.leave()


async def test_what_was_lost_with_the_log_is_said_and_only_to_those_who_had_it(start, name, tmp_path):
    """The archive is a minute behind, the server is killed and its log is gone: what bob had is kept nowhere. Carol had nothing."""
    server = start(config={"store": {"archive_interval": "1 min"}})
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    phone, tablet, other = Device(server, bob), Device(server, bob, "tablet"), Device(server, carol)
    await tablet.connect()
    await tablet.leave()
    await other.connect()
    await other.leave()
    async with Device(server, alice) as a:
        await phone.connect()
        await _send(a, bob, 5)
        await phone.until(lambda: len(phone.messages) == 5, "five")
    await phone.leave()
    server.kill()
    (server.data / "log").rename(tmp_path / "log-of-before")
    server.start()
    for device in (phone, tablet):
        await device.connect()
        assert device.hello["gap"] == {"reason": "lost"}, device.hello
        await device.next("caught_up")
    await other.connect()
    assert "gap" not in other.hello, other.hello
    await other.leave()
    # After the first event of the new log it is over.
    async with Device(server, alice) as a:
        await a.say(bob, "in the new log")
        for device in (phone, tablet):
            await device.next("new_message", text="in the new log")
            await device.leave()
            await device.connect()
            assert "gap" not in device.hello, device.hello
            await device.leave()


async def test_everything_survives_a_restart(start, name):
    server = start()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        await _send(a, bob, 20)
    assert server.stop() == 0
    server.start()
    async with Device(server, bob) as b:
        await b.next("caught_up")
        assert b.texts() == [f"m{i}" for i in range(20)], json.dumps(b.texts())
