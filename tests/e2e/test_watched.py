"""How calls of plugins are watched while they decide: which are repeated, and which are kept."""

import pytest

from harness.device import Device
from harness.operator import changed
from harness.policies import fixture
from harness.settings import merged
from harness.waiting import until_async
from test_trials import PLENTY

CALLS, AT_ONCE = 12_000, 500


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_of_a_thousand_live_calls_about_one_is_repeated(start, name):
    """By default. Each repetition of a counter in a global is another answer, and so is counted; nobody takes it back here."""
    server = start(config=merged(PLENTY, {"policies": {"breaker": False, "record_one_in": 0}}))
    async with Device(server, name("alice")) as a:
        changed(server, "deploy", fixture("counter"))
        for sent in range(0, CALLS, AT_ONCE):
            posted = [await a.post(name("sink"), f"m{sent + number}") for number in range(AT_ONCE)]
            assert {(await a.outcome(client_id, 60))["type"] for client_id in posted} == {"accepted"}
            for kept in (a.outcomes, a.pending, a.inbox, a.messages):
                kept.clear()
            if a.position:
                await a.ack()
    await until_async(lambda: server.faults("counter", "impure") > 0, "one is repeated")
    # Twelve are expected: by luck alone it is never none, nor more than forty.
    assert 1 <= server.faults("counter", "impure") <= 40, server.metrics()


async def test_only_calls_of_the_hooks_that_are_wanted_are_kept(start, name):
    server = start(config={"policies": {"record_one_in": 1, "record": ["routing"]}})
    async with Device(server, name("alice")) as a:
        await a.say(name("bob"), "one to be kept")
    assert {call["hook"] for call in changed(server, "record")} == {"routing"}
