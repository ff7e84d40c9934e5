"""Groups: one order for all, membership, mutes, pull, and what the log holds of it."""

import asyncio
import hashlib
import itertools
import json
import time
from collections import Counter

import pytest

from harness.device import Device
from harness.policies import fixture
from harness.waiting import until, until_async


async def test_receipts_of_a_group_above_32_are_counted_and_told_at_most_once_a_second(server, name):
    members = [f"{name('c')}-{i:02}" for i in range(40)]
    group = server.rest(members[0]).group("forty", members[1:])
    sender, readers = Device(server, members[0]), [Device(server, user) for user in members[1:]]
    await asyncio.gather(*(d.connect() for d in (sender, *readers)))
    sent = await sender.say(group=group, text="to forty")
    for reader in readers:
        await reader.next("new_message", text="to forty")
        await reader.ack()
    counts = []

    async def told(status):
        counts.clear()
        times = []
        while not counts or counts[-1] < 39:
            receipt = await sender.next("receipt", status=status, conversation=f"group:{group}")
            assert receipt["message_id"] == sent["message_id"] and receipt["by"] in members[1:]
            counts.append(receipt["count"])
            times.append(receipt["at"])
        assert counts == sorted(counts) and len(counts) < 20, counts
        assert all(later - earlier > 900 for earlier, later in zip(times, times[1:])), times

    await told("delivered")
    for reader in readers:
        await reader.frame({"type": "read_receipt", "message_id": sent["message_id"]})
    await told("read")
    await asyncio.gather(*(d.leave() for d in (sender, *readers)))
    records = [r for r in server.log("messages") if "receipt" in str(r.get("kind", r)).lower() and group in str(r)]
    assert len(records) < 39, "one record a member"


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_a_group_of_100_with_ten_members_sending_at_once_has_one_order_for_all(start, name):
    server = start()
    members = [f"{name('m')}-{i:03}" for i in range(100)]
    group = server.rest(members[0]).group("hundred", members[1:])
    devices = [Device(server, user) for user in members]
    for at in range(0, 100, 20):
        await asyncio.gather(*(d.connect() for d in devices[at : at + 20]))
    senders, each = devices[:10], 10

    async def speak(device):
        for i in range(each):
            await device.say(group=group, text=f"{device.user} says {i}")

    await asyncio.gather(*(speak(d) for d in senders))

    def texts(device):
        return [m["text"] for m in device.messages]

    for device in devices:
        await device.until(lambda d=device: len(d.messages) >= each * 10, f"all messages at {device.user}", 60)
    orders = {tuple(texts(d)) for d in devices}
    assert len(orders) == 1, f"{len(orders)} different orders"
    for device in devices:
        assert len(device.messages) == each * 10 and device.stale == []
        assert [m["order"] for m in device.messages] == sorted(m["order"] for m in device.messages)
    ids = {m["message_id"] for m in devices[0].messages}
    await asyncio.gather(*(d.leave() for d in devices))
    server.stop()
    once = Counter(_id(r) for r in server.log("group_messages") if _id(r) in ids)
    assert set(once) == ids and set(once.values()) == {1}, once.most_common(3)
    chunks = Counter((_id(r), r["partition"]) for r in server.log("messages") if _is_chunk(r) and _id(r) in ids)
    assert {message for message, _ in chunks} == ids
    assert max(chunks.values()) == 1, chunks.most_common(3)


def _find(record, field):
    """The first value under that key, however deep."""
    if isinstance(record, dict):
        if field in record:
            return record[field]
        for value in record.values():
            found = _find(value, field)
            if found is not None:
                return found
    return None


def _id(record):
    return _find(record, "message_id")


def _is_chunk(record):
    """Kinds may be written in snake, kebab or camel case."""
    return "groupchunk" in json.dumps(record).lower().replace("_", "").replace("-", "")


async def test_group_messages_come_in_one_order_on_every_members_device(server, name):
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    group = server.rest(alice).group("three", [bob, carol])
    async with Device(server, alice) as a, Device(server, bob) as b, Device(server, carol) as c:
        accepted = await a.say(group=group, text="all", client_id="g-1")
        for device in (a, b, c):
            got = await device.next("new_message", text="all")
            assert got["group"] == group and "to" not in got and got["order"] == accepted["order"], got
            assert got.get("client_id") == ("g-1" if device is a else None), got


async def test_membership_is_told_to_the_members_as_events_of_their_streams(server, name):
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    async with Device(server, alice) as a, Device(server, bob) as b, Device(server, carol) as c:
        rest = server.rest(alice)
        group = rest.group("told", [bob])
        joined = await b.next("membership", user=bob, change="joined")
        assert joined["group"] == group and joined["by"] == alice and joined["offset"] > 0 and joined["at"] > 0, joined
        rest.post(f"/v1/groups/{group}/members", {"user": carol}).ok()
        for device in (a, b, c):
            assert (await device.next("membership", user=carol, change="joined"))["by"] == alice
        rest.patch(f"/v1/groups/{group}", {"name": "renamed"}).ok()
        assert (await b.next("membership", change="renamed"))["group"] == group
        assert rest.get(f"/v1/groups/{group}").ok().json["name"] == "renamed"
        rest.patch(f"/v1/groups/{group}", {"roles": {bob: "admin"}}).ok()
        assert (await c.next("membership", change="role"))["user"] == bob
        server.rest(carol).delete(f"/v1/groups/{group}/members/{carol}").ok()
        assert (await a.next("membership", change="left"))["user"] == carol
        rest.delete(f"/v1/groups/{group}/members/{bob}").ok()
        assert (await a.next("membership", change="removed"))["user"] == bob
        assert (await b.next("membership", change="removed"))["by"] == alice
        members = rest.get(f"/v1/groups/{group}").ok().json["members"]
        assert [m["user"] for m in members] == [alice], members


async def test_who_is_not_a_member_cannot_send_read_or_manage(server, name):
    alice, bob, eve = name("alice"), name("bob"), name("eve")
    group = server.rest(alice).group("closed", [bob])
    async with Device(server, eve) as e, Device(server, bob) as b:
        rejected = await e.refused("not_member", group=group, text="let me in")
        assert rejected["retryable"] is False
        await b.nothing_before_pong("new_message")
    rest = server.rest(eve)
    for answer in (
        rest.get(f"/v1/groups/{group}"),
        rest.patch(f"/v1/groups/{group}", {"name": "mine"}),
        rest.post(f"/v1/groups/{group}/members", {"user": eve}),
        rest.get(f"/v1/conversations/group:{group}/messages"),
        rest.post("/v1/messages", {"client_id": "e", "group": group, "text": "x"}),
    ):
        assert answer.status in (403, 404), answer
        answer.problem(answer.status)
    server.rest(bob).post(f"/v1/groups/{group}/members", {"user": eve}).problem(403, "forbidden")
    assert [m["user"] for m in server.rest(bob).get(f"/v1/groups/{group}").ok().json["members"]] == sorted([alice, bob])


def test_a_client_id_that_made_a_group_makes_no_other(start, name):
    """The same body again is the same group, whatever has become of it; another body is a conflict, and nothing is made."""
    server = start(config={"store": {"archive_interval": "20 ms"}})
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    rest = server.rest(alice)
    body = {"client_id": "make", "name": "first", "members": [bob]}
    group = rest.post("/v1/groups", body).ok().json["group"]
    for other in ({"name": "second"}, {"members": [bob, carol]}, {"members": []}):
        problem = rest.post("/v1/groups", body | other).problem(409, "conflict")
        assert group in problem.json["detail"] and problem.json["retryable"] is False, problem
    assert rest.post("/v1/groups", body | {"members": [alice, bob, bob]}).ok().json["group"] == group
    rest.patch(f"/v1/groups/{group}", {"name": "renamed"}).ok()
    rest.post(f"/v1/groups/{group}/members", {"user": carol}).ok()
    for _ in range(2):
        assert rest.post("/v1/groups", body).ok().json["group"] == group
        rest.post("/v1/groups", body | {"name": "renamed", "members": [bob, carol]}).problem(409, "conflict")
        # Then from the archive, and with no group in memory.
        until(lambda: server.metrics()["heddle_archive_lag_records"] == 0, "the archive has it")
        server.restart()
        rest = server.rest(alice)
    # Another user's client_ids are their own.
    assert server.rest(bob).post("/v1/groups", body | {"members": []}).ok().json["group"] != group


async def test_to_a_group_that_does_not_exist_is_not_member(server, name):
    async with Device(server, name("alice")) as a:
        await a.refused("not_member", group="no-such-group", text="hello")


async def test_a_removed_member_gets_nothing_more_and_a_joined_one_nothing_before(server, name):
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    rest = server.rest(alice)
    group = rest.group("intervals", [bob])
    async with Device(server, alice) as a, Device(server, bob) as b, Device(server, carol) as c:
        await a.say(group=group, text="one")
        await b.next("new_message", text="one")
        rest.delete(f"/v1/groups/{group}/members/{bob}").ok()
        rest.post(f"/v1/groups/{group}/members", {"user": carol}).ok()
        await a.say(group=group, text="two")
        await c.next("new_message", text="two")
        await b.refused("not_member", group=group, text="still here?")
        await b.nothing_before_pong("new_message")
        assert [m["text"] for m in c.messages] == ["two"]
        history = server.rest(carol).history(f"group:{group}")
        assert [m["text"] for m in history["messages"]] == ["two"], history


async def test_the_same_group_creation_twice_makes_one_group(server, name):
    alice = name("alice")
    rest = server.rest(alice)
    assert rest.group("once", [name("bob")], "mk") == rest.group("once", [name("bob")], "mk")


async def test_a_deleted_group_is_gone_for_everybody(server, name):
    alice, bob = name("alice"), name("bob")
    rest = server.rest(alice)
    group = rest.group("short-lived", [bob])
    async with Device(server, bob) as b:
        await b.next("membership", change="joined", user=bob)
        rest.delete(f"/v1/groups/{group}").ok()
        await b.next("membership", change="removed")
        await b.refused("not_member", group=group, text="anyone?")


async def test_a_muted_group_is_quiet_unless_the_member_is_mentioned(server, name):
    alice, bob = name("alice"), name("bob")
    group = server.rest(alice).group("loud", [bob])
    quiet = f"/v1/conversations/group:{group}/mute"
    async with Device(server, alice) as a, Device(server, bob) as b:
        server.rest(bob).put(quiet).ok()
        await a.say(group=group, text="hush")
        assert (await b.next("new_message", text="hush"))["quiet"] is True
        await a.say(group=group, text="hey", mentions=[bob])
        assert not (await b.next("new_message", text="hey")).get("quiet")
        server.rest(bob).delete(quiet).ok()
        await a.say(group=group, text="again")
        assert not (await b.next("new_message", text="again")).get("quiet")


async def test_a_muted_direct_conversation_is_quiet(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob) as b:
        server.rest(bob).put(f"/v1/conversations/user:{alice}/mute").ok()
        await a.say(bob, "hush")
        assert (await b.next("new_message"))["quiet"] is True


async def test_a_pulled_group_sends_notices_and_is_read_as_history(start, name):
    server = start(policies=[("fanout", fixture("pull-all"))])
    alice, bob = name("alice"), name("bob")
    group = server.rest(alice).group("pulled", [bob])
    async with Device(server, alice) as a, Device(server, bob) as b:
        await b.next("membership", change="joined", user=bob)
        last = None
        for i in range(5):
            last = await a.say(group=group, text=f"p{i}")
        await until_async(
            lambda: b.has("group_notice", group=group, head=last["order"]), "a notice with the newest head"
        )
        assert all("offset" not in f for f in b.inbox if f["type"] == "group_notice")
        assert not b.messages
        history = server.rest(bob).history(f"group:{group}")
        assert [m["text"] for m in history["messages"]] == [f"p{i}" for i in range(5)], history
    async with Device(server, bob, "desk") as again:
        await again.next("caught_up")
        assert again.has("group_notice", group=group, head=last["order"]), again.inbox


async def test_of_many_pulled_messages_in_a_second_one_notice_comes(start, name):
    server = start(policies=[("fanout", fixture("pull-all"))])
    alice, bob = name("alice"), name("bob")
    group = server.rest(alice).group("pulled", [bob])
    async with Device(server, alice, auto_ack=True) as a, Device(server, bob) as b:
        await b.next("membership", change="joined", user=bob)
        began, last = time.monotonic(), None
        for i in range(60):
            last = await a.say(group=group, text=f"p{i}")
        await until_async(lambda: b.has("group_notice", group=group, head=last["order"]), "a notice with the newest head")
        seconds = time.monotonic() - began
        heads = [f["head"] for f in b.inbox if f["type"] == "group_notice"]
        assert heads == sorted(set(heads)) and len(heads) <= seconds + 2, (heads, seconds)


async def test_typing_in_a_group_names_the_group(server, name):
    alice, bob = name("alice"), name("bob")
    group = server.rest(alice).group("typing", [bob])
    async with Device(server, alice) as a, Device(server, bob) as b:
        await a.frame({"type": "typing_start", "group": group})
        seen = await b.next("typing_indicator", typing=True)
        assert seen["from"] == alice and seen["group"] == group, seen


async def test_receipts_in_a_small_group_name_each_reader(server, name):
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    group = server.rest(alice).group("receipts", [bob, carol])
    async with Device(server, alice) as a, Device(server, bob) as b, Device(server, carol) as c:
        accepted = await a.say(group=group, text="seen?")
        for device in (b, c):
            got = await device.next("new_message")
            await device.ack()
            await device.frame({"type": "read_receipt", "message_id": got["message_id"]})
        for who in (bob, carol):
            read = await a.next("receipt", status="read", by=who)
            assert read["conversation"] == f"group:{group}" and read["order"] == accepted["order"], read


async def test_a_chunk_that_nobody_gets_keeps_its_number(start):
    """A policy that is asked again after a crash may leave out others. Were chunks counted without those that nobody gets, the numbers behind
    them would shift: what was there already would come twice, or what was not there would be taken for a repetition."""
    server = start(policies=[("fanout", fixture("leave-out-odd"))])
    sender, *others = members = [f"member-{number:02}" for number in range(24)]
    group = server.rest(sender).group("every other", others)
    async with Device(server, sender) as s:
        sent = await s.say(group=group, text="to half of them")
        await s.next("new_message", text="to half of them")
    server.stop()

    def home(user):
        return int.from_bytes(hashlib.sha256(user.encode()).digest()[:8], "big") % 16

    # All by home, then every other but the sender is left out, then those that are left by the number of their home among all homes.
    listed = sorted(members, key=lambda user: (home(user), user))
    asked = [user for user in listed if user != sender]
    reached = {sender, *asked[::2]}
    homes = [list(users) for _, users in itertools.groupby(listed, key=home)]
    wanted = {number: [user for user in users if user in reached] for number, users in enumerate(homes)}
    chunks = {row["source"]["chunk"]: [member["user"] for member in row["members"]]
              for row in server.log("messages") if row["kind"] == "group_chunk" and row["message_id"] == sent["message_id"]}
    assert chunks == {number: users for number, users in wanted.items() if users}
    assert len(chunks) < len(homes), "somewhere nobody is left"
