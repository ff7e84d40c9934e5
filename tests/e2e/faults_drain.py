"""A policy set that decides no more is held until its records are worked on, on a real Kafka. Takes a minute, so `make faults` alone runs it."""

import signal

import pytest

from harness.device import Device
from harness.operator import changed, roll
from harness.server import heddle
from harness.waiting import until

# A node that stands still is gone after 10 s; a set may decide elsewhere for 35 s after it ceased here. (DELIVERY 23 and 27)
QUIET_S = 90


@pytest.mark.timeout(300)
async def test_a_node_drops_an_older_set_once_the_records_that_it_decided_are_worked_on_and_not_before(nodes, name):
    gateway, worker = nodes(2, roles=[["gateway"], ["worker"]])
    until(lambda: roll(gateway).get("n2", {}).get("partitions", 0) > 0, "one takes messages, the other works on them", 60)
    first = changed(gateway, "list")["generation"]
    alice, bob = name("alice"), name("bob")
    async with Device(gateway, alice, auto_ack=True) as a:
        worker.signal(signal.SIGSTOP)
        assert (await a.say(bob, "who works on this?"))["generation"] == first
        until(lambda: roll(gateway)["n2"]["age_ms"] > 10_000, "the worker is gone", 30)
        second = changed(gateway, "set", "token-bucket", 'commands={"typing": {"burst": 50, "per_second": 5}}')["generation"]
        assert changed(gateway, "list")["draining"] == [first]
        assert (await a.say(bob, "decided by the second"))["generation"] == second
    until(lambda: changed(gateway, "list")["waiting"] == [first], "nobody can stamp a message with it any more", QUIET_S)
    shown = changed(gateway, "list")
    assert (shown["draining"], shown["loaded"], shown["kept"]) == ([first], [first], []), shown
    assert f"draining: {first} (its records wait to be worked on)" in heddle("plugin", "list", "--data", gateway.data).stdout
    standing = {change["detail"]["after"]["generation"]: change["standing"] for change in changed(gateway, "history")["changes"]}
    assert standing == {first: "draining", second: "decides"}
    worker.signal(signal.SIGCONT)
    until(lambda: changed(gateway, "list")["draining"] == [], "it is drained", 60)
    assert changed(gateway, "list")["kept"] == [first]
    assert gateway.metrics()['heddle_policy_generations{standing="draining"}'] == 0
