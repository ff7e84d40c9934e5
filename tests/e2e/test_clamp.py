"""Invariant 6 against the running binary: a policy that answers anything, with forged recipients, foreign groups and other users, reaches nobody whom the
sender may not reach."""

import asyncio
import json

import pytest

from harness.device import Device
from harness.operator import changed
from harness.policies import fixture
from harness.swaps import env_number

OUTPUTS = env_number("HEDDLE_E2E_WILD_OUTPUTS", 1_500)
# A sender is spared after two answers that do not stand, so there are always others.
CROWD, LINES = 30, 3


class Places:
    """Who is in which group: what the log is judged by."""

    def __init__(self):
        self.groups = {}

    def made(self, server, founder, others, label):
        """A group of these."""
        group = server.rest(founder).group(label, others)
        self.groups[group] = {founder, *others}
        return group


async def batch(server, users, bob, home):
    """Everybody says something to one and to all; what each meant, by sender and client id."""
    meant = {}

    async def says(user):
        async with Device(server, user, auto_ack=True) as device:
            for number in range(LINES):
                where = {"to": bob} if number % 2 else {"group": home}
                sent = await device.post(text=f"line {number}", client_id=f"c{number}", **where)
                meant[user, sent] = where
                await device.outcome(sent, 60)

    await asyncio.gather(*(says(user) for user in users))
    return meant


@pytest.mark.heavy
@pytest.mark.timeout(3600)
async def test_no_random_answer_gets_a_message_outside_its_group_or_its_senders_rights(start, name, capsys):
    server = start(config={"policies": {"breaker": False, "record_one_in": 0}})
    places, meant = Places(), {}
    bob, mallory, eve = name("bob"), name("mallory"), name("eve")
    foreign = places.made(server, mallory, [eve], "foreign")
    changed(server, "deploy", fixture("wild"))
    async with Device(server, mallory, auto_ack=True) as m, Device(server, eve, auto_ack=True) as e:
        number, outputs, fell = 0, 0, 0
        while outputs < OUTPUTS:
            users = [f"{name('u')}-{number}-{at}" for at in range(CROWD)]
            number += 1
            home = places.made(server, users[0], [*users[1:], bob], "home")
            half = places.made(server, users[0], users[1::2], "half")
            reach = {"users": [*users[:6], bob, mallory, eve, "nobody"], "groups": [home, half, foreign, "no-such-group"]}
            changed(server, "set", "wild", *(f"{key}={json.dumps(value)}" for key, value in reach.items()))
            meant |= await batch(server, users, bob, home)
            # Counters begin anew with each generation; this batch's is the newest.
            newest = changed(server, "list")["generation"]
            outputs += sum(server.policy_metrics("calls_total", plugin="wild", generation=newest).values())
            faults = server.policy_metrics("faults_total", plugin="wild", generation=newest)
            fell += sum(count for labels, count in faults.items() if 'kind="spared"' not in labels)
        assert outputs / 20 < fell < outputs, (fell, outputs)
        await m.ping()
        await e.ping()
        for device in (m, e):
            assert [frame for frame in device.messages if frame["from"] not in (mallory, eve)] == [], "an outsider got a message"
            assert device.closed is None
    server.stop()
    direct, grouped, chunks = 0, 0, 0
    for record in [record for topic in ("messages", "group_messages") for record in server.log(topic)]:
        kind = record["kind"]
        if kind in ("direct", "group"):
            where = meant[record["from"], record["client_id"]]
            assert record["addressed"] == (f"user:{where['to']}" if "to" in where else f"group:{where['group']}"), (where, record)
        if kind == "direct":
            # Nobody else's conversation; where it was meant for a group it stays in a group.
            assert record["to"] == record["addressed"] == f"user:{bob}", record
            direct += 1
        if kind == "group":
            members = places.groups[record["to"].removeprefix("group:")]
            assert record["from"] in members and set(record["only"] or ()) <= members, record
            grouped += 1
        if kind == "group_chunk":
            assert {member["user"] for member in record["members"]} <= places.groups[record["to"].removeprefix("group:")], record
            chunks += 1
    assert direct and grouped and chunks, (direct, grouped, chunks)
    with capsys.disabled():
        print(f"\n  {outputs:.0f} random answers about {len(meant)} messages, {fell:.0f} of them outside their bounds: {direct} direct and {grouped} group records, all within rights")
