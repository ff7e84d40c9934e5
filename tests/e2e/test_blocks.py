"""Blocks: what a blocked user sends reaches nobody and tells nothing, and the two are kept out of each other's sight."""

from harness.device import Device
from harness.policies import fixture
from harness.waiting import until


def block(server, user, other):
    """`user` blocks `other`."""
    assert server.rest(user).put(f"/v1/blocks/{other}").ok().status == 204


def unblock(server, user, other):
    """And no longer."""
    assert server.rest(user).delete(f"/v1/blocks/{other}").ok().status == 204


def texts(server, user, conversation):
    """A history."""
    return [message["text"] for message in server.rest(user).history(conversation, limit=100)["messages"]]


async def nothing_but(device, *wanted):
    """These came, and a round trip later nothing else has."""
    await device.until(lambda: set(wanted) <= set(device.texts()), f"{wanted}")
    await device.ping()
    assert device.texts() == list(wanted), device.texts()


async def test_blocks_are_listed_set_twice_and_taken_back_twice(server, name):
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    rest = server.rest(bob)
    assert rest.get("/v1/blocks").ok().json == {"blocks": []}
    for other in (carol, alice, carol):
        block(server, bob, other)
    assert rest.get("/v1/blocks").ok().json == {"blocks": [alice, carol]}
    assert server.rest(alice).get("/v1/blocks").ok().json == {"blocks": []}
    for _ in range(2):
        unblock(server, bob, carol)
    assert rest.get("/v1/blocks").ok().json == {"blocks": [alice]}
    rest.put(f"/v1/blocks/{bob}").problem(400, "invalid")
    server.admin_rest().get("/metrics").ok()


async def test_a_blocked_senders_message_is_accepted_and_reaches_nobody(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, alice, "laptop") as laptop, Device(server, bob) as b:
        await a.say(bob, "before")
        await nothing_but(b, "before")
        block(server, bob, alice)
        sent = await a.say(bob, "blocked")
        # The sender's own devices have it, as if nothing were.
        await laptop.next("new_message", text="blocked")
        assert texts(server, alice, f"user:{bob}") == ["before", "blocked"]
        by_post = {"client_id": "by-post", "to": bob, "text": "blocked by post"}
        assert server.rest(alice).post("/v1/messages", by_post).ok().json["message_id"]
        await a.frame({"type": "typing_start", "to": bob})
        await a.ping()
        # No receipt comes, for what was there before neither.
        await b.ack()
        await b.frame({"type": "read_receipt", "message_id": b.messages[0]["message_id"]})
        await nothing_but(b, "before")
        assert not b.has("typing_indicator")
        again = await a.say(bob, "blocked", client_id=sent["client_id"], resend=True)
        assert again["order"] == sent["order"], "a retry is told the same"
        unblock(server, bob, alice)
        # What was blocked does not come later.
        await a.say(bob, "after")
        await nothing_but(b, "before", "after")
        await a.ping()
        assert not a.has("receipt", status="read")
    assert texts(server, bob, f"user:{alice}") == ["before", "after"]
    fresh = Device(server, bob, "new")
    await fresh.connect(resume=0)
    await fresh.next("caught_up")
    assert fresh.texts() == ["before", "after"]
    await fresh.leave()


async def test_who_blocks_cannot_write_to_whom_they_block(server, name):
    alice, bob = name("alice"), name("bob")
    block(server, bob, alice)
    async with Device(server, bob) as b:
        refused = await b.refused("refused", alice, "hello")
        assert refused["retryable"] is False and alice in refused["reason"], refused
        body = {"client_id": "x", "to": alice, "text": "hello"}
        server.rest(bob).post("/v1/messages", body).problem(403, "refused")
        unblock(server, bob, alice)
        await b.say(alice, "hello", client_id=refused["client_id"])


async def test_in_a_group_the_pair_is_left_out_of_each_others_messages(server, name):
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    group = server.rest(carol).group("all", [alice, bob])
    block(server, bob, alice)
    async with Device(server, alice) as a, Device(server, bob) as b, Device(server, carol) as c:
        await a.say(group=group, text="of alice")
        await b.say(group=group, text="of bob")
        await a.frame({"type": "typing_start", "group": group})
        await c.next("typing_indicator", **{"from": alice})
        await c.say(group=group, text="of carol")
        await c.until(lambda: len(c.texts()) == 2, "both at carol")
        await nothing_but(a, "of carol")
        await nothing_but(b, "of carol")
        assert not b.has("typing_indicator")
        unblock(server, bob, alice)
        await a.say(group=group, text="again")
        await nothing_but(b, "of carol", "again")
    assert texts(server, bob, f"group:{group}") == ["of bob", "of carol", "again"]
    assert sorted(texts(server, carol, f"group:{group}")) == ["again", "of alice", "of bob", "of carol"]
    # They stay members, and see each other in the list.
    members = server.rest(bob).get(f"/v1/groups/{group}").ok().json["members"]
    assert {member["user"] for member in members} == {alice, bob, carol}


async def test_a_chunk_that_blocks_leave_empty_holds_up_none(start, name):
    server = start(config={"groups": {"chunk_members": 1}})
    alice, others = name("alice"), [name(f"u{number}") for number in range(6)]
    group = server.rest(alice).group("all", others)
    for other in others[::2]:
        block(server, other, alice)
    async with Device(server, alice) as a:
        for number in range(3):
            await a.say(group=group, text=f"m{number}")
    server.restart(hard=True)
    for nth, other in enumerate(others):
        async with Device(server, other) as device:
            await device.next("caught_up")
            assert device.texts() == ([] if nth % 2 == 0 else ["m0", "m1", "m2"]), other


async def test_what_a_blocked_user_says_in_a_pulled_group_is_in_nobodys_history_who_blocks(start, name):
    server = start(policies=[("fanout", fixture("pull-all"))])
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    group = server.rest(carol).group("pulled", [alice, bob])
    block(server, bob, alice)
    async with Device(server, alice) as a, Device(server, bob) as b, Device(server, carol) as c:
        await a.say(group=group, text="of alice")
        await c.next("group_notice", group=group)
        await b.nothing_before_pong("group_notice", group=group)
        await c.say(group=group, text="of carol")
        await b.next("group_notice", group=group)
    assert texts(server, carol, f"group:{group}") == ["of alice", "of carol"]
    assert texts(server, bob, f"group:{group}") == ["of carol"]
    unblock(server, bob, alice)
    # No record was made of each member: what counts is who blocks whom when the history is read.
    assert texts(server, bob, f"group:{group}") == ["of alice", "of carol"]


async def test_a_blocked_user_cannot_bring_the_other_into_a_group(server, name):
    alice, bob = name("alice"), name("bob")
    block(server, bob, alice)
    body = {"client_id": "g", "name": "come in", "members": [bob]}
    server.rest(alice).post("/v1/groups", body).problem(403, "refused")
    group = server.rest(alice).group("alone", [])
    server.rest(alice).post(f"/v1/groups/{group}/members", {"user": bob}).problem(403, "refused")
    unblock(server, bob, alice)
    server.rest(alice).post(f"/v1/groups/{group}/members", {"user": bob}).ok()


async def test_neither_sees_the_other_and_contacts_stay(server, name):
    alice, bob = name("alice"), name("bob")
    for user, other in ((alice, bob), (bob, alice)):
        server.rest(user).put(f"/v1/contacts/{other}").ok()
    async with Device(server, alice) as a, Device(server, bob) as b:
        for device, other in ((a, bob), (b, alice)):
            await device.frame({"type": "presence_subscribe", "users": [other]})
            await device.next("presence_update", user=other, status="online")
        block(server, bob, alice)
        # Whoever watches is told at once, and nothing of when the other was last there.
        for device, other in ((a, bob), (b, alice)):
            told = await device.next("presence_update", user=other, status="offline")
            assert "last_seen" not in told, told
        await b.frame({"type": "presence_set", "status": "away"})
        await b.ping()
        await a.nothing_before_pong("presence_update", user=bob, status="away")
        seen = server.rest(alice).get(f"/v1/presence?users={bob}").ok().json["presence"]
        assert seen == [{"user": bob, "status": "offline"}]
        assert server.rest(bob).get("/v1/contacts").ok().json == {"contacts": [alice]}
        unblock(server, bob, alice)
        await a.next("presence_update", user=bob, status="away")
        await b.next("presence_update", user=alice, status="online")


async def test_a_user_blocks_at_most_so_many_and_blocks_outlive_a_restart(start, name):
    server = start(config={"users": {"blocks_max": 2}})
    alice, bob = name("alice"), name("bob")
    for other in (alice, name("carol")):
        block(server, bob, other)
    server.rest(bob).put(f"/v1/blocks/{name('dave')}").problem(403, "refused")
    server.restart(hard=True)
    until(lambda: server.metrics().get("heddle_blocks") == 2, "both are in memory")
    async with Device(server, alice) as a, Device(server, bob) as b:
        await a.say(bob, "blocked")
        await a.say(bob, "blocked too")
        await nothing_but(b)


async def test_beyond_what_memory_is_for_the_store_is_asked(start, name):
    server = start(config={"users": {"blocks_cached_max": 16}})
    others = [name(f"u{number}") for number in range(20)]
    bob = name("bob")
    for other in others:
        block(server, bob, other)
    async with Device(server, bob) as b, Device(server, name("alice")) as a:
        for other in (others[0], others[-1]):
            async with Device(server, other) as blocked:
                await blocked.say(bob, "blocked")
        await a.say(bob, "let through")
        await nothing_but(b, "let through")
        assert server.metrics()["heddle_blocks"] == 16
