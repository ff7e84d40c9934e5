"""The store on a real PostgreSQL: everything that a user does, restarts, and a database that is away."""

import asyncio
import os
import time

import pytest

from harness.archive import TOPICS, archive_of
from harness.device import Device
from harness.openapi import as_described
from harness.policies import fixture
from harness.server import heddle
from harness.waiting import until, until_async

# What asks the store.
STORED = (
    ("GET", "/v1/contacts"), ("GET", "/v1/blocks"), ("GET", "/v1/conversations"), ("GET", "/v1/groups/none"),
    ("GET", "/v1/conversations/user:somebody/messages"), ("PUT", "/v1/contacts/somebody"), ("DELETE", "/v1/contacts/somebody"),
    ("PUT", "/v1/blocks/somebody"), ("DELETE", "/v1/blocks/somebody"), ("PUT", "/v1/conversations/user:somebody/mute"),
    ("DELETE", "/v1/conversations/user:somebody/mute"),
)
AWAY_S = float(os.environ.get("HEDDLE_E2E_POSTGRES_AWAY_S", "20"))


@pytest.fixture
def on_postgres(postgres, start):
    """Makes servers whose store is a database of their own: `(server, database)`."""

    def make(database=None, **options):
        database = database or postgres.database()
        store = {"backend": "postgres", "url": postgres.url(database), "deadline": "1 s"}
        config = {**options.pop("config", {}), "store": store}
        return start(config=config, **options), database

    return make


def log_of(server):
    """(partition code, position, kind) of every record that the log holds. The server must be stopped."""
    rows = [row for topic in TOPICS for row in server.log(topic)]
    return {(TOPICS[r["topic"]] + 4 * r["partition"], r["offset"] + 1, r["kind"]) for r in rows}


def caught_up(server):
    """Nothing of the log is missing in the archive."""
    until(lambda: server.metrics().get("heddle_archive_lag_records") == 0, "the archive has caught up", 60)


def assert_archive_equals_log(server, postgres, database):
    """Every record is there once, and nothing else; each cursor stands at its partition's end."""
    # A server without clients appends nothing more, receipts of the last moment neither.
    server.restart(hard=False)
    caught_up(server)
    server.kill()
    log = log_of(server)
    archived = archive_of(postgres, database)
    places = {(partition, position) for partition, position, _ in log}
    assert archived <= places, "the archive has what the log has not"
    missing = {kind for partition, position, kind in log if (partition, position) not in archived}
    assert not missing, missing
    ends = {}
    for partition, position, _ in log:
        ends[partition] = max(position, ends.get(partition, 0))
    cursors = {int(p): int(upto) for p, upto in postgres.sql(database, "SELECT partition, upto FROM cursors")}
    assert {p: upto for p, upto in cursors.items() if upto} == ends


async def test_people_talk_and_everything_is_there_after_a_restart(on_postgres, postgres, name):
    server, database = on_postgres()
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    async with Device(server, alice) as a, Device(server, bob, auto_ack=True) as b:
        for number in range(5):
            await a.say(bob, f"m{number}")
        await b.until(lambda: len(b.messages) == 5, "five messages")
        await b.say(alice, "an answer", lamport=b.lamport + 1)
        await a.next("new_message", text="an answer")
        group = server.rest(alice).group("the three", [bob, carol])
        await b.say(group=group, text="to all")
        await a.next("new_message", text="to all")
        await b.frame({"type": "read_receipt", "message_id": b.messages[2]["message_id"]})
        await a.next("receipt", status="read")
        await a.next("receipt", status="delivered", order=b.messages[4]["order"])
        server.rest(bob).put(f"/v1/contacts/{alice}").ok()
        server.rest(bob).put(f"/v1/conversations/group:{group}/mute").ok()
        await b.ping()
    caught_up(server)
    assert not (server.data / "store.sqlite").exists()
    server.restart(hard=True)
    # Carol was never here: all of hers comes from the archive.
    async with Device(server, carol) as c:
        await c.next("caught_up")
        assert c.texts() == ["to all"] and "gap" not in c.hello
    messages = server.rest(alice).history(f"user:{bob}", limit=100)["messages"]
    assert [m["text"] for m in messages] == [*(f"m{number}" for number in range(5)), "an answer"]
    assert [m.get("status") for m in messages[:5]] == ["read"] * 3 + ["delivered"] * 2
    page = server.rest(bob).history(f"user:{alice}", limit=2, before=messages[3]["message_id"])
    assert [m["text"] for m in page["messages"]] == ["m1", "m2"] and page["more"] is True
    listed = server.rest(bob).get("/v1/conversations").ok().json["conversations"]
    assert {(c["conversation"], c["muted"]) for c in listed} == {(f"user:{alice}", False), (f"group:{group}", True)}
    assert server.rest(bob).get("/v1/contacts").ok().json == {"contacts": [alice]}
    async with Device(server, bob) as b, Device(server, alice) as a:
        await a.say(bob, "after the restart")
        await b.next("new_message", text="after the restart")
    assert_archive_equals_log(server, postgres, database)


async def test_what_the_log_no_longer_has_comes_from_postgres(on_postgres, name):
    server, _ = on_postgres(config={
        "log": {"retention": "1 s", "retention_interval": "100 ms", "segment_bytes": "64 KiB"}})
    alice, bob = name("alice"), name("bob")
    filler = "x" * 8000
    async with Device(server, alice) as a:
        first = {(await a.say(bob, f"m{number}", data=filler))["message_id"] for number in range(25)}
        extra = iter(range(10_000))

        async def removed():
            await a.say(name("other"), f"e{next(extra)}", data=filler)
            return not first & server.logged()

        await until_async(removed, "retention removes all of the first messages", 60)
        for number in range(25, 40):
            await a.say(bob, f"m{number}", data=filler)
    server.restart(hard=True)
    async with Device(server, bob) as b:
        await b.next("caught_up")
        assert b.texts() == [f"m{number}" for number in range(40)]
        assert "gap" not in b.hello and b.stale == []


async def test_a_policy_that_was_deployed_is_there_after_a_restart(on_postgres, postgres, name):
    server, database = on_postgres()
    done = heddle("plugin", "deploy", fixture("mark"), "--data", server.data, "-m", "for this test")
    assert done.returncode == 0, done.stderr
    alice, bob = name("alice"), name("bob")
    for _ in range(2):
        async with Device(server, alice) as a, Device(server, bob) as b:
            generation = (await a.say(bob, "hello"))["generation"]
            message = await b.next("new_message")
            await b.ack()
        rows = postgres.sql(database, "SELECT max(number) FROM generations")
        assert [[str(generation)]] == rows and message["text"] == "hello"
        audit = postgres.sql(database, "SELECT what, why FROM audit ORDER BY id DESC LIMIT 1")
        assert audit == [["deploy", "for this test"]]
        server.restart(hard=True)
        bob = name("bob")


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_sends_and_live_pushes_go_on_while_postgres_is_away_and_the_archive_catches_up(
        on_postgres, postgres, name, capsys):
    server, database = on_postgres()
    alice, bob, group_size = name("alice"), name("bob"), 3
    members = [f"{name('m')}-{number}" for number in range(group_size)]
    group = server.rest(alice).group("while it is away", [bob, *members])
    async with Device(server, alice, auto_ack=True) as a, Device(server, bob, auto_ack=True) as b:
        await a.say(bob, "before")
        await b.next("new_message", text="before")
        # Who muted the group is asked once, at its first message, and remembered.
        await a.say(group=group, text="to the group")
        await b.next("new_message", text="to the group")
        await asyncio.to_thread(postgres.stop)
        stopped, sent, slowest = time.monotonic(), 0, 0.0
        try:
            while time.monotonic() - stopped < AWAY_S:
                began = time.monotonic()
                await a.say(bob, f"away {sent}")
                await b.next("new_message", text=f"away {sent}")
                await b.say(group=group, text=f"group {sent}")
                await a.next("new_message", text=f"group {sent}")
                slowest = max(slowest, time.monotonic() - began)
                sent += 1
                await asyncio.sleep(0.05)
            assert server.admin_rest().get("/readyz").status == 200
            assert server.metrics()["heddle_archive_lag_records"] > 0
        finally:
            await asyncio.to_thread(postgres.start)
        started = time.monotonic()
        await asyncio.to_thread(caught_up, server)
        back = time.monotonic() - started
        # Somebody who was not there gets all of it from the archive.
        async with Device(server, members[0]) as late:
            await late.next("caught_up")
            assert late.texts() == ["to the group", *(f"group {number}" for number in range(sent))]
        history = server.rest(bob).history(f"user:{alice}", limit=100)["messages"]
        assert history[-1]["text"] == f"away {sent - 1}"
    assert_archive_equals_log(server, postgres, database)
    with capsys.disabled():
        print(f"\n  Postgres away for {AWAY_S:.0f} s: {sent} direct and {sent} group messages accepted and delivered, "
              f"the slowest pair in {slowest * 1000:.0f} ms; the archive had caught up {back:.1f} s after the start")


@pytest.mark.heavy
async def test_a_postgres_that_says_nothing_holds_no_send_back(on_postgres, postgres, name):
    server, database = on_postgres()
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice, auto_ack=True) as a, Device(server, bob, auto_ack=True) as b:
        await a.say(bob, "before")
        await b.next("new_message", text="before")
        document = server.rest(bob).get("/v1/openapi.json").ok().json
        postgres.pause()
        try:
            for number in range(20):
                await a.say(bob, f"stalled {number}")
                await b.next("new_message", text=f"stalled {number}")
            # What needs the store says so, within a deadline or two, as it is described, and does not hang.
            for method, path in STORED:
                answer = server.rest(bob).call(method, path).problem(503, "unavailable")
                as_described(document, method, path, answer)
        finally:
            postgres.resume()
    await until_async(lambda: server.rest(bob).get("/v1/contacts").status == 200, "the store answers again", 30)
    assert_archive_equals_log(server, postgres, database)


def test_a_second_node_on_the_same_database_is_refused(on_postgres, start, postgres):
    _, database = on_postgres()
    second = start(config={"store": {"backend": "postgres", "url": postgres.url(database), "deadline": "1 s"}}, launch=False)
    code, text = second.refused()
    assert code == 1 and "in use by" in text and "a database of its own" in text, (code, text)


def test_a_store_that_cannot_be_used_says_what_mends_it(on_postgres, postgres, start):
    def said(url, code, *words):
        server = start(config={"store": {"backend": "postgres", "url": url, "deadline": "1 s"}}, launch=False)
        exit_code, text = server.refused()
        assert exit_code == code and all(word in text for word in words), (exit_code, text)
        assert "secretpassword" not in text

    said("postgres://heddle:secretpassword@127.0.0.1:1/x", 1, "127.0.0.1:1", "start Postgres")
    said(postgres.url("no_such_database").replace("heddle@", "heddle:secretpassword@"), 1, "no_such_database", "check user")
    said("mysql://heddle:secretpassword@127.0.0.1/x", 64, "store.url", "postgres://")
    database = postgres.database()
    server, _ = on_postgres(database)
    assert server.stop() == 0
    postgres.sql(database, "INSERT INTO heddle_schema (version) VALUES (999)")
    said(postgres.url(database), 1, "999", "newer heddle")


async def test_a_stream_below_the_tail_waits_for_postgres_with_4003(on_postgres, postgres, name):
    """DELIVERY 15: what is neither in memory nor to be had from the archive is said, and never a hole."""
    server, _ = on_postgres(config={"delivery": {"tail_events_max": 16, "unacknowledged_max": 5}})
    alice, bob = name("alice"), name("bob")
    wanted = [f"m{number}" for number in range(40)]

    async def told_to_try_later(device):
        assert await device.close_code(30) == 4003
        later = next(frame for frame in device.inbox if frame["type"] == "error")
        assert (later["code"], later["retryable"]) == ("try_later", True), later

    slow, away = Device(server, bob), Device(server, bob, "laptop")
    await away.connect()
    await away.next("caught_up")
    await away.leave()
    await slow.connect()
    async with Device(server, alice) as a:
        for text in wanted:
            await a.say(bob, text)
            await a.ack()
    await slow.until(lambda: len(slow.messages) == 5, "as many as may be unacknowledged")
    caught_up(server)
    postgres.stop()
    try:
        # One is connected and has fallen far behind, the other comes back.
        await slow.ack()
        await told_to_try_later(slow)
        assert slow.texts() == wanted[:5]
        await away.open()
        await away.frame({"type": "hello", "device": "laptop", "resume": away.position})
        await told_to_try_later(away)
        assert away.messages == []
    finally:
        postgres.start()

    async def comes_back(device):
        """Until the archive answers it is sent away again, also after its `hello_ok`."""
        device.auto_ack = True
        try:
            await device.connect()
            return await device.next("caught_up")
        except AssertionError:
            return None

    for device in (slow, away):
        await until_async(lambda device=device: comes_back(device), "the database is there again", 60)
        assert device.texts() == wanted and "gap" not in device.hello
        await device.leave()


async def test_what_is_known_of_blocks_and_revocations_holds_while_postgres_is_away(on_postgres, postgres, name):
    server, _ = on_postgres()
    alice, bob, carol, mallory = name("alice"), name("bob"), name("carol"), name("mallory")
    token = server.token(mallory)
    async with Device(server, alice) as a, Device(server, bob) as b, Device(server, carol) as c:
        server.rest(bob).put(f"/v1/blocks/{alice}").ok()
        server.admin_rest(server.ready["admin_token"]).put(f"/users/{mallory}/revocation", {}).ok()
        postgres.stop()
        try:
            until(lambda: server.metrics().get("heddle_denial_reads_failed_total", 0) > 0, "the node notices")
            await a.say(bob, "blocked")
            await c.say(bob, "goes on")
            await b.next("new_message", text="goes on")
            await b.ping()
            assert b.texts() == ["goes on"]
            refused = server.rest(mallory, headers={"Authorization": f"Bearer {token}"}).get("/v1/contacts")
            refused.problem(401, "unauthorized")
        finally:
            postgres.start()
    until(lambda: server.admin_rest(server.ready["admin_token"]).get(f"/users/{mallory}").status == 200, "it is back", 60)
