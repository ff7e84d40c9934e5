"""REST, its description, and the operators' listener."""

import json
import re

import pytest

from harness import settings
from harness.device import Device
from harness.openapi import as_described, dereferenced
from harness.policies import fixture
from harness.rest import Rest


async def test_history_has_each_message_with_its_status_and_pages_both_ways(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob) as b:
        for i in range(25):
            await a.say(bob, f"m{i}")
        await b.until(lambda: len(b.messages) == 25, "all")
        await b.frame({"type": "read_receipt", "message_id": b.messages[9]["message_id"]})
        await a.next("receipt", status="read")
        await b.ack(b.messages[19]["offset"])
        await a.next("receipt", status="delivered", order=b.messages[19]["order"])
    rest = server.rest(alice)
    messages = rest.history(f"user:{bob}", limit=100)["messages"]
    assert [m["text"] for m in messages] == [f"m{i}" for i in range(25)]
    assert [m["status"] for m in messages] == ["read"] * 10 + ["delivered"] * 10 + ["sent"] * 5
    page = rest.history(f"user:{bob}", limit=10)
    assert [m["text"] for m in page["messages"]] == [f"m{i}" for i in range(15, 25)] and page["more"] is True
    page = rest.history(f"user:{bob}", limit=10, before=page["messages"][0]["message_id"])
    assert [m["text"] for m in page["messages"]] == [f"m{i}" for i in range(5, 15)]
    page = rest.history(f"user:{bob}", limit=10, after=messages[19]["message_id"])
    assert [m["text"] for m in page["messages"]] == [f"m{i}" for i in range(20, 25)] and page["more"] is False


async def test_a_history_does_not_wait_until_the_archive_is_written_by_itself(start, name):
    server = start(config={"store": {"archive_interval": "1 min"}, "delivery": {"history_deadline": "30 s"}})
    async with Device(server, name("alice")) as a:
        await a.say(name("bob"), "just now")
    for user, other in ((name("alice"), name("bob")), (name("bob"), name("alice"))):
        assert [m["text"] for m in server.rest(user).history(f"user:{other}")["messages"]] == ["just now"]


async def test_conversations_are_listed_newest_first_with_unread_and_muted(server, name):
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    async with Device(server, alice) as a, Device(server, carol) as c:
        await a.say(bob, "one")
        await a.say(bob, "two")
        await c.say(bob, "three")
    rest = server.rest(bob)
    rest.put(f"/v1/conversations/user:{alice}/mute").ok()
    listed = rest.get("/v1/conversations").ok().json["conversations"]
    assert [(c["conversation"], c["unread"], c["muted"]) for c in listed] == [
        (f"user:{carol}", 1, False), (f"user:{alice}", 2, True),
    ]
    assert listed[0]["last_message"]["text"] == "three"
    rest.delete(f"/v1/conversations/user:{alice}/mute").ok()
    assert not any(c["muted"] for c in rest.get("/v1/conversations").ok().json["conversations"])


def test_contacts_are_put_listed_and_deleted(server, name):
    alice, bob = name("alice"), name("bob")
    rest = server.rest(alice)
    for _ in range(2):
        rest.put(f"/v1/contacts/{bob}").ok()
    assert rest.get("/v1/contacts").ok().json == {"contacts": [bob]}
    assert server.rest(bob).get("/v1/contacts").ok().json == {"contacts": []}
    rest.delete(f"/v1/contacts/{bob}").ok()
    assert rest.get("/v1/contacts").ok().json == {"contacts": []}


async def test_a_message_over_rest_answers_as_accepted_and_is_delivered(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, bob) as b:
        answer = server.rest(alice).post("/v1/messages", {"client_id": "r", "to": bob, "text": "by rest"}).ok()
        for field in ("client_id", "message_id", "sent_at", "lamport", "order", "generation"):
            assert field in answer.json, answer
        assert (await b.next("new_message"))["message_id"] == answer.json["message_id"]



def test_openapi_names_every_path_of_the_contract(server):
    document = Rest(server.client).get("/v1/openapi.json").ok().json
    assert document["openapi"].startswith("3.")
    have = {(m.upper(), re.sub(r"\{\w+\}", "{}", p)) for p, ms in document["paths"].items() for m in ms}
    want = """POST /v1/messages|GET /v1/conversations|GET /v1/conversations/{}/messages|PUT /v1/conversations/{}/mute
DELETE /v1/conversations/{}/mute|POST /v1/groups|GET /v1/groups/{}|PATCH /v1/groups/{}|DELETE /v1/groups/{}
POST /v1/groups/{}/members|DELETE /v1/groups/{}/members/{}|GET /v1/contacts|PUT /v1/contacts/{}|DELETE /v1/contacts/{}
GET /v1/presence""".replace("\n", "|").split("|")
    assert {tuple(w.split(" ")) for w in want} <= have, sorted({tuple(w.split(" ")) for w in want} - have)


def test_each_path_and_method_is_answered_as_its_schema_says(server, name):
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    document = Rest(server.client).get("/v1/openapi.json").ok().json
    rest = server.rest(alice)
    group = rest.group("schemas", [bob])
    sent = rest.post("/v1/messages", {"client_id": "s", "to": bob, "text": "x"}).ok().json
    calls = [
        ("POST", "/v1/messages", {"client_id": "s2", "to": bob, "text": "x"}),
        ("POST", "/v1/messages", {"client_id": "s3"}),
        ("GET", "/v1/conversations", None),
        ("GET", f"/v1/conversations/user:{bob}/messages", None),
        ("GET", f"/v1/conversations/user:{bob}/messages?before={sent['message_id']}&limit=5", None),
        ("GET", "/v1/conversations/nonsense/messages", None),
        ("PUT", f"/v1/conversations/user:{bob}/mute", None),
        ("DELETE", f"/v1/conversations/user:{bob}/mute", None),
        ("POST", "/v1/groups", {"client_id": "g2", "name": "n", "members": [bob]}),
        ("GET", f"/v1/groups/{group}", None),
        ("GET", "/v1/groups/none", None),
        ("PATCH", f"/v1/groups/{group}", {"name": "new"}),
        ("POST", f"/v1/groups/{group}/members", {"user": carol}),
        ("DELETE", f"/v1/groups/{group}/members/{carol}", None),
        ("DELETE", f"/v1/groups/{group}", None),
        ("PUT", f"/v1/contacts/{bob}", None),
        ("GET", "/v1/contacts", None),
        ("DELETE", f"/v1/contacts/{bob}", None),
        ("PUT", f"/v1/blocks/{carol}", None),
        ("PUT", f"/v1/blocks/{alice}", None),
        ("GET", "/v1/blocks", None),
        ("DELETE", f"/v1/blocks/{carol}", None),
        ("GET", f"/v1/presence?users={alice},{bob}", None),
    ]
    seen = set()
    for method, path, body in calls:
        answer = rest.call(method, path, body)
        seen.add((method, as_described(document, method, path, answer)))
    stated = {(m.upper(), p) for p, ms in document["paths"].items() for m in ms if p.startswith("/v1/")}
    left = {s for s in stated - seen if not s[1].endswith(("openapi.json", "/ws"))}
    assert not left, f"described, and not called here: {left}"


def test_every_kind_of_refusal_is_described_and_is_a_problem(start, name):
    """401 everywhere; 403, 409, 413 and 429 where they can come."""
    server = start(policies=[("rate-limit", fixture("deny-messages"))])
    alice, bob = name("alice"), name("bob")
    rest, other, nobody = server.rest(alice), server.rest(bob), Rest(server.client)
    document = nobody.get("/v1/openapi.json").ok().json
    group = rest.group("refusals", [bob], client_id="mine")
    large = {"client_id": "large", "name": "x" * 300_000, "members": []}
    calls = [
        (403, "forbidden", other, "PATCH", f"/v1/groups/{group}", {"name": "theirs"}),
        (403, "forbidden", other, "POST", f"/v1/groups/{group}/members", {"user": "carol"}),
        (403, "forbidden", other, "DELETE", f"/v1/groups/{group}/members/{alice}", None),
        (403, "forbidden", other, "DELETE", f"/v1/groups/{group}", None),
        (409, "conflict", rest, "POST", "/v1/groups", {"client_id": "mine", "name": "another", "members": [bob]}),
        (413, "too_large", rest, "POST", "/v1/groups", large),
        (413, "too_large", rest, "PATCH", f"/v1/groups/{group}", large),
        (413, "too_large", rest, "POST", f"/v1/groups/{group}/members", {"user": "x" * 300_000}),
        (413, "too_large", rest, "POST", "/v1/messages", {"client_id": "l", "to": bob, "text": "x" * 300_000}),
        (429, "rate_limited", rest, "POST", "/v1/messages", {"client_id": "r", "to": bob, "text": "x"}),
    ]
    for path, methods in document["paths"].items():
        for method in methods:
            if not path.endswith(("openapi.json", "/ws")):
                calls.append((401, "unauthorized", nobody, method.upper(), re.sub(r"\{\w+\}", "x", path), None))
    for status, code, who, method, path, body in calls:
        answer = who.call(method, path, body).problem(status, code)
        as_described(document, method, path, answer)
        if status == 429:
            assert int(answer.headers["retry-after"]) >= 1 and answer.json["retry_after_ms"] > 0, answer
        if status == 401:
            assert answer.headers["www-authenticate"] == "Bearer", answer


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version", "/metrics"])
def test_the_operators_four_pages_need_no_token(server, path):
    assert server.admin_rest().get(path).status == 200


def test_version_names_the_version_and_anything_else_needs_a_token(server):
    assert re.search(r"\d+\.\d+\.\d+", server.admin_rest().get("/version").ok().raw.decode())
    """All that the description says, but itself; a path that is not there is not found, with a token or without."""
    document = server.admin_rest().get("/openapi.json").ok().json
    open_ = {"/healthz", "/readyz", "/version", "/metrics", "/openapi.json"}
    closed = [(method, path) for path, methods in document["paths"].items() for method in methods if path not in open_]
    assert len(closed) > 10, closed
    for method, path in closed:
        path = re.sub(r"\{\w+\}", "x", path)
        server.admin_rest().call(method.upper(), path).problem(401, "unauthorized")
        server.admin_rest(server.token("alice")).call(method.upper(), path).problem(403, "forbidden")
    server.admin_rest().get("/v1/generations").problem(404, "not_found")


def test_the_page_try_and_its_tokens_are_in_dev_only(server):
    """They open with tokens that anybody on the machine may have."""
    for path in ("/try", "/try/", "/try/tokens"):
        server.admin_rest().get(path).problem(404, "not_found")
        server.admin_rest(settings.ADMIN_TOKEN).get(path).problem(404, "not_found")


async def test_metrics_are_prometheus_text_with_histograms_and_no_label_per_user(server, name):
    alice, bob = name("metrics-alice"), name("metrics-bob")
    async with Device(server, alice) as a:
        await a.say(bob, "counted")
    answer = server.admin_rest().get("/metrics").ok()
    text = answer.raw.decode()
    assert answer.type == "text/plain" and "# TYPE" in text
    assert re.search(r"_bucket\{.*le=", text), "no histogram"
    assert alice not in text and bob not in text


def test_operators_pages_are_not_on_the_clients_listener(server):
    for path in ("/metrics", "/healthz", "/readyz"):
        assert Rest(server.client).get(path).status == 404, path


def test_the_description_has_no_broken_reference(server):
    document = Rest(server.client).get("/v1/openapi.json").ok().json
    for ref in set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))):
        dereferenced(document, {"$ref": ref})
