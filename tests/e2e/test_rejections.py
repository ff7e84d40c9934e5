"""Accepted, and then found not to stand: two bodies that two nodes took under one id, and a member that was removed a moment before."""

import asyncio

from harness.device import Device
from harness.waiting import until

TRIES = 60


def rejections(device, code):
    """Those that came through the stream, by their client_id; an order is of its conversation only."""
    return {f["client_id"]: f for f in device.inbox if f["type"] == "rejected" and f["code"] == code and "offset" in f}


def count(device, code):
    """How many came."""
    return sum(f["type"] == "rejected" and f["code"] == code and "offset" in f for f in device.inbox)


async def two_bodies(a, t, bob, number):
    """Sends another text under one id at two nodes, until both took it. The later one's order and client_id; which text stands."""
    for attempt in range(TRIES):
        client_id = f"c{number}-{attempt}"
        for device in (a, t):
            await device.post(bob, f"{client_id} {device.name}", client_id=client_id)
        outcomes = [await device.outcome(client_id) for device in (a, t)]
        if all(outcome["type"] == "accepted" for outcome in outcomes):
            earlier, later = sorted(zip(outcomes, (a, t), strict=True), key=lambda both: both[0]["order"])
            assert earlier[0]["order"] != later[0]["order"], "another text was told that it is the first"
            return later[0]["order"], client_id, f"{client_id} {earlier[1].name}"
        assert any(outcome.get("code") == "conflict" for outcome in outcomes), outcomes
    raise AssertionError("two nodes never took one id at once")


async def test_of_two_texts_under_one_id_at_two_nodes_the_later_is_rejected_once_whoever_dies(nodes, name):
    one, two = nodes(2)
    alice = name("alice")
    bobs = [name(f"bob{number}") for number in range(3)]
    rejected, stands = {}, {}
    async with Device(two, alice, "tablet", auto_ack=True) as t:
        async with Device(one, alice, auto_ack=True) as a:
            for number, bob in enumerate(bobs):
                order, client_id, text = await two_bodies(a, t, bob, number)
                rejected[client_id], stands[bob] = order, text
            # Some of it may not be derived yet, and the other node takes that over.
            one.kill()
        await t.until(lambda: set(rejections(t, "conflict")) >= set(rejected), "all rejections", 60)
        until(lambda: two.metrics().get("heddle_partitions_owned") == 12, "the other has all partitions", 60)
        await t.say(bobs[0], "the end")
        await t.next("new_message", text="the end")
        told = rejections(t, "conflict")
        assert {client_id: frame["order"] for client_id, frame in told.items()} == rejected
        assert count(t, "conflict") == len(rejected) and not any(frame["retryable"] for frame in told.values())
    async with Device(two, alice, "late") as late:
        await late.leave()
        await late.connect(resume=0)
        await late.next("caught_up")
        assert {client_id: frame["offset"] for client_id, frame in rejections(late, "conflict").items()} == {
            client_id: frame["offset"] for client_id, frame in told.items()}
        assert count(late, "conflict") == len(rejected)
    for bob, text in stands.items():
        async with Device(two, bob) as b:
            await b.next("caught_up")
            of_id = text.rsplit(" ", 1)[0] + " "
            assert [said for said in b.texts() if said.startswith(of_id)] == [text]


async def test_who_was_removed_a_moment_before_is_told_that_the_message_does_not_stand(nodes, name):
    one, two = nodes(2)
    alice, bob = name("alice"), name("bob")
    rest = one.rest(alice)
    async with Device(one, alice, auto_ack=True) as a:
        group = rest.group("g", [bob])
        devices = [Device(two, bob, f"d{number}", auto_ack=True) for number in range(4)]
        for device in devices:
            await device.connect()
        first, found = devices[0], {}
        for attempt in range(TRIES):
            # While one node removes him, the other's view is that of a moment ago, and many sends ask it.
            removing = asyncio.create_task(asyncio.to_thread(rest.delete, f"/v1/groups/{group}/members/{bob}"))
            sent = {}
            while not removing.done():
                for device in devices:
                    sent[await device.post(group=group, text=f"try {attempt}")] = device
                await asyncio.sleep(0)
            (await removing).ok()
            for client_id, device in sent.items():
                outcome = await device.outcome(client_id)
                assert outcome["type"] == "accepted" or outcome["code"] == "not_member", outcome
            await first.say(alice, f"end of {attempt}", client_id=f"end {attempt}")
            await first.next("new_message", client_id=f"end {attempt}")
            found = rejections(first, "not_member")
            if found:
                break
            rest.post(f"/v1/groups/{group}/members", {"user": bob}).ok()
            await first.until(lambda: first.has("membership", change="joined"), "he is in again")
            first.inbox.clear()
        assert found, "no send was accepted by a view of a moment ago"
        # The worker of the group's partition tells; wait for what it derives last.
        await first.next("membership", change="removed", user=bob)
        found = rejections(first, "not_member")
        assert count(first, "not_member") == len(found)
        for client_id, frame in found.items():
            assert sent[client_id].outcomes[client_id]["order"] == frame["order"] and frame["retryable"] is False
        # Nobody got them.
        await a.say(group=group, text="to myself")
        await a.next("new_message", text="to myself")
        ours = [message["order"] for message in a.messages if message.get("group") == group]
        assert not set(ours) & {frame["order"] for frame in found.values()}
        for device in devices:
            await device.leave()
