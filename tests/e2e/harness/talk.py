"""Clients that go on talking whatever happens, and the recording of what they met."""

import asyncio
import contextlib
import os
import random
import re
import time

from websockets.exceptions import WebSocketException

from .books import Books
from .device import Closed, Device
from .history import Anomaly, History
from .operator import roll
from .waiting import NotInTime

# The longest that everything may take to arrive when the faults are over.
SETTLE_S = float(os.environ.get("HEDDLE_E2E_SETTLE_S", "180"))
# Many clients together send about so often; a few, each with this pause.
SENDS_PER_S, FEW, PAUSE_S = 100, 20, 0.025
# Of the messages that came, one in so many is read.
READ_ONE_IN = 20
# Those who are restless lose their connection without a word, about so often each, and come back while others talk to them.
RESTLESS_S, GONE_S = 8, 1
# A node that ends says so, and when to come back.
SHUTTING_DOWN = 4001
# Groups that somebody joins and leaves while people talk.
GUESTS_MAX = 4


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
    """One device that sends in order, to any node that lives, and goes on whatever happens; one without conversations only listens."""

    def __init__(self, cluster, books, history, user, conversations, pause_s, rng):
        self.cluster, self.books, self.pause_s, self.rng = cluster, books, pause_s, rng
        # When it goes away for a moment, if it is restless.
        self.goes_at = None
        self.user, self.conversations = user, conversations
        self.device = Timed(cluster.nodes[0], user, auto_ack=True)
        self.device.history = history
        self.numbers = dict.fromkeys(conversations, 0)
        self.sent = {}
        self.open, self.unread = None, None
        self.sending, self.ended = bool(conversations), False
        self.reconnects, self.trouble = 0, ""
        # Each time that it was not the client that closed, or was impatient.
        self.thrown_out = []
        # (when, node, the delay that it was told) of each time that it was sent away; whether it could go on where it was, each time it came.
        self.closes, self.resumed = [], []
        # Where it went first when a node had sent it away.
        self.went = {}

    async def run(self):
        """Until it is ended."""
        while not self.ended:
            try:
                await self._connect()
                while not self.ended:
                    if self.goes_at and self.sending and time.monotonic() > self.goes_at:
                        await self._goes()
                    if self.open or self.sending:
                        await self._send()
                    else:
                        await self.device.ping(5)
                        self._collect()
                        await asyncio.sleep(0.2)
            except (Closed, NotInTime, OSError, WebSocketException, EOFError) as error:
                self.reconnects += 1
                self.trouble = f"{self.device.server.config['node']['id']}: {error!r}"[:300]
                if isinstance(error, Closed):
                    self.thrown_out.append(self.trouble)
                await asyncio.sleep(await self._left() or 0.1)
            finally:
                self._collect()
        await asyncio.wait_for(self.device.leave(), 10)

    async def _goes(self):
        await self.device.abort()
        self.goes_at = time.monotonic() + self.rng.expovariate(1 / RESTLESS_S)
        await asyncio.sleep(self.rng.random() * GONE_S)
        raise EOFError("it was gone for a moment")

    async def _left(self):
        """The connection is over: how long it should stay away, if it was told."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.device.abort(), 2)
        code, reason = self.device.closed or (None, "")
        if code != SHUTTING_DOWN:
            return 0
        delay_s = int(re.search(r"(\d+) ?ms", reason)[1]) / 1000
        self.closes.append((time.monotonic(), self.device.server, delay_s))
        self.device.closed = None
        return delay_s

    async def _connect(self):
        if self.device.socket:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.device.abort(), 2)
        self.device.server = self.rng.choice(sorted(self.cluster.up, key=lambda node: node.config["node"]["id"]))
        if self.closes:
            self.went.setdefault(self.closes[-1][1], self.device.server)
        first = self.device.position is None
        hello = await asyncio.wait_for(self.device.connect(), 10)
        if not first:
            self.resumed.append(hello["resumed"])

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
            if self.unread:
                await self.device.frame({"type": "read_receipt", "message_id": self.unread})
                self.unread = None
            await asyncio.sleep(self.rng.random() * 2 * self.pause_s)
        else:
            assert outcome["code"] == "unavailable", outcome
            self.trouble = f"{self.device.server.config['node']['id']}: {outcome['reason']}"
            await asyncio.sleep(0.2)

    def _accepted(self, text, frame):
        if text == self.open:
            self.books.accepted[text] = frame
            self.numbers[text.split("|")[1]] += 1
            self.open = None

    def _collect(self):
        self.books.came(self.user, self.device.messages)
        # The own copy settles a send whose answer was lost.
        for message in self.device.messages:
            if message["from"] == self.user:
                self._accepted(message["text"], message)
            elif self.rng.randrange(READ_ONE_IN) == 0:
                self.unread = message["message_id"]
        self.device.messages.clear()
        self.device.inbox.clear()
        # What comes again is for the checker to tell.
        self.device.stale.clear()


class Crowd:
    """Clients that talk to each other and in groups, some who come to a group and go, and the history of it all. `conversations`: so many, half of
    them groups, in one of which everybody is; else each has three of its own, and groups beside."""

    def __init__(self, cluster, name, count, seed, conversations=None, restless=False):
        self.cluster, self.rng = cluster, random.Random(seed)
        users = [name(f"u{number}") for number in range(count)]
        if conversations:
            members, pairs = self._dealt(users, conversations)
        else:
            members = [self.rng.sample(users, 5) for _ in range(count // 4)]
            pairs = [(user, other) for user in users for other in self.rng.sample([them for them in users if them != user], 3)]
        groups = {}
        for number, of in enumerate(members):
            groups[cluster.nodes[0].rest(of[0]).group(f"g{number}", of[1:])] = of
        self.books, self.history = Books(groups), History(cluster, groups)
        pause_s = PAUSE_S if count <= FEW else count / SENDS_PER_S
        self.clients = []
        for user in users:
            own = [f"user:{to}" for of, to in pairs if of == user]
            own += [f"group:{group}" for group, of in groups.items() if user in of]
            self.clients.append(Client(cluster, self.books, self.history, user, own, pause_s, random.Random(f"{seed} {user}")))
        self.guests = {}
        for number, (group, of) in enumerate(list(groups.items())[:GUESTS_MAX]):
            guest = name(f"guest{number}")
            client = Client(cluster, self.books, self.history, guest, [], pause_s, random.Random(f"{seed} {guest}"))
            self.guests[group] = of[0], client
        self.everybody = [*self.clients, *(guest for _, guest in self.guests.values())]
        for client in self.clients if restless else ():
            client.goes_at = time.monotonic() + client.rng.expovariate(1 / RESTLESS_S)
        self.joined, self.late = 0, None

    def _dealt(self, users, conversations):
        """Members of half the conversations, everybody in one at least; pairs, both ways, for the other half."""
        groups = conversations // 2
        members = [users[number::groups] for number in range(groups)]
        for of in members:
            of += self.rng.sample([user for user in users if user not in of], 3)
        pairs = []
        for _ in range(conversations - groups):
            one, other = self.rng.sample(users, 2)
            pairs += [(one, other), (other, one)]
        return members, pairs

    async def talk(self, meanwhile):
        """They talk while that runs; then everything gets its outcome and arrives, or `check` says what did not."""
        running = [asyncio.create_task(client.run()) for client in self.everybody]
        coming = asyncio.create_task(self._come_and_go())
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
            coming.cancel()
            for client in self.clients:
                client.sending = False
            open_ = lambda: [client.open for client in self.clients if client.open]  # noqa: E731
            try:
                await self._settled(open_, "sends without an outcome", running)
                await self._settled(self.books.behind, "accepted and not come", running)
            except NotInTime as late:
                self.late = late
            for client in self.everybody:
                client.ended = True
            _, stuck = await asyncio.wait(running, timeout=30)
            assert not stuck, [task.get_stack(limit=3) for task in stuck]
        finally:
            for task in (coming, *running):
                task.cancel()
            await asyncio.wait([coming, *running], timeout=10)

    async def _settled(self, left, what, running):
        """Waits until nothing is left; a client that failed says why."""
        end = time.monotonic() + SETTLE_S
        while rest := left():
            for task in running:
                if task.done():
                    task.result()
            troubles = {client.user: client.trouble for client in self.clients if client.open}
            if time.monotonic() > end:
                raise NotInTime(f"{what}: {len(rest)}, like {rest[:3]}; last troubles of clients: {troubles}; the nodes: {self._on_record()}")
            await asyncio.sleep(0.2)

    async def _come_and_go(self):
        """Somebody joins a group or leaves it, again and again; what became of it says the log."""
        within = set()
        while self.guests:
            group = self.rng.choice(list(self.guests))
            owner, guest = self.guests[group]
            node = self.rng.choice(sorted(self.cluster.up, key=lambda node: node.config["node"]["id"]))
            rest = node.rest(owner, timeout_s=5)
            with contextlib.suppress(Exception):
                if guest.user in within:
                    (await asyncio.to_thread(rest.delete, f"/v1/groups/{group}/members/{guest.user}")).ok()
                    within.discard(guest.user)
                else:
                    (await asyncio.to_thread(rest.post, f"/v1/groups/{group}/members", {"user": guest.user})).ok()
                    within.add(guest.user)
                    self.joined += 1
            await asyncio.sleep(0.5 + self.rng.random())

    def _on_record(self):
        """What the nodes say of themselves."""
        with contextlib.suppress(Exception):
            return [{key: row[key] for key in ("node", "state", "partitions", "derive_lag", "archive_lag", "connections")}
                    for row in roll(self.cluster.nodes[0]).values()]

    async def check(self):
        """Some read their whole streams and histories again, at any node; then the checker judges all of it."""
        some = self.rng.sample(self.clients, min(6, len(self.clients)))
        try:
            for client in [*some, *(guest for _, guest in self.guests.values())]:
                node = self.rng.choice(self.cluster.nodes)
                async with self._anew(node, client.user) as device:
                    await device.until(lambda device=device: device.has("caught_up"), f"{client.user}'s whole stream", 60)
            for client in some:
                conversation = self.rng.choice(client.conversations)
                await asyncio.to_thread(self.history.told, self.rng.choice(self.cluster.nodes), client.user, conversation)
        except NotInTime as late:
            self.late = self.late or late
        try:
            await asyncio.to_thread(self.history.check, self.late is None)
        except Anomaly as anomaly:
            raise Anomaly(f"{anomaly}\n{self.late or ''}") from None
        if self.late:
            raise self.late

    @contextlib.asynccontextmanager
    async def _anew(self, node, user):
        """A device that was never here, which takes everything from the beginning."""
        device = Device(node, user, "anew", auto_ack=True)
        device.history = self.history
        await device.connect(resume=0)
        try:
            yield device
        finally:
            await device.leave()

    def delays_s(self):
        """Of each message to each of its readers: from when it was first sent to when it first came."""
        sent = {text: at for client in self.clients for text, at in client.sent.items()}
        return sorted(at - sent[text] for client in self.clients for text, at in client.device.came.items())

    def figures(self):
        """For a line in the output."""
        return (f"{len(self.books.accepted)} messages accepted, {self.books.received} deliveries, {self.joined} joined for a while, "
                f"{sum(client.reconnects for client in self.clients)} reconnects")
