"""The policy set changes while traffic flows: nobody notices but by what is decided."""

import asyncio
import collections
import random
import time

import pytest

from harness.arrivals import Arrivals, check
from harness.device import Device
from harness.minisign import Key
from harness.operator import changed, plugin
from harness.policies import digest, fixture
from harness.server import heddle
from harness.swaps import COMPILE_TIME_S, HOOKS, Deployment, bad_files, deployed, either, env_number, fresh, quantile

SWAPS = env_number("HEDDLE_E2E_SWAPS", 250)
KILLS = env_number("HEDDLE_E2E_DEPLOY_KILLS", 20)
PER_SECOND = env_number("HEDDLE_E2E_SWAPS_PER_SECOND", 120)
QUIET_SENDS = 1_000
# The one that serves, and what is kept for a quick way back (`policies.generations_max`); until they are drained, more (`policies.draining_max`).
GENERATIONS_KEPT_MAX = 5
GENERATIONS_HELD_MAX = GENERATIONS_KEPT_MAX + 16
# By which the process may grow after a third of the swaps, however many, beside what the messages themselves leave in it.
GROWN_BYTES_MAX = 32 << 20
luck = random.Random(env_number("HEDDLE_E2E_SEED", 1))


class Ways:
    """Which way each generation decides at each hook: none, before the first deployment there."""

    def __init__(self, files):
        self.files, self.now, self.by_generation = files, dict.fromkeys(HOOKS), {1: dict.fromkeys(HOOKS)}

    def next(self, hook):
        """The other letter."""
        return "b" if self.now[hook] == "a" else "a"

    def decides(self, generation, hook):
        """From now on."""
        self.now[hook] = self.next(hook)
        self.by_generation[generation] = dict(self.now)

    def digest(self, generation, hook):
        """Of the file that decides there; none: only what is built in."""
        letter = self.by_generation[generation][hook]
        return letter and digest(self.files[letter])


async def seen_by_others(device, ways, hook, about):
    """What a swap at a hook that no message shows has changed: who may show that he types, and who is seen."""
    if hook == "rate-limit":
        await device.frame({"type": "typing_start", "to": about, "ref": "typing"})
        # What is allowed is not answered; what comes after it is.
        await device.ping()
        denied = any(frame["type"] == "error" and frame.get("ref") == "typing" for frame in device.inbox)
        assert denied == (ways.now[hook] == "a"), (ways.now, device.inbox)
    if hook == "presence":
        await device.frame({"type": "presence_get", "users": [about]})
        status = (await device.next("presence_update", user=about))["status"]
        assert status == ("offline" if ways.now[hook] == "a" else "online"), (ways.now, status)
    device.inbox.clear()


def decided_as_deployed(records, ways, chains):
    """Each message was decided once, whole, by one generation and as that one decides; how many each generation decided."""
    ids, decided = set(), collections.Counter()
    for record in records:
        assert record["message_id"] not in ids, f"decided twice: {record}"
        ids.add(record["message_id"])
        generation = record["stamp"]["generation"]
        decided[generation] += 1
        assert (record.get("tags") or {}).get("mark") == ways.by_generation[generation]["routing"], (generation, record)
        for hook in chains:
            names = [d["plugin"] for d in record["stamp"]["decisions"] if d["hook"] == hook]
            assert len(names) == len(set(names)) and names, (hook, record)
            mine = [d["digest"] for d in record["stamp"]["decisions"] if d["hook"] == hook and d["plugin"] == "either"]
            wanted = ways.digest(generation, hook)
            assert mine == ([wanted] if wanted else []), (generation, hook, record["stamp"])
        assert not any(d.get("fallback") for d in record["stamp"]["decisions"]), record["stamp"]
    return decided


def per_message(before, after):
    """Bytes that the process grew by with each message; (messages, bytes) each."""
    return max(0, after[1] - before[1]) / max(1, after[0] - before[0])


def fanned_out_as_stamped(facts, stamps, ways):
    """What was stamped by a generation was fanned out by it: quietly, or not. How many were seen of each."""
    seen = collections.Counter()
    for user, received in facts["received"].items():
        for message in received:
            if "group" in message and message["from"] != user:
                letter = ways.by_generation[stamps[message["message_id"]]]["fanout"]
                assert message.get("quiet", False) == (letter == "a"), (user, message, letter)
                seen[letter] += 1
    return seen


@pytest.mark.heavy
@pytest.mark.timeout(3600)
async def test_swaps_under_load_lose_double_and_reorder_nothing_and_every_generation_decides(
        start, name, tmp_path, capsys):
    """At every hook in turn; every tenth deployment is bad, each time in another way."""
    key = Key(tmp_path)
    files = {letter: key.sign(await asyncio.to_thread(either, tmp_path, letter)) for letter in "ab"}
    bad = await asyncio.to_thread(bad_files, tmp_path, key)
    kinds, ways = list(bad), Ways(files)
    server = start(config={
        "policies": {"trusted_keys": [key.public], "require_signature": True, "compile_time": f"{COMPILE_TIME_S} s",
                     "record_one_in": 0},
        # What the messages themselves leave in memory is not the question here.
        "log": {"cache_bytes_max": "1 MiB"},
    })
    senders, bob = [name(f"s{i}") for i in range(3)], name("bob")
    members = [name("carol"), name("dave")]
    group = server.rest(senders[0]).group("swapped", [*senders[1:], bob, *members])
    arrivals = Arrivals(server, senders=senders, to=bob, group=group, members=members, per_second=PER_SECOND)
    memory, held, took, refused = [], [], [], 0
    async with Device(server, name("watcher")) as watcher, arrivals:
        # Contacts see each other.
        server.rest(bob).put(f"/v1/contacts/{watcher.user}", {}).ok()
        await arrivals.until(lambda: len(arrivals.outcomes) >= PER_SECOND, "it is warm")
        quiet_from, quiet_memory = time.monotonic(), (len(arrivals.outcomes), server.resident_bytes())
        await arrivals.until(lambda: len(arrivals.took(quiet_from, time.monotonic())) >= QUIET_SENDS, "a quiet time", 120)
        swapping_from = time.monotonic()
        by_message = per_message(quiet_memory, (len(arrivals.outcomes), server.resident_bytes()))
        for number in range(SWAPS):
            if number % 10 == 9:
                kind = kinds[refused % len(kinds)]
                file, words = bad[kind]
                answer, said = await asyncio.to_thread(deployed, server, file)
                assert answer is None and all(word in said for word in words), (kind, answer, said)
                refused += 1
            else:
                hook = HOOKS[(number - refused) % len(HOOKS)]
                answer, said = await asyncio.to_thread(
                    deployed, server, files[ways.next(hook)], "--hook", hook, "-m", f"swap {number}")
                assert answer and answer["generation"] > answer["before"], (answer, said)
                ways.decides(answer["generation"], hook)
                took.append(answer["took_ms"])
                await arrivals.decided(answer["generation"])
                await seen_by_others(watcher, ways, hook, bob)
            memory.append((len(arrivals.outcomes), server.resident_bytes()))
            held.append(server.metrics_sum("heddle_policy_generations"))
        swapping_until = time.monotonic()
        facts = await arrivals.stop()
        # Nothing of them waits any more.
        await arrivals.until(lambda: 1 <= server.metrics_sum("heddle_policy_generations") <= GENERATIONS_KEPT_MAX, "they are drained", 60)
        assert watcher.closed is None
        check(arrivals, facts)
    assert min(held) >= 1 and max(held) <= GENERATIONS_HELD_MAX, f"loaded generations: {min(held)} to {max(held)}"
    server.stop()

    records = [record for topic in ("messages", "group_messages") for record in server.log(topic)]
    direct = [record for record in records if record["kind"] == "direct"]
    grouped = [record for record in records if record["kind"] == "group"]
    decided = decided_as_deployed(direct, ways, ("rate-limit", "routing"))
    in_groups = decided_as_deployed(grouped, ways, ("rate-limit", "routing", "fanout"))
    assert len(direct) + len(grouped) == facts["sent"]
    made = set(ways.by_generation) - {1}
    assert made <= set(decided) and made <= set(in_groups), f"decided nothing: {made - set(decided)}, {made - set(in_groups)}"
    stamps = {record["message_id"]: record["stamp"]["generation"] for record in grouped}
    seen = fanned_out_as_stamped(facts, stamps, ways)
    assert set(seen) >= {"a", "b"}, seen

    quiet = arrivals.took(quiet_from, swapping_from)
    swapping = arrivals.took(swapping_from, swapping_until)
    later = memory[len(memory) // 3:]
    messages, grown = (last - first for first, last in zip(later[0], later[-1], strict=True))
    beside = grown - by_message * messages
    took.sort()
    with capsys.disabled():
        print(
            f"\n  swaps: {len(took)} good and {refused} bad ({len(kinds)} kinds) in {swapping_until - swapping_from:.0f} s under "
            f"{facts['sent']} messages, {len(grouped)} of them in a group; file to serving median "
            f"{took[len(took) // 2]:.0f} ms, longest {took[-1]:.0f} ms; loaded generations at most {max(held):.0f}\n"
            f"  p99 of a send at {PER_SECOND} a second: {quantile(quiet, 0.99) * 1e3:.1f} ms of {len(quiet)} without swaps, "
            f"{quantile(swapping, 0.99) * 1e3:.1f} ms of {len(swapping)} with "
            f"({quantile(swapping, 0.99) / quantile(quiet, 0.99):.2f} x)\n"
            f"  resident MiB {memory[0][1] >> 20} at first, {later[0][1] >> 20} after a third, {later[-1][1] >> 20} at the end: "
            f"{beside / 2**20:.1f} MiB beside {by_message / 1024:.1f} KiB for each of {messages} messages"
        )
    assert beside < GROWN_BYTES_MAX, f"{beside / 2**20:.1f} MiB more than after a third of the swaps"


async def test_what_an_operator_types_and_sees(start, name, tmp_path):
    """deploy, set, chain, remove, rollback, list, history; the audit has each."""
    server = start()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        assert changed(server, "list")["generation"] == 1
        changed(server, "deploy", fixture("deny-all"), "-m", "nobody speaks")
        await a.refused("refused", bob, "no")
        shown = heddle("plugin", "list", "--data", server.data).stdout
        assert "generation 2" in shown and "deny-all 0.1.0" in shown, shown
        changed(server, "rollback", "-m", "they may")
        await a.say(bob, "yes")
        changed(server, "set", "token-bucket", 'commands={"chat-message": {"burst": 1, "per_second": 0.001}}')
        await a.say(bob, "the last one for a while")
        await a.refused("rate_limited", bob, "too many")
        changed(server, "set", "token-bucket", "commands=")
        changed(server, "deploy", fixture("mark"))
        changed(server, "chain", "routing", "mark", "inbox-routing")
        changed(server, "remove", "mark")
        again = changed(server, "rollback", "2")
        assert again["generation"] == 9, again
        await a.refused("refused", bob, "no again")
        words = [change["what"] for change in changed(server, "history")["changes"]]
        assert words == ["rollback", "remove", "chain", "deploy", "configure", "configure", "rollback", "deploy", "start"]
        told = changed(server, "history", "-n", "8")["changes"][-1]
        assert (told["why"], told["who"]) == ("nobody speaks", "operator"), told
        assert [e["name"] for e in told["detail"]["after"]["chains"]["routing"]] == ["inbox-routing", "deny-all"]


async def test_wrong_words_are_told_and_change_nothing(start):
    server = start()
    for words, said in [
        (("deploy", "no-such-file.wasm"), "no-such-file.wasm"),
        (("deploy", fixture("mark"), "--hook", "presence"), "has no hook presence"),
        (("deploy", fixture("mark"), "--hook", "rooting"), "rooting"),
        (("set", "nobody", "a=1"), "nobody"),
        (("set", "token-bucket", "burst"), "KEY=VALUE"),
        (("set", "token-bucket", "burts=3"), "burts"),
        (("chain", "routing", "nobody"), "inbox-routing"),
        (("remove", "nobody"), "nobody"),
        (("rollback", "99"), "generation 99"),
    ]:
        done = plugin(server, *words)
        assert done.returncode != 0 and said in done.stderr, (words, done.stdout, done.stderr)
    assert changed(server, "list")["generation"] == 1
    done = heddle("plugin", "list", "--admin", server.admin, "--token", "wrong")
    assert done.returncode == 64 and "admin token" in done.stderr, done.stderr


async def test_what_was_changed_is_there_after_a_kill(start, name):
    server = start()
    alice, bob = name("alice"), name("bob")
    changed(server, "deploy", fixture("deny-all"))
    server.kill()
    server.start()
    assert changed(server, "list")["generation"] == 2
    async with Device(server, alice) as a:
        await a.refused("refused", bob, "still no")


@pytest.mark.parametrize("killed", ["never", "before the deployment", "after the deployment", "before and after"])
async def test_a_first_try_under_one_generation_is_answered_from_it_under_the_next(start, name, killed):
    """The sender never heard of the outcome: the retry is one message with the first decision, not a second one."""
    server = start()
    alice, bob = name("alice"), name("bob")
    a, b = Device(server, alice), Device(server, bob)
    await a.connect()
    await b.connect()
    await a.post(bob, "once", client_id="once")
    # It is in the log; what was said to the sender is lost with the connection.
    first = await b.next("new_message", text="once")
    await a.abort()
    await b.leave()
    if killed in ("before the deployment", "before and after"):
        server.restart()
    changed(server, "deploy", fixture("deny-all"))
    if killed in ("after the deployment", "before and after"):
        server.restart()
    assert changed(server, "list")["generation"] == 2
    a.pending.clear()
    await a.connect()
    await b.connect()
    again = await a.outcome(await a.post(bob, "once", client_id="once", resend=True))
    assert (again["type"], again["message_id"], again["generation"]) == ("accepted", first["message_id"], 1), again
    await a.refused("refused", bob, "another")
    await a.until(lambda: [m["text"] for m in a.messages] == ["once"], "the own copy")
    await b.ping()
    assert b.texts() == ["once"] and len(b.messages) == 1, b.messages
    await asyncio.gather(a.leave(), b.leave())
    server.stop()
    records = [record for record in server.log("messages") if record["kind"] == "direct"]
    assert [(r["message_id"], r["stamp"]["generation"]) for r in records] == [(first["message_id"], 1)], records


STAGES = ("before it compiles", "while it compiles", "compiled", "recorded", "serving")


@pytest.mark.heavy
@pytest.mark.timeout(3600)
async def test_a_kill_in_the_middle_of_a_deployment_leaves_one_whole_generation(start, name, tmp_path, capsys):
    """A file that nobody has seen before each time, killed in each stage of its deployment in turn."""
    server = start()
    alice, bob = name("alice"), name("bob")
    known, letter, landed = 1, None, collections.Counter()
    for number in range(KILLS):
        file = await asyncio.to_thread(fresh, tmp_path, f"k{number}")
        deployment = Deployment(server, file, known)
        answer = await deployment.killed(STAGES[number % len(STAGES)], luck.random())
        stage = deployment.stage(answer)
        landed[stage] += 1
        server.start()
        listed = changed(server, "list")
        made = known + (stage in ("recorded", "serving"))
        assert listed["generation"] == made, (number, stage, listed, known)
        if answer:
            assert answer["generation"] == made, (number, answer)
        if made > known:
            known, letter = made, f"k{number}"
        decides = {policy["hook"]: policy["digest"] for policy in listed["policies"] if policy["name"] == "either"}
        assert set(decides) == (set(HOOKS) if letter else set()), (number, stage, listed)
        async with Device(server, alice) as a, Device(server, bob) as b:
            accepted = await a.say(bob, f"message {number}")
            message = await b.next("new_message", message_id=accepted["message_id"])
        assert accepted["generation"] == known, (number, accepted)
        assert message.get("tags", {}).get("mark") == letter, (number, stage, message, letter)
    with capsys.disabled():
        print(f"\n  kills in the middle of a deployment: {KILLS}, of them "
              + ", ".join(f"{landed[stage]} {stage}" for stage in STAGES) + f"; generations made: {known - 1}")
    # Where each one lands is up to the machine; but they must not all come before, or all after.
    assert landed["while it compiles"] and landed["recorded"] + landed["serving"], landed
    assert KILLS < 100 or sum(landed[stage] > 0 for stage in STAGES) >= 4, landed
