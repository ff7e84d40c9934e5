"""Bad input: a clear error, and nothing lost."""

import json

import pytest

from harness.device import Device
from harness.raw import BINARY, RawSocket, TEXT
from harness.tokens import token


@pytest.fixture
def raw(server, name):
    """A raw socket past its `hello`."""
    with RawSocket(server.client) as socket:
        assert socket.upgrade(server.token(name("raw"))) == 101
        socket.hello()
        yield socket


MALFORMED = {
    "not JSON": b"hello?",
    "half an object": b'{"type":"ping"',
    "an array": b'["ping"]',
    "a string": b'"ping"',
    "nothing": b"",
    "200 levels deep": b'{"type":"ping","x":' + b"[" * 200 + b"]" * 200 + b"}",
    "100,000 levels deep": b'{"type":"ping","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "above 256 KiB": b'{"type":"ping","x":"' + b"x" * (256 * 1024) + b'"}',
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_frame_closes_with_4501(raw, case):
    raw.text(MALFORMED[case])
    assert raw.close_code() == 4501


def test_invalid_utf_8_closes(raw):
    raw.frame(TEXT, b'{"type":"ping","x":"\xff\xfe"}')
    assert raw.close_code() in (4501, 1007)


def test_a_binary_frame_closes_with_4501(raw):
    raw.frame(BINARY, b'{"type":"ping"}')
    assert raw.close_code() == 4501


def test_a_frame_that_is_not_masked_closes(raw):
    raw.frame(TEXT, b'{"type":"ping"}', mask=False)
    assert raw.close_code() in (4501, 1002, None)


def test_a_message_in_fragments_is_one_frame(raw):
    raw.frame(TEXT, b'{"type":', fin=False)
    raw.frame(0, b'"ping"}')
    assert raw.until("pong")


WRONG = {
    "no type": ({"ref": "w"}, "type"),
    "type is a number": ({"type": 7, "ref": "w"}, "type"),
    "no client_id": ({"type": "chat_message", "to": "x", "text": "t", "ref": "w"}, "client_id"),
    "client_id of 65 characters": ({"type": "chat_message", "client_id": "c" * 65, "to": "x", "text": "t", "ref": "w"}, "client_id"),
    "ack without offset": ({"type": "ack", "ref": "w"}, "offset"),
    "ack of a string": ({"type": "ack", "offset": "1", "ref": "w"}, "offset"),
    "ack of 1.5": ({"type": "ack", "offset": 1.5, "ref": "w"}, "offset"),
    "ack of -1": ({"type": "ack", "offset": -1, "ref": "w"}, "offset"),
    "ack of 2^53": ({"type": "ack", "offset": 1 << 53, "ref": "w"}, "offset"),
    "status unknown": ({"type": "presence_set", "status": "asleep", "ref": "w"}, "status"),
    "users is a string": ({"type": "presence_get", "users": "bob", "ref": "w"}, "users"),
    "typing to nobody": ({"type": "typing_start", "ref": "w"}, "to"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_field_is_named_and_the_connection_lives(server, name, case):
    value, field = WRONG[case]
    async with Device(server, name("alice")) as a:
        await a.frame(value)
        error = await a.next("error", ref="w")
        assert error["code"] == "invalid" and field in error["reason"] and error["retryable"] is False, error
        await a.ping()


SENDS = {
    "to nobody": {"text": "x"},
    "to the empty name": {"to": "", "text": "x"},
    "to a 10,000-character name": {"to": "n" * 10_000, "text": "x"},
    "to a name with a control character": {"to": "bob\u0007", "text": "x"},
    "to a number": {"to": 5, "text": "x"},
    "to a user and a group": {"to": "bob", "group": "g", "text": "x"},
    "neither text nor data": {"to": "bob"},
    "text is a number": {"to": "bob", "text": 5},
    "NUL in text": {"to": "bob", "text": "a\u0000b"},
    "NUL in data": {"to": "bob", "data": {"k": "a\u0000b"}},
    "a lone surrogate in text": {"to": "bob", "text": "\ud800"},
    "a lone surrogate in data": {"to": "bob", "data": ["\udc00"]},
    "lamport of 2^53": {"to": "bob", "text": "x", "lamport": 1 << 53},
    "lamport below zero": {"to": "bob", "text": "x", "lamport": -1},
    "tags is a list": {"to": "bob", "text": "x", "tags": ["a"]},
    "resend is a string": {"to": "bob", "text": "x", "resend": "yes"},
}


@pytest.mark.parametrize("case", SENDS)
async def test_a_wrong_send_is_rejected_by_its_client_id(server, name, case):
    async with Device(server, name("alice")) as a:
        await a.frame({"type": "chat_message", "client_id": "bad", **SENDS[case]})
        rejected = await a.outcome("bad")
        assert rejected["type"] == "rejected" and rejected["code"] == "invalid", rejected
        assert rejected["retryable"] is False and rejected["reason"], rejected
        await a.ping()


@pytest.mark.parametrize("case", SENDS)
async def test_a_wrong_send_over_rest_is_a_problem(server, name, case):
    body = json.dumps({"client_id": "bad", **SENDS[case]}).encode()
    answer = server.rest(name("alice")).post("/v1/messages", raw=body, headers={"Content-Type": "application/json"})
    answer.problem(400, "invalid")


async def test_65_kib_of_text_are_too_large_and_64_are_not(server, name):
    bob = name("bob")
    async with Device(server, name("alice")) as a, Device(server, bob) as b:
        assert (await a.refused("too_large", bob, "x" * (65 * 1024)))["retryable"] is False
        await a.refused("too_large", bob, "x" * 40_000, data="y" * 30_000)
        await a.say(bob, "x" * (64 * 1024))
        assert len((await b.next("new_message"))["text"]) == 64 * 1024
        answer = server.rest(name("alice")).post("/v1/messages", {"client_id": "l", "to": bob, "text": "x" * 66_000})
        answer.problem(413, "too_large")


BAD_TOKENS = {
    "for another audience": lambda secret: token("eve", secret, aud="somebody-else"),
    "for no audience": lambda secret: token("eve", secret, aud=None),
    "alg none": lambda secret: token("eve", secret, alg="none"),
    "another secret": lambda secret: token("eve", "another secret that is long enough for HS256"),
    "without sub": lambda secret: token("eve", secret, sub=None),
    "an empty sub": lambda secret: token("", secret),
    "a sub with a control character": lambda secret: token("e\u0001ve", secret),
    "5 KiB long": lambda secret: token("eve", secret, filler="f" * 5000),
    "not a token": lambda secret: "abc",
    "not yet valid": lambda secret: token("eve", secret, nbf=4_000_000_000),
    "expired": lambda secret: token("eve", secret, life_s=-3600),
}


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_a_bad_token_is_refused_before_the_upgrade_and_by_rest(server, case):
    bad = BAD_TOKENS[case](server.secret())
    with RawSocket(server.client) as socket:
        assert socket.upgrade(bad) in (401, 431)
    answer = server.rest("eve").get("/v1/conversations", headers={"Authorization": f"Bearer {bad}"})
    assert answer.status in (401, 431), answer
    if answer.status == 401:
        answer.problem(401, "unauthorized")


@pytest.mark.parametrize("case", BAD_TOKENS)
async def test_a_bad_token_in_the_first_frame_closes(server, case):
    device = Device(server, "eve", auth="first_frame", token=BAD_TOKENS[case](server.secret()))
    await device.open()
    await device.frame({"type": "hello", "device": "d", "token": device.token})
    assert await device.close_code() == (4401 if case == "expired" else 4500)


async def test_no_token_at_all_is_401_or_a_close(server):
    server.rest("x").call("GET", "/v1/conversations", headers={"Authorization": ""}).problem(401)
    device = Device(server, "x", auth="none")
    await device.open()
    await device.frame({"type": "hello", "device": "d"})
    assert await device.close_code() == 4500


async def test_a_token_that_expires_closes_its_connection_with_4401(server, name):
    user = name("short")
    device = Device(server, user, token=server.token(user, life_s=3))
    await device.connect()
    assert await device.close_code(deadline_s=75) == 4401


@pytest.mark.parametrize("device", ["", "d" * 65, "a\u0000b", 5, None])
async def test_a_wrong_device_is_an_error(server, name, device):
    connection = Device(server, name("alice"))
    await connection.open()
    await connection.frame({"type": "hello", "device": device})
    await connection.until(lambda: connection.closed or connection.has("error"), "an answer", even_closed=True)
    if connection.has("error"):
        assert "device" in (await connection.next("error"))["reason"]
    await connection.leave()


async def test_a_read_receipt_of_an_unknown_message_is_an_error(server, name):
    async with Device(server, name("alice")) as a:
        await a.frame({"type": "read_receipt", "message_id": "nosuchmessage", "ref": "r"})
        assert (await a.next("error", ref="r"))["code"] in ("not_found", "invalid")
        await a.ping()


@pytest.mark.parametrize(
    "method,path,status",
    [("GET", "/v1/nothing", 404), ("DELETE", "/v1/messages", 405), ("GET", "/v1/conversations/nonsense/messages", 400),
     ("GET", "/v1/conversations/user%3Abob/messages?limit=0", 400), ("GET", "/v1/conversations/user%3Abob/messages?limit=x", 400)],
)
def test_a_wrong_call_is_a_problem(server, name, method, path, status):
    server.rest(name("alice")).call(method, path).problem(status)


def test_a_body_that_is_not_json_is_a_problem(server, name):
    rest = server.rest(name("alice"))
    headers = {"Content-Type": "application/json"}
    rest.post("/v1/messages", raw=b"{not json", headers=headers).problem(400)
    rest.post("/v1/groups", raw=b"[]", headers=headers).problem(400)
    # Who is still writing sees the answer, and no connection that breaks: whether the length is announced or not.
    rest.post("/v1/messages", raw=b"x" * (2 << 20), headers=headers).problem(413, "too_large")
    rest.post("/v1/messages", raw=(b"x" * (64 << 10) for _ in range(32)), headers=headers).problem(413, "too_large")
