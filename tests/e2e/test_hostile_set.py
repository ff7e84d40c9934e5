"""The hostile set, deployed into a running server while two users chat: it is refused in words, or loses its turn, and nothing else happens."""

import asyncio
import json
import pathlib
import re

import pytest

from harness import settings
from harness.chat import Chat
from harness.device import Device
from harness.hostile import compile_bomb, hostile, oversized, packed, stranger, wat_guest
from harness.policies import FOLDER, fixture, truncated
from harness.server import heddle
from harness.waiting import until_async

MEMORY_LEFT_BYTES = 32 << 20
BUSY = ("another change of the policy set is under way", "another node made a generation meanwhile")

# What each act does wrong on the hook `routing`, in a word of the fault's kind.
FAULTS = {
    "unreachable": "trap", "panic": "trap", "exit": "trap", "recurse": "trap", "spin": "deadline", "eat": "memory",
    "invalid-utf8": "bad-answer", "giant-text": "bad-answer|deadline", "giant-list": "bad-answer|deadline|memory",
    "tags": "bad-answer", "rewrite": "body-not-declared", "outsider": "rights", "another-user": "rights",
    "another-group": "rights",
}
HARMLESS = ("leak", "shout", "babble", "sleep", "count", "order")

_ROUTE = {"hook": "routing", "at": {"now": 1, "seed": 1},
          "request": {"sender": "alice", "to": {"direct": "bob"}, "size": 1, "members": 2}, "expect": {}}


async def deploy(server, file, *words):
    """`heddle plugin deploy FILE`, again while something else changes the policy set."""
    answers = []

    async def answered():
        done = await asyncio.to_thread(
            heddle, "plugin", "deploy", file, *words, "--data", server.data, "--output", "json", timeout_s=120)
        answers.append(done)
        return not any(word in done.stderr for word in BUSY)

    await until_async(answered, "nothing else changes the policy set", 60)
    return answers[-1]


async def serving(server, file, *words):
    """Deploys what must be taken; returns the number of its generation."""
    done = await deploy(server, file, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["generation"]


def decisions(server, message_id, plugin):
    """What `heddle explain` says of that plugin's decision about the message."""
    done = heddle("explain", message_id, *settings.explain_args(server), "--output", "json")
    assert done.returncode == 0, done.stderr
    return [d for d in _found(json.loads(done.stdout)) if d["plugin"] == plugin]


def _found(value):
    if isinstance(value, dict):
        return [value] if {"hook", "plugin", "verdict"} <= set(value) else [d for v in value.values() for d in _found(v)]
    return [d for v in value for d in _found(v)] if isinstance(value, list) else []


def faults(server, kind):
    """Faults counted of the hostile plugin, of these kinds."""
    labels = re.compile(rf'heddle_policy_faults_total\{{.*kind="({kind})".*\}}')
    return sum(value for name, value in server.metrics().items() if labels.match(name) and 'plugin="hostile"' in name)


def refusals():
    """Files that must not serve, and what is said of each."""
    impure = [_ROUTE, {**_ROUTE, "at": {"now": 2, "seed": 1}}]
    starts = [("spin", "500 ms"), ("eat", "limits.memory"), ("recurse", "call stack exhausted"), ("panic", "good enough"),
              ("unreachable", "unreachable"), ("exit", "called `exit`")]
    wrong = FOLDER / "target" / "wasm32-wasip2" / "release"
    fixture("everyone-offline")
    return [
        *((hostile(f"{act}-at-start"), words) for act, words in starts),
        (hostile("refuse"), "not with me"),
        (hostile("count", cases=impure), "keep nothing between calls"),
        (hostile("order", cases=impure), "keep nothing between calls"),
        (packed(wrong / "everyone_offline.wasm", {"routing": "builtin"}, name="promises"), "exports no `heddle:policy/routing"),
        (fixture("wrong-type"), "has another type"),
        (stranger(), "wasi:sockets/tcp"),
        (truncated(hostile("behave"), 90_000), "truncated"),
        (oversized(), "more than 67108864 bytes"),
        (compile_bomb(), "compiling took more than 3 s of CPU time"),
    ]


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_what_must_not_serve_is_refused_in_words_while_two_users_chat(start, name):
    files = await asyncio.to_thread(refusals)
    # What the messages themselves leave in memory is not the question here.
    quiet = {"log": {"cache_bytes_max": "1 MiB"}, "policies": {"compile_time": "3 s", "record_one_in": 0}}
    server = start(config=quiet)
    async with Chat(server, name("alice"), name("bob")) as chat:
        await chat.more(20)
        before = server.resident_bytes()
        for file, words in files:
            seen = len(chat.outcomes)
            done = await deploy(server, file)
            assert done.returncode != 0 and words in done.stderr, (file, words, done.stdout, done.stderr)
            # The bomb keeps the compiler busy for three seconds; the others are looked at in no time.
            assert file != compile_bomb() or len(chat.outcomes) > seen + 20, "nobody got a word in while it was compiled"
            frames = await chat.more(5)
            assert {frame["generation"] for frame in frames} == {1}, frames
        left = server.resident_bytes() - before
        await chat.check()
    assert left < MEMORY_LEFT_BYTES, f"{left >> 10} KiB are left of files that never served"


def compilers(server):
    """The children of the server, each the compiler of one component."""
    tasks = pathlib.Path(f"/proc/{server.pid}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def ended(pid):
    """Gone, or waiting for somebody to take its exit code."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.timeout(120)
async def test_the_compiler_is_behind_everybody_knows_no_secret_and_ends_with_its_server(start):
    file = await asyncio.to_thread(compile_bomb)
    server = start(env={"HEDDLE_AUTH__ISSUER": "a-variable-of-the-server"})
    deploying = asyncio.create_task(deploy(server, file))
    pid = (await until_async(lambda: compilers(server), "a compiler"))[0]

    def of(name):
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes()

    await until_async(lambda: b"compile-component" in of("cmdline"), "it is there")
    # proc(5): the 19th number of stat is the niceness, the 17th after the name in brackets.
    await until_async(lambda: int(of("stat").rsplit(b")", 1)[1].split()[16]) == 10, "it is nice")
    assert b"a-variable-of-the-server" not in of("environ")
    limits = of("limits").decode()
    await until_async(lambda: re.search(r"Max cpu time +60 +61", of("limits").decode()), f"it has limits: {limits}")
    server.kill()
    await until_async(lambda: ended(pid), "it ends with its server")
    assert (await deploying).returncode != 0


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_each_hostile_policy_loses_its_turn_and_nothing_else(start, name, capsys):
    files = {act: await asyncio.to_thread(hostile, act) for act in ("behave", *FAULTS, *HARMLESS)}
    innocent = [await asyncio.to_thread(hostile, "behave", more=f"# {number}") for number in range(8)]
    server = start()
    async with Chat(server, name("alice"), name("bob")) as chat:
        # What any change of the policy set costs, and generations that are held: that much is nobody's fault.
        for file in innocent:
            await serving(server, file)
            await chat.more(100)
        before = server.resident_bytes()
        for act, kind in FAULTS.items():
            counted = faults(server, kind)
            number = await serving(server, files[act])
            frames = await chat.more(3, lambda frame, n=number: frame.get("generation") == n, act)
            assert {frame["type"] for frame in frames} == {"accepted"}, frames
            for decision in await asyncio.to_thread(decisions, server, frames[0]["message_id"], "hostile"):
                assert (decision["verdict"], decision["fallback"]) == ("accept", "builtin"), (act, decision)
            assert faults(server, kind) > counted, (act, kind, server.metrics())
        for act in HARMLESS:
            number = await serving(server, files[act])
            frames = await chat.more(50, lambda frame, n=number: frame.get("generation") == n, act)
            told = await asyncio.to_thread(decisions, server, frames[0]["message_id"], "hostile")
            assert [decision["fallback"] for decision in told] == [None], (act, told)
        await serving(server, files["behave"])
        await chat.more(50)
        left = server.resident_bytes() - before
        await chat.check()
    assert server.child.poll() is None
    assert left < MEMORY_LEFT_BYTES, f"{left >> 10} KiB are left of the hostile set"
    with capsys.disabled():
        print(f"\n  {len(files)} hostile policies under {len(chat.outcomes)} messages left {left >> 10} KiB in the process")


@pytest.mark.timeout(300)
async def test_the_declared_failure_mode_applies_and_is_stamped(start, name):
    server = start()
    async with Chat(server, name("alice"), name("bob")) as chat:
        await chat.more(5)
        closed = await serving(server, await asyncio.to_thread(hostile, "panic", mode="closed"))
        refused = (await chat.more(1, lambda frame: frame["type"] == "rejected", "a refusal"))[0]
        assert (refused["code"], refused["retryable"]) == ("policy_unavailable", True), refused
        good = await serving(server, await asyncio.to_thread(hostile, "behave"))
        assert good > closed
        await chat.more(5, lambda frame: frame.get("generation") == good)
        previous = await serving(server, await asyncio.to_thread(hostile, "panic", mode="previous"))
        frames = await chat.more(1, lambda frame: frame.get("generation") == previous, "the version before decides")
        told = await asyncio.to_thread(decisions, server, frames[0]["message_id"], "hostile")
        assert [(d["verdict"], d["fallback"]) for d in told] == [("accept-with", "previous")], told
        await serving(server, await asyncio.to_thread(hostile, "behave"))
        opened = await serving(server, await asyncio.to_thread(hostile, "panic", "rate-limit", "open", name="opens"))
        frames = await chat.more(1, lambda frame: frame.get("generation") == opened, "it passes")
        told = await asyncio.to_thread(decisions, server, frames[0]["message_id"], "opens")
        assert [(d["hook"], d["verdict"], d["fallback"]) for d in told] == [("rate-limit", "allow", "open")], told
        await chat.check()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("act", ["few", "code", "giant-list", "panic", "spin", "table-bomb", "out-of-bounds"])
async def test_a_fanout_that_fails_in_any_way_is_replaced_and_the_whole_group_gets_the_message(start, name, act):
    if act in ("table-bomb", "out-of-bounds"):
        plugin, file = act, await asyncio.to_thread(wat_guest, act)
    else:
        plugin, file = "hostile", await asyncio.to_thread(hostile, act, "fanout")
    server = start()
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    group = server.rest(alice).group("unlucky", [bob, carol])
    async with Device(server, alice) as a, Device(server, bob) as b, Device(server, carol) as c:
        await serving(server, file)
        accepted = await a.say(group=group, text="whole")
        for device in (b, c):
            await device.next("new_message", text="whole", deadline_s=30)
        told = await asyncio.to_thread(decisions, server, accepted["message_id"], plugin)
        assert told and all(decision["hook"] == "fanout" for decision in told), told
    assert server.metrics_sum("policy_faults_total") > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("act", ["few", "code", "recheck", "panic", "spin", "eat"])
async def test_a_presence_that_fails_in_any_way_is_replaced_and_everybody_can_still_speak(start, name, act):
    file = await asyncio.to_thread(hostile, act, "presence")
    server = start()
    alice, bob = name("alice"), name("bob")
    await serving(server, file)
    async with Device(server, alice) as a, Device(server, bob):
        await a.frame({"type": "presence_get", "users": [bob]})
        assert (await a.next("presence_update", user=bob))["status"] in ("online", "away", "offline")
        await a.say(bob, "still here")
    assert server.metrics_sum("policy_faults_total") > 0
