"""Generations that decide no more, what an operator is told of changes, and who may see what people wrote."""

import json

from harness.device import Device
from harness.operator import changed, plugin
from harness.policies import fixture
from harness.server import heddle
from harness.waiting import until_async
from test_reload import reload, rewritten
from test_trials import decided, renamed


def text(server, *words):
    """As people see it."""
    asked = heddle("plugin", *words, "--data", server.data)
    assert asked.returncode == 0, asked.stderr
    return asked.stdout


async def test_generations_are_drained_then_kept_then_gone_and_counted(start, name):
    server = start(config={"policies": {"generations_max": 2}})
    async with Device(server, name("alice")) as a:
        for number in range(5):
            changed(server, "set", "token-bucket", f"commands={json.dumps({'typing': {'burst': 50 + number, 'per_second': 5}})}")
            await a.say(name("bob"), f"message {number}")
    of = 'heddle_policy_generations{standing="%s"}'
    await until_async(lambda: server.metrics().get(of % "draining") == 0, "all are drained")
    assert [server.metrics()[of % standing] for standing in ("serving", "kept")] == [1, 2]
    shown = changed(server, "list")
    assert (shown["generation"], shown["draining"], shown["loaded"], shown["kept"]) == (6, [], [], [4, 5])
    assert "generation 6  kept for a way back: 4, 5" in text(server, "list")
    told = changed(server, "history")
    assert [change["standing"] for change in told["changes"]] == ["decides", "kept", "kept", None, None, None]
    assert told["kept"] == [4, 5]
    assert [line.split()[2] for line in text(server, "history").splitlines()[:3]] == ["decides", "kept", "kept"]


async def test_what_people_wrote_is_crossed_out_in_a_shadow_and_viewers_see_no_calls(start, name):
    server = start(config={"policies": {"record_one_in": 1}})
    viewer = server.token(name("viewer"), role="viewer")
    async with Device(server, name("alice")) as a:
        changed(server, "deploy", fixture("deny-all"), "--shadow")
        await a.say(name("bob"), "the key is under the mat", tags={"note": "secretly"})
        await until_async(lambda: changed(server, "trial")["trial"][0]["shadow"]["changed"] == 1, "it was looked at")
    [difference] = changed(server, "trial")["trial"][0]["shadow"]["differences"]
    shown = json.dumps(difference)
    assert "xxx xxx xx xxxxx xxx xxx" in shown and "mat" not in shown and "secretly" not in shown, shown
    seen = plugin(server, "trial", token=viewer)
    assert json.loads(seen.stdout)["trial"][0]["shadow"]["differences"] == []
    for words in (["record"], ["logs"]):
        refused = plugin(server, *words, token=viewer)
        assert refused.returncode != 0 and "operator is needed" in refused.stderr, refused
    calls = changed(server, "record", "--hook", "routing")
    assert len(calls) == 1 and calls[0]["redacted"] is True and "mat" not in json.dumps(calls), calls


async def test_a_reload_changes_how_policies_are_watched_and_stands_in_the_audit(start, name):
    server = start()
    rewritten(server, policies={"record_one_in": 1, "record_bodies": True, "memory_max": "32 MiB"})
    told = reload(server)
    assert "took effect:     policies.record_bodies: false -> true" in told.stdout, told
    assert "needs a restart: policies.memory_max" in told.stdout, told
    async with Device(server, name("alice")) as a:
        await a.say(name("bob"), "the key is under the mat")
    assert "under the mat" in text(server, "record", "--hook", "routing")
    row = changed(server, "history")["changes"][0]
    assert (row["what"], row["detail"]["waiting"]) == ("reload", ['policies.memory_max: "64 MiB" -> "32 MiB"']), row
    assert "reload" in text(server, "history")


async def test_a_limit_of_plugins_takes_effect_at_once_unless_what_decides_is_above_it(start, tmp_path):
    server = start()
    eager = renamed(tmp_path, "guard", "mark", "1.0.0", deadline_ms=20)
    rewritten(server, policies={"deadline_max": "10 ms", "catalog_generations_max": 200, "compile_time": "30 s"})
    told = reload(server)
    assert "took effect:     policies.deadline_max: " in told.stdout and "needs a restart" not in told.stdout, told
    refused = plugin(server, "deploy", str(eager))
    assert refused.returncode != 0 and "= 20 in plugin.toml is above this host's limit of 10" in refused.stderr, refused
    rewritten(server, policies={"deadline_max": "25 ms"})
    reload(server)
    changed(server, "deploy", eager)
    rewritten(server, policies={"deadline_max": "10 ms"})
    told = reload(server)
    assert told.returncode != 0 and "guard 1.0.0, which decides, asks for a deadline of 20 ms" in told.stderr, told
    changed(server, "remove", "guard")
    assert "took effect:     policies.deadline_max: " in reload(server).stdout


async def test_a_plugin_deployed_over_a_disabled_one_stays_disabled_and_the_audit_has_all_before_and_after(
        start, name, tmp_path):
    server = start()
    changed(server, "deploy", renamed(tmp_path, "guard", "mark", "1.0.0"))
    changed(server, "disable", "guard")
    told = text(server, "deploy", str(renamed(tmp_path, "guard", "mark", "2.0.0")), "--allow-downgrade")
    assert "guard 2.0.0" in told and "disabled: it is not asked, see `heddle plugin enable`" in told, told
    assert changed(server, "history")["changes"][0]["detail"]["allow_downgrade"] is True
    async with Device(server, name("alice")) as a:
        asked = {decision["plugin"] for decision in decided(server, await a.say(name("bob"), "who is asked?"))}
    assert "inbox-routing" in asked and "guard" not in asked, asked
    changed(server, "deploy", fixture("deny-all"), "--shadow")
    changed(server, "revoke", "2")
    changed(server, "abandon")
    before = changed(server, "history")["changes"][0]["detail"]["before"]
    assert before["trial"]["mode"] == "shadow" and before["revoked"] == [2], before
