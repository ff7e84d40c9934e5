"""An archive that is slower than what comes: nothing is doubled meanwhile, and nobody accepts what the log may forget before it is safe."""

import asyncio
import time

from harness.device import Device
from harness.faults import attach, detach, need_strace
from harness.operator import roll
from harness.redis import Redis
from harness.waiting import until_async

# Ids are remembered for so long; the archive comes much later.
WINDOW_S = 2


async def test_what_is_sent_again_after_the_window_and_before_the_archive_is_one_message(nodes, kafka, name):
    """Ids went by age alone, and the archive that did not have the message yet was believed when it said so."""
    # On Kafka the archive comes within half of the time for which a history waits.
    one, two = nodes(
        2, kafka=kafka.config(dedupe_window=f"{WINDOW_S} s"), store_more={"archive_interval": "1 min", "archive_records_max": 100_000},
        delivery={"history_deadline": "1 min"})
    alice, bob = name("alice"), name("bob")
    # More than may stay unacknowledged.
    devices = (Device(one, alice, auto_ack=True), Device(two, alice, "tablet", auto_ack=True), Device(two, bob, auto_ack=True))
    async with devices[0] as a, devices[1] as t, devices[2] as b:
        # What was there at the start is archived; what comes now waits for a minute.
        first = await a.say(bob, "once", client_id="c1")
        began, number = time.monotonic(), 0
        while time.monotonic() < began + WINDOW_S + 2:
            # Ids of a partition go when later records come to it.
            await a.say(bob, f"later {number}")
            number += 1
        lag = lambda: sum(row["archive_lag"] for row in roll(one).values())  # noqa: E731
        await until_async(lambda: lag() > number, "nothing of it is archived")
        for device in (t, a):
            again = await device.say(bob, "once", client_id="c1", resend=True)
            assert {n: again[n] for n in ("order", "sent_at")} == {n: first[n] for n in ("order", "sent_at")}
        await a.say(bob, "the end")
        await b.next("new_message", text="the end")
        assert b.texts().count("once") == 1, b.texts()


async def test_who_asks_for_a_history_does_not_wait_for_the_archives_interval_on_any_node(nodes, name):
    with Redis() as redis:
        one, two = nodes(
            2, store_more={"archive_interval": "1 min"}, delivery={"history_deadline": "1 min"},
            registry={"backend": "redis", "url": redis.url, "lease": "3 s"})
        alice, bob = name("alice"), name("bob")
        # Each of both partitions belongs to one of the nodes; both are asked.
        async with Device(one, alice) as a:
            await a.say(bob, "just now")
        for node in (one, two):
            for user, other in ((alice, bob), (bob, alice)):
                assert [m["text"] for m in node.rest(user).history(f"user:{other}")["messages"]] == ["just now"]


async def test_a_group_has_its_name_in_the_list_of_conversations_before_it_is_archived(nodes, name):
    with Redis() as redis:
        one, two = nodes(
            2, store_more={"archive_interval": "1 min"}, delivery={"history_deadline": "1 min"},
            registry={"backend": "redis", "url": redis.url, "lease": "3 s"})
        alice, bob = name("alice"), name("bob")
        async with Device(one, alice) as a, Device(two, bob) as b:
            group = one.rest(alice).group("Weavers", [bob])
            await a.say(group=group, text="welcome")
            # Each has it in the own stream, alice her own copy.
            for device in (a, b):
                await device.next("new_message", text="welcome")
            # Who asks hurries the archive of the own partition, not that of the group's.
            assert [_listed(one, alice), _listed(two, bob)] == [[(f"group:{group}", "Weavers")]] * 2
            one.rest(alice).patch(f"/v1/groups/{group}", {"name": "Dyers"}).ok()
            assert _listed(one, alice) == [(f"group:{group}", "Dyers")]
            await until_async(lambda: _listed(two, bob) == [(f"group:{group}", "Dyers")], "the other node reads of it")


def _listed(node, user):
    listed = node.rest(user).get("/v1/conversations").ok().json["conversations"]
    return [(row["conversation"], row["name"]) for row in listed]


async def test_sends_are_refused_when_an_archive_that_moves_falls_behind(kafka, start, name):
    """A cursor that had moved since the last look was left out: one that always moves, too slowly, was never late."""
    need_strace()
    server = start(config={
        "log": {"backend": "kafka"}, "kafka": kafka.config(retention="10 s"),
        # A read has some five records, and fills a transaction.
        "delivery": {"read_bytes": "4 KiB"}, "store": {"archive_records_max": 4},
    })
    bob = name("bob")
    # A transaction syncs once: a step a second.
    slow = attach(server.pid, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=1000000")
    async with Device(server, name("alice"), auto_ack=True) as a, Device(server, bob, auto_ack=True) as b:
        accepted, refused = [], None
        end = time.monotonic() + 60
        while refused is None and time.monotonic() < end:
            text = f"{len(accepted)} " + "x" * 700
            outcome = await a.outcome(await a.post(bob, text))
            if outcome["type"] == "accepted":
                accepted.append(text)
                # More than the archive takes.
                await asyncio.sleep(0.1)
            else:
                refused = outcome
        assert refused and refused["code"] == "unavailable" and refused["retryable"], refused
        used = 'heddle_retention_used_ratio{cursor="archived"}'
        assert server.metrics()[used] > 0.5
        # It is the archive alone that is late.
        await b.until(lambda: len(b.texts()) >= len(accepted), "what was accepted")
        assert b.texts()[: len(accepted)] == accepted
        detach(slow)
        await until_async(lambda: server.metrics()[used] < 0.5, "it has caught up", 60)
        await until_async(lambda: _accepted(a, bob, text, refused["client_id"]), "sends are accepted again")


async def _accepted(device, to, text, client_id):
    outcome = await device.outcome(await device.post(to, text, client_id=client_id, resend=True))
    return outcome["type"] == "accepted"
