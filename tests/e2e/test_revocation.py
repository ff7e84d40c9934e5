"""Users whose tokens an operator takes back: refused at every door, sent away from where they are, let in again."""

import json
import time

import pytest
from websockets.exceptions import InvalidStatus

from harness.device import Device
from harness.server import heddle
from harness.waiting import until


def user(server, *words, code=0):
    """`heddle user WORDS` on that server."""
    done = heddle("user", *words, "--data", server.data, "--output", "json")
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


async def refused_at_the_door(server, who, token, **more):
    """401 before the upgrade."""
    with pytest.raises(InvalidStatus) as door:
        await Device(server, who, token=token, **more).open()
    assert door.value.response.status_code == 401
    assert "taken back" in door.value.response.body.decode()


async def test_a_revoked_user_is_sent_away_refused_at_every_door_and_let_in_again(start, name):
    server = start(config={"auth": {"leeway": "0 s"}})
    mallory, alice = name("mallory"), name("alice")
    token = server.token(mallory)
    async with Device(server, mallory, token=token) as m, Device(server, mallory, "laptop", token=token) as laptop, \
            Device(server, alice) as a:
        shown = user(server, "show", mallory)
        assert shown["revocation"] is None and shown["connections_here"] == 2, shown
        began = time.monotonic()
        done = user(server, "revoke", mallory, "-m", "the phone was stolen")
        assert done["user"] == mallory and done["why"] == "the phone was stolen" and done["new_tokens"] is False
        assert [await device.close_code(5) for device in (m, laptop)] == [4510, 4510]
        assert time.monotonic() - began < 5
        await refused_at_the_door(server, mallory, token)
        first_frame = Device(server, mallory, token=token, auth="first_frame")
        await first_frame.open()
        await first_frame.frame({"type": "hello", "device": "x", "token": token})
        assert await first_frame.close_code() == 4510
        assert first_frame.has("error", code="unauthorized")
        server.rest(mallory, headers={"Authorization": f"Bearer {token}"}).get("/v1/contacts").problem(401, "unauthorized")
        shown = user(server, "show", mallory)
        assert shown["connections_here"] == 0 and shown["revocation"]["why"] == "the phone was stolen"
        # Others do not notice, and what they send waits.
        await a.say(mallory, "are you there?")
        # Whoever logs in again is let in: the token was issued later.
        later = server.token(mallory, iat=shown["revocation"]["at"] // 1_000 + 1)
        until(lambda: time.time() > shown["revocation"]["at"] // 1_000 + 1.05, "the next second")
        async with Device(server, mallory, "tablet", token=later) as tablet:
            await tablet.next("new_message", text="are you there?")
        await refused_at_the_door(server, mallory, server.token(mallory, iat=None))
        user(server, "restore", mallory, "-m", "it was found")
        async with Device(server, mallory, token=token) as m:
            await m.next("new_message", text="are you there?")
    assert "is not revoked" in user(server, "restore", mallory, code=66)
    rows = json.loads(heddle("plugin", "history", "--data", server.data, "--output", "json").stdout)["changes"]
    told = [(row["what"], row["who"], row["why"]) for row in rows[:2]]
    assert told == [("restore user", "operator", "it was found"), ("revoke user", "operator", "the phone was stolen")]


async def test_a_user_may_be_shut_out_whatever_token_comes(start, name):
    server = start(config={"auth": {"leeway": "0 s"}})
    mallory = name("mallory")
    user(server, "revoke", mallory, "--new-tokens")
    await refused_at_the_door(server, mallory, server.token(mallory, iat=int(time.time()) + 3_600))
    server.restart(hard=True)
    await refused_at_the_door(server, mallory, server.token(mallory, iat=int(time.time()) + 3_600))
    assert server.metrics()["heddle_revoked_users"] == 1
    user(server, "restore", mallory)
    async with Device(server, mallory):
        pass


async def test_an_operators_token_is_taken_back_too_and_a_viewer_takes_nothing_back(server, name):
    ops, viewer, mallory = name("ops"), name("viewer"), name("mallory")
    operator = server.token(ops, role="operator", iat=int(time.time()) - 60)
    looks = server.token(viewer, role="viewer")
    path = f"/users/{mallory}/revocation"
    server.admin_rest(looks).put(path, {"why": "?"}).problem(403, "forbidden")
    server.admin_rest(looks).get(f"/users/{mallory}").ok()
    assert server.admin_rest(operator).put(path, {}).ok().json["who"] == ops
    user(server, "revoke", ops)
    server.admin_rest(operator).delete(path).problem(401, "unauthorized")
    for gone in (ops, mallory):
        user(server, "restore", gone)


async def test_as_many_are_revoked_as_memory_is_for(start, name):
    server = start(config={"users": {"revoked_max": 1}})
    user(server, "revoke", name("mallory"))
    assert "users.revoked_max" in user(server, "revoke", name("eve"), code=1)
