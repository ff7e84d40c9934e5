"""Every frame of CONTRACT, played with somebody else's WebSocket library."""

import json
import time

import pytest

from harness.device import Device


def integer(value):
    """An integer as the contract wants it."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


@pytest.mark.parametrize("auth", ["bearer", "subprotocol", "first_frame"])
async def test_a_token_is_taken_from_each_of_its_three_places(server, name, auth):
    alice = name("alice")
    async with Device(server, alice, auth=auth) as device:
        hello = device.hello
        assert hello["user"] == alice and hello["device"] == "phone" and hello["resumed"] is False, hello
        assert integer(hello["offset"]) and integer(hello["heartbeat_ms"]) and isinstance(hello["session"], str), hello
        assert "gap" not in hello, hello
        caught_up = await device.next("caught_up")
        assert integer(caught_up["offset"]) and caught_up["offset"] >= hello["offset"], caught_up
        if auth == "subprotocol":
            assert device.socket.subprotocol == "heddle.v1"


async def test_a_message_is_accepted_and_comes_to_both_sides_with_every_field(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob) as b:
        accepted = await a.say(bob, "hello", client_id="c-1", tags={"mood": "good"}, mentions=[bob], data={"n": 1})
        for field in ("sent_at", "lamport", "order", "generation"):
            assert integer(accepted[field]), accepted
        assert accepted["client_id"] == "c-1" and len(accepted["message_id"]) <= 64 and "text" not in accepted
        got = await b.next("new_message")
        assert got["from"] == alice and got["to"] == bob and got["text"] == "hello" and got["data"] == {"n": 1}, got
        assert got["tags"]["mood"] == "good" and "client_id" not in got and not got.get("missed"), got
        own = await a.next("new_message")
        assert own["client_id"] == "c-1" and own["from"] == alice and own["to"] == bob, own
        for field in ("message_id", "sent_at", "lamport", "order"):
            assert got[field] == accepted[field] == own[field], (field, got, own, accepted)
        assert integer(got["offset"]) and got["offset"] > b.hello["offset"]


@pytest.mark.parametrize(
    "data",
    ["null", "true", "1.0", "1e3", "123456789012345678901234567890", '"text"', "[]", '{"b":1,"a":[null,{"c":"\\u00e9"}]}'],
)
async def test_data_is_passed_through_untouched(server, name, data):
    bob = name("bob")
    async with Device(server, name("alice")) as a, Device(server, bob) as b:
        await a.frame(f'{{"type":"chat_message","client_id":"d","to":{json.dumps(bob)},"data":{data}}}')
        assert (await a.outcome("d"))["type"] == "accepted"
        got = await b.next("new_message")
        assert f'"data":{data}' in got["raw"].replace('"data": ', '"data":'), got["raw"]
        assert "text" not in got


async def test_ticks_go_to_delivered_then_to_read(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob) as b:
        accepted = await a.say(bob, "tick")
        got = await b.next("new_message")
        await b.ack()
        delivered = await a.next("receipt", status="delivered")
        assert delivered["conversation"] == f"user:{bob}" and delivered["by"] == bob, delivered
        assert delivered["message_id"] == accepted["message_id"] and delivered["order"] == accepted["order"], delivered
        assert integer(delivered["at"]) and integer(delivered["offset"])
        await b.frame({"type": "read_receipt", "message_id": got["message_id"]})
        read = await a.next("receipt", status="read")
        assert read["message_id"] == accepted["message_id"] and read["offset"] > delivered["offset"], read


async def test_receipts_are_cumulative_and_never_go_back(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob) as b:
        orders = [(await a.say(bob, f"m{i}"))["order"] for i in range(10)]
        await b.until(lambda: len(b.messages) == 10, "ten messages")
        first, last = b.messages[2], b.messages[-1]
        await b.ack(b.position)
        await b.ack(first["offset"])
        await b.frame({"type": "read_receipt", "message_id": last["message_id"]})
        await a.next("receipt", status="read", order=orders[-1])
        await b.frame({"type": "read_receipt", "message_id": first["message_id"]})
        await b.ping()
        async with Device(server, alice, "second") as other:
            await other.next("caught_up")
        await a.ping()
        reads = [f["order"] for f in a.inbox if f["type"] == "receipt" and f["status"] == "read"]
        assert reads == [], f"a read receipt went back: {reads}"


async def test_of_many_acknowledgements_in_a_second_one_receipt_is_made(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob, auto_ack=True) as b:
        began, last = time.monotonic(), None
        for i in range(60):
            last = await a.say(bob, f"m{i}")
        await a.until(lambda: a.has("receipt", status="delivered", order=last["order"]), "the last is delivered")
        seconds = time.monotonic() - began
        orders = [f["order"] for f in a.inbox if f["type"] == "receipt" and f["by"] == bob]
        assert orders == sorted(set(orders)) and len(orders) <= seconds + 2, (orders, seconds)
        assert len(b.messages) == 60


async def test_typing_is_relayed_ends_on_stop_and_with_the_message(server, name):
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice) as a, Device(server, bob) as b:
        await a.frame({"type": "typing_start", "to": bob})
        seen = await b.next("typing_indicator", typing=True)
        assert seen["from"] == alice and "group" not in seen and "offset" not in seen, seen
        await a.frame({"type": "typing_stop", "to": bob})
        await b.next("typing_indicator", typing=False)
        await a.frame({"type": "typing_start", "to": bob})
        await b.next("typing_indicator", typing=True)
        await a.say(bob, "there")
        await b.next("new_message")
        await b.next("typing_indicator", typing=False)


async def test_typing_ends_by_itself_after_five_seconds(server, name):
    bob = name("bob")
    async with Device(server, name("alice")) as a, Device(server, bob) as b:
        await a.frame({"type": "typing_start", "to": bob})
        await b.next("typing_indicator", typing=True)
        await b.next("typing_indicator", typing=False, deadline_s=8)


async def test_ping_is_answered_with_pong(server, name):
    async with Device(server, name("alice")) as a:
        await a.ping()


async def test_an_unknown_type_gets_an_error_with_its_ref_and_the_connection_lives(server, name):
    async with Device(server, name("alice")) as a:
        await a.frame({"type": "dance", "ref": "r-7"})
        error = await a.next("error")
        assert error["ref"] == "r-7" and error["code"] == "unknown_type" and error["retryable"] is False, error
        assert error["command"] == "dance", error
        await a.frame({"type": "read_receipt", "ref": 9})
        error = await a.next("error")
        assert error["ref"] == 9 and error["code"] == "invalid" and "message_id" in error["reason"], error
        assert error["command"] == "read_receipt", error
        await a.ping()


async def test_unknown_fields_are_ignored(server, name):
    bob = name("bob")
    async with Device(server, name("alice")) as a, Device(server, bob) as b:
        await a.say(bob, "with more", priority="high", nested={"x": [1]})
        assert (await b.next("new_message"))["text"] == "with more"


async def test_a_message_to_oneself_comes_to_all_own_devices(server, name):
    alice = name("alice")
    async with Device(server, alice, "phone") as phone, Device(server, alice, "desk") as desk:
        accepted = await phone.say(alice, "note")
        for device in (phone, desk):
            got = await device.next("new_message", message_id=accepted["message_id"])
            assert got["from"] == got["to"] == alice, got
        await phone.ping()
        await desk.ping()
        for device in (phone, desk):
            assert len(device.messages) == 1, device.messages


async def test_own_messages_come_to_the_other_devices_with_client_id(server, name):
    alice = name("alice")
    async with Device(server, alice, "phone") as phone, Device(server, alice, "desk") as desk:
        await phone.say(name("bob"), "from the phone", client_id="own-1")
        assert (await desk.next("new_message"))["client_id"] == "own-1"


async def test_sending_to_a_user_never_seen_is_accepted_and_waits_for_them(server, name):
    nobody = name("never-seen")
    async with Device(server, name("alice")) as a:
        await a.say(nobody, "are you there")
    async with Device(server, nobody) as late:
        got = await late.next("new_message")
        assert got["text"] == "are you there" and got["missed"] is True, got
        await late.next("caught_up")


async def test_an_unknown_user_is_refused_where_the_configuration_says_so(start, name):
    server = start(config={"users": {"unknown": "reject"}})
    bob = name("bob")
    async with Device(server, name("alice")) as a:
        rejected = await a.refused("unknown_user", name("never-seen"), "hello")
        assert rejected["retryable"] is False
        body = {"client_id": "r1", "to": bob, "text": "hello"}
        rest = server.rest(name("alice"))
        rest.post("/v1/messages", body).problem(404, "unknown_user")
        async with Device(server, bob):
            pass
        await a.say(bob, "seen")
        rest.post("/v1/messages", body).ok()


async def test_the_same_user_and_device_again_replaces_the_older_connection(server, name):
    alice = name("alice")
    older = Device(server, alice)
    await older.connect()
    async with Device(server, alice) as newer:
        assert await older.close_code() == 4509
        await newer.ping()


async def test_the_first_frame_must_be_hello(server, name):
    device = Device(server, name("alice"))
    await device.open()
    await device.frame({"type": "ping", "ref": "p"})
    assert await device.close_code() == 4501, device.closed
    (error,) = device.inbox
    assert (error["type"], error["code"], error["ref"]) == ("error", "hello_expected", "p"), error


async def test_a_second_hello_is_an_error_and_changes_nothing(server, name):
    async with Device(server, name("alice")) as a:
        await a.frame({"type": "hello", "device": "other", "ref": "h"})
        error = await a.next("error")
        assert error["code"] == "hello_repeated" and error["ref"] == "h", error
        await a.ping()


async def test_a_connection_without_hello_is_closed_within_its_deadline(server, name):
    device = Device(server, name("alice"))
    await device.open()
    code = await device.close_code(deadline_s=9)
    assert code >= 4000, device.closed


async def test_lamport_is_the_clients_unless_it_is_far_above_the_clock(server, name):
    bob = name("bob")
    async with Device(server, name("alice")) as a:
        small = await a.say(bob, "small", lamport=7)
        assert small["lamport"] == 7
        # What answers a message of this very millisecond, or of a node whose clock goes before ours, is shown after it.
        ahead = small["sent_at"] + 900
        assert (await a.say(bob, "a little ahead", lamport=ahead))["lamport"] == ahead
        high = await a.say(bob, "high", lamport=(1 << 53) - 1)
        assert abs(high["lamport"] - high["sent_at"]) < 60_000, high
        zero = await a.say(bob, "zero", lamport=0)
        assert abs(zero["lamport"] - zero["sent_at"]) < 60_000, zero
        assert (await a.refused("invalid", bob, "2^53", lamport=1 << 53))["retryable"] is False
