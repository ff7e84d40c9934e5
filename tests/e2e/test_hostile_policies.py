"""Policies that trap or spin lose their turn, nothing else."""

import asyncio
import time

import pytest

from harness.device import Device
from harness.policies import fixture, manifest

ONE_WORKER = {"HEDDLE_NODE__WORKER_THREADS": "1"}


def _one_worker(start, policies, **config):
    return start(policies=policies, env=ONE_WORKER, config=config)


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
        result = await a.outcome(await a.post(group=group, text="through"))
        if result["type"] == "accepted":
            await b.next("new_message", text="through", deadline_s=30)
        else:
            assert result["code"] == "policy_unavailable", result


async def test_a_presence_policy_that_traps_reveals_nothing_or_the_builtins_view(start, name):
    server = _one_worker(start, [("presence", fixture("trap"))])
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob):
        await a.frame({"type": "presence_get", "users": [bob]})
        assert (await a.next("presence_update", user=bob))["status"] in ("online", "away", "offline")
        await a.ping()


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
    """One worker thread; the deadline of a call is 5 ms of CPU time, so the neighbour waits for a few of them at most."""
    server = _one_worker(start, [("routing", fixture("spin"))])
    bob = name("bob")
    async with Device(server, name("alice")) as spinner, Device(server, name("neighbour")) as neighbour:
        stop = asyncio.Event()

        async def spin():
            while not stop.is_set():
                await spinner.post(bob, "spin")
                await asyncio.sleep(0.05)

        task = asyncio.create_task(spin())
        slowest = 0.0
        end = time.monotonic() + 5
        while time.monotonic() < end:
            began = time.monotonic()
            await neighbour.ping()
            slowest = max(slowest, time.monotonic() - began)
        stop.set()
        await task
        assert len(spinner.outcomes) > 50, len(spinner.outcomes)
        assert slowest < 0.2, f"the slowest pong took {slowest * 1000:.0f} ms"
