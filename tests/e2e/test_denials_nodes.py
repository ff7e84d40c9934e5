"""Blocks and revocations on two nodes that have only log and store in common: no Redis tells one what the other was asked."""

import time

from harness.device import Device
from harness.waiting import until_async

from test_blocks import block, nothing_but, unblock
from test_revocation import refused_at_the_door, user


async def test_nodes_heed_a_block_without_redis(nodes, name):
    one, two = nodes(2)
    alice, bob = name("alice"), name("bob")
    async with Device(one, alice) as a, Device(two, bob) as b:
        await a.say(bob, "before")
        await nothing_but(b, "before")
        block(two, bob, alice)
        await until_async(lambda: one.metrics().get("heddle_blocks") == 1, "the other node knows")
        await a.say(bob, "blocked")
        unblock(two, bob, alice)
        await until_async(lambda: one.metrics().get("heddle_blocks") == 0, "the other node knows that too")
        await a.say(bob, "after")
        await nothing_but(b, "before", "after")


async def test_every_node_sends_a_revoked_user_away_without_redis(nodes, name):
    one, two = nodes(2)
    mallory = name("mallory")
    token = one.token(mallory, iat=int(time.time()) - 60)
    async with Device(one, mallory, token=token) as here, Device(two, mallory, "laptop", token=token) as there:
        began = time.monotonic()
        user(one, "revoke", mallory)
        assert [await device.close_code() for device in (here, there)] == [4510, 4510]
        assert time.monotonic() - began < 10
    await refused_at_the_door(two, mallory, token)
    user(two, "restore", mallory)
    await until_async(lambda: one.metrics()["heddle_revoked_users"] == 0, "the other node knows")
    async with Device(one, mallory, token=token):
        pass
