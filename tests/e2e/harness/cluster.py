"""Nodes on a real Kafka, PostgreSQL and Redis, clients that go on whatever happens, and what must hold in the end."""

import asyncio
import contextlib
import random
import time

from websockets.exceptions import WebSocketException

from .archive import archive_of, cut_of, standing, topics_of
from .checker import Books
from .device import Closed, Device
from .kafka import Kafka
from .kafka import Missing as NoKafka
from .lossy import Lossy
from .needs import missing
from .operator import roll
from .postgres import Missing as NoPostgres
from .postgres import Postgres
from .redis import Redis
from .settings import merged
from .waiting import NotInTime, until

SETTLE_S = 180


class Cluster:
    """Three nodes and what they stand on. `roles`: those of each, in order, if not all; `host`: where the servers listen; `redis`: it is there, not
    only in the configuration; `more` is configuration of all nodes."""

    def __init__(self, start, roles=((), (), ()), host="127.0.0.1", redis=True, **more):
        self._start, self.proxies = start, []
        self.kafka, self.postgres, self.redis = Kafka(host), Postgres(host), Redis(host)
        if redis:
            self.redis.start()
        self.database = self.postgres.database()
        self.common = merged({
            "log": {"backend": "kafka"},
            "kafka": self.kafka.config(),
            "store": {"backend": "postgres", "url": self.postgres.url(self.database), "deadline": "1 s"},
            "registry": {"backend": "redis", "lease": "3 s"},
            "presence": {"node_lease": "5 s"},
        }, more)
        self.nodes = [self.node(f"n{number}", node={"roles": list(of)} if of else {}) for number, of in enumerate(roles, 1)]
        self.up = set(self.nodes)

    def lose(self, losing):
        """Every third message between nodes is lost, or none any more."""
        for proxy in self.proxies:
            proxy.losing = losing

    @property
    def prefix(self):
        """Of its topics."""
        return self.common["kafka"]["prefix"]

    def node(self, name, launch=True, **more):
        """Another node of that name, which reaches Redis through a proxy of its own; clients are not sent to it."""
        self.proxies.append(Lossy(self.redis.port))
        own = {"node": {"id": name}, "registry": {"url": self.proxies[-1].url}}
        return self._start(config=merged(self.common, merged(own, more)), launch=launch)

    def end(self):
        """Ends the servers; the nodes end with the test."""
        self.kafka.end()
        self.postgres.end()
        self.redis.kill()
        for proxy in self.proxies:
            proxy.close()


def needed(make):
    """What it makes; a missing server is a skip, under CI=true a failure."""
    try:
        return make()
    except (NoKafka, NoPostgres) as why:
        missing(str(why))


class Timed(Device):
    """A device that notes when each message came first."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.came = {}

    def _take(self, frame, text):
        had = len(self.messages)
        super()._take(frame, text)
        for message in self.messages[had:]:
            self.came.setdefault(message["text"], time.monotonic())


class Client:
    """One device that sends in order, to any node that lives, and goes on whatever happens."""

    def __init__(self, cluster, books, user, conversations, rng):
        self.cluster, self.books, self.rng = cluster, books, rng
        self.user, self.conversations = user, conversations
        self.device = Timed(cluster.nodes[0], user, auto_ack=True)
        self.numbers = dict.fromkeys(conversations, 0)
        self.sent = {}
        self.open = None
        self.sending, self.ended = True, False
        self.reconnects, self.trouble = 0, ""

    async def run(self):
        """Until it is ended."""
        while not self.ended:
            try:
                await self._connect()
                while not self.ended:
                    if self.open or self.sending:
                        await self._send()
                    else:
                        await self.device.ping(5)
                        self._collect()
                        await asyncio.sleep(0.2)
            except (Closed, NotInTime, OSError, WebSocketException, EOFError) as error:
                self.reconnects += 1
                self.books.resent.add(self.open)
                self.trouble = f"{self.device.server.config['node']['id']}: {error!r}"[:300]
                await asyncio.sleep(0.1)
            finally:
                self._collect()
        await asyncio.wait_for(self.device.leave(), 10)

    async def _connect(self):
        if self.device.socket:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.device.abort(), 2)
        self.device.server = self.rng.choice(sorted(self.cluster.up, key=lambda node: node.config["node"]["id"]))
        await asyncio.wait_for(self.device.connect(), 10)

    async def _send(self):
        if self.open is None:
            conversation = self.rng.choice(self.conversations)
            self.open = f"{self.user}|{conversation}|{self.numbers[conversation]}"
        text = self.open
        self.sent.setdefault(text, time.monotonic())
        kind, name = text.split("|")[1].split(":", 1)
        to = {"to": name} if kind == "user" else {"group": name}
        again = {"resend": True} if text in self.device.pending else {}
        outcome = await self.device.outcome(await self.device.post(text=text, client_id=text, **to, **again), 5)
        self._collect()
        if outcome["type"] == "accepted":
            self._accepted(text, outcome)
            await asyncio.sleep(self.rng.random() * 0.05)
        else:
            assert outcome["code"] == "unavailable", outcome
            self.trouble = f"{self.device.server.config['node']['id']}: {outcome['reason']}"
            self.books.resent.add(text)
            await asyncio.sleep(0.2)

    def _accepted(self, text, frame):
        if text == self.open:
            self.books.accepted[text] = frame
            self.numbers[text.split("|")[1]] += 1
            self.open = None

    def _collect(self):
        # A device drops them, and a server that sends everything again would pass: events of one connection come once, above its position.
        assert not self.device.stale, f"{self.user}: sent again: {self.device.stale[:3]}"
        self.books.received[self.user] += self.device.messages
        # The own copy settles a send whose answer was lost.
        for message in self.device.messages:
            if message["from"] == self.user:
                self._accepted(message["text"], message)
        self.device.messages.clear()
        self.device.inbox.clear()


class Crowd:
    """Clients that talk to each other and in groups, and the books of them."""

    def __init__(self, cluster, name, count, seed):
        self.cluster, self.rng = cluster, random.Random(seed)
        users = [name(f"u{number}") for number in range(count)]
        groups = {}
        for number in range(count // 4):
            members = self.rng.sample(users, 5)
            groups[cluster.nodes[0].rest(members[0]).group(f"g{number}", members[1:])] = members
        self.books = Books(groups)
        self.clients = []
        for user in users:
            others = self.rng.sample([other for other in users if other != user], 3)
            conversations = [f"user:{other}" for other in others]
            conversations += [f"group:{group}" for group, members in groups.items() if user in members]
            self.clients.append(Client(cluster, self.books, user, conversations, random.Random(f"{seed} {user}")))

    async def talk(self, meanwhile):
        """They talk while that runs; then everything gets its outcome and arrives, and nothing that must not be has been."""
        running = [asyncio.create_task(client.run()) for client in self.clients]
        try:
            await asyncio.sleep(2)
            disturbed = asyncio.create_task(meanwhile)
            await asyncio.wait([disturbed, *running], return_when=asyncio.FIRST_COMPLETED)
            if not disturbed.done():
                disturbed.cancel()
                await asyncio.wait([disturbed], timeout=60)
                for client in running:
                    if client.done():
                        client.result()
            await disturbed
            for client in self.clients:
                client.sending = False
            open_ = lambda: [client.open for client in self.clients if client.open]  # noqa: E731
            await self._settled(open_, "sends without an outcome", running)
            await self._settled(self.books.behind, "lost", running)
            for client in self.clients:
                client.ended = True
            _, stuck = await asyncio.wait(running, timeout=30)
            assert not stuck, [task.get_stack(limit=3) for task in stuck]
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=10)
        self.books.check()

    async def _settled(self, left, what, running):
        """Waits until nothing is left; a client that failed says why."""
        end = time.monotonic() + SETTLE_S
        while rest := left():
            for task in running:
                if task.done():
                    task.result()
            troubles = {client.user: client.trouble for client in self.clients if client.open}
            assert time.monotonic() < end, (f"{what}: {len(rest)}, like {rest[:3]}; last troubles of clients: {troubles}; "
                                            f"the nodes: {self._on_record()}")
            await asyncio.sleep(0.2)

    def _on_record(self):
        """What the nodes say of themselves."""
        with contextlib.suppress(Exception):
            return [{key: row[key] for key in ("node", "state", "partitions", "derive_lag", "archive_lag", "connections")}
                    for row in roll(self.cluster.nodes[0]).values()]

    def check_archive(self):
        """What stands in the topics is in the archive, and nothing else; and history tells what came, at every node."""
        equal_to_the_topics(self.cluster)
        for client in self.rng.sample(self.clients, 6):
            conversation = self.rng.choice(client.conversations)
            node = self.rng.choice(self.cluster.nodes)
            told = [m["text"] for m in node.rest(client.user).history(conversation, limit=200)["messages"]]
            kind, other = conversation.split(":", 1)
            pairs = {(client.user, conversation), (other, f"user:{client.user}")}
            came = [text for text in (event["text"] for event in self.books.received[client.user])
                    if (text.split("|")[1] == conversation if kind == "group" else tuple(text.split("|")[:2]) in pairs)]
            # Direct conversations are shown by `lamport`, which may differ from the order of arrival.
            equal = told == came[-200:] if kind == "group" else set(told) <= set(came) and len(told) == min(200, len(came))
            assert equal, conversation

    def delays_s(self):
        """Of each message to each of its readers: from when it was first sent to when it first came."""
        sent = {text: at for client in self.clients for text, at in client.sent.items()}
        return sorted(at - sent[text] for client in self.clients for text, at in client.device.came.items())

    def figures(self):
        """For a line in the output."""
        return (f"{len(self.books.accepted)} messages accepted, {sum(map(len, self.books.received.values()))} deliveries, "
                f"{sum(client.reconnects for client in self.clients)} reconnects")


def equal_to_the_topics(cluster):
    """What stands in the topics is in the archive, and nothing else: receipts of the last moment come a little later."""
    for node in cluster.nodes:
        until(lambda node=node: node.metrics().get("heddle_archive_lag_records") == 0, "the archive has caught up", 60)
    stands, archived = {}, set()

    def equal():
        nonlocal stands, archived
        cut = cut_of(cluster.postgres, cluster.database)
        stands, archived = standing(topics_of(cluster.nodes[0]), cut), archive_of(cluster.postgres, cluster.database)
        return set(stands) == archived

    with contextlib.suppress(NotInTime):
        until(equal, "the archive equals the log", 60)
    missing, extra = sorted(set(stands) - archived), sorted(archived - set(stands))
    assert not missing, f"not archived: {len(missing)}, the first {missing[0]} {stands[missing[0]]}"
    assert not extra, f"archived, and does not stand in the log: {len(extra)}, the first {extra[0]}"
