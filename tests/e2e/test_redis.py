"""`heddle serve` with its registry and bus in Redis: chat and presence, whatever becomes of Redis."""

import asyncio
import shlex
import subprocess

import pytest
from harness.device import Device
from harness.redis import Redis
from harness.server import ROOT
from harness.waiting import until_async


@pytest.fixture
def redis():
    """A server of its own for each test."""
    with Redis() as server:
        yield server


def _over(redis, **registry):
    return {"node": {"id": "amber"}, "registry": {"backend": "redis", "url": redis.url, "lease": "2 s", **registry}}


async def _known(redis, user, connections):
    await until_async(
        lambda: redis.ask("HLEN", f"heddle:user:{user}") == connections, f"{connections} connections of {user} in Redis"
    )


async def test_chat_and_presence_over_redis(start, redis):
    server = start(config=_over(redis))
    server.rest("bob").put("/v1/contacts/alice").ok()
    async with Device(server, "alice") as a:
        async with Device(server, "bob") as b, Device(server, "bob", "laptop") as laptop:
            await _known(redis, "bob", 2)
            await a.say("bob", "over Redis")
            assert (await b.next("new_message"))["text"] == "over Redis"
            assert (await laptop.next("new_message"))["text"] == "over Redis"
            await a.frame({"type": "presence_subscribe", "users": ["bob"]})
            await a.next("presence_update", user="bob", status="online")
            await b.frame({"type": "typing_start", "to": "alice"})
            await a.next("typing_indicator", typing=True)
            fields = redis.ask("HGETALL", "heddle:user:bob")
            assert sorted(fields[1::2]) == ["laptop", "phone"]
            assert all(field.startswith("amber/") for field in fields[::2])
            await until_async(lambda: redis.ask("ZRANGE", "heddle:nodes", "0", "-1") == ["amber"], "the node is on the list")
            listeners = ("PUBSUB", "NUMSUB", "heddle:bus:amber", "heddle:bus")
            await until_async(lambda: redis.ask(*listeners)[1::2] == [1, 1], "the node listens")
        await _known(redis, "bob", 0)
        await a.say("bob", "for later")
    async with Device(server, "bob", "tablet") as tablet:
        await tablet.next("new_message", text="for later")
    assert server.stop() == 0
    assert redis.ask("EXISTS", "heddle:node:amber") == 0, "who goes gives its lease back"


async def _talk(a, first, count):
    for number in range(first, first + count):
        await a.say("bob", str(number))


async def _arrived(b, count):
    await b.until(lambda: len(b.messages) >= count, f"{count} messages for bob", 30)
    assert [message["text"] for message in b.messages] == [str(number) for number in range(count)]
    assert not b.stale


async def test_messages_arrive_while_redis_is_killed_under_traffic_and_started_again(start, redis):
    server = start(config=_over(redis))
    async with Device(server, "alice") as a, Device(server, "bob", auto_ack=True) as b:
        await _known(redis, "bob", 1)
        traffic = asyncio.create_task(_talk(a, 0, 300))
        await b.until(lambda: len(b.messages) >= 50, "traffic flows")
        redis.kill()
        await traffic
        await _arrived(b, 300)
        # Who comes while Redis is away gets messages too, and is known when Redis is back, empty.
        async with Device(server, "carol") as c:
            await a.say("carol", "alone")
            await c.next("new_message", text="alone")
            redis.start()
            for user in ("alice", "bob", "carol"):
                await _known(redis, user, 1)
            await _talk(a, 300, 50)
            await _arrived(b, 350)


async def test_messages_arrive_while_redis_is_frozen(start, redis):
    server = start(config=_over(redis))
    async with Device(server, "alice") as a, Device(server, "bob", auto_ack=True) as b:
        await _known(redis, "bob", 1)
        redis.freeze()
        await _talk(a, 0, 100)
        await _arrived(b, 100)
        redis.thaw()
        await _talk(a, 100, 100)
        await _arrived(b, 200)
        await _known(redis, "bob", 1)


async def test_a_flushed_redis_knows_its_connections_again(start, redis):
    server = start(config=_over(redis))
    async with Device(server, "alice") as a, Device(server, "bob", auto_ack=True) as b:
        await _known(redis, "bob", 1)
        redis.ask("FLUSHALL")
        await _talk(a, 0, 20)
        await _arrived(b, 20)
        await _known(redis, "bob", 1)


async def test_a_server_starts_without_redis_and_uses_it_when_it_comes(start, redis):
    redis.kill()
    server = start(config=_over(redis))
    async with Device(server, "alice") as a, Device(server, "bob", auto_ack=True) as b:
        await _talk(a, 0, 5)
        await _arrived(b, 5)
        redis.start()
        await _known(redis, "bob", 1)


async def test_the_commands_of_the_operators_page_show_what_it_says(start, redis):
    """Each line of deploy/redis.md that begins with redis-cli is run as it stands, against this server."""
    server = start(config={"registry": {"backend": "redis", "url": redis.url}})
    async with Device(server, "alice"):
        await _known(redis, "alice", 1)
        await until_async(lambda: redis.ask("PUBSUB", "NUMSUB", "heddle:bus")[1] == 1, "the node listens")
        await until_async(lambda: redis.ask("EXISTS", "heddle:node:node-1") == 1, "the node holds its lease")
        said = {}
        for line in (ROOT / "deploy" / "redis.md").read_text().splitlines():
            if line.startswith("redis-cli "):
                words = shlex.split(line)
                done = subprocess.run(
                    [words[0], "-p", str(redis.port), *words[1:]], capture_output=True, text=True, timeout=30, check=False,
                )
                assert done.returncode == 0 and "ERR" not in done.stdout, (line, done.stdout, done.stderr)
                said[line.removeprefix("redis-cli ")] = done.stdout.split()
        life = said["GET heddle:node:node-1"][0]
        assert said["ZRANGE heddle:nodes 0 -1 WITHSCORES"][0] == "node-1"
        assert 0 < int(said["PTTL heddle:node:node-1"][0]) <= 10_000
        field, device = said["HGETALL heddle:user:alice"]
        assert field.startswith(f"node-1/{life}/") and device == "phone"
        assert said["PUBSUB NUMSUB heddle:bus:node-1 heddle:bus"] == ["heddle:bus:node-1", "1", "heddle:bus", "1"]
        assert said["--scan --pattern 'heddle:user:*'"] == ["heddle:user:alice"]
        # The page flushes: everything is there again.
        await _known(redis, "alice", 1)


@pytest.mark.parametrize("registry, key", [
    ({"backend": "redis"}, "registry.url"),
    ({"url": "redis://127.0.0.1:1"}, "registry.url"),
    ({"backend": "redis", "url": "not an address: hunter2"}, "registry.url"),
    ({"backend": "redis", "url": "redis://127.0.0.1:1", "mode": "sentinel"}, "registry.url"),
    ({"backend": "redis", "url": "redis://127.0.0.1:1", "prefix": "a b"}, "registry.prefix"),
    ({"backend": "memcached"}, "registry.backend"),
])
def test_what_is_wrong_is_said_with_its_key_and_without_the_secret(start, registry, key):
    code, said = start(config={"registry": registry}, launch=False).refused()
    assert code == 64 and key in said, said
    assert "hunter2" not in said


def test_a_node_needs_a_name(start):
    code, said = start(config={"node": {"id": ""}}, launch=False).refused()
    assert code == 64 and "node.id" in said, said
