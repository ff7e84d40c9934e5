"""The policy set changes while traffic flows: nobody notices but by what is decided."""

import asyncio
import json
import os
import time

import pytest

from harness.device import Device
from harness.ledger import WINDOW, Ledger, Sender
from harness.operator import changed, plugin
from harness.policies import FOLDER, built, digest, fixture, truncated
from harness.server import heddle

SWAPS = int(os.environ.get("HEDDLE_E2E_SWAPS", "1000"))
KILLS = int(os.environ.get("HEDDLE_E2E_DEPLOY_KILLS", "100"))
# Below the limit of the built-in rate limit.
PROBES_PER_S = 10
QUIET_PROBES = 100


def variant(folder, letter, *, case=None):
    """The fixture `mark`, configured to set that letter; `case`: a case of its own."""
    folder = folder / f"mark-{letter}{'-case' if case else ''}"
    folder.mkdir()
    text = (FOLDER / "mark" / "plugin.toml").read_text().replace('mark = "a"', f'mark = "{letter}"')
    text = text.replace("../target", str(FOLDER / "target"))
    (folder / "plugin.toml").write_text(text.replace('"cargo"', f'"env", "-C", "{FOLDER / "mark"}", "cargo"'))
    if case:
        (folder / "cases").mkdir()
        (folder / "cases" / "wrong.json").write_text(json.dumps(case))
    return built(folder, folder / "mark.wasm")


def bad_files(folder):
    """Files that must not serve, and a word of why."""
    text = folder / "text.wasm"
    text.write_text("no component at all")
    wrong = {"hook": "routing", "at": {"now": 1, "seed": 1},
             "request": {"sender": "alice", "to": {"direct": "bob"}, "size": 1, "members": 2},
             "expect": {"decision": "accept"}}
    return [
        (text, "WebAssembly"),
        (truncated(fixture("mark"), 30_000), ""),
        (fixture("wrong-type"), ""),
        (fixture("trap-at-start"), ""),
        (variant(folder, "z", case=wrong), "wrong"),
    ]


class Probe:
    """Sends at a constant rate, whatever the answers do, and measures each send from the moment at which it was due."""

    def __init__(self, server, user, to):
        self.device, self.to, self.took = Device(server, user), to, []

    async def run(self):
        """Until it is cancelled."""
        began, number, waiting = time.monotonic(), 0, set()
        while True:
            due = began + number / PROBES_PER_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self.send(number, due))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            number += 1

    async def send(self, number, due):
        """One."""
        client_id = await self.device.post(self.to, f"probe {number}", client_id=f"probe{number}")
        await self.device.outcome(client_id)
        self.took.append(time.monotonic() - due)


def p99(took):
    """Nearest rank."""
    return sorted(took)[int(len(took) * 0.99)]


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_swaps_under_load_lose_double_and_reorder_nothing_and_every_generation_decides(
        start, name, tmp_path, capsys):
    """Every tenth deployment is bad, each time in another way."""
    good = [variant(tmp_path, letter) for letter in "ab"]
    bad = bad_files(tmp_path)
    server = start()
    bob = Device(server, name("bob"), auto_ack=True)
    ledger = Ledger(bob)
    senders = [Sender(server, f"{name('s')}-{i}", bob.user, ledger) for i in range(3)]
    for sender in senders:
        sender.device.auto_ack = True
    await bob.connect()
    await asyncio.gather(*(s.connect() for s in senders))
    work = [asyncio.create_task(s.flood()) for s in senders]
    probe = Probe(server, name("probe"), name("nobody"))
    await probe.device.connect()
    probing = asyncio.create_task(probe.run())
    await ledger.until(lambda: len(probe.took) >= QUIET_PROBES, "a quiet time was measured", 60)
    quiet, probe.took = probe.took, []
    memory = [server.resident_bytes()]
    marks, refused, took, began = {}, 0, [], time.monotonic()
    for number in range(SWAPS):
        if number % 10 == 9:
            file, why = bad[refused % len(bad)]
            done = await asyncio.to_thread(plugin, server, "deploy", file)
            assert done.returncode != 0 and why in done.stderr, (file, done.stdout, done.stderr)
            refused += 1
        else:
            answer = await asyncio.to_thread(changed, server, "deploy", good[len(marks) % 2], "-m", f"swap {number}")
            assert answer["generation"] > answer["before"], answer
            marks[answer["generation"]] = "ab"[len(marks) % 2]
            took.append(answer["took_ms"])
        # More than may have been decided before: what each sender has under way.
        enough = len(ledger.accepted) + 3 * WINDOW
        await ledger.until(lambda: len(ledger.accepted) > enough, "traffic flows")
        memory.append(server.resident_bytes())
    swapping = probe.took
    probing.cancel()
    await probe.device.leave()
    generations = server.metrics_sum("heddle_policy_generations")
    assert generations <= 5, "old generations are not dropped"
    for sender in senders:
        sender.stopped = True
    await asyncio.gather(*work)
    for sender in senders:
        await sender.settle()
    await ledger.until(lambda: ledger.missing() == 0, "everything accepted is delivered", 60)
    ledger.check()
    spent = time.monotonic() - began
    assert [d.closed for d in [bob, *(s.device for s in senders)]] == [None] * 4, "a connection was closed"
    await asyncio.gather(bob.leave(), *(s.device.leave() for s in senders))
    server.stop()

    deciders = {"a": digest(good[0]), "b": digest(good[1])}
    decided = set()
    for record in (record for record in server.log("messages") if record["kind"] == "direct"):
        generation = record["stamp"]["generation"]
        decided.add(generation)
        letter = marks.get(generation)
        routed = {d["plugin"]: d["digest"] for d in record["stamp"]["decisions"] if d["hook"] == "routing"}
        assert record["tags"].get("mark") == letter, (generation, record)
        assert routed.get("mark") == deciders.get(letter), (generation, routed)
    assert set(marks) <= decided, f"generations that decided nothing: {sorted(set(marks) - decided)}"
    took.sort()
    with capsys.disabled():
        print(
            f"\n  swaps: {len(marks)} good and {refused} bad in {spent:.0f} s under {len(ledger.accepted)} messages; "
            f"file to serving median {took[len(took) // 2]:.0f} ms, longest {took[-1]:.0f} ms\n"
            f"  p99 of a send at {PROBES_PER_S} a second: {p99(quiet) * 1e3:.1f} ms without swaps, {p99(swapping) * 1e3:.1f} ms "
            f"with ({p99(swapping) / p99(quiet):.2f} x); resident MiB after the first tenth {memory[len(memory) // 10] >> 20}, "
            f"at the end {memory[-1] >> 20}"
        )


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


async def test_a_first_try_under_one_generation_is_answered_from_it_under_the_next(start, name):
    server = start()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob) as b:
        first = await a.say(bob, "once", client_id="once")
        changed(server, "deploy", fixture("deny-all"))
        await a.refused("refused", bob, "another")
        again = await a.outcome(await a.post(bob, "once", client_id="once", resend=True))
        assert (again["type"], again["message_id"], again["generation"]) == ("accepted", first["message_id"], 1), again
        await b.next("new_message", text="once")
        assert b.texts() == ["once"]


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_a_kill_in_the_middle_of_a_deployment_leaves_one_whole_generation(start, name, tmp_path, capsys):
    """At another moment each time, from before the file has arrived to after it serves."""
    files = [variant(tmp_path, letter) for letter in "ab"]
    digests = {digest(file): letter for file, letter in zip(files, "ab", strict=True)}
    server = start()
    alice, bob = name("alice"), name("bob")
    began = time.monotonic()
    known = changed(server, "deploy", files[1])["generation"]
    whole_s, served = time.monotonic() - began, set()
    for number in range(KILLS):
        deploying = asyncio.create_task(asyncio.to_thread(plugin, server, "deploy", files[number % 2]))
        # From its start to well after its end, whatever this machine needs for one.
        await asyncio.sleep(whole_s * 1.5 * (number % 20) / 20)
        server.kill()
        done = await deploying
        server.start()
        answer = changed(server, "list")
        assert answer["generation"] >= known, (number, answer, known)
        if done.returncode == 0:
            assert answer["generation"] == json.loads(done.stdout)["generation"], (number, done.stdout, answer)
        served.add(answer["generation"] > known)
        known = answer["generation"]
        marks = [digests[policy["digest"]] for policy in answer["policies"] if policy["name"] == "mark"]
        async with Device(server, alice) as a, Device(server, bob) as b:
            accepted = await a.say(bob, f"message {number}")
            message = await b.next("new_message", message_id=accepted["message_id"])
        assert accepted["generation"] == known, (number, accepted)
        assert [message.get("tags", {}).get("mark")] == (marks or [None]), (number, message, answer)
    assert served == {True, False}, "all kills came before the swap, or all after it"
    with capsys.disabled():
        print(f"\n  kills in the middle of a deployment: {KILLS}, generations made: {known - 1}")
