"""Plugins on trial, plugins that are taken back by themselves, and what was recorded, through the CLI."""

import asyncio
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.arrivals import Arrivals, check
from harness.device import Device
from harness.operator import changed, plugin
from harness.policies import FOLDER, built, digest, fixture
from harness.server import heddle
from harness.settings import merged
from harness.swaps import deployed, either, env_number, fresh, quantile
from harness.waiting import until_async

SHADOWED = env_number("HEDDLE_E2E_SHADOWED", 250)
REPLAYED = env_number("HEDDLE_E2E_REPLAYED", 10_000)
BACKLOG = 60
CONFLICT = ("another change of the policy set is under way", "another node made a generation meanwhile")
# The goal is one second; a machine that runs tests is given more.
TAKEN_BACK_S_MAX = 5

PLENTY = {"policies": {"config": {"token-bucket": {"commands": {"chat-message": {"burst": 9000, "per_second": 9000}}}}}}


def text(server, *words):
    """As people see it."""
    asked = heddle("plugin", *words, "--data", server.data)
    assert asked.returncode == 0, asked.stderr
    return asked.stdout


def decided(server, accepted):
    """Who decided about a message."""
    explained = heddle("explain", accepted["message_id"], "--data", server.data, "--output", "json")
    return json.loads(explained.stdout)["decisions"]


def renamed(folder, name, component, version, deadline_ms=5, config=""):
    """The component of a fixture under another name."""
    folder = folder / f"{name}-{version}"
    folder.mkdir()
    artifact = FOLDER / "target" / "wasm32-wasip2" / "release" / f"{component}.wasm"
    build = ["env", "-C", str(FOLDER / component), "cargo", "build", "--release", "--locked", "--target", "wasm32-wasip2"]
    (folder / "plugin.toml").write_text(
        f'name = "{name}"\nversion = "{version}"\n[hooks.routing]\non_failure = "builtin"\n'
        f"[limits]\ndeadline_ms = {deadline_ms}\n"
        f'[build]\ncommand = {json.dumps(build)}\nartifact = "{artifact}"\n'
        + '[config]\n' + ('mark = "a"\n' if component == "mark" else config)
    )
    return built(folder, folder / f"{name}.wasm")


async def until(what, condition, deadline_s=30):
    """Polls; returns the seconds that it took."""
    began = time.monotonic()
    while not await asyncio.to_thread(condition):
        assert time.monotonic() - began < deadline_s, what
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def test_a_shadow_decides_nothing_says_what_it_would_and_is_promoted(start, name):
    server = start()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        assert changed(server, "deploy", fixture("deny-all"), "--shadow", "-m", "how many?")["generation"] == 2
        for number in range(20):
            await a.say(bob, f"message {number}")
        await until("all were looked at", lambda: changed(server, "trial")["trial"][0]["shadow"]["changed"] == 20)
        shown = text(server, "trial")
        assert "0 same, 20 changed (0 of them faults), 0 not looked at" in shown and "nobody says anything" in shown
        assert "shadow" in text(server, "list")
        again = plugin(server, "deploy", fixture("mark"), "--canary", "10%")
        assert again.returncode != 0 and "deny-all is on trial" in again.stderr, again.stderr
        changed(server, "promote", "-m", "all of them wanted")
        await a.refused("refused", bob, "no")
        assert "nothing is on trial" in text(server, "trial")
        assert plugin(server, "abandon").returncode != 0
        words = [change["what"] for change in changed(server, "history")["changes"]]
        assert words == ["promote", "shadow", "start"]


async def test_a_canary_keeps_to_its_conversations_and_gives_way_by_itself(start, name, capsys):
    server = start(config=PLENTY)
    alice, prefix = name("alice"), name("c")
    async with Device(server, alice) as a:
        changed(server, "deploy", fixture("mark"), "--canary", "40")
        marks = {}
        for _ in range(2):
            for number in range(60):
                accepted = await a.say(f"{prefix}{number}", "which arm?")
                explained = decided(server, accepted)
                routed = [d["plugin"] for d in explained if d["hook"] == "routing"]
                marks.setdefault(number, set()).add("mark" in routed)
        assert all(len(arms) == 1 for arms in marks.values()), "a conversation had both arms"
        taken = sum(arms == {True} for arms in marks.values())
        assert 8 <= taken <= 45, f"{taken} of 60 at 40 %"
        changed(server, "abandon")
        generation = changed(server, "deploy", fixture("deny-all"), "--canary", "50%")["generation"]
        for number in range(600):
            await a.frame({"type": "chat_message", "client_id": f"x{number}", "to": f"{prefix}{number}", "text": "?"})
        took = await until("it is abandoned", lambda: changed(server, "list")["generation"] == generation + 1)
        assert took < TAKEN_BACK_S_MAX, f"{took:.2f} s until the canary was abandoned"
        newest = changed(server, "history", "-n", "1")["changes"][0]
        assert (newest["who"], newest["what"]) == ("heddle", "abandon") and "the canary refuses" in newest["why"]
        await a.until(lambda: len(a.outcomes) >= 600, "all outcomes")
        for number in range(20):
            await a.say(f"{prefix}{number}", "all arms are one again")
        with capsys.disabled():
            print(f"\n  a canary that refuses everything was abandoned {took:.2f} s after 600 sends were written")


async def test_the_breaker_puts_the_version_before_in_its_place(start, name, tmp_path, capsys):
    server = start()
    good, bad = renamed(tmp_path, "guard", "mark", "1.0.0"), renamed(tmp_path, "guard", "trap", "1.1.0")
    people = [Device(server, f"{name('p')}-{n}") for n in range(5)]
    await asyncio.gather(*(person.connect() for person in people))
    changed(server, "deploy", good)
    generation = changed(server, "deploy", bad)["generation"]
    fell = [await person.say(people[0].user if person is not people[0] else people[1].user, "?") for person in people]
    for accepted in fell:
        guard = next(d for d in decided(server, accepted) if d["plugin"] == "guard")
        assert guard["digest"] not in (digest(good), digest(bad)) and guard["fallback"] == "builtin", guard
    took = await until("the breaker opens", lambda: changed(server, "list")["generation"] == generation + 1)
    assert took < TAKEN_BACK_S_MAX, f"{took:.2f} s until the breaker opened"
    accepted = await people[0].say(people[1].user, "and now?")
    guard = next(d for d in decided(server, accepted) if d["plugin"] == "guard")
    assert (guard["digest"], guard["fallback"]) == (digest(good), None), guard
    newest = changed(server, "history", "-n", "1")["changes"][0]
    assert (newest["who"], newest["what"]) == ("heddle", "break") and "5 faults in a row" in newest["why"], newest
    assert [person.closed for person in people] == [None] * 5
    await asyncio.gather(*(person.leave() for person in people))
    with capsys.disabled():
        print(f"\n  the breaker took the plugin back {took:.2f} s after its fifth fault")


async def test_the_breaker_opens_as_well_when_more_than_one_call_in_a_hundred_fails(start, name, tmp_path):
    """Never two in a row, and each time another sender: one message in forty is too long for the new version."""
    server = start(config=PLENTY)
    changed(server, "deploy", renamed(tmp_path, "guard", "mark", "1.0.0"))
    generation = changed(server, "deploy", renamed(tmp_path, "guard", "trap", "1.1.0", config="above = 40\n"))["generation"]
    bob, rounds = name("bob"), 0
    while changed(server, "list")["generation"] == generation:
        rounds += 1
        assert rounds <= 40, "it is not taken back"
        async with Device(server, name(f"p{rounds}")) as person:
            await person.say(bob, "x" * 41)
            posted = [await person.post(bob, "short") for _ in range(39)]
            assert {(await person.outcome(client_id))["type"] for client_id in posted} == {"accepted"}
    newest = changed(server, "history", "-n", "1")["changes"][0]
    assert (newest["who"], newest["what"]) == ("heddle", "break"), newest
    failed, asked = map(int, re.match(r"(\d+) faults in (\d+) calls, the last: trap: ", newest["why"]).groups())
    assert asked >= 100 and failed * 100 > asked and failed < 5 + asked // 40, newest
    assert {p["version"] for p in changed(server, "list")["policies"] if p["name"] == "guard"} == {"1.0.0"}
    assert "no routing today" in server.stderr() and 'what="break"' in server.stderr(), server.stderr()


async def test_a_counter_in_a_global_is_caught_as_impure_and_taken_back(start, name):
    server = start(config={"policies": {"repeat_one_in": 1}})
    async with Device(server, name("alice")) as a:
        generation = changed(server, "deploy", fixture("counter"))["generation"]
        for number in range(10):
            await a.say(name("bob"), f"message {number}")
        await until("it is taken back", lambda: changed(server, "list")["generation"] == generation + 1)
        why = changed(server, "history", "-n", "1")["changes"][0]["why"]
        assert "answered otherwise when repeated" in why and "number" in why, why
        assert server.metrics_sum('heddle_policy_faults_total{hook="routing",plugin="counter"') >= 3


@pytest.mark.heavy
async def test_a_slow_shadow_changes_no_live_figure_and_is_dropped_not_waited_for(start, name, capsys):
    """Five milliseconds a call, at a constant rate of arrivals; then in a burst that it cannot follow."""
    server = start(config=PLENTY)
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    group = server.rest(alice).group("shown", [bob, carol])
    arrivals = Arrivals(server, senders=[alice], to=bob, group=group, members=[carol], per_second=100)
    quiet, shadowed, generation = [], [], 1
    async with arrivals, Device(server, name("burst")) as device:
        async def measured():
            since = time.monotonic()
            await arrivals.until(lambda: len(arrivals.took(since, time.monotonic())) >= SHADOWED, "enough sends", 60)
            return arrivals.took(since, time.monotonic())

        await measured()
        # In turn, so that what else the machine does meets both.
        for turn in range(3):
            if turn:
                changed(server, "abandon")
            quiet.append(await measured())
            generation = changed(server, "deploy", fixture("slow"), "--shadow")["generation"]
            shadowed.append(await measured())
        calm = changed(server, "trial")["trial"][0]["shadow"]
        check(arrivals, await arrivals.stop())
        for number in range(2000):
            await device.frame({"type": "chat_message", "client_id": f"x{number}", "to": bob, "text": "?"})
        await device.until(lambda: len(device.outcomes) >= 2000, "all outcomes", 60)
        calls = sum(server.policy_metrics("calls_total", hook="routing", plugin="inbox-routing", generation=generation).values())

        def all_seen():
            shadow = changed(server, "trial")["trial"][0]["shadow"]
            return shadow if shadow["same"] + shadow["changed"] + shadow["dropped"] == calls else None

        shadow = await until_async(lambda: asyncio.to_thread(all_seen), "each call is seen or dropped", 60)
        assert shadow["dropped"] > 0 and shadow["changed"] == 0 and shadow["same"] > 0, shadow
        assert server.metrics_sum("heddle_policy_faults_total") == 0
    figures = {share: ([quantile(took, share) for took in quiet], [quantile(took, share) for took in shadowed])
               for share in (0.5, 0.99)}
    shown = ", ".join(f"{'median' if share == 0.5 else 'p99'} {sorted(without)[1] * 1e3:.1f} and {sorted(with_it)[1] * 1e3:.1f}"
                      for share, (without, with_it) in figures.items())
    with capsys.disabled():
        print(f"\n  a shadow of {shadow['micros'] / 1e3:.1f} ms a call, sends in ms without and with it: {shown}; dropped "
              f"{calm['dropped']} at 100 a second, {shadow['dropped']} of a burst of 2,000")
    # Were it waited for, each send took its five milliseconds longer, and all after it. The rest is the machine's.
    for share, (without, with_it) in figures.items():
        assert min(with_it) < 2 * max(without) + 0.005, (share, without, with_it)


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_recorded_decisions_are_replayed_to_the_same_bytes_twice(start, name):
    """Through the command line: fixtures that use luck, the order of a hash map and remembered state."""
    server = start(config=merged(PLENTY, {"policies": {
        "record_one_in": 1, "record_bodies": True, "record_calls_max": 100_000, "record_bytes_max": "256 MiB", "repeat_one_in": 0}}))
    changed(server, "deploy", fixture("lots"))
    people = [Device(server, name(f"p{number}"), auto_ack=True) for number in range(10)]
    each = REPLAYED // (2 * len(people))
    for person in people:
        await person.connect()
        for number in range(each):
            await person.frame({"type": "chat_message", "client_id": f"{number}", "to": people[0].user, "text": f"message {number}"})
        await person.until(lambda who=person: len(who.outcomes) >= each, "all outcomes", 60)
    kinds = {outcome["type"] for person in people for outcome in person.outcomes.values()}
    assert kinds == {"accepted", "rejected"}, "a lot refuses one in ten"
    await asyncio.gather(*(person.leave() for person in people))

    def replayed(file):
        """All of it but what was measured; and what was measured."""
        (report,) = changed(server, "replay", file, "-n", str(10 * REPLAYED))
        return {key: value for key, value in report.items() if key not in ("before", "now")}, report.get("before"), report["now"]

    decisions = 0
    for file, hook in ((fixture("lots"), "routing"), (fixture("quota"), "rate-limit")):
        one, before, now = await asyncio.to_thread(replayed, file)
        two, *_ = await asyncio.to_thread(replayed, file)
        assert json.dumps(one) == json.dumps(two), f"{hook}: not the same twice"
        assert one["hook"] == hook and one["same"] + one["changed"] + one["skipped"] >= each * len(people), one["same"]
        assert len(one["changes"]) == one["changed"]
        decisions += one["same"] + one["changed"]
        assert now["micros"] > 0 and now["memory_bytes"] >= 65_536, now
        if hook == "routing":
            # It decides now: what it costs is shown beside what the candidate does.
            assert before["micros"] > 0 and before["memory_bytes"] >= 65_536, before
    # Three for each key, then no more: what it remembers of one call it must know in the next.
    keys = {(c["call"]["rate-limit"]["request"]["scope"], c["call"]["rate-limit"]["request"]["key"]) for c in one["changes"]}
    assert one["same"] == 3 * len(keys), (one["same"], keys)
    assert decisions >= REPLAYED * 0.9, decisions
    shown = text(server, "replay", fixture("lots"), "-n", "1")
    assert re.search(r"^routing: \d+ same, \d+ changed  \(\d+\.\d µs, \d+ KiB before, \d+\.\d µs, \d+ KiB now\)$", shown, re.M), shown


async def test_what_was_recorded_is_replayed_and_says_the_same_twice(start, name, tmp_path):
    server = start(config={"policies": {"record_one_in": 1, "record_bodies": True}})
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        for number in range(15):
            await a.say(bob, f"message {number}")
    one = changed(server, "replay", fixture("deny-all"), "--last", "10m", "-n", "3")
    assert [(r["hook"], r["same"], r["changed"]) for r in one] == [("routing", 0, 15)], one
    assert one == [{**r, "now": one[0]["now"]} for r in changed(server, "replay", fixture("deny-all"), "-n", "3")]
    assert one[0]["changes"][0]["call"]["routing"]["message"]["text"] == "message 0", one
    shown = text(server, "replay", fixture("deny-all"))
    assert "routing: 0 same, 15 changed" in shown and "nobody says anything here" in shown, shown
    assert "routing: 0 same, 15 changed" in text(server, "replay", fixture("mark")), "a tag is another decision"
    assert "routing: 15 same, 0 changed" in text(server, "replay", fixture("slow")), "it accepts, after some thought"
    calls = tmp_path / "calls.ndjson"
    calls.write_text(heddle("plugin", "record", "--hook", "routing", "--data", server.data).stdout)
    assert len(calls.read_text().splitlines()) == 15
    server.stop()
    offline = heddle("plugin", "replay", str(fixture("deny-all")), "--from", str(calls), "--output", "json")
    assert json.loads(offline.stdout)[0]["answers"] == one[0]["answers"], offline
    calls.write_text('{"hook": "routing"}\n')
    bad = heddle("plugin", "replay", str(fixture("deny-all")), "--from", str(calls))
    assert bad.returncode == 64 and "line 1" in bad.stderr, bad


async def test_bodies_are_not_recorded_unless_wanted(start, name):
    server = start(config={"policies": {"record_one_in": 1}})
    async with Device(server, name("alice")) as a:
        await a.say(name("bob"), "the key is under the mat")
    lines = heddle("plugin", "record", "--data", server.data).stdout
    assert "xxx xxx xx xxxxx xxx xxx" in lines and "mat" not in lines


async def test_disabled_plugins_sleep_and_revoked_generations_are_not_carried_out(start, name):
    server = start()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        changed(server, "deploy", fixture("deny-all"))
        await a.refused("refused", bob, "no")
        changed(server, "disable", "deny-all", "-m", "the fair is on")
        await a.say(bob, "yes")
        assert "disabled" in text(server, "list")
        changed(server, "enable", "deny-all")
        await a.refused("refused", bob, "no again")
        assert changed(server, "revoke", "-m", "a mistake")["generation"] == 5
        await a.say(bob, "the one before decides: disabled")
        assert plugin(server, "revoke", "99").returncode != 0


async def test_what_a_revoked_generation_has_yet_to_fan_out_is_sorted_by_the_built_in_and_says_so(start, name, tmp_path):
    """Its fan-out is slow: when it is revoked, messages that it was stamped on wait for it."""
    slow = either(tmp_path, "a", more="\n[limits]\ndeadline_ms = 50\n", thinks=40_000_000)
    server = start(config=merged(PLENTY, {"policies": {"breaker": False}}))
    alice, bob = name("alice"), name("bob")
    group = server.rest(alice).group("waiting", [bob])
    async with Device(server, alice) as a, Device(server, bob, auto_ack=True) as b:
        revoked = changed(server, "deploy", slow, "--hook", "fanout")["generation"]
        for number in range(BACKLOG):
            await a.post(group=group, text=f"{number}", client_id=f"m{number}")
        await a.until(lambda: len(a.outcomes) >= BACKLOG, "all outcomes", 60)
        assert {outcome["generation"] for outcome in a.outcomes.values()} == {revoked}, "all are stamped by it"
        before = len(b.messages)
        assert before < BACKLOG, "its fan-out is not slow enough to be revoked in time"
        assert changed(server, "revoke", "-m", "it whispers")["generation"] == revoked + 1
        await b.until(lambda: len(b.messages) >= BACKLOG, "everything comes", 60)
    quiet = [message.get("quiet", False) for message in b.messages]
    assert [message["text"] for message in b.messages] == [str(number) for number in range(BACKLOG)]
    # From some message on nobody whispers.
    assert quiet == sorted(quiet, reverse=True) and not quiet[-1], quiet
    server.stop()
    chunks = {record["message_id"]: record for record in server.log("messages") if record["kind"] == "group_chunk"}
    for message, whispered in zip(b.messages, quiet, strict=True):
        chunk = chunks[message["message_id"]]
        assert chunk["stamp"]["generation"] == revoked, chunk
        fallbacks = {decision["fallback"] for decision in chunk["sorted_by"]}
        assert ("builtin" in fallbacks) != whispered, chunk


async def test_of_four_deployments_at_once_one_wins_and_three_are_told_of_the_conflict(start, name, tmp_path):
    """Through the command line, with files that have to be compiled, and that all are handed over at one moment: through pipes."""
    server = start()
    for turn in range(3):
        pipes = []
        for number in range(4):
            file = await asyncio.to_thread(fresh, tmp_path, f"r{turn}-{number}")
            pipes.append((file.with_name("pipe.wasm"), file.read_bytes()))
            os.mkfifo(pipes[-1][0])
        deploying = [asyncio.create_task(asyncio.to_thread(deployed, server, pipe)) for pipe, _ in pipes]
        # Each can be opened as soon as its command reads it.
        opened = [await asyncio.to_thread(open, pipe, "wb") for pipe, _ in pipes]
        with ThreadPoolExecutor(4) as writers:
            list(writers.map(lambda end, content: (end.write(content), end.close()), opened, [content for _, content in pipes]))
        answers = await asyncio.gather(*deploying)
        won = [answer["generation"] for answer, _ in answers if answer]
        assert won == [turn + 2], (turn, answers)
        assert all(any(word in said for word in CONFLICT) for answer, said in answers if not answer), answers
        assert changed(server, "list")["generation"] == turn + 2
    assert [change["what"] for change in changed(server, "history")["changes"]] == ["deploy", "deploy", "deploy", "start"]


async def test_a_role_may_what_it_names(start, name):
    server = start()
    token = {role: server.token(name(role), role=role) for role in ["viewer", "operator", "policy-admin"]}
    assert plugin(server, "list", token=token["viewer"]).returncode == 0
    for role in ["viewer", "operator"]:
        refused = plugin(server, "rollback", token=token[role])
        assert refused.returncode == 64 and f"its role is {role}, and policy-admin is needed" in refused.stderr
    assert plugin(server, "deploy", fixture("mark"), token=token["policy-admin"]).returncode == 0
    client = plugin(server, "list", token=server.token(name("alice")))
    assert client.returncode == 64 and "viewer is needed" in client.stderr, client.stderr
    assert changed(server, "history")["changes"][0]["who"] == name("policy-admin")
