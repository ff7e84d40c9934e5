"""What decides when a policy fails: the mode that its manifest declares, at each of the four hooks, as users and operators see it."""

import asyncio

import pytest

from harness.device import Device
from harness.hostile import hostile, wat_guest
from harness.waiting import until_async
from test_hostile_set import decisions, serving

# The breaker would take the plugin back before its mode has been looked at.
CONFIG = {"policies": {"breaker": False}}


class World:
    """A server with three users who know each other; one plugin is tried after the other."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.users = {who: name(who) for who in ("alice", "bob", "carol", "stranger")}
        self.devices = {who: Device(server, user, auto_ack=True) for who, user in self.users.items()}

    async def __aenter__(self):
        self.group = self.server.rest(self.users["alice"]).group("unlucky", [self.users["bob"], self.users["carol"]])
        # Directed: alice sees bob since bob lists alice.
        self.server.rest(self.users["bob"]).put(f"/v1/contacts/{self.users['alice']}", {}).ok()
        await asyncio.gather(*(device.connect() for device in self.devices.values()))
        return self

    async def __aexit__(self, *_):
        await asyncio.gather(*(device.leave() for device in self.devices.values()))

    async def fails(self, hook, mode, act="panic"):
        """Deploys a plugin that fails so at that hook; one that behaves stood there before. The number of its generation."""
        plugin = f"{hook}-{mode}"
        await serving(self.server, await asyncio.to_thread(hostile, "behave", hook, mode, name=plugin))
        return await serving(self.server, await asyncio.to_thread(hostile, act, hook, mode, name=plugin))

    async def forget(self, hook, mode):
        """Without it."""
        done = await asyncio.to_thread(self.server.operate, "plugin", "remove", f"{hook}-{mode}")
        assert done.returncode == 0, done.stderr

    async def told(self, accepted, hook, mode):
        """What `explain` says of its decision: verdict and fallback, each once."""
        found = await asyncio.to_thread(decisions, self.server, accepted["message_id"], f"{hook}-{mode}")
        return {(d["hook"], d["fallback"]) for d in found}

    async def stands_in(self, accepted, plugin, fallback):
        """Waits until `explain` knows of that fallback at the fan-out: how a page was sorted is told once it is in the archive."""
        async def told():
            found = await asyncio.to_thread(decisions, self.server, accepted["message_id"], plugin)
            return ("fanout", fallback) in {(d["hook"], d["fallback"]) for d in found}

        await until_async(told, f"{fallback} stands in for {plugin}", 30)
        return True

    async def sees(self, who):
        """Bob's status as that user is told."""
        device = self.devices[who]
        await device.frame({"type": "presence_get", "users": [self.users["bob"]]})
        return (await device.next("presence_update", user=self.users["bob"]))["status"]


@pytest.mark.timeout(300)
async def test_at_rate_limit_and_routing_each_mode_decides_and_is_stamped(start, name):
    async with World(start(config=CONFIG), name) as world:
        alice, bob = world.devices["alice"], world.users["bob"]
        for hook in ("rate-limit", "routing"):
            for mode in ("builtin", "previous", "open", "closed"):
                if (hook, mode) == ("routing", "open"):
                    continue
                number = await world.fails(hook, mode)
                if mode == "closed":
                    refused = await alice.outcome(await alice.post(bob, "?"))
                    assert (refused["code"], refused["retryable"]) == ("policy_unavailable", True), (hook, refused)
                else:
                    accepted = await alice.say(bob, f"{hook} {mode}")
                    assert accepted["generation"] == number, (hook, mode, accepted)
                    assert await world.told(accepted, hook, mode) == {(hook, mode)}, (hook, mode)
                await world.forget(hook, mode)
                alice.inbox.clear()


@pytest.mark.timeout(300)
async def test_at_fanout_each_mode_serves_the_whole_group_and_is_stamped(start, name):
    async with World(start(config=CONFIG), name) as world:
        for mode, stands_in in (("builtin", "builtin"), ("previous", "previous"), ("closed", "builtin")):
            await world.fails("fanout", mode)
            # `closed` is tried again with a pause between; after two strikes the built-in sorts, so that nobody is skipped.
            accepted = await world.devices["alice"].say(group=world.group, text=mode)
            for who in ("bob", "carol"):
                await world.devices[who].next("new_message", text=mode, deadline_s=30)
            assert await world.stands_in(accepted, f"fanout-{mode}", stands_in), mode
            await world.forget("fanout", mode)


@pytest.mark.timeout(300)
async def test_at_presence_each_mode_reveals_what_it_declares(start, name):
    """Alice is a contact and the stranger is not: what each sees tells the modes apart."""
    async with World(start(config=CONFIG), name) as world:
        assert (await world.sees("alice"), await world.sees("stranger")) == ("online", "offline")
        for mode, alice, stranger in [
            ("builtin", "online", "offline"),
            # The version before reveals nothing to anybody.
            ("previous", "offline", "offline"),
            ("closed", "offline", "offline"),
            ("open", "online", "offline"),
        ]:
            await world.fails("presence", mode)
            seen = await world.sees("alice"), await world.sees("stranger")
            assert seen == (alice, stranger), (mode, seen)
            if mode == "previous":
                calls = world.server.policy_metrics("calls_total", plugin="presence-previous", standing="previous")
                assert sum(calls.values()) > 0, calls
            await world.forget("presence", mode)


@pytest.mark.timeout(300)
async def test_a_fanout_that_fails_in_any_way_is_replaced_and_the_whole_group_gets_the_message(start, name):
    acts = ("few", "code", "giant-list", "panic", "spin", "table-bomb", "out-of-bounds")
    files = {act: await asyncio.to_thread(wat_guest, act) for act in acts[-2:]}
    files |= {act: await asyncio.to_thread(hostile, act, "fanout") for act in acts[:-2]}
    async with World(start(config=CONFIG), name) as world:
        for act, file in files.items():
            plugin = act if act in acts[-2:] else "hostile"
            number = await serving(world.server, file)
            accepted = await world.devices["alice"].say(group=world.group, text=act)
            assert accepted["generation"] == number, (act, accepted)
            for who in ("bob", "carol"):
                await world.devices[who].next("new_message", text=act, deadline_s=30)
            assert await world.stands_in(accepted, plugin, "builtin"), act
            assert sum(world.server.policy_metrics("faults_total", plugin=plugin, generation=number).values()) > 0, act
            done = await asyncio.to_thread(world.server.operate, "plugin", "remove", plugin)
            assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
async def test_a_presence_that_fails_in_any_way_is_replaced_and_everybody_can_still_speak(start, name):
    async with World(start(config=CONFIG), name) as world:
        for act in ("few", "code", "recheck", "panic", "spin", "eat"):
            number = await world.fails("presence", "builtin", act)
            # `recheck` fails where it observes only; what it reveals, nothing, stands.
            assert await world.sees("alice") == ("offline" if act == "recheck" else "online"), act
            # What it observes is only asked when something happens.
            await world.devices["carol"].leave()
            await world.devices["carol"].connect()
            await world.devices["alice"].say(world.users["bob"], f"{act}: still here")
            faults = world.server.policy_metrics("faults_total", plugin="presence-builtin", generation=number)
            assert sum(faults.values()) > 0, (act, faults)
            await world.forget("presence", "builtin")
