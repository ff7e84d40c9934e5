"""Several nodes, one policy set: on a real Kafka, PostgreSQL and Redis, while nodes come, go and stand still."""

import asyncio
import contextlib
import json
import os
import signal
import time
from types import SimpleNamespace

import pytest

from harness.device import Device
from harness.history import History
from harness.operator import changed, plugin, roll
from harness.policies import fixture
from harness.redis import Redis
from harness.server import heddle
from harness.speaker import Speaker
from harness.waiting import until, until_async

SWAPS = int(os.environ.get("HEDDLE_E2E_AGREE_SWAPS", "12"))
# What `either` does in this state can be told from what it does in any other: members of a group get it quietly.
QUIET = "a"
# A node knows within so long what decides, or accepts nothing. (DELIVERY 27)
CONFIRMED_S = 5
# Beyond a node's lease, so that nobody waits for it.
FROZEN_S = 12


def serve(generation, *nodes):
    """Waits until that generation decides at each of them."""
    for node in nodes:
        until(lambda node=node: changed(node, "list")["generation"] == generation, f"{generation} decides at {node.config['node']['id']}")


async def test_what_an_operator_sees_of_three_nodes(nodes, name):
    one, two, three = nodes(3)
    alice = name("alice")
    async with Device(two, alice):
        # What it says of itself is renewed every two seconds.
        until(lambda: roll(one)["n2"]["connections"] == 1, "the connection at another node is seen")
        until(lambda: sum(node["partitions"] for node in roll(one).values()) == 12, "each partition has one owner")
        seen = roll(three)
        assert sorted(seen) == ["n1", "n2", "n3"]
        assert {node["state"] for node in seen.values()} == {"serving"}
        assert seen["n2"]["clients"] == two.client and seen["n1"]["roles"] == ["gateway", "worker"]
        generation = changed(two, "set", "token-bucket", "burst=40")["generation"]
        until(lambda: {node["generation"] for node in roll(three).values()} == {generation}, "each says what decides")
        until(lambda: not any(node["derive_lag"] or node["archive_lag"] for node in roll(three).values()), "nothing waits")
    shown = heddle("nodes", "--data", one.data).stdout.splitlines()
    heads = "NODE STATE ROLES GENERATION CONNECTIONS PARTITIONS TO DERIVE TO ARCHIVE CLIENTS AT"
    assert " ".join(shown[0].split()) == heads and len(shown) == 4, shown
    two.kill()
    until(lambda: roll(one)["n2"]["age_ms"] > 10_000, "a node that died is gone", 30)
    assert "gone for" in heddle("nodes", "--data", one.data).stdout
    three.stop()
    assert sorted(roll(one)) == ["n1", "n2"], "a node that goes in order leaves nothing"
    one.admin_rest().get("/nodes").problem(401, "unauthorized")


async def test_a_plugin_that_is_deployed_at_one_node_decides_at_all(nodes, name):
    one, two = nodes(2)
    alice, bob = name("alice"), name("bob")
    async with Device(two, alice) as a:
        await a.say(bob, "before")
        generation = changed(one, "deploy", fixture("deny-all"), "-m", "nobody speaks")["generation"]
        serve(generation, one, two)
        await a.refused("refused", bob, "no")
        # A node that comes later meets what the others have.
        history = [change["what"] for change in changed(two, "history")["changes"]]
        assert history == ["deploy", "start"], history
        back = changed(two, "rollback")["generation"]
        assert back == generation + 1
        serve(back, one)
        await a.say(bob, "after")
    one.restart()
    assert changed(one, "list")["generation"] == back


async def test_of_four_deploys_at_once_one_wins(nodes):
    three = nodes(3)
    bursts = [f'commands={{"chat-message": {{"burst": {burst}, "per_second": 5}}}}' for burst in (10, 11, 12, 13)]
    asked = [asyncio.to_thread(plugin, three[at % 3], "set", "token-bucket", burst) for at, burst in enumerate(bursts)]
    done = await asyncio.gather(*asked)
    won = [it for it in done if it.returncode == 0]
    lost = [it.stderr for it in done if it.returncode != 0]
    # Those that come when the first is through may win the next number.
    assert won and all("another" in said for said in lost), lost
    newest = max(changed(node, "list")["generation"] for node in three)
    assert newest == 1 + len(won)
    serve(newest, *three)


@pytest.fixture
def redis():
    """By which nodes find each other."""
    with Redis() as server:
        yield server


def speakers_to(bob, name, *nodes):
    """One for each node, who speaks to bob alone and in a group."""
    users = [(node, name(f"speaker{number}")) for number, node in enumerate(nodes, 1)]
    return [Speaker(node, user, bob, node.rest(user).group("of two", [bob])) for node, user in users]


def recorded(nodes, postgres, bob, speakers):
    """What bob and these meet from now on, for the checker."""
    database = nodes[0].config["store"]["url"].rsplit("/", 1)[1]
    groups = {speaker.group: [speaker.user, bob] for speaker in speakers}
    history = History(SimpleNamespace(nodes=nodes, postgres=postgres, database=database), groups)
    for speaker in speakers:
        speaker.history = history
    return history


async def told_again(history, speakers, bob, nodes):
    """Speakers take their whole streams, of which who acknowledges nothing has only so much; and every node tells bob of the end of each conversation."""
    for speaker in speakers:
        device = Device(nodes[0], speaker.user, "anew", auto_ack=True)
        device.history = history
        await device.connect(resume=0)
        await device.until(lambda of=speaker, device=device: len(device.messages) >= len(of.accepted), f"{speaker.user}'s stream", 60)
        await device.leave()
        for node in nodes:
            for conversation in (f"user:{speaker.user}", f"group:{speaker.group}"):
                await asyncio.to_thread(history.told, node, bob, conversation)


def agreed(messages, accepted, marks):
    """Each message was routed, and each of a group handed out, by the generation that its sender was told of. How many of a group were seen to be."""
    seen, of_group = {m["message_id"]: m for m in messages}, 0
    for client_id, message_id, generation, _ in accepted:
        if generation in marks:
            message, mark = seen[message_id], marks[generation]
            assert message.get("tags", {}).get("mark") == mark, (client_id, generation, message)
            if "group" in message:
                of_group += 1
                assert message.get("quiet", False) == (mark == QUIET), (client_id, generation, message)
    return of_group


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_swaps_while_nodes_come_and_go_and_one_lags(nodes, postgres, redis, name, capsys):
    one, two, three = nodes(3, registry={"backend": "redis", "url": redis.url, "lease": "3 s"})
    bob = name("bob")
    until(lambda: len(roll(one)) == 3, "all are on the roll")
    changed(one, "deploy", fixture("either"))
    speakers = speakers_to(bob, name, one, two, three)
    history = recorded([one, two, three], postgres, bob, speakers)
    marks, news, ended = {}, [], asyncio.Event()

    async def swap():
        for number in range(SWAPS):
            letter = QUIET if number % 2 else f"v{number}"
            while True:
                done = await asyncio.to_thread(plugin, one, "set", "either", f'letter="{letter}"')
                if done.returncode == 0:
                    break
                # Who comes or goes at this moment may make it fail: then nothing has changed, and it is tried again.
                assert "nodes" in done.stderr or "ready" in done.stderr or "another" in done.stderr, done.stderr
                await asyncio.sleep(0.5)
            generation = json.loads(done.stdout)["generation"]
            marks[generation] = letter
            news.append((time.monotonic(), generation))
            await asyncio.sleep(0.3)
        ended.set()

    async def disturb():
        while not ended.is_set():
            await asyncio.to_thread(two.kill)
            await asyncio.sleep(1)
            await asyncio.to_thread(two.start)
            three.signal(signal.SIGSTOP)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), FROZEN_S)
            three.signal(signal.SIGCONT)
            await asyncio.sleep(2)

    b = Device(one, bob, auto_ack=True)
    b.history = history
    async with b:
        running = [asyncio.create_task(speaker.run()) for speaker in speakers]
        await asyncio.gather(swap(), disturb())
        for speaker in speakers:
            speaker.done = True
        await asyncio.gather(*running)
        accepted = [row for speaker in speakers for row in speaker.accepted]
        await until_async(lambda: len(b.messages) >= len(accepted), "bob has all", 60)
        assert sorted(b.texts()) == sorted(client_id for client_id, *_ in accepted), "each once"
    newest = max(marks)
    serve(newest, one, two, three)
    for client_id, _, generation, first in accepted:
        known = [number for at, number in news if at + CONFIRMED_S < first]
        assert generation >= max(known, default=0), f"{client_id} was decided by {generation}, {max(known)} was known to all"
    of_group = agreed(b.messages, accepted, marks)
    assert of_group, "nothing was said to a group"
    # Every node tells of a message what its sender was told.
    for client_id, message_id, generation, _ in accepted[:: max(1, len(accepted) // 10)]:
        for node in (one, two, three):
            told = node.explain(message_id)
            assert told.returncode == 0 and f"generation     {generation}\n" in told.stdout, (client_id, generation, told)
    # Of all that, none is lost, doubled or out of its order, in what anybody met, in the log or in the archive.
    await told_again(history, speakers, bob, (one, two, three))
    await asyncio.to_thread(history.check)
    with capsys.disabled():
        print(f"\n  agreed: {len(marks)} sets by three nodes under {len(accepted)} messages, {of_group} to groups, of which one came and went and one stood still")
