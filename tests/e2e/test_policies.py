"""Contrarian policies: the behaviour follows each, and the stamps say who decided."""

import json

import pytest

from harness.device import Device
from harness.policies import FOLDER, built, digest, fixture
from harness.waiting import until_async


async def test_deny_all_refuses_every_message_and_nothing_reaches_the_log(start, name):
    server = start(policies=[("routing", fixture("deny-all"))])
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob) as b:
        rejected = await a.refused("refused", bob, "no")
        assert rejected["reason"]
        server.rest(alice).post("/v1/messages", {"client_id": "r", "to": bob, "text": "no"}).problem(403, "refused")
        await b.nothing_before_pong("new_message")
    server.stop()
    assert [r for r in server.log("messages") if alice in json.dumps(r)] == []


async def test_redirect_sends_the_message_to_the_group_that_the_policy_names(start, name):
    """The fixture sends every direct message to the group that the message's tag `redirect` names."""
    server = start(policies=[("routing", fixture("redirect"))])
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    group = server.rest(alice).group("desk", [carol])
    async with Device(server, alice) as a, Device(server, bob) as b, Device(server, carol) as c:
        await a.say(bob, "for bob", tags={"redirect": group})
        got = await c.next("new_message", text="for bob")
        assert got["group"] == group and got["from"] == alice, got
        await b.nothing_before_pong("new_message")


async def test_a_redirect_to_a_group_that_the_sender_is_not_in_is_a_fault(start, name):
    server = start(policies=[("routing", fixture("redirect"))])
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    group = server.rest(carol).group("foreign", [])
    async with Device(server, alice) as a, Device(server, bob) as b, Device(server, carol) as c:
        accepted = await a.say(bob, "smuggled", tags={"redirect": group})
        # The built-in decided in its place.
        await b.next("new_message", message_id=accepted["message_id"])
        await c.nothing_before_pong("new_message")
        routed = [d for d in server.explained(accepted["message_id"])["decisions"] if d["hook"] == "routing"]
        assert [(d["verdict"], d["fallback"]) for d in routed] == [("accept", "builtin")], routed
    assert server.faults("redirect", "rights") == 1, server.metrics()


async def test_a_group_that_the_manifest_names_takes_what_is_redirected_by_anybody(start, name, tmp_path):
    """`redirect_to`: the operator lets this policy send to the desk for everybody; the sender keeps a copy, and reads nothing else there."""
    server = start()
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    group = server.rest(carol).group("desk", [])
    server.stop()
    folder = tmp_path / "redirect"
    folder.mkdir()
    text = (FOLDER / "redirect" / "plugin.toml").read_text()
    text = text.replace('on_failure = "builtin"', f'on_failure = "builtin"\nredirect_to = ["group:{group}"]')
    text = text.replace("../target", str(FOLDER / "target")).replace('"cargo"', f'"env", "-C", "{FOLDER / "redirect"}", "cargo"')
    (folder / "plugin.toml").write_text(text)
    server.policies = [("routing", built(folder, tmp_path / "redirect.wasm"))]
    server.start()
    async with Device(server, alice) as a, Device(server, carol) as c:
        second = Device(server, alice, "second")
        await second.connect()
        sent = await a.say(bob, "to whom it may concern", tags={"redirect": group})
        got = await c.next("new_message", text="to whom it may concern")
        assert (got["group"], got["from"], got["message_id"]) == (group, alice, sent["message_id"]), got
        copy = await second.next("new_message", text="to whom it may concern")
        assert copy["message_id"] == sent["message_id"]
        await c.say(text="an answer", group=group)
        await second.nothing_before_pong("new_message")
        await second.leave()
    server.rest(alice).get(f"/v1/conversations/group:{group}/messages").problem(404, "not_found")


async def test_leave_out_odd_members_leaves_them_out_of_stream_and_history(start, name):
    """With one partition all members are one page: the policy counts within a page."""
    server = start(policies=[("fanout", fixture("leave-out-odd"))], config={"log": {"partitions": 1}})
    members = [f"{name('m')}-{i}" for i in range(6)]
    group = server.rest(members[0]).group("odd", members[1:])
    devices = [Device(server, m) for m in members]
    for device in devices:
        await device.connect()
    await devices[0].say(group=group, text="to some")
    served = [d for d in devices[1:]]
    await until_async(lambda: any(d.messages for d in served), "somebody gets it")
    for device in devices:
        await device.ping()
    got = [d.user for d in served if d.messages]
    assert 0 < len(got) < len(served), got
    for device in served:
        texts = [m["text"] for m in server.rest(device.user).history(f"group:{group}")["messages"]]
        assert texts == (["to some"] if device.user in got else []), (device.user, texts)
        await device.leave()


async def test_everyone_offline_shows_everyone_as_offline(start, name):
    server = start(policies=[("presence", fixture("everyone-offline"))])
    alice, bob = name("alice"), name("bob")
    server.rest(bob).put(f"/v1/contacts/{alice}").ok()
    async with Device(server, alice) as a, Device(server, bob) as b:
        await a.frame({"type": "presence_get", "users": [bob]})
        assert (await a.next("presence_update", user=bob))["status"] == "offline"
        await b.frame({"type": "presence_set", "status": "online"})
        await b.ping()
        await a.frame({"type": "presence_get", "users": [bob]})
        assert (await a.next("presence_update", user=bob))["status"] == "offline"


async def test_discard_lets_the_sender_believe_and_delivers_to_nobody(start, name):
    server = start(policies=[("routing", fixture("discard"))])
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        accepted = await a.say(bob, "into the void", client_id="void")
        async with Device(server, bob) as b:
            await b.next("caught_up")
            await b.nothing_before_pong("new_message")
        assert server.rest(bob).history(f"user:{alice}")["messages"] == []
        a.outcomes.clear()
        assert (await a.say(bob, "into the void", client_id="void", resend=True))["order"] == accepted["order"]


async def test_rewrite_changes_the_text_for_both_sides_and_the_sender_sees_it(start, name):
    server = start(policies=[("routing", fixture("rewrite"))])
    bob = name("bob")
    async with Device(server, name("alice")) as a, Device(server, bob) as b:
        accepted = await a.say(bob, "quiet please", client_id="w")
        assert accepted["text"] != "quiet please", accepted
        assert (await b.next("new_message"))["text"] == accepted["text"]
        assert (await a.next("new_message"))["text"] == accepted["text"]
        a.outcomes.clear()
        again = await a.say(bob, "quiet please", client_id="w", resend=True)
        assert again["order"] == accepted["order"] and again["text"] == accepted["text"]


async def test_a_rate_limit_that_says_no_is_told_with_the_time_to_wait(start, name):
    server = start(policies=[("rate-limit", fixture("deny-messages"))])
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a:
        rejected = await a.refused("rate_limited", bob, "too fast")
        assert rejected["retryable"] is True and rejected["retry_after_ms"] > 0, rejected
        answer = server.rest(alice).post("/v1/messages", {"client_id": "r", "to": bob, "text": "x"})
        answer.problem(429, "rate_limited")


@pytest.mark.parametrize("hook,policy,verdict,fallback", [
    ("routing", "rewrite", "accept-with", None),
    ("fanout", "leave-out-odd", "sort", None),
    ("fanout", "too-few-codes", "sort", "builtin"),
    (None, None, None, None),
])
async def test_the_stamp_of_a_message_says_who_decided_what_with_which_file_in_how_many_microseconds(
        start, name, hook, policy, verdict, fallback):
    """Every decision, exactly: what `explain` says, and what stands in the log."""
    chosen = [(hook, fixture(policy))] if hook else []
    server = start(policies=chosen)
    alice, bob = name("alice"), name("bob")
    group = server.rest(alice).group("stamped", [bob])
    async with Device(server, alice) as a, Device(server, bob) as b:
        accepted = await a.say(group=group, text="stamp me")
        # `leave-out-odd` leaves out nobody where there is one other.
        await b.next("new_message", message_id=accepted["message_id"])
    by_hook = {p["hook"]: p for p in server.ready["policies"]}
    assert set(by_hook) == {"rate-limit", "routing", "fanout", "presence"}, by_hook
    for the_hook, path in chosen:
        assert by_hook[the_hook]["digest"] == digest(path), by_hook

    # Who stood in has its digest and version in the stamp, under the name of the place.
    standing_in = {p["hook"]: p for p in start().ready["policies"]} if fallback == "builtin" else {}

    def expected(the_hook, said):
        mine = by_hook[the_hook]
        changed = (the_hook, said) in ((hook, "accept"), (hook, "sort"))
        by = standing_in.get(the_hook, mine) if changed else mine
        who = {"hook": the_hook, "plugin": mine["name"], "version": by["version"], "digest": by["digest"]}
        return {**who, "verdict": verdict if changed else said, "fallback": fallback if changed else None}

    wanted = [expected("rate-limit", "allow"), expected("routing", "accept"), expected("fanout", "push"), expected("fanout", "sort")]
    explained = server.explained(accepted["message_id"])
    assert explained["generation"] == accepted["generation"] == server.ready["generation"], explained
    _decided(explained["decisions"], wanted)
    server.stop()
    sent, = [r for r in server.log("group_messages") if r.get("message_id") == accepted["message_id"]]
    assert sent["stamp"]["generation"] == accepted["generation"], sent
    _decided(sent["stamp"]["decisions"], wanted[:3])
    for chunk in [r for r in server.log("messages") if r["kind"] == "group_chunk" and r["message_id"] == accepted["message_id"]]:
        _decided(chunk["sorted_by"], wanted[3:])


def _decided(decisions, wanted):
    """These decisions, and each took a time: at least a microsecond, at most a second."""
    assert all(isinstance(d["micros"], int) and 1 <= d["micros"] < 1_000_000 for d in decisions), decisions
    assert [{name: value for name, value in d.items() if name != "micros"} for d in decisions] == wanted, decisions


async def test_each_of_the_four_hooks_decides_by_default_and_is_a_component(server):
    policies = server.ready["policies"]
    assert {p["hook"]: p["name"] for p in policies} == {
        "rate-limit": "token-bucket", "routing": "inbox-routing", "fanout": "group-fanout", "presence": "last-seen",
    }
    assert all(len(p["digest"]) == 64 and p["version"] for p in policies), policies
    assert server.ready["generation"] >= 1
