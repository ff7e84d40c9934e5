"""The archive over three databases: one of them away keeps its own partitions waiting and no others; the log cut anew; damage mended."""

import json
from urllib.parse import quote

import pytest

from harness.device import Closed, Device
from harness.operator import roll
from harness.rebuild import Database, archived, rebuilt
from harness.server import heddle
from harness.shards import Shards
from harness.waiting import until, until_async

# A resume from further back than this comes from the archive.
SHORT = {"delivery": {"tail_events_max": 16}}
# More than three members pull.
PULL = {"policies": {"config": {"group-fanout": {"push_up_to": 3}}}}


@pytest.fixture
def shards(postgres):
    """Three empty databases."""
    return Shards(postgres, 3)


def people(shards, name, each):
    """Users, so many at home in every shard."""
    found, number = {nth: [] for nth in range(3)}, 0
    while any(len(users) < each for users in found.values()):
        user = name(f"p{number}")
        number += 1
        if len(found[shards.of(user)]) < each:
            found[shards.of(user)].append(user)
    return found


async def everything(server, user, texts):
    """A device that asks for all of it gets it, in order, without a gap. Sent away with 4003 it comes back, as clients do."""

    async def whole():
        device = Device(server, user, auto_ack=True)
        try:
            await device.connect(resume=0)
            await device.next("caught_up")
            return device
        except Closed as why:
            assert why.code == 4003, why
            return None
        finally:
            await device.leave()

    device = await until_async(whole, f"{user} has all", 60)
    assert device.texts() == texts and "gap" not in device.hello and not device.stale, user


def shown(server, user, of):
    """The texts of a history; none where the archive does not answer."""
    answer = server.rest(user).get(f"/v1/conversations/{quote(of, safe='')}/messages?limit=100")
    return None if answer.status == 503 else [m["text"] for m in answer.ok().json["messages"]]


async def comes(server, user, of, texts):
    """The history ends with these."""
    await until_async(lambda: (shown(server, user, of) or [])[-len(texts):] == texts, f"{texts} for {user} in {of}", 60)


@pytest.mark.heavy
@pytest.mark.timeout(240)
async def test_while_one_shard_is_away_its_partitions_wait_and_no_others(nodes, postgres, shards, name):
    one, two = nodes(2, store_more=shards.store(), **SHORT, **PULL)
    users = people(shards, name, 2)
    everybody = [user for part in users.values() for user in part]
    writer, gone = name("writer"), 1 if shards.of(name("writer")) != 1 else 2
    near = [user for nth, part in users.items() if nth != gone for user in part]
    group = one.rest(writer).group("all of them", everybody)
    texts = [f"m{number}" for number in range(8)]
    async with Device(one, writer, auto_ack=True) as w:
        for text in texts:
            for sent in [await w.post(user, text) for user in everybody]:
                assert (await w.outcome(sent))["type"] == "accepted"
        await w.say(group=group, text="to pull")
        archived(one), archived(two)
        places = {nth: shards.rows(nth, "SELECT DISTINCT partition / 4 % 3 FROM records") for nth in range(3)}
        assert places == {nth: [[str(nth)]] for nth in range(3)}
        for server in (one, two):
            server.restart(hard=False)
        shared = lambda: sorted(row["partitions"] for row in roll(one).values()) == [6, 6]  # noqa: E731
        await until_async(shared, "each has its half of the partitions", 60)
        for user in everybody:
            # The membership is no message.
            await everything(two, user, texts)
            assert shown(one, user, f"user:{writer}") == texts
            assert shown(two, user, f"group:{group}") == ["to pull"]

    async with Device(two, users[gone][0], "live", auto_ack=True) as live, Device(one, writer, auto_ack=True) as w:
        await live.next("caught_up"), await w.next("caught_up")
        shards.away(gone)
        for user in everybody:
            await w.say(user, "meanwhile")
        # Pushed, and archived where it can be.
        await live.next("new_message", text="meanwhile")
        for user in near:
            await comes(one, user, f"user:{writer}", ["meanwhile"])
            await everything(two, user, [*texts, "meanwhile"])
        waits = len(users[gone])
        await until_async(lambda: sum(row["archive_lag"] for row in roll(one).values()) >= waits, "the rest waits")
        assert shown(one, users[gone][0], f"user:{writer}") is None
        for _ in range(3):
            await w.say(near[0], "again")
        await comes(two, near[0], f"user:{writer}", ["again"] * 3)
        shards.back(gone)
        await until_async(lambda: all(row["archive_lag"] == 0 for row in roll(one).values()), "it has caught up", 60)
    for user in users[gone]:
        await comes(one, user, f"user:{writer}", [*texts, "meanwhile"])
        await everything(two, user, [*texts, "meanwhile"])

    # Two of the list have changed places.
    for server in (one, two):
        server.stop()
    first, second, third = one.config["store"]["shards"]
    one.config["store"]["shards"] = [first, third, second]
    code, said = one.refused()
    assert code != 0 and "store.shards[1]: " in said and "it is shard 2 of 3" in said, said


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_a_log_that_is_cut_anew_stays_in_its_shards_and_what_was_damaged_is_mended(nodes, postgres, shards, name):
    (server,) = nodes(1, store_more=shards.store(), **SHORT, **PULL)
    users = people(shards, name, 2)
    everybody = [user for part in users.values() for user in part]
    writer = name("writer")
    group = server.rest(writer).group("all of them", everybody)
    cut = lambda count: heddle("log", "partitions", str(count), "--data", server.data, "--output", "json", timeout_s=120)  # noqa: E731
    odd = cut(8)
    assert odd.returncode != 0 and "name a multiple of 3" in odd.stderr, odd.stderr

    async def say(what):
        async with Device(server, writer, auto_ack=True) as w:
            for user in everybody:
                await w.say(user, what)
            await w.say(group=group, text=what)

    await say("before")
    done = cut(12)
    assert done.returncode == 0 and json.loads(done.stdout)["partitions"] == 12, done.stderr
    until(lambda: server.admin_rest().get("/readyz").status == 200, "it is ready again", 30)
    await say("after")
    archived(server)
    for user in everybody:
        await everything(server, user, ["before", "after"])
        assert shown(server, user, f"group:{group}") == ["before", "after"]
        listed = server.rest(user).get("/v1/conversations").ok().json["conversations"]
        assert {c["conversation"]: c["unread"] for c in listed} == {f"user:{writer}": 2, f"group:{group}": 2}
    # What the acknowledgements make comes once a second.
    said = lambda: sum(len(shards.rows(nth, "SELECT reader FROM receipts WHERE delivered > 0")) for nth in range(3))  # noqa: E731
    until(lambda: said() >= len(everybody), "receipts of all")
    archived(server)
    assert server.stop() == 0

    tables = lambda: [Database(postgres, shard).tables() for shard in shards.names]  # noqa: E731
    whole = tables()
    # A rebuild goes back to where this epoch of the log began.
    anew = 1 << 43
    for nth in range(3):
        shards.rows(nth, f"DELETE FROM stream WHERE position > {anew} AND position % 2 = 0")
        shards.rows(nth, f"DELETE FROM records WHERE position > {anew} AND position % 2 = 1")
        shards.rows(nth, "DELETE FROM receipts")
        shards.rows(nth, f"UPDATE conversations SET position = position + 1 WHERE position > {anew}")
    assert tables() != whole
    found = rebuilt(server)
    assert found["stream"]["missing"] and found["records"]["missing"], found
    for now, before in zip(tables(), whole):
        assert {table: rows for table, rows in now.items() if rows != before[table]} == {}
    server.start()
    for user in everybody:
        await everything(server, user, ["before", "after"])
        assert shown(server, user, f"group:{group}") == ["before", "after"]
    replayed = heddle("replay", "--user", everybody[0], "--since", "1 h", "--data", server.data, timeout_s=60)
    assert replayed.returncode == 0, replayed.stderr
