"""Durable before anything: seen from the system calls."""

import asyncio

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness.device import Closed, Device
from harness.faults import attach, detach, need_strace
from harness.trace import Trace
from harness.waiting import until_async, until_steady

# Clients are sent away, and asked back, at once.
QUICKLY = {"gateway": {"drain_pace": "50 ms", "drain_reconnect_delay": "10 ms"}}


@pytest.mark.timeout(120)
async def test_no_accepted_leaves_before_the_fdatasync_of_its_batch_returned(start, name, tmp_path):
    need_strace()
    server = start()
    bob = name("bob")
    async with Device(server, name("alice")) as a, Device(server, name("carol")) as c:
        out = tmp_path / "trace"
        tracer = attach(
            server.pid, "-ttt", "-y", "-s", "262144",
            "-e", "trace=fdatasync,fsync,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg", out=out,
        )
        ids = []
        for i in range(60):
            ids.append((a, await a.post(bob, f"mark-a-{i}-end", client_id=f"sync-a-{i}-end")))
            ids.append((c, await c.post(bob, f"mark-c-{i}-end", client_id=f"sync-c-{i}-end")))
            if i % 7 == 0:
                await a.ping()
        for device, client_id in ids:
            assert (await device.outcome(client_id, 30))["type"] == "accepted"
        detach(tracer)
    trace = Trace(out.read_text(errors="replace"))
    for _, client_id in ids:
        trace.check(client_id, client_id.replace("sync-", "mark-"))
    assert trace.syncs > 0


async def _nothing_is_written(server):
    """The copies and cursors of what was sent before are written too: the next sync is that of the next send."""
    # Cursors are written each second.
    await until_steady(lambda: server.metrics()["heddle_log_commits_total"], "nothing more is written", 1.5)


@pytest.mark.timeout(120)
async def test_a_disk_that_goes_on_failing_gives_rejected_never_accepted_and_then_the_process_ends(start, name):
    """Every sync fails, those of the reopenings too: after the last one the process ends with words."""
    need_strace()
    for _ in range(3):
        server = start(config={**QUICKLY, "log": {"reopen_max": 2, "reopen_delay": "10 ms"}})
        alice, bob = name("alice"), name("bob")
        a = Device(server, alice)
        await a.connect()
        before = await a.say(bob, "before the fault")
        await _nothing_is_written(server)
        tracer = attach(server.pid, "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1+")
        outcomes = []
        try:
            for i in range(5):
                outcomes.append(await a.outcome(await a.post(bob, f"into the fault {i}", client_id=f"f-{i}"), 20))
        except (Closed, ConnectionClosed):
            pass
        if outcomes:
            break
        # A cursor met the fault before the send: this connection went first, unanswered. That may be, and shows nothing.
        detach(tracer)
        await a.abort()
        server.kill()
    assert outcomes, "no send was answered"
    assert all(o["type"] == "rejected" and o["code"] == "unavailable" and o["retryable"] for o in outcomes), outcomes
    await a.abort()
    assert await asyncio.to_thread(server.child.wait, 40) == 1
    said = server.stderr()
    assert "the log is closed" in said and "opened anew 2 times" in said and "look after the disk" in said, said
    detach(tracer)
    server.kill()
    server.start()
    await a.connect()
    again = await a.say(bob, "before the fault", client_id=before["client_id"], resend=True)
    assert again["order"] == before["order"]
    for i in range(5):
        assert (await a.say(bob, f"into the fault {i}", client_id=f"f-{i}", resend=True))["order"] > before["order"]
    async with Device(server, bob) as b:
        await b.next("caught_up")
        assert sorted(b.texts()) == sorted(["before the fault", *(f"into the fault {i}" for i in range(5))]), b.texts()
    await a.leave()


@pytest.mark.timeout(120)
async def test_after_one_failed_sync_the_log_is_opened_anew_and_clients_come_back_to_everything(start, name):
    """The same process: sends in flight are `rejected unavailable`, the log is read from disk again, the address stays."""
    need_strace()
    server = start(config=QUICKLY)
    alice, bob = name("alice"), name("bob")
    pid = server.pid
    async with Device(server, bob) as b:
        await b.next("caught_up")
    a = Device(server, alice)
    await a.connect()
    before = [await a.say(bob, f"before {i}", client_id=f"b-{i}") for i in range(20)]
    await _nothing_is_written(server)
    tracer = attach(pid, "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1")
    fault = await a.outcome(await a.post(bob, "into the fault", client_id="fault"), 20)
    detach(tracer)
    assert (fault["type"], fault["code"], fault["retryable"]) == ("rejected", "unavailable", True), fault
    assert await a.close_code(20) == 4001

    async def back():
        try:
            await a.connect()
        except (OSError, InvalidStatus, Closed, ConnectionClosed):
            return False
        return True

    await until_async(back, "alice is back", 40)
    # It was pending, and was sent again by itself; its own copy settles it as well.
    await a.until(lambda: "fault" not in a.pending, "the send of the fault is settled", 20)
    assert server.child.poll() is None and server.pid == pid
    assert server.metrics()["heddle_log_reopened_total"] >= 1
    assert server.admin_rest().get("/readyz").status == 200
    again = await a.say(bob, "before 7", client_id="b-7", resend=True)
    assert again["order"] == before[7]["order"]
    await a.say(bob, "after")
    async with Device(server, bob) as b:
        await b.next("caught_up")
        assert b.texts() == [*(f"before {i}" for i in range(20)), "into the fault", "after"], b.texts()
        assert "gap" not in b.hello and b.stale == []
    await a.leave()
    assert server.stop() == 0


def test_the_trace_checker_finds_an_early_acceptance():
    """The checker itself: an `accepted` before the fdatasync returned must not pass."""
    lines = [
        '1 1.0 pwrite64(9</d/log/0000000001.seg>, "..mark-x-0-end..", 4096, 0) = 4096',
        "1 1.1 fdatasync(9</d/log/0000000001.seg> <unfinished ...>",
        '2 1.2 sendto(7<TCP:[1]>, "{\\"type\\":\\"accepted\\",\\"client_id\\":\\"sync-x-0-end\\"}", 9, 0, NULL, 0) = 9',
        "1 1.3 <... fdatasync resumed>) = 0",
    ]
    with pytest.raises(AssertionError):
        Trace("\n".join(lines)).check("sync-x-0-end", "mark-x-0-end")
    lines[2], lines[3] = lines[3], lines[2]
    Trace("\n".join(lines)).check("sync-x-0-end", "mark-x-0-end")
