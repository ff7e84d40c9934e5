"""Presence: who is there, who may know, and who is told."""

import asyncio

from harness.device import Device


async def _ask(device, user):
    # What was told of contacts at the start is older than the question.
    device.inbox[:] = [frame for frame in device.inbox if frame["type"] != "presence_update"]
    await device.frame({"type": "presence_get", "users": [user]})
    return await device.next("presence_update", user=user)


async def test_presence_get_is_answered_by_one_update_per_user(server, name):
    alice, bob, nobody = name("alice"), name("bob"), name("nobody")
    async with Device(server, alice) as a, Device(server, bob):
        await a.frame({"type": "presence_get", "users": [bob, nobody]})
        assert (await a.next("presence_update", user=bob))["status"] in ("online", "away", "offline")
        assert (await a.next("presence_update", user=nobody))["status"] == "offline"


async def test_a_contact_sees_online_and_the_device_is_told_of_its_users_contacts_by_itself(server, name):
    """Directed: alice sees bob as a contact because bob listed alice; alice listed bob, so she is told."""
    alice, bob = name("alice"), name("bob")
    server.rest(bob).put(f"/v1/contacts/{alice}").ok()
    server.rest(alice).put(f"/v1/contacts/{bob}").ok()
    async with Device(server, alice) as a:
        async with Device(server, bob):
            await a.next("presence_update", user=bob, status="online")
            assert (await _ask(a, bob))["status"] == "online"
        gone = await a.next("presence_update", user=bob, status="offline", deadline_s=25)
        assert gone["last_seen"] > 0, gone


async def test_a_subscription_tells_changes_until_it_ends(server, name):
    alice, bob = name("alice"), name("bob")
    server.rest(bob).put(f"/v1/contacts/{alice}").ok()
    async with Device(server, alice) as a, Device(server, bob) as b:
        await a.frame({"type": "presence_subscribe", "users": [bob]})
        await b.frame({"type": "presence_set", "status": "away"})
        await a.next("presence_update", user=bob, status="away")
        await b.frame({"type": "presence_set", "status": "online"})
        await a.next("presence_update", user=bob, status="online")
        await a.frame({"type": "presence_unsubscribe", "users": [bob]})
        await a.ping()
        # The answer to the subscription may have said what an update then said again.
        a.inbox.clear()
        await b.frame({"type": "presence_set", "status": "away"})
        await b.ping()
        await a.nothing_before_pong("presence_update", status="away")


async def test_a_user_who_declares_offline_is_seen_so(server, name):
    alice, bob = name("alice"), name("bob")
    server.rest(bob).put(f"/v1/contacts/{alice}").ok()
    async with Device(server, alice) as a, Device(server, bob) as b:
        await a.frame({"type": "presence_subscribe", "users": [bob]})
        await b.frame({"type": "presence_set", "status": "offline"})
        await a.next("presence_update", user=bob, status="offline")


async def test_more_than_500_users_in_one_command_are_an_error(server, name):
    async with Device(server, name("alice")) as a:
        for kind in ("presence_get", "presence_subscribe", "presence_unsubscribe"):
            await a.frame({"type": kind, "users": [f"u{i}" for i in range(501)], "ref": kind})
            error = await a.next("error", ref=kind)
            assert error["code"] == "invalid" and "500" in error["reason"], error


async def test_presence_over_rest(server, name):
    alice, bob = name("alice"), name("bob")
    server.rest(bob).put(f"/v1/contacts/{alice}").ok()
    async with Device(server, bob):
        answer = server.rest(alice).get(f"/v1/presence?users={alice},{bob}").ok()
        assert [(p["user"], p["status"]) for p in answer.json["presence"]] == [(alice, "offline"), (bob, "online")], answer


async def test_last_seen_is_told_to_contacts_only(server, name):
    alice, bob, eve = name("alice"), name("bob"), name("eve")
    server.rest(bob).put(f"/v1/contacts/{alice}").ok()
    async with Device(server, bob):
        pass
    async with Device(server, alice) as a, Device(server, eve) as e:
        assert "last_seen" not in await _ask(e, bob)
        assert (await _ask(a, bob))["last_seen"] > 0


async def test_who_only_answers_is_away_until_something_else_comes(start, name):
    """Pings and acknowledgements are sent by a device that nobody looks at."""
    server = start(config={"policies": {"config": {"last-seen": {"active_ms": 3_000}}}})
    alice, bob = name("alice"), name("bob")
    server.rest(bob).put(f"/v1/contacts/{alice}").ok()
    async with Device(server, alice) as a, Device(server, bob) as b:
        await a.frame({"type": "presence_subscribe", "users": [bob]})
        # Activity is reported once in five seconds: long enough for one of these to be, if it counted.
        for number in range(80):
            await a.say(bob, f"m{number}")
            await b.next("new_message", text=f"m{number}")
            await b.ack()
            await b.ping()
            await asyncio.sleep(0.1)
        said = [frame["status"] for frame in a.inbox if frame["type"] == "presence_update" and frame["user"] == bob]
        assert said[-1] == "away" and "online" not in said[said.index("away"):], said
        await b.frame({"type": "typing_start", "to": alice})
        await a.next("presence_update", user=bob, status="online")
