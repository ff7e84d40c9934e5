"""What is typed, and what comes out of it."""

import asyncio
import base64
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from harness.device import Device
from harness.policies import fixture
from harness.server import ROOT, Heddle, binary, heddle
from harness.waiting import until, until_async


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    """`heddle dev`, without the answering user."""
    server = Heddle(tmp_path_factory.mktemp("dev") / "data", mode="dev").start()
    yield server
    server.kill()


async def test_dev_says_in_one_line_all_that_a_program_needs(dev):
    for field in ("client", "admin", "tokens", "admin_token", "generation", "policies"):
        assert field in dev.ready, dev.ready
    assert set(dev.ready["tokens"]) >= {"alice", "bob"} and len(dev.ready["policies"]) == 4
    async with Device(dev, "alice", token=dev.ready["tokens"]["alice"]) as a:
        assert a.hello["user"] == "alice"


async def test_heddle_token_prints_a_token_alone_that_dev_takes(dev):
    done = heddle("token", "--user", "carol")
    assert done.returncode == 0 and re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", done.stdout), done
    async with Device(dev, "carol", token=done.stdout.strip()) as c:
        assert c.hello["user"] == "carol"


def test_a_token_of_dev_ends_after_30_days(dev):
    for text in (heddle("token", "--user", "carol").stdout.strip(), *dev.ready["tokens"].values()):
        claims = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
        assert claims["exp"] - claims["iat"] == 30 * 24 * 3600, claims


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_dev_refuses_any_address_but_loopback(tmp_path, flag):
    done = heddle("dev", "--data", tmp_path / "d", flag, "0.0.0.0:0", "--no-bot", "--output", "json")
    assert done.returncode != 0 and "loopback" in done.stderr.lower() and "0.0.0.0:0" in done.stderr, done


async def test_dev_counts_no_connections_of_this_machine_and_a_server_does(dev):
    devices = [Device(dev, f"loopback-{i}") for i in range(11)]
    for device in devices:
        await device.connect()
    for device in devices:
        await device.leave()
    shown = heddle("config", "show", "--defaults").stdout
    assert "\nloopback_exempt = false\n" in shown and "\nconnections_per_ip = 10\n" in shown, shown


async def test_without_its_bot_dev_has_nobody_who_answers(dev):
    async with Device(dev, "alice") as a:
        await a.say("bob", "is anybody there?")
        await until_async(lambda: dev.metrics()["heddle_gateway_connections"] == 1, "alice is alone")
        await a.nothing_before_pong("receipt")
        await a.nothing_before_pong("typing_indicator")


async def test_dev_takes_policies_too(tmp_path):
    server = Heddle(tmp_path / "policies", mode="dev", policies=[("routing", fixture("deny-all"))]).start()
    try:
        assert [p["name"] for p in server.ready["policies"] if p["hook"] == "routing"] == ["deny-all"]
        async with Device(server, "alice") as a:
            await a.refused("refused", "bob", "hello")
    finally:
        server.kill()


def test_in_dev_a_user_bob_types_reads_and_replies_within_five_seconds(tmp_path):
    server = Heddle(tmp_path / "bot", mode="dev")
    words = [w for w in server.command() if w != "--no-bot"]
    server.command = lambda: words
    server.start()

    async def talk():
        async with Device(server, "alice", token=server.ready["tokens"]["alice"]) as a:
            began = time.monotonic()
            await a.say("bob", "hello bob")
            await a.next("receipt", status="read")
            await a.next("typing_indicator", typing=True)
            await a.until(lambda: any(m["from"] == "bob" for m in a.messages), "a reply")
            assert time.monotonic() - began < 5

    try:
        asyncio.run(talk())
    finally:
        server.kill()


def test_dev_prints_at_most_20_lines(tmp_path):
    with open(tmp_path / "out", "wb") as out:
        words = [binary(), "dev", "--data", str(tmp_path / "d"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        child = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        text = until(lambda: _settled(tmp_path / "out"), "it prints", 60)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert len(text.splitlines()) <= 20, text
    for plugin in ("token-bucket", "inbox-routing", "group-fanout", "last-seen"):
        assert re.search(rf"^# .* {plugin} \d+\.\d+\.\d+ +sha256 [0-9a-f]{{16}} +[\d.]+ µs a call$", text, re.MULTILINE), text
    for words in (r"ready after \d+ ms", "Clients: 127.0.0.1:", "you: 127.0.0.1:", "Generation 1 decides", "^ALICE=", "^BOB=",
                  "^.*heddle chat .*--user alice", r"http://127.0.0.1:\d+/try", "Ctrl-C drains"):
        assert re.search(words, text, re.MULTILINE), (words, text)


def _settled(path):
    text = path.read_text()
    return text if "last-seen" in text and "bob" in text and text.endswith("\n") else None


def test_defaults_are_shown_and_taken_again(tmp_path):
    shown = heddle("config", "show", "--defaults")
    assert shown.returncode == 0 and "[gateway]" in shown.stdout, shown
    file = tmp_path / "heddle.toml"
    file.write_text(shown.stdout)
    # A secret is the one thing that has no default.
    checked = heddle("config", "check", file, env={"HEDDLE_AUTH__SECRET": "a secret of more than thirty-two bytes"})
    assert (checked.returncode, checked.stdout.strip()) == (0, f"{file} is right"), checked


def test_all_problems_of_a_configuration_are_told_at_once_with_did_you_mean(tmp_path):
    file = tmp_path / "heddle.toml"
    file.write_text(
        '[gateway]\nheartbeet = "30 s"\nconnections_per_user = "many"\n[grups]\nmembers_max = 5\n'
        f'[auth]\nkeys = ["{tmp_path}/key.pem"]\n[policies]\nrate_limit = ["tokn-bucket"]\nrouting = ["{tmp_path}/filter.wasm"]\n'
        '[policies.config.last-sen]\naway_ms = 1\n'
    )
    # Somebody may be using the default ports.
    free = {f"HEDDLE_{section}__LISTEN": "127.0.0.1:0" for section in ("GATEWAY", "ADMIN")}
    for done in (heddle("config", "check", file), heddle("serve", "--config", file, env=free)):
        assert done.returncode == 64 and "has 7 problems" in done.stderr, done
        for words in (
            ("gateway.heartbeet", "there is no such key", "did you mean `gateway.heartbeat`?"),
            ("gateway.connections_per_user", '"many" is not a whole number'),
            ("grups", "did you mean `groups`?"),
            ("auth.keys", "key.pem", "cannot be read"),
            ("policies.rate_limit", '"tokn-bucket" is neither a built-in policy nor a file', 'did you mean "token-bucket"?'),
            ("policies.routing", "filter.wasm", "cannot be read"),
            ("policies.config", '"last-sen"', "did you mean `last-seen`?"),
        ):
            lines = [line for line in done.stderr.splitlines() if all(word in line for word in words)]
            assert len(lines) == 1, (words, done.stderr)


async def test_each_line_that_a_server_logs_is_an_object_unless_text_is_asked_for(start, name):
    shown = heddle("config", "show", "--defaults").stdout
    assert '\nformat = "json"\n' in shown, shown
    server = start(config={"telemetry": {"format": "json"}})
    async with Device(server, name("alice")) as a:
        await a.say(name("bob"), "hello")
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.stderr_path.read_text().splitlines() if not line.startswith("# ")]
    assert len(lines) >= 2, lines
    for line in lines:
        assert {"timestamp", "level", "target"} <= set(line) and line["fields"]["message"], line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"]), line


async def test_a_built_in_policy_is_named_beside_files_on_the_command_line(start, name):
    """`--policy HOOK=NAME`; behind it a file that refuses everything."""
    server = start(policies=[("routing", "inbox-routing"), ("routing", fixture("deny-all"))])
    chain = [p["name"] for p in server.ready["policies"] if p["hook"] == "routing"]
    assert chain == ["inbox-routing", "deny-all"], server.ready["policies"]
    async with Device(server, name("alice")) as a:
        await a.refused("refused", name("bob"), "no")
    server.stop()
    server.policies = [("routing", "inbx-routing")]
    code, said = server.refused()
    assert code == 64 and 'did you mean "inbox-routing"?' in said, said


def test_a_variable_sets_a_key(start):
    server = start(env={"HEDDLE_GATEWAY__HEARTBEAT": "7 s"})
    async def ask():
        async with Device(server, "variable") as a:
            return a.hello["heartbeat_ms"]

    assert asyncio.run(ask()) == 7000


def test_a_wrong_variable_is_told_by_its_name(start):
    server = start(launch=False, env={"HEDDLE_GATEWAY__HEARTBEET": "7 s"})
    code, said = server.refused()
    assert code == 64 and "HEARTBEAT" in said.upper(), said


def test_chat_script_speaks_frames_and_prints_what_it_receives(dev, tmp_path):
    script = tmp_path / "script"
    script.write_text(
        '{"type":"chat_message","client_id":"s1","to":"dora","text":"from a script"}\nwait accepted\npause 10\n'
        '{"type":"ping"}\nwait pong\n'
    )
    done = heddle("chat", "--user", "alice", "--url", f"ws://{dev.client}/v1/ws", "--script", script)
    assert done.returncode == 0, done
    types = [json.loads(line)["type"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert "hello_ok" in types and "accepted" in types and types[-1] == "pong", done.stdout


def test_the_try_page_is_one_static_page(dev):
    answer = dev.admin_rest().get("/try").ok()
    assert answer.type == "text/html" and b"<script" in answer.raw
    assert not re.search(rb'(src|href)="https?://', answer.raw), "it loads something from elsewhere"


def test_node_ws_plays_every_frame_of_the_contract(start, name):
    """Another language's library, four users; groups of more than three are pulled."""
    folder = pathlib.Path(__file__).parent / "node"
    if not (folder / "node_modules" / "ws").is_dir():
        done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, check=False)
        if done.returncode != 0:
            if os.environ.get("CI") == "true":
                pytest.fail(done.stderr.decode())
            pytest.skip("npm cannot install ws")
    server = start(config={"policies": {"config": {"group-fanout": {"push_up_to": 3}}}})
    tokens = [server.token(name(user)) for user in ("alice", "bob", "carol", "dave")]
    done = subprocess.run(
        ["node", "client.mjs", server.client, *tokens],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("node: all frames as the contract says")


def test_the_annotated_configuration_of_deploy_is_valid():
    file = ROOT / "deploy" / "heddle.toml"
    done = heddle("config", "check", file, env={"HEDDLE_AUTH__SECRET": "a secret of more than thirty-two bytes"})
    assert (done.returncode, done.stdout.strip()) == (0, f"{file} is right"), done
