"""Who expands a group's message is killed in the middle of it: every member gets every message once and in order all the same."""

import asyncio
import os
import random
import signal
import time
from collections import Counter, defaultdict

import pytest

from harness.archive import topics_of
from harness.books import Books
from harness.cluster import Cluster, needed
from harness.device import Device
from harness.history import History
from harness.questions import Broker
from harness.waiting import until, until_async

# So many times some chunks stood and others did not, or what came of so many tries.
INTERRUPTIONS = int(os.environ.get("HEDDLE_E2E_INTERRUPTIONS", "5"))
TRIES_MAX = 4 * INTERRUPTIONS
SEED = int(os.environ.get("HEDDLE_E2E_SEED", "7"))
MEMBERS, SENDERS, EACH, CHUNK_MEMBERS, PARTITIONS = 300, 5, 2, 20, 12


class Expansions:
    """Messages of one group, and the kills of who expands them."""

    def __init__(self, cluster, group, senders, books):
        self.cluster, self.group, self.senders, self.books = cluster, group, senders, books
        self.rng, self.broker = random.Random(SEED), Broker(cluster.kafka, cluster.prefix)
        self.numbers, self.tries, self.interrupted, self.chunks = Counter(), 0, 0, 0
        # (those of its chunks that stood, all) of each message that was cut off.
        self.cut = []

    async def burst(self):
        """Each sender says something, several times without waiting."""
        async def say(device):
            texts = []
            for _ in range(EACH):
                texts.append(f"{device.user}|group:{self.group}|{self.numbers[device.user]}")
                self.numbers[device.user] += 1
                await device.post(text=texts[-1], client_id=texts[-1], group=self.group)
            for text in texts:
                outcome = await device.outcome(text, 60)
                assert outcome["type"] == "accepted", outcome
                self.books.accepted[text] = outcome

        await asyncio.gather(*map(say, self.senders))

    async def once(self):
        """A burst to its end: how many chunks a message has."""
        await self.burst()
        await until_async(lambda: len(self.senders[0].messages) == EACH * SENDERS, "everything is expanded")
        self.chunks = len(self._stood(topics_of(self.cluster.nodes[0])).popitem()[1])
        assert self.chunks > MEMBERS // CHUNK_MEMBERS, self.chunks

    async def interrupt(self):
        """A burst, and in the middle of its expansion a kill of the node that works on the group's partition."""
        self.tries += 1
        shares = await until_async(self._shared_out, "both work", 60)
        owner = next(node for node in self.cluster.nodes if node.config["node"]["id"] == shares[self._home()])
        more = sum(self._ends().values()) + self.rng.randint(1, self.chunks - 1)
        killing = asyncio.create_task(asyncio.to_thread(self._kill_when, owner, more))
        await self.burst()
        ends = await killing
        shares = self.broker.shares()
        await asyncio.to_thread(owner.start)
        # Nobody had taken over yet: what stood then is what stood at the kill.
        if shares and shares[self._home()] == owner.config["node"]["id"]:
            rows = await asyncio.to_thread(topics_of, self.cluster.nodes[0], ("messages",))
            stood = self._stood(row for row in rows if row["offset"] < ends[row["partition"]])
            cut = [(len(chunks), self.chunks) for chunks in stood.values() if len(chunks) < self.chunks]
            self.interrupted += bool(cut)
            self.cut += cut

    def _kill_when(self, owner, more):
        """Where partitions end when what was on its way has come."""
        end = time.monotonic() + 30
        # Asked without a pause: an expansion takes some milliseconds.
        while sum(self._ends().values()) < more:
            assert time.monotonic() < end, "no chunks come into the topic"
        owner.kill()
        ends = []

        def still():
            ends.append(self._ends())
            return len(ends) > 1 and ends[-1] == ends[-2]

        until(still, "nothing more comes", 5)
        return ends[-1]

    def _ends(self):
        return self.broker.ends("messages", PARTITIONS)

    def _shared_out(self):
        shares = self.broker.shares()
        return shares if shares and len(shares) == 2 * PARTITIONS and set(shares.values()) == {"n2", "n3"} else None

    def _home(self):
        return "group_messages", self.home

    def _stood(self, rows):
        """Numbers of the chunks that stand in the topic, by the place of their message."""
        stood = defaultdict(set)
        for row in rows:
            if row["kind"] == "group_chunk":
                stood[row["source"]["partition"], row["source"]["position"]].add(row["source"]["chunk"])
                self.home = row["source"]["partition"]
        return stood


@pytest.fixture
def cluster(start):
    """One node for clients, two that work; the group of workers forgets one that is silent for a second and a half."""
    made = needed(lambda: Cluster(start, roles=(["gateway"], ["worker"], ["worker"]), groups={"chunk_members": CHUNK_MEMBERS},
                                  kafka={"session_timeout": "1500 ms", "partitions": PARTITIONS}))
    yield made
    made.end()


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_a_group_message_whose_expansion_is_cut_off_reaches_every_member_once_and_in_order(cluster, name, capsys):
    door = cluster.nodes[0]
    members = [name(f"m{number}") for number in range(MEMBERS)]
    group = door.rest(members[0]).group("hundreds", members[1:])
    books, history = Books({group: members}), History(cluster, {group: members})
    devices = [Device(door, user, auto_ack=True) for user in members]
    for device in devices:
        device.history = history
    senders = devices[:SENDERS]
    await asyncio.gather(*(device.connect() for device in senders))
    expansions = Expansions(cluster, group, senders, books)
    began = time.monotonic()
    await expansions.once()
    while expansions.interrupted < INTERRUPTIONS and expansions.tries < TRIES_MAX:
        await expansions.interrupt()
    # Most have never been here: their streams tell them all from the beginning.
    for at in range(SENDERS, MEMBERS, 20):
        await asyncio.gather(*(device.connect() for device in devices[at : at + 20]))
    for device in devices:
        await device.until(lambda device=device: len(device.messages) >= len(books.accepted), f"everything for {device.user}", 60)
    took = time.monotonic() - began
    await asyncio.gather(*(device.leave() for device in devices))
    for user in expansions.rng.sample(members, 30):
        history.told(door, user, f"group:{group}")
    await asyncio.to_thread(history.check)
    with capsys.disabled():
        print(f"\n  {expansions.interrupted} expansions cut off in {expansions.tries} kills and {took:.0f} s, with "
              f"{', '.join(f'{stood}/{of}' for stood, of in expansions.cut[:12])} chunks of {len(expansions.cut)} messages; "
              f"{len(books.accepted)} messages for {MEMBERS} members each")
    assert expansions.interrupted >= INTERRUPTIONS, "kills came at other moments"
