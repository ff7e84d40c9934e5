"""Plugins on trial, plugins that are taken back by themselves, and what was recorded, through the CLI."""

import asyncio
import json
import statistics
import time

from harness.device import Device
from harness.operator import changed, plugin
from harness.policies import FOLDER, built, digest, fixture
from harness.server import heddle


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


def renamed(folder, name, component, version):
    """The component of a fixture under another name."""
    folder = folder / f"{name}-{version}"
    folder.mkdir()
    artifact = FOLDER / "target" / "wasm32-wasip2" / "release" / f"{component}.wasm"
    build = ["env", "-C", str(FOLDER / component), "cargo", "build", "--release", "--locked", "--target", "wasm32-wasip2"]
    (folder / "plugin.toml").write_text(
        f'name = "{name}"\nversion = "{version}"\n[hooks.routing]\non_failure = "builtin"\n'
        f'[build]\ncommand = {json.dumps(build)}\nartifact = "{artifact}"\n'
        + ('[config]\nmark = "a"\n' if component == "mark" else "")
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
    accepted = await people[0].say(people[1].user, "and now?")
    guard = next(d for d in decided(server, accepted) if d["plugin"] == "guard")
    assert (guard["digest"], guard["fallback"]) == (digest(good), None), guard
    newest = changed(server, "history", "-n", "1")["changes"][0]
    assert (newest["who"], newest["what"]) == ("heddle", "break") and "5 faults in a row" in newest["why"], newest
    assert [person.closed for person in people] == [None] * 5
    await asyncio.gather(*(person.leave() for person in people))
    with capsys.disabled():
        print(f"\n  the breaker took the plugin back {took:.2f} s after its fifth fault")


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


async def test_a_slow_shadow_is_dropped_not_waited_for(start, name, capsys):
    server = start(config=PLENTY)
    alice, bob = name("alice"), name("bob")

    async def medians(device, label):
        took = []
        for number in range(300):
            began = time.monotonic()
            await device.say(bob, f"{label} {number}")
            took.append(time.monotonic() - began)
        return statistics.median(took)

    async with Device(server, alice) as a:
        quiet = await medians(a, "quiet")
        changed(server, "deploy", fixture("slow"), "--shadow")
        shadowed = await medians(a, "shadowed")
        for number in range(2000):
            await a.frame({"type": "chat_message", "client_id": f"x{number}", "to": bob, "text": "?"})
        await a.until(lambda: len(a.outcomes) >= 2000, "all outcomes", 60)
        shadow = changed(server, "trial")["trial"][0]["shadow"]
        assert shadow["dropped"] > 0 and shadow["changed"] == 0, shadow
        assert server.metrics_sum("heddle_policy_faults_total") == 0
        with capsys.disabled():
            print(
                f"\n  a shadow of {shadow['micros'] / 1e3:.1f} ms a call: median send {quiet * 1e3:.2f} ms quiet, "
                f"{shadowed * 1e3:.2f} ms with it ({shadowed / quiet:.2f} x)"
            )


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
    assert "routing: 15 same, 0 changed" in text(server, "replay", fixture("mark")).replace("0 same, 15", "15 same, 0")
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
