"""The same client_id again, in every way: one message, one decision."""

import asyncio

import pytest

from harness.device import Device
from harness.policies import fixture

SAME = ("message_id", "sent_at", "lamport", "order", "generation")
OTHERS = 100_000


def same(first, again):
    """Both answers settle the same message."""
    assert [first[f] for f in SAME] == [again[f] for f in SAME], (first, again)


async def _once(server, user, sender, text):
    """That text came to the user once."""
    async with Device(server, user, "checker") as device:
        await device.next("caught_up")
        found = [m for m in device.messages if m.get("text") == text and m["from"] == sender]
        assert len(found) == 1, found


async def test_the_same_client_id_at_once_gives_the_first_answer(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        first = await a.say(bob, "once", client_id="same")
        for _ in range(3):
            a.outcomes.clear()
            same(first, await a.say(bob, "once", client_id="same", resend=True))
        a.outcomes.clear()
        same(first, await a.say(bob, "once", client_id="same"))
    await _once(server, bob, alice, "once")


async def test_two_sends_in_one_breath_are_one_message(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        frame = {"type": "chat_message", "client_id": "twin", "to": bob, "text": "twin"}
        answers = []
        for _ in range(5):
            await a.frame(frame)
        for _ in range(5):
            answers.append(await a.next("accepted", client_id="twin"))
        for answer in answers:
            same(answers[0], answer)
    await _once(server, bob, alice, "twin")


async def test_the_same_client_id_from_two_sockets_at_a_time_is_one_message(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice, "one") as one, Device(server, alice, "two") as two:
        for i in range(20):
            text = f"race-{i}"
            first, again = await asyncio.gather(
                one.say(bob, text, client_id=text), two.say(bob, text, client_id=text, resend=True)
            )
            same(first, again)
    async with Device(server, bob) as b:
        await b.next("caught_up")
        assert b.texts() == [f"race-{i}" for i in range(20)], b.texts()


async def test_over_rest_and_over_a_socket_it_is_the_same_message(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        first = await a.say(bob, "both ways", client_id="both")
        answer = server.rest(alice).post("/v1/messages", {"client_id": "both", "to": bob, "text": "both ways"}).ok()
        same(first, answer.json)
    await _once(server, bob, alice, "both ways")


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_the_same_client_id_after_many_other_messages(start, name):
    server = start()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, name("busy")) as busy:
        first = await a.say(bob, "early", client_id="early")
        sent = 0
        while sent < OTHERS:
            ids = [await busy.post(name("sink"), f"n{sent + i}") for i in range(500)]
            for client_id in ids:
                assert (await busy.outcome(client_id))["type"] == "accepted"
            sent += 500
            busy.outcomes.clear()
            busy.inbox.clear()
            busy.messages.clear()
            if busy.position:
                await busy.ack()
        a.outcomes.clear()
        same(first, await a.say(bob, "early", client_id="early", resend=True))
    await _once(server, bob, alice, "early")


@pytest.mark.parametrize("hard", [False, True], ids=["drained", "killed"])
async def test_the_same_client_id_after_a_restart(start, name, hard):
    server = start()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        first = await a.say(bob, "before", client_id="before")
    server.restart(hard)
    async with Device(server, alice) as a:
        same(first, await a.say(bob, "before", client_id="before", resend=True))
    await _once(server, bob, alice, "before")


async def test_under_another_policy_set_a_retry_is_not_decided_again(start, name):
    server = start()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        first = await a.say(bob, "under the old", client_id="old")
    server.stop()
    server.policies = [("routing", fixture("deny-all"))]
    server.start()
    async with Device(server, alice) as a:
        same(first, await a.say(bob, "under the old", client_id="old", resend=True))
        await a.refused("refused", bob, "under the new", client_id="new")
    await _once(server, bob, alice, "under the old")


async def test_another_body_under_the_same_client_id_is_a_conflict(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        first = await a.say(bob, "one body", client_id="body")
        a.outcomes.clear()
        assert (await a.refused("conflict", bob, "another body", client_id="body"))["retryable"] is False
        a.outcomes.clear()
        same(first, await a.say(bob, "one body", client_id="body", resend=True))
        a.outcomes.clear()
        elsewhere = await a.say(name("carol"), "one body", client_id="body")
        assert elsewhere["message_id"] != first["message_id"]
        conflict = server.rest(alice).post("/v1/messages", {"client_id": "body", "to": bob, "text": "third"})
        conflict.problem(409, "conflict")
    await _once(server, bob, alice, "one body")


async def test_two_users_may_use_the_same_client_id(server, name):
    bob = name("bob")
    async with Device(server, name("alice")) as a, Device(server, name("carol")) as c:
        one, two = await a.say(bob, "x", client_id="shared"), await c.say(bob, "x", client_id="shared")
        assert one["message_id"] != two["message_id"]
