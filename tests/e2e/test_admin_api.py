"""The admin API: each call answers as `/openapi.json` of the admin listener says, and each that is described is called."""

import contextlib
import json
import pathlib
import sqlite3
import urllib.request

import jsonschema
from harness.archive import TOPICS
from harness.device import Device
from harness.openapi import dereferenced, operation, resolved
from harness.policies import digest, fixture
from harness.server import heddle


def call(server, method, path, body, token, kind="application/json"):
    """Status, content type and body."""
    request = urllib.request.Request(f"http://{server.admin}{path}", data=body, method=method)
    request.add_header("content-type", kind)
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers.get_content_type(), answer.read()


async def test_each_path_and_method_is_answered_as_its_schema_says(start, name):
    server = start(config={"policies": {"record_one_in": 1}})
    status, kind, text = call(server, "GET", "/openapi.json", None, None)
    assert (status, kind) == (200, "application/json")
    document = json.loads(text)
    async with Device(server, name("alice")) as a:
        message = (await a.say(name("bob"), "hello"))["message_id"]
        alice = a.user
    deny, mark = (pathlib.Path(fixture(n)).read_bytes() for n in ("deny-all", "mark"))
    calls = [
        ("GET", "/policies", None),
        ("GET", "/policies/log", None),
        ("GET", f"/explain/{message}", None),
        ("GET", "/explain/nonsense", None),
        ("PUT", "/users/mallory/revocation", b'{"why": "a test"}'),
        ("PUT", "/users/mallory/revocation", b'{"whom": "mallory"}'),
        ("GET", "/users/mallory", None),
        ("DELETE", "/users/mallory/revocation?why=a%20test", None),
        ("DELETE", "/users/mallory/revocation", None),
        ("GET", "/users/mallory", None),
        ("GET", "/connections", None),
        ("GET", "/log/dead", None),
        ("GET", "/log/dead?limit=0", None),
        ("GET", "/policies/recorded?last_ms=600000", None),
        ("GET", "/policies/recorded?hook=rooting", None),
        ("POST", "/policies/plugins?file=deny-all.wasm&why=a%20test", deny),
        ("POST", "/policies/plugins?trial=canary", mark),
        ("POST", "/policies/plugins", b"no component"),
        ("POST", "/policies/plugins?trial=canary&percent=20", mark),
        ("GET", "/policies/trial", None),
        ("POST", "/policies/trial/promote", b""),
        ("POST", "/policies/trial/promote", b""),
        ("POST", "/policies/plugins?trial=shadow&hook=routing", deny.replace(b"nobody says", b"nobody said")),
        ("DELETE", "/policies/trial", None),
        ("DELETE", "/policies/trial", None),
        ("PUT", "/policies/plugins/deny-all/enabled", b"false"),
        ("PUT", "/policies/plugins/deny-all/enabled", b"maybe"),
        ("PATCH", "/policies/plugins/mark", b'{"mark": "b"}'),
        ("PATCH", "/policies/plugins/mark", b'{"make": "b"}'),
        ("PUT", "/policies/chains/routing", b'["mark", "inbox-routing"]'),
        ("PUT", "/policies/chains/rooting", b"[]"),
        ("DELETE", "/policies/plugins/mark", None),
        ("DELETE", "/policies/plugins/mark", None),
        ("POST", "/policies/rollback", b""),
        ("POST", "/policies/rollback?to=99", b""),
        ("POST", "/policies/revoke?why=a%20test", b""),
        ("GET", "/policies/history?limit=3", None),
        ("GET", f"/policies/files/{digest(fixture('mark'))}", None),
        ("GET", "/policies/files/beef", None),
        ("GET", "/nodes", None),
        ("GET", "/log/partitions", None),
        ("POST", "/log/partitions", b'{"partitions": 32}'),
        ("POST", f"/users/{alice}/replay", b'{"ago_ms": 60000, "why": "a test"}'),
        ("POST", f"/users/{alice}/replay", b'{"offset": 0, "device": "fridge"}'),
        ("POST", f"/users/{alice}/replay", b'{"at": 99999999999999}'),
        ("POST", "/config/reload", b""),
    ]
    seen = set()
    for method, path, body in calls:
        status, kind, raw = call(server, method, path, body, server.ready["admin_token"])
        template, described = operation(document, method, path)
        seen.add((method.lower(), template))
        assert str(status) in described["responses"], f"{method} {path} answered {status}: {raw[:300]}"
        stated = dereferenced(document, described["responses"][str(status)])
        assert kind in stated["content"], (method, path, kind)
        if kind.endswith("/json") or kind.endswith("+json"):
            jsonschema.validate(json.loads(raw), resolved(document, stated["content"][kind]["schema"]))
    left = {(m, p) for p, ms in document["paths"].items() for m in ms} - seen
    assert not left, f"described, and not called here: {left}"
    for path in document["paths"]:
        for method in document["paths"][path]:
            assert call(server, method.upper(), path.replace("{", "").replace("}", ""), b"", None)[0] == 401, path


def test_records_that_were_given_up_are_listed_by_heddle_log_dead(start):
    """Of last first; how they come there is shown by the tests of `host/delivery`."""
    server = start()

    def listed(*more):
        done = heddle("log", "dead", "--data", server.data, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert listed() == "no record was given up"
    with contextlib.closing(sqlite3.connect(server.data / "store.sqlite")) as store, store:
        for position, by in ((7, "worker"), (9, "archiver")):
            row = (TOPICS["messages"] + 4 * 3, position, by, "record of 4 bytes does not decode", 1_700_000_000_000 + position, b"oops")
            store.execute("INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?)", row)
    first, second = listed().splitlines()
    assert "2023-11-14T22:13:20Z" in first and "messages/3 at 9, 4 bytes, by the archiver: record of 4 bytes does not decode" in first, first
    assert "at 7, 4 bytes, by the worker" in second, second
    dead = json.loads(listed("--output", "json", "--limit", "1"))["dead"]
    assert [(row["position"], row["by"], row["bytes"]) for row in dead] == [(9, "archiver", 4)], dead
    assert heddle("log", "dead", "--data", server.data, "--limit", "0").returncode == 64
