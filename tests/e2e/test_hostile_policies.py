"""Policies that trap or spin lose their turn, nothing else."""

import asyncio
import json
import time

import pytest

from harness.device import Device
from harness.policies import fixture, manifest

ONE_WORKER = {"HEDDLE_NODE__WORKER_THREADS": "1"}


def _one_worker(start, chain, **config):
    return start(policies=chain, env=ONE_WORKER, config=config)


@pytest.mark.parametrize("policy", ["trap", "spin"])
async def test_a_routing_policy_that_fails_on_every_call_gives_its_declared_failure_mode(start, name, policy):
    server = _one_worker(start, [("routing", fixture(policy))])
    mode = manifest(policy)["hooks"]["routing"]["on_failure"]
    bob = name("bob")
    async with Device(server, name("alice")) as a, Device(server, bob) as b:
        for i in range(10):
            result = await a.outcome(await a.post(bob, f"t{i}"))
            if mode == "closed":
                assert result["type"] == "rejected" and result["code"] == "policy_unavailable", result
                assert result["retryable"] is True
            else:
                assert result["type"] == "accepted", result
        if mode == "closed":
            await b.nothing_before_pong("new_message")
        else:
            await b.until(lambda: len(b.messages) == 10, "ten messages by the fallback")
    assert server.child.poll() is None


async def test_a_fanout_policy_that_traps_is_replaced_by_the_builtin_never_skipped(start, name):
    server = _one_worker(start, [("fanout", fixture("trap"))])
    alice, bob = name("alice"), name("bob")
    group = server.rest(alice).group("stubborn", [bob])
    async with Device(server, alice) as a, Device(server, bob) as b:
        sent = await a.say(group=group, text="through")
        await b.next("new_message", text="through", deadline_s=30)
        decided = [(d["verdict"], d["fallback"]) for d in server.explained(sent["message_id"])["decisions"] if d["hook"] == "fanout"]
        assert decided == [("push", "builtin"), ("sort", "builtin")], decided


async def test_a_fanout_policy_that_traps_only_when_it_sorts_is_asked_twice_then_the_builtin_sorts(start, name):
    """`closed`: the worker asks again after a while, and after two strikes the built-in decides. Nobody is lost, nobody gets it twice."""
    config = {"policies": {"breaker": False, "config": {"trap": {"only": "sort"}}}}
    server = _one_worker(start, [("fanout", fixture("trap"))], **config)
    members = [f"{name('m')}-{i}" for i in range(12)]
    group = server.rest(members[0]).group("stubborn", members[1:])
    devices = [Device(server, member) for member in members]
    for device in devices:
        await device.connect()
    sent = [await devices[0].say(group=group, text=f"t{i}") for i in range(5)]
    for device in devices:
        await device.until(lambda device=device: len(device.messages) >= 5, "five messages", 30)
        await device.ping()
        assert [m["text"] for m in device.messages] == [f"t{i}" for i in range(5)], device.user
        assert device.stale == []
    # Twice it was asked, then the group was spared: nobody asks a plugin that just died of it a hundred times.
    assert server.faults("trap", "trap") == 2, server.metrics()
    mine = next(p for p in server.ready["policies"] if p["hook"] == "fanout")
    for message in sent:
        plan, sort = [d for d in server.explained(message["message_id"])["decisions"] if d["hook"] == "fanout"]
        assert (plan["verdict"], plan["fallback"]) == ("push", None), plan
        assert (sort["verdict"], sort["fallback"]) == ("sort", "builtin"), sort
        # Who stood in is who the stamp names.
        assert plan["digest"] == mine["digest"] != sort["digest"], (plan, sort)
    for device in devices:
        await device.leave()
    server.stop()
    for message in sent:
        chunks = [r for r in server.log("messages") if message["message_id"] in json.dumps(r)]
        targets = [m["user"] for r in chunks for m in r["members"]]
        assert sorted(targets) == sorted(members), chunks


async def test_a_presence_policy_that_traps_and_says_closed_reveals_nothing(start, name):
    """To a contact the built-in would say `online`."""
    server = _one_worker(start, [("presence", fixture("trap"))])
    assert manifest("trap")["hooks"]["presence"]["on_failure"] == "closed"
    alice, bob = name("alice"), name("bob")
    server.rest(bob).put(f"/v1/contacts/{alice}").ok()
    async with Device(server, bob):
        pass
    async with Device(server, alice) as a, Device(server, bob) as b:
        await b.say(alice, "here I am")
        await a.next("new_message", text="here I am")
        await a.frame({"type": "presence_get", "users": [bob]})
        update = await a.next("presence_update", user=bob)
        assert update == {"type": "presence_update", "user": bob, "status": "offline"}, update
        await a.ping()
    assert server.faults("trap", "trap") > 0


async def test_a_rate_limit_policy_that_traps_gives_its_declared_failure_mode(start, name):
    server = _one_worker(start, [("rate-limit", fixture("trap"))])
    mode = manifest("trap")["hooks"]["rate-limit"]["on_failure"]
    if mode == "closed":
        answer = server.rest(name("alice")).get("/v1/conversations")
        assert answer.status in (429, 503), answer
        answer.problem(answer.status)
        # Whoever connects is told the cause too, and that it may go away.
        device = Device(server, name("bob"))
        await device.open()
        await device.frame({"type": "hello", "device": "phone"})
        assert await device.close_code() == 4003
        assert device.has("error", code="policy_unavailable", retryable=True), device.inbox
        return
    async with Device(server, name("alice")) as a:
        await a.say(name("bob"), "allowed")


async def test_at_20_spinning_calls_a_second_a_neighbours_pong_comes_within_200_ms(start, name):
    """One worker thread; a call may take 5 ms of its time. A sender is spared after two calls, so there are fifty; the breaker stays out of it."""
    calls, each = 100, 2
    server = _one_worker(start, [("routing", fixture("spin"))], policies={"breaker": False})
    senders = [Device(server, f"{name('s')}-{i}") for i in range(calls // each)]
    for sender in senders:
        await sender.connect()
    async with Device(server, name("neighbour")) as neighbour:

        async def spin():
            for number in range(calls):
                began = time.monotonic()
                sender = senders[number % len(senders)]
                await sender.outcome(await sender.post(f"{sender.user}-peer", "spin"))
                await asyncio.sleep(max(0.0, 0.05 - (time.monotonic() - began)))

        task = asyncio.create_task(spin())
        slowest, began = 0.0, time.monotonic()
        while not task.done():
            asked = time.monotonic()
            await neighbour.ping()
            slowest = max(slowest, time.monotonic() - asked)
        await task
        took = time.monotonic() - began
    assert server.faults("spin", "deadline") == calls, server.metrics()
    assert calls / took > 15, f"only {calls / took:.0f} spinning calls a second"
    assert slowest < 0.2, f"the slowest pong took {slowest * 1000:.0f} ms"
    for sender in senders:
        await sender.leave()
