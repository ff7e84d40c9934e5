"""Presence, typing and replaced devices on several nodes of one platform: Kafka, PostgreSQL and Redis are real."""

import signal
import time

import pytest

from harness.device import Device
from harness.redis import Redis
from harness.waiting import NotInTime, until_async

# Far longer than any lease: a state that comes is waited for, however slow the machine is.
LONG_S = 90


@pytest.fixture
def redis():
    """A server of its own for each test."""
    with Redis() as server:
        yield server


@pytest.fixture
def node(kafka, postgres, redis, start):
    """Makes nodes of one platform, by their number. Leases are short, so that tests need not be long."""
    common = {
        "log": {"backend": "kafka"},
        "kafka": kafka.config(),
        "store": {"backend": "postgres", "url": postgres.url(postgres.database()), "deadline": "1 s"},
        "registry": {"backend": "redis", "url": redis.url, "lease": "3 s"},
        "presence": {"node_lease": "3 s"},
        "policies": {"config": {"last-seen": {"gone_ms": 1_000}}},
    }
    return lambda number, **more: start(config={**common, "node": {"id": f"n{number}"}, **more})


async def _meet(*nodes):
    """Every node hears every other."""
    for server in nodes:
        others = len(nodes) - 1
        await until_async(
            lambda server=server: server.metrics().get("heddle_presence_nodes") == others,
            f"{server.config['node']['id']} hears {others} nodes", LONG_S,
        )


async def _two(node):
    """Two nodes that hear each other."""
    one, two = node(1), node(2)
    await _meet(one, two)
    return one, two


def _contacts(server, user, *viewers):
    """These may see the user."""
    for viewer in viewers:
        server.rest(user).put(f"/v1/contacts/{viewer}").ok()


async def _watch(device, *users):
    await device.frame({"type": "presence_subscribe", "users": list(users)})
    for user in users:
        await device.next("presence_update", user=user)


async def _told(device, user, status):
    return await device.next("presence_update", LONG_S, user=user, status=status)


def _updates(device, user):
    return [frame["status"] for frame in device.inbox if frame["type"] == "presence_update" and frame["user"] == user]


async def _ask(device, user):
    device.inbox[:] = [frame for frame in device.inbox if frame["type"] != "presence_update" or frame["user"] != user]
    await device.frame({"type": "presence_get", "users": [user]})
    return await device.next("presence_update", user=user)


async def _becomes(device, user, status):
    """Asks until that is the answer: the nodes may hear of it at different moments."""
    for _ in range(LONG_S * 5):
        said = await _ask(device, user)
        if said["status"] == status:
            return said
        try:
            return await device.next("presence_update", 0.2, user=user, status=status)
        except AssertionError:
            continue
    raise AssertionError(f"{user} is never {status}: {said}")


async def test_who_is_online_at_another_node_is_seen_and_each_change_is_told_once(node, name):
    one, two = await _two(node)
    alice, bob = name("alice"), name("bob")
    _contacts(one, bob, alice)
    async with Device(one, alice) as a:
        await _watch(a, bob)
        before = int(time.time() * 1000)
        async with Device(two, bob) as b:
            online = await _told(a, bob, "online")
            assert online["last_seen"] >= before - 1_000
            await b.frame({"type": "presence_set", "status": "away"})
            await _told(a, bob, "away")
            await b.frame({"type": "presence_set", "status": "online"})
            await _told(a, bob, "online")
        gone = await _told(a, bob, "offline")
        assert gone["last_seen"] >= online["last_seen"]
        assert (await _ask(a, bob))["status"] == "offline"
        assert _updates(a, bob) == [], "nothing is told twice"
        # Whoever asks at the other node is told the same.
        async with Device(two, alice, "laptop") as there:
            said = await _ask(there, bob)
            assert said["status"] == "offline" and abs(said["last_seen"] - gone["last_seen"]) < 5_000, said


async def test_a_contact_is_told_by_itself_and_rest_knows_too(node, name):
    one, two = await _two(node)
    alice, bob = name("alice"), name("bob")
    _contacts(one, bob, alice)
    _contacts(two, alice, bob)
    async with Device(one, alice) as a, Device(two, bob):
        await _told(a, bob, "online")
        answer = one.rest(alice).get(f"/v1/presence?users={bob}").ok()
        assert answer.json["presence"][0]["status"] == "online", answer


async def test_closing_one_of_two_devices_at_two_nodes_keeps_a_user_online(node, name):
    one, two = await _two(node)
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    _contacts(one, bob, alice)
    _contacts(one, carol, alice)
    async with Device(one, alice) as a, Device(two, alice, "laptop") as a2, Device(one, bob, "laptop") as laptop:
        async with Device(two, bob) as phone, Device(two, carol):
            for viewer in (a, a2):
                await _watch(viewer, bob, carol)
                await _becomes(viewer, bob, "online")
                await _becomes(viewer, carol, "online")
            await phone.leave()
        # Carol closed after bob's phone: when she is told to be gone, bob would have been too.
        for viewer in (a, a2):
            await _told(viewer, carol, "offline")
            assert "offline" not in _updates(viewer, bob), viewer.inbox
            assert (await _ask(viewer, bob))["status"] == "online"
        await laptop.leave()
        for viewer in (a, a2):
            await _told(viewer, bob, "offline")


async def test_what_a_client_declared_holds_at_all_nodes_until_its_user_closes_everywhere(node, name):
    one, two = await _two(node)
    alice, bob = name("alice"), name("bob")
    _contacts(one, bob, alice)
    async with Device(one, alice) as a, Device(one, bob, "laptop") as laptop:
        await _watch(a, bob)
        async with Device(two, bob) as phone:
            await phone.frame({"type": "presence_set", "status": "away"})
            await _told(a, bob, "away")
        # The phone is gone, and what it declared is the laptop's too.
        await until_async(lambda: one.metrics().get("heddle_presence_remote_connections") == 0, "the phone is gone", LONG_S)
        assert (await _becomes(a, bob, "away"))["status"] == "away"
        await laptop.frame({"type": "presence_set", "status": "online"})
        await _told(a, bob, "online")
        await laptop.leave()
        await _told(a, bob, "offline")
        async with Device(two, bob):
            await _told(a, bob, "online")


async def test_the_users_of_a_killed_node_go_offline_and_come_back_where_they_connect_again(node, name):
    one, two = await _two(node)
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    _contacts(one, bob, alice)
    _contacts(one, carol, alice)
    async with Device(one, alice) as a:
        await _watch(a, bob, carol)
        b, c = Device(two, bob), Device(two, carol)
        await b.connect()
        await c.connect()
        await _told(a, bob, "online")
        await _told(a, carol, "online")
        two.kill()
        await _told(a, bob, "offline")
        await _told(a, carol, "offline")
        two.start()
        await _meet(one, two)
        b.server = two
        await b.connect()
        await _told(a, bob, "online")
        assert (await _ask(a, carol))["status"] == "offline", "who did not come back is not there"
        await b.leave()
        await _told(a, bob, "offline")


async def test_the_users_of_a_node_that_is_stopped_go_offline_without_its_lease(node, name):
    one, two = (node(number, presence={"node_lease": "1 h"}) for number in (1, 2))
    await _meet(one, two)
    alice, bob = name("alice"), name("bob")
    _contacts(one, bob, alice)
    async with Device(one, alice) as a, Device(two, bob):
        await _watch(a, bob)
        await _becomes(a, bob, "online")
        assert two.stop() == 0
        await _told(a, bob, "offline")


async def test_a_node_that_stands_still_is_gone_until_it_goes_on(node, name):
    one, two = await _two(node)
    alice, bob = name("alice"), name("bob")
    _contacts(one, bob, alice)
    async with Device(one, alice) as a, Device(two, bob):
        await _watch(a, bob)
        await _becomes(a, bob, "online")
        two.signal(signal.SIGSTOP)
        try:
            await _told(a, bob, "offline")
        finally:
            two.signal(signal.SIGCONT)
        await _told(a, bob, "online")


async def test_who_watches_at_a_node_that_stood_still_is_told_of_no_change_that_was_none(node, name):
    one, two = await _two(node)
    alice, bob, carol, dave = name("alice"), name("bob"), name("carol"), name("dave")
    _contacts(one, bob, alice)
    _contacts(one, carol, dave)
    async with Device(one, alice) as a, Device(two, bob) as b, Device(one, carol), Device(two, dave) as d:
        await _watch(a, bob)
        await _becomes(a, bob, "online")
        await _watch(d, carol)
        await _becomes(d, carol, "online")
        a.inbox.clear()
        one.signal(signal.SIGSTOP)
        try:
            # The lease has passed: the other node says so.
            await _told(d, carol, "offline")
        finally:
            one.signal(signal.SIGCONT)
        await _told(d, carol, "online")
        await b.frame({"type": "presence_set", "status": "away"})
        await a.until(lambda: "away" in _updates(a, bob), "bob is away", LONG_S)
        assert _updates(a, bob) == ["away"]


async def test_statuses_converge_after_redis_was_killed_and_started_again(node, redis, name):
    one, two = await _two(node)
    alice, bob, carol, dave = name("alice"), name("bob"), name("carol"), name("dave")
    for user in (bob, carol, dave):
        _contacts(one, user, alice)
    async with Device(one, alice) as a, Device(two, bob), Device(one, dave) as d:
        c = Device(two, carol)
        await c.connect()
        await _watch(a, bob, carol, dave)
        for user in (bob, carol, dave):
            await _becomes(a, user, "online")
        redis.kill()
        # Nobody can tell of the other node now; of one's own one knows all the time.
        await _told(a, bob, "offline")
        await d.frame({"type": "presence_set", "status": "away"})
        await _told(a, dave, "away")
        await c.leave()
        redis.start()
        await _told(a, bob, "online")
        assert (await _ask(a, carol))["status"] == "offline", "she closed while nobody could tell"
        async with Device(two, carol):
            await _told(a, carol, "online")
        await _told(a, carol, "offline")
        async with Device(two, alice, "laptop") as there:
            assert (await _becomes(there, dave, "away"))["status"] == "away"


async def test_statuses_converge_after_redis_stood_still(node, redis, name):
    one, two = await _two(node)
    alice, bob = name("alice"), name("bob")
    _contacts(one, bob, alice)
    async with Device(one, alice) as a, Device(two, bob):
        await _watch(a, bob)
        await _becomes(a, bob, "online")
        redis.freeze()
        try:
            await _told(a, bob, "offline")
        finally:
            redis.thaw()
        await _told(a, bob, "online")


async def test_a_node_that_comes_later_learns_who_is_there(node, name):
    one, two = node(1), node(2)
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    _contacts(one, bob, alice)
    _contacts(one, carol, alice)
    async with Device(one, bob) as b, Device(two, carol):
        await b.frame({"type": "presence_set", "status": "away"})
        three = node(3)
        await _meet(one, two, three)
        async with Device(three, alice) as a:
            await _watch(a, bob, carol)
            await _becomes(a, bob, "away")
            await _becomes(a, carol, "online")
            assert (await _ask(a, carol))["last_seen"] > 0


async def test_who_may_not_know_learns_nothing_at_any_node(node, name):
    one, two = await _two(node)
    alice, bob, eve = name("alice"), name("bob"), name("eve")
    _contacts(one, bob, alice)
    async with Device(one, alice) as a, Device(one, eve) as e:
        await _watch(a, bob)
        await _watch(e, bob)
        async with Device(two, bob) as b:
            await _told(a, bob, "online")
            # Bob no longer wants alice to know.
            two.rest(bob).delete(f"/v1/contacts/{alice}").ok()
            _contacts(two, bob, f"{alice}-2")
            async with Device(one, f"{alice}-2") as a2:
                await _watch(a2, bob)
                await _becomes(a2, bob, "online")
                a.inbox.clear()
                await b.frame({"type": "presence_set", "status": "away"})
                await _told(a2, bob, "away")
                for who in (a, e):
                    await who.nothing_before_pong("presence_update", user=bob)
                    said = await _ask(who, bob)
                    assert said["status"] == "offline" and "last_seen" not in said, said


async def _types(device, *watchers, **target):
    """Says so again as a client does, until all see it: a hint to another node may be lost."""
    seen = {"from": device.user, "typing": True, **{name: value for name, value in target.items() if name == "group"}}
    for watcher in watchers:
        for _ in range(LONG_S):
            await device.frame({"type": "typing_start", **target})
            try:
                await watcher.next("typing_indicator", 1, **seen)
                break
            except NotInTime:
                continue
        else:
            raise AssertionError(f"{watcher.user} never sees that {device.user} types")


async def test_typing_is_seen_at_another_node(node, name):
    one, two = await _two(node)
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    group = one.rest(alice).group("three", [bob, carol])
    async with Device(one, alice, auto_ack=True) as a, Device(two, bob, auto_ack=True) as b, Device(one, carol, auto_ack=True) as c:
        await _types(a, b, to=bob)
        await a.frame({"type": "typing_stop", "to": bob})
        await b.next("typing_indicator", LONG_S, **{"from": alice}, typing=False)
        await _types(b, a, c, group=group)
        # It ends with the message.
        await b.say(group=group, text="typed")
        for member in (a, c):
            await member.next("typing_indicator", LONG_S, **{"from": bob}, group=group, typing=False)
            await member.next("new_message", LONG_S, text="typed")
        assert not b.has("typing_indicator", group=group), "nobody is told of oneself"


async def test_the_same_device_at_another_node_replaces_the_first(node, name):
    one, two = await _two(node)
    alice, bob = name("alice"), name("bob")
    _contacts(one, bob, alice)
    first, second = Device(one, bob), Device(two, bob)
    async with Device(one, bob, "tablet") as tablet, Device(one, alice) as a:
        await _watch(a, bob)
        await first.connect()
        await second.connect()
        assert await first.close_code(LONG_S) == 4509
        await a.say(bob, "to the second")
        await second.next("new_message", LONG_S, text="to the second")
        await tablet.next("new_message", LONG_S, text="to the second")
        assert not first.has("new_message")
        await tablet.leave()
        assert (await _becomes(a, bob, "online"))["status"] == "online"
        await second.leave()
        await _told(a, bob, "offline")
