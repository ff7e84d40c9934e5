"""Every verb of `heddle plugin` for programs, and what each change leaves in the audit."""

import json
import re

from harness.device import Device
from harness.hostile import compile_bomb
from harness.operator import changed
from harness.policies import FOLDER, digest, fixture
from harness.server import heddle
from harness.swaps import HOOKS
from harness.terminal import Terminal
from harness.waiting import until

# It runs until it is ended: what it says is in test_authoring.
RUNS_ON = {"dev"}


class Typed:
    """`heddle plugin VERB ... --output json`, and which verbs were typed."""

    def __init__(self, server):
        self.server, self.verbs = server, set()

    def alone(self, verb, *words):
        """One that needs no server."""
        self.verbs.add(verb)
        done = heddle("plugin", verb, *words, "--output", "json", timeout_s=300)
        assert done.returncode == 0, (verb, words, done.stderr)
        # What has no end is a line each.
        return [json.loads(line) for line in done.stdout.splitlines()] if verb == "logs" else json.loads(done.stdout)

    def at(self, verb, *words):
        """One that talks to the server."""
        return self.alone(verb, *words, "--data", self.server.data)


def offered():
    """The verbs that `--help` lists."""
    listed = heddle("plugin", "--help").stdout.split("Commands:\n")[1].split("\n\n")[0]
    return set(re.findall(r"^  (\w+) ", listed, re.M)) - {"help"}


async def test_every_verb_answers_programs_and_every_change_stands_in_the_audit(start, name, tmp_path):
    """One evening of an operator; each change says why, and the audit knows who, when, what, and the set before and after."""
    server = start(config={"policies": {"record_one_in": 1}})
    typed, made = Typed(server), []

    def change(what, *words):
        """A change with its reason; its answer. `what`: as the audit calls it."""
        why = f"because of {len(made)}"
        answer = typed.at(*words, "-m", why)
        made.append((what, why, answer["before"], answer["generation"]))
        assert answer["generation"] == answer["before"] + 1, answer
        return answer

    file = tmp_path / "mark.wasm"
    assert typed.alone("build", FOLDER / "mark", "--out", file)["digest"] == digest(file)
    assert typed.alone("new", "quiet-hours", "--hook", "routing", tmp_path / "quiet-hours")["hooks"] == ["routing"]
    assert typed.alone("check", file)["fits"] is True
    assert typed.alone("test", file)["failed"] == 0
    assert typed.alone("inspect", file)["name"] == "mark"
    typed.verbs.add("keys")
    key = json.loads(heddle("plugin", "keys", "new", tmp_path / "key", "--output", "json").stdout)
    assert typed.alone("sign", file, "--key", key["secret"])

    async with Device(server, name("alice")) as a:
        change("deploy", "deploy", file)
        await a.say(name("bob"), "a message to be recorded")
        change("configure", "set", "mark", "mark=b")
        change("chain", "chain", "routing", "mark", "inbox-routing")
        change("disable", "disable", "mark")
        change("enable", "enable", "mark")
        change("shadow", "deploy", fixture("deny-all"), "--shadow")
        assert typed.at("trial")["trial"][0]["shadow"]["changed"] == 0
        change("abandon", "abandon")
        change("canary", "deploy", fixture("deny-all"), "--canary", "1%")
        change("promote", "promote")
        await a.refused("refused", name("bob"), "nobody says anything")
        change("rollback", "rollback", 1)
        change("deploy", "deploy", fixture("deny-all"))
        change("revoke", "revoke")
        change("deploy", "deploy", file)
        change("remove", "remove", "mark")

    assert {policy["hook"] for policy in typed.at("list")["policies"]} == set(HOOKS)
    assert typed.at("logs", "nobody") == []
    assert {call["hook"] for call in typed.at("record", "--hook", "routing")} == {"routing"}
    (replayed,) = typed.at("replay", fixture("deny-all"))
    assert replayed["hook"] == "routing" and replayed["same"] + replayed["changed"] >= 1, replayed
    rows = typed.at("history", "-n", "100")["changes"][::-1]
    assert typed.verbs == offered() - RUNS_ON, typed.verbs ^ offered()

    assert [(row["what"], row["why"]) for row in rows[1:]] == [(what, why) for what, why, *_ in made], rows
    for row, (what, _, before, after) in zip(rows[1:], made, strict=True):
        assert row["who"] == "operator" and row["at"] > 0, row
        sets = [row["detail"][when] for when in ("before", "after")]
        assert [one["generation"] for one in sets] == [before, after], (what, row)
        assert all(set(one["chains"]) == set(HOOKS) for one in sets), row
    # What one left is what the next one found.
    for one, other in zip(rows[1:], rows[2:], strict=False):
        assert one["detail"]["after"] == other["detail"]["before"], (one["what"], other["what"])
    assert changed(server, "list")["generation"] == made[-1][3]


def test_what_takes_long_shows_on_a_terminal_that_it_is_being_done_and_for_how_long(start):
    """A compiler may take longer than a call of a client: the operator hears what the compiler says."""
    file = compile_bomb()
    server = start(config={"policies": {"compile_time": "2 s"}, "gateway": {"rest_timeout": "500 ms"}})
    terminal = Terminal("plugin", "deploy", file, "--data", server.data)
    try:
        terminal.shows(r"the server compiles .*bomb.* and runs its cases, \d+ s", 60)
        terminal.shows(r"compiling took more than \d+ s", 120)
        until(lambda: terminal.child.poll() is not None, "it ends")
        assert terminal.child.returncode != 0
    finally:
        terminal.close()
