"""The log on a real Kafka: one node, then several, and brokers that are away."""

import asyncio
import contextlib
import json
import os

import pytest

from harness.device import Device
from harness.kafka import Kafka
from harness.operator import roll
from harness.questions import Broker
from harness.server import heddle
from harness.waiting import until, until_async

AWAY_S = float(os.environ.get("HEDDLE_E2E_KAFKA_AWAY_S", "10"))


@pytest.fixture
def node(kafka, start):
    """Makes nodes with an SQLite file of their own: for tests of one node."""

    def make(**options):
        config = {"log": {"backend": "kafka"}, "kafka": kafka.config(), **options.pop("config", {})}
        return start(config=config, **options)

    return make


def caught_up(*servers):
    """Nothing that a node works on is missing in the archive."""
    for server in servers:
        until(lambda server=server: server.metrics().get("heddle_archive_lag_records") == 0, "the archive has caught up", 60)


async def test_people_talk_over_kafka_and_everything_is_there_after_a_kill(node, name):
    server = node()
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    async with Device(server, alice) as a, Device(server, bob, auto_ack=True) as b:
        for number in range(20):
            await a.say(bob, f"m{number}")
        await b.until(lambda: len(b.messages) == 20, "twenty messages")
        assert [m["text"] for m in b.messages] == [f"m{number}" for number in range(20)]
        group = server.rest(alice).group("the three", [bob, carol])
        await b.say(group=group, text="to all")
        await a.next("new_message", text="to all")
        await a.next("receipt", status="delivered", order=b.messages[19]["order"])
    server.restart(hard=True)
    async with Device(server, carol) as c, Device(server, alice) as a:
        await c.next("caught_up")
        assert c.texts() == ["to all"] and "gap" not in c.hello
        await a.say(carol, "after the kill")
        await c.next("new_message", text="after the kill")
    caught_up(server)
    history = server.rest(alice).history(f"user:{bob}", limit=100)["messages"]
    assert [m["text"] for m in history] == [f"m{number}" for number in range(20)]


async def test_a_retry_after_a_kill_is_the_first_send(node, name):
    server = node()
    bob = name("bob")
    async with Device(server, name("alice")) as a:
        first = await a.say(bob, "once", client_id="c1")
    server.restart(hard=True)
    async with Device(server, a.user) as again, Device(server, bob) as b:
        second = await again.say(bob, "once", client_id="c1", resend=True)
        assert {n: second[n] for n in ("message_id", "order", "sent_at")} == {n: first[n] for n in ("message_id", "order", "sent_at")}
        refused = await again.refused("conflict", bob, "another", client_id="c1", resend=True)
        assert refused["retryable"] is False
        await again.say(bob, "the end")
        await b.next("new_message", text="the end")
        assert b.texts() == ["once", "the end"]


async def test_a_send_whose_copy_came_holds_nothing_up_whatever_its_resend_was_told(node, name):
    broker = Kafka()
    try:
        server = node(config={"kafka": broker.config()})
        alice, bob = name("alice"), name("bob")
        async with Device(server, alice) as a, Device(server, bob) as b:
            await a.say(bob, "first", client_id="c1")
            await a.next("new_message", text="first")
            broker.pause()
            try:
                # Once nobody knows what decides, nobody says what became of anything.
                until(lambda: server.metrics().get("heddle_control_known") == 0, "control is not known", 30)
                await a.refused("unavailable", bob, "first", client_id="c1", resend=True)
            finally:
                broker.resume()
            until(lambda: server.metrics().get("heddle_control_known") == 1, "control is known", 30)
            # Its copy settled it for the client, which has no reason to send it a third time.
            end = asyncio.get_running_loop().time() + 60
            while (outcome := await a.outcome(await a.post(bob, "second", client_id="c2", resend=True), 30))["type"] != "accepted":
                assert asyncio.get_running_loop().time() < end, outcome
                await asyncio.sleep(0.5)
            await b.next("new_message", text="second")
            assert b.texts() == ["first", "second"]
    finally:
        broker.end()


async def test_a_broker_that_is_away_makes_sends_wait_and_nothing_is_lost(node, name):
    broker = Kafka()
    try:
        server = node(config={"kafka": broker.config()})
        alice, bob = name("alice"), name("bob")
        async with Device(server, alice) as a, Device(server, bob, auto_ack=True) as b:
            await a.say(bob, "before")
            await b.next("new_message", text="before")
            broker.kill()
            refused = await a.refused("unavailable", bob, "while away", client_id="w1")
            assert refused["retryable"] is True
            # What comes later waits for it, or it would overtake.
            await a.refused("unavailable", bob, "too early", client_id="w2")
            await asyncio.sleep(AWAY_S)
            broker.start()
            accepted = None
            for _ in range(30):
                answer = await a.outcome(await a.post(bob, "while away", client_id="w1", resend=True))
                if answer["type"] == "accepted":
                    accepted = answer
                    break
                assert answer["code"] == "unavailable", answer
                await asyncio.sleep(0.2)
            assert accepted, "it is never accepted"
            await a.say(bob, "too early", client_id="w2")
            await b.next("new_message", text="too early")
            assert b.texts() == ["before", "while away", "too early"]
    finally:
        broker.end()


async def test_two_nodes_are_one_platform(nodes, name):
    one, two = nodes(2)
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    async with Device(one, alice, auto_ack=True) as a, Device(two, bob, auto_ack=True) as b:
        for number in range(30):
            await a.say(bob, f"a{number}")
            await b.say(alice, f"b{number}")
        await a.until(lambda: len([m for m in a.messages if m["from"] == bob]) == 30, "all of bob's")
        await b.until(lambda: len([m for m in b.messages if m["from"] == alice]) == 30, "all of alice's")
        assert [m["text"] for m in b.messages if m["from"] == alice] == [f"a{number}" for number in range(30)]
        await a.next("receipt", status="delivered", order=[m for m in b.messages if m["from"] == alice][-1]["order"])
        group = one.rest(alice).group("both", [bob, carol])
        await a.say(group=group, text="from one")
        await b.next("new_message", text="from one")
        await b.say(group=group, text="from two")
        for device in (a, b):
            # Each has both, its own too, in one order.
            of_group = lambda: [m["text"] for m in device.messages if m.get("group")]
            await device.until(lambda: len(of_group()) == 2, "both of the group's")
            assert of_group() == ["from one", "from two"]
    caught_up(one, two)
    for server in (one, two):
        async with Device(server, carol, f"tablet-{server.config['node']['id']}") as c:
            await c.next("caught_up")
            assert c.texts()[-2:] == ["from one", "from two"]
    assert [m["text"] for m in two.rest(alice).history(f"user:{bob}", limit=100)["messages"]] == [
        m["text"] for m in one.rest(alice).history(f"user:{bob}", limit=100)["messages"]
    ]


async def test_a_node_that_is_killed_leaves_its_partitions_to_the_other(nodes, name):
    one, two = nodes(2)
    alice, bob = name("alice"), name("bob")
    async with Device(two, alice, auto_ack=True) as a, Device(two, bob, auto_ack=True) as b:
        group = two.rest(alice).group("g", [bob])
        for number in range(10):
            await a.say(bob, f"m{number}")
            await a.say(group=group, text=f"g{number}")
        one.kill()
        for number in range(10, 20):
            await a.say(bob, f"m{number}")
            await a.say(group=group, text=f"g{number}")
        # Group messages are expanded by whoever works on their partition: at last by the one that is left.
        await b.until(lambda: len(b.messages) == 40, "everything, once", 60)
        assert [m["text"] for m in b.messages if m.get("group")] == [f"g{number}" for number in range(20)]
        assert [m["text"] for m in b.messages if not m.get("group")] == [f"m{number}" for number in range(20)]
    until(lambda: two.metrics().get("heddle_partitions_owned") == 12, "the other has all partitions", 60)
    caught_up(two)


async def test_the_same_send_at_two_nodes_is_one_message(nodes, name):
    one, two = nodes(2)
    alice, bob = name("alice"), name("bob")
    async with Device(one, alice) as a, Device(two, alice, "other") as other, Device(two, bob) as b:
        for number in range(20):
            with contextlib.suppress(AssertionError):
                await asyncio.gather(a.say(bob, f"m{number}", client_id=f"c{number}"),
                                     other.say(bob, f"m{number}", client_id=f"c{number}"))
        await a.say(bob, "the end")
        await b.next("new_message", text="the end")
        assert b.texts() == [*(f"m{number}" for number in range(20)), "the end"]


async def test_what_the_log_may_forget_is_not_added_to(kafka, postgres, start, name):
    """The archive is away for longer than half of what the log keeps: sends are refused, and come through when it is back."""
    database = postgres.database()
    server = start(config={
        "log": {"backend": "kafka"}, "kafka": kafka.config(retention="10 s"),
        "store": {"backend": "postgres", "url": postgres.url(database), "deadline": "1 s"},
    })
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob) as b:
        await a.say(bob, "before")
        await b.next("new_message", text="before")
        caught_up(server)
        postgres.pause()
        try:
            # Without the archive it goes on, for a while.
            await a.say(bob, "meanwhile")
            await until_async(lambda: server.metrics().get('heddle_retention_used_ratio{cursor="archived"}', 0) > 0.5, "it waits for too long")
            refused = await a.refused("unavailable", bob, "too much", client_id="late")
            assert refused["retryable"] is True
        finally:
            postgres.resume()
        await until_async(lambda: server.metrics().get('heddle_retention_used_ratio{cursor="archived"}') == 0, "it is archived")
        await a.say(bob, "too much", client_id="late")
        await b.next("new_message", text="too much")
        assert b.texts() == ["before", "meanwhile", "too much"]


async def test_a_node_that_cannot_follow_control_accepts_nothing_although_its_brokers_answer(nodes, kafka, postgres, name):
    # The archive is waited for until it goes on.
    [server] = nodes(1, store_more={"deadline": "30 s"})
    broker = Broker(kafka, server.config["kafka"]["prefix"])
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        before = await a.say(bob, "before")
        asked = sum(server.policy_metrics("calls_total", hook="routing").values())
        postgres.pause()
        try:
            # It is decided while the node knows what decides, and appended only when it has heard whether the recipient mutes.
            decided = await a.post(name("carol"), "decided")
            await until_async(lambda: sum(server.policy_metrics("calls_total", hook="routing").values()) > asked, "it is decided")
            broker.write("control", b'{"type":"reshape","number":2}')
            await until_async(lambda: server.admin_rest().get("/readyz").status == 503, "it does not follow")
        finally:
            postgres.resume()
            broker.close()
        told = [await a.outcome(decided), await a.refused("unavailable", bob, "after", client_id="after")]
        for outcome in told:
            assert (outcome["type"], outcome["code"], outcome["retryable"]) == ("rejected", "unavailable", True), outcome
        # The brokers took what was decided: it is not they who refuse. What came later was not given to them.
        cat = ("log", "cat", "--topic", "messages", "--config", server.side / "heddle.toml")
        rows = [json.loads(line) for line in heddle(*cat).stdout.splitlines()]
        assert {row["client_id"] for row in rows if row["kind"] == "direct"} == {before["client_id"], decided}, rows
        answer = server.admin_rest().get("/readyz")
        assert answer.status == 503 and "does not read" in answer.raw.decode(), answer
        await until_async(lambda: server.metrics()["heddle_control_known"] == 0, "its metrics say so")


async def test_nodes_that_only_serve_clients_and_nodes_that_only_work(nodes, name):
    door, worker = nodes(2, roles=(["gateway"], ["worker"]))
    alice, bob = name("alice"), name("bob")
    assert worker.client is None and worker.admin_rest().get("/readyz").ok()
    shown = heddle("chat", "--user", "alice", "--data", worker.data, "--script", "-", stdin="")
    assert shown.returncode != 0 and "serves no clients" in shown.stderr, shown.stderr
    async with Device(door, alice, auto_ack=True) as a, Device(door, bob, auto_ack=True) as b:
        group = door.rest(alice).group("g", [bob])
        await a.say(bob, "direct")
        await a.say(group=group, text="to all")
        await b.until(lambda: sorted(b.texts()) == ["direct", "to all"], "both")
        until(lambda: roll(door)["n2"]["partitions"] == 12, "one has all partitions")
        assert roll(door)["n1"]["partitions"] == 0 and roll(door)["n2"]["clients"] == ""
        # Who expands group messages is away: they are accepted, and come when it is back.
        worker.kill()
        await a.say(group=group, text="while nobody works")
        worker.start()
        await b.next("new_message", 60, text="while nobody works")
    caught_up(worker)


async def test_the_topics_are_looked_into_from_outside(node, name):
    server = node()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob):
        sent = [(await a.say(bob, f"m{number}"))["message_id"] for number in range(20)]
    cat = ("log", "cat", "--topic", "messages", "--config", server.side / "heddle.toml")
    done = heddle(*cat)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["message_id"] for row in rows if row["kind"] == "direct"] == sent
    assert all(row["stamp"]["generation"] == 1 for row in rows if row["kind"] == "direct")
    last = max(row["offset"] for row in rows if row["kind"] == "direct")
    home = next(row["partition"] for row in rows if row["kind"] == "direct")
    tail = heddle(*cat, "--partition", home, "--from", last)
    assert [json.loads(line)["message_id"] for line in tail.stdout.splitlines()][:1] == sent[-1:]
    elsewhere = heddle(*cat, env={"HEDDLE_KAFKA__PREFIX": "nobody"})
    assert elsewhere.returncode != 0 and "topic nobody.messages is not there" in elsewhere.stderr, elsewhere.stderr
    wrong = heddle(*cat, "--partition", 6)
    assert wrong.returncode == 64 and "there is no partition 6: the log has 6" in wrong.stderr, wrong.stderr
