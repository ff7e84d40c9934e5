"""The configuration, read again while the server runs."""

import asyncio
import json
import signal

from harness import settings
from harness.device import Device
from harness.operator import changed
from harness.server import heddle


def rewritten(server, **sections):
    """Puts other values into the file that the server was started with."""
    server.config = settings.merged(server.config, sections)
    (server.side / "heddle.toml").write_text(settings.toml_text(settings.placed(server.config, server.data)))


def reload(server, *words):
    return heddle("config", "reload", "--data", server.data, *words)


async def test_a_limit_takes_effect_and_what_needs_a_restart_is_told(start, name):
    server = start(config={"gateway": {"connections_per_user": 5}})
    alice = name("alice")
    async with Device(server, alice, "one") as one, Device(server, alice, "two"):
        rewritten(server, gateway={"connections_per_user": 2}, log={"partitions": 32})
        told = reload(server)
        assert told.returncode == 0 and "took effect:     gateway.connections_per_user: 5 -> 2" in told.stdout, told
        assert "needs a restart: log.partitions" in told.stdout, told
        third = Device(server, alice, "three")
        await third.open()
        await third.frame({"type": "hello", "device": "three"})
        assert await third.close_code() == 4403
        await one.ping()
        assert json.loads(reload(server, "--output", "json").stdout)["applied"] == []


def test_a_plugin_that_the_configuration_sets_waits_for_a_restart_and_what_changes_it_at_once_is_told(start):
    """It is no half change: the set that decides goes on as it is, until the restart."""
    server = start()
    decides = changed(server, "list")["policies"]
    rewritten(server, policies={"config": {"token-bucket": {"burst": 7}}, "routing": ["inbox-routing"]})
    told = reload(server)
    waits = [line for line in told.stdout.splitlines() if line.startswith("needs a restart: policies.")]
    assert any("policies.config" in line and "burst = 7" in line and "heddle plugin set" in line for line in waits), told
    assert any("policies.routing" in line and "heddle plugin deploy, chain, remove" in line for line in waits), told
    assert "took effect" not in told.stdout, told
    assert changed(server, "list")["policies"] == decides


async def test_a_key_is_changed_without_a_restart_and_old_tokens_end(start, name):
    server = start()
    alice = name("alice")
    old = server.token(alice)
    async with Device(server, alice, token=old) as a:
        rewritten(server, auth={"secret": "another secret of at least thirty-two bytes"})
        told = reload(server)
        assert told.returncode == 0 and "auth.secret" in told.stdout and "another secret" not in told.stdout, told
        assert server.rest(alice).call("GET", "/v1/conversations").status == 200
        refused = heddle("plugin", "list", "--data", server.data, "--token", old)
        assert refused.returncode == 64
        # Who is in stays in until the token's own end.
        await a.ping()


async def test_what_is_wrong_is_told_whole_and_changes_nothing(start):
    server = start()
    path = server.side / "heddle.toml"
    before = path.read_text()
    path.write_text(before + '\n[gateway2]\nx = 1\n[telemetry2]\ny = 1\n')
    told = reload(server)
    assert told.returncode != 0 and "nothing was reloaded" in told.stderr, told
    assert "gateway2" in told.stderr and "telemetry2" in told.stderr, told
    path.write_text(before)
    assert "no key differs" in reload(server).stdout


async def test_a_hangup_reloads_and_says_so_in_the_log(start, name):
    server = start(config={"gateway": {"connections_per_user": 5}})
    rewritten(server, gateway={"connections_per_user": 3})
    server.signal(signal.SIGHUP)
    for _ in range(500):
        if "connections_per_user: 5 -> 3" in server.stderr():
            break
        await asyncio.sleep(0.02)
    assert "connections_per_user: 5 -> 3" in server.stderr()
    async with Device(server, name("alice")) as a:
        await a.ping()
