"""A client as CONTRACT asks, over the library `websockets`.

The position moves before an event is handed on; an event at or below it is counted in `stale` and ignored; sends whose
outcome is unknown are sent again, in order, with `resend: true`.
"""

import asyncio
import itertools
import json

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from .waiting import DEADLINE_S, NotInTime

STREAM = ("new_message", "receipt", "membership")
_numbers = itertools.count(1)


class Closed(AssertionError):
    """The server closed while a frame was awaited."""

    def __init__(self, code, reason):
        super().__init__(f"closed with {code}: {reason}")
        self.code, self.reason = code, reason


class Device:
    """One device of one user, which survives its connections."""

    def __init__(self, server, user, name="phone", *, token=None, auth="bearer", headers=None, auto_ack=False,
                 address=None, tls=None, local=None):
        self.server, self.user, self.name, self.auth = server, user, name, auth
        self.token = token or server.token(user)
        self.headers = headers or {}
        self.auto_ack = auto_ack
        # Where, if not at the server itself; an SSL context; the own address.
        self.address, self.tls, self.local = address, tls, local
        self.position = None
        # Of a run that is recorded; and from where it asked to go on.
        self.history, self.asked = None, None
        self.inbox = []
        self.messages = []
        self.stale = []
        self.outcomes = {}
        self.pending = {}
        self.lamport = 0
        self.socket = None
        self.reader = None
        self.closed = None
        self._changed = asyncio.Event()

    async def __aenter__(self):
        await self.connect()
        return self

    async def __aexit__(self, *_):
        await self.leave()

    async def open(self):
        """The upgrade alone, without `hello`."""
        headers, subprotocols = dict(self.headers), None
        if self.auth == "bearer":
            headers["Authorization"] = f"Bearer {self.token}"
        elif self.auth == "subprotocol":
            subprotocols = ["heddle.v1", f"heddle.jwt.{self.token}"]
        self.closed = None
        self.inbox = []
        more = {"ssl": self.tls} if self.tls else {}
        if self.local:
            more["local_addr"] = (self.local, 0)
        self.socket = await connect(
            f"{'wss' if self.tls else 'ws'}://{self.address or self.server.client}/v1/ws", additional_headers=headers, subprotocols=subprotocols,
            max_size=1 << 20, open_timeout=20, close_timeout=2, ping_interval=None, compression=None, proxy=None,
            max_queue=None, **more,
        )
        self.reader = asyncio.create_task(self._read())

    async def connect(self, resume="own"):
        """Connects; `resume`: "own" position, None (the server's), or an offset. Sends again what is pending."""
        await self.open()
        hello = {"type": "hello", "device": self.name}
        if self.auth == "first_frame":
            hello["token"] = self.token
        position = self.position if resume == "own" else resume
        if position is not None:
            hello["resume"] = position
        self.asked = position
        await self.frame(hello)
        self.hello = await self.next("hello_ok")
        for sent in list(self.pending.values()):
            if self.history:
                self.history.sent(self, sent)
            await self.frame({**sent, "resend": True})
        return self.hello

    async def leave(self, code=1000):
        """Closes from this side."""
        if self.socket:
            await self.socket.close(code)
        if self.reader:
            await asyncio.gather(self.reader, return_exceptions=True)

    async def abort(self):
        """Goes away without a word."""
        if self.socket:
            self.socket.transport.abort()
        if self.reader:
            await asyncio.gather(self.reader, return_exceptions=True)

    async def frame(self, value):
        """Sends one frame: a dict, or text as it stands."""
        await self.socket.send(value if isinstance(value, (str, bytes)) else json.dumps(value))

    async def post(self, to=None, text=None, *, group=None, client_id=None, **more):
        """Sends a message without waiting; returns its client_id."""
        client_id = client_id or f"{self.user[:20]}-{self.name[:10]}-{next(_numbers)}"
        value = {"type": "chat_message", "client_id": client_id, **more}
        value |= {"to": to} if group is None else {"group": group}
        if text is not None:
            value["text"] = text
        self.pending[client_id] = value
        # Of an earlier try; what counts is the answer to this one.
        self.outcomes.pop(client_id, None)
        if self.history:
            self.history.sent(self, value)
        await self.frame(value)
        return client_id

    async def outcome(self, client_id, deadline_s=DEADLINE_S):
        """`accepted` or `rejected` of that send."""
        await self.until(lambda: client_id in self.outcomes, f"outcome of {client_id}", deadline_s)
        return self.outcomes[client_id]

    async def say(self, to=None, text=None, **more):
        """Sends, and expects `accepted`."""
        result = await self.outcome(await self.post(to, text, **more))
        assert result["type"] == "accepted", result
        return result

    async def refused(self, code, to=None, text=None, **more):
        """Sends, and expects `rejected` with that code."""
        result = await self.outcome(await self.post(to, text, **more))
        assert result["type"] == "rejected" and result["code"] == code, result
        assert isinstance(result["reason"], str) and isinstance(result["retryable"], bool), result
        return result

    async def ack(self, offset=None):
        """Acknowledges everything up to the position."""
        await self.frame({"type": "ack", "offset": self.position if offset is None else offset})

    async def next(self, kind, deadline_s=DEADLINE_S, **fields):
        """Takes the first frame of that type, with those fields, out of the inbox."""
        found = []

        def look():
            for index, frame in enumerate(self.inbox):
                if frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items()):
                    found.append(self.inbox.pop(index))
                    return True
            return False

        await self.until(look, f"`{kind}` {fields} for {self.user}/{self.name}", deadline_s)
        return found[0]

    def has(self, kind, **fields):
        """Whether such a frame is in the inbox."""
        return any(f["type"] == kind and all(f.get(n) == v for n, v in fields.items()) for f in self.inbox)

    async def nothing_before_pong(self, kind, **fields):
        """A round trip later there is still no such frame."""
        await self.ping()
        assert not self.has(kind, **fields), [f for f in self.inbox if f["type"] == kind]

    async def ping(self, deadline_s=DEADLINE_S):
        """Our own `ping` and its `pong`."""
        await self.frame({"type": "ping"})
        await self.next("pong", deadline_s)

    async def close_code(self, deadline_s=DEADLINE_S):
        """Waits until the server closes."""
        await self.until(lambda: self.closed, "a close", deadline_s, even_closed=True)
        return self.closed[0]

    async def until(self, condition, what, deadline_s=DEADLINE_S, even_closed=False):
        """Waits for a condition over what this device received."""
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while True:
            if condition():
                return
            if self.closed and not even_closed:
                raise Closed(*self.closed)
            self._changed.clear()
            left = end - loop.time()
            if left <= 0:
                seen = [{k: v for k, v in f.items() if k != "data"} for f in self.inbox[-8:]]
                raise NotInTime(f"not within {deadline_s} s: {what}; closed: {self.closed}; last frames: {seen}")
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                pass

    def texts(self):
        """Texts of all messages so far, own copies left out."""
        return [m.get("text") for m in self.messages if m["from"] != self.user]

    async def _read(self):
        try:
            async for text in self.socket:
                self._take(json.loads(text), text)
                self._changed.set()
                if self.auto_ack and self.position is not None and self.inbox and self.inbox[-1]["type"] in STREAM:
                    await self.ack()
        except ConnectionClosed:
            pass
        finally:
            self.closed = (self.socket.close_code, self.socket.close_reason)
            self._changed.set()

    def _take(self, frame, text):
        kind = frame["type"]
        if self.history:
            self.history.met(self, frame)
        if kind == "hello_ok":
            self.position = frame["offset"]
        elif kind in STREAM or kind == "caught_up" or (kind == "rejected" and "offset" in frame):
            if kind != "caught_up" and frame["offset"] <= self.position:
                self.stale.append(frame)
                return
            self.position = max(self.position, frame["offset"])
        if kind == "new_message":
            self.lamport = max(self.lamport, frame["lamport"])
            self.messages.append(frame)
            if "client_id" in frame and frame["client_id"] in self.pending:
                self.pending.pop(frame["client_id"])
        elif kind in ("accepted", "rejected") and "offset" not in frame:
            retry = kind == "rejected" and frame["code"] == "unavailable"
            if not retry:
                self.pending.pop(frame["client_id"], None)
            self.outcomes[frame["client_id"]] = frame
        frame = dict(frame)
        if kind == "new_message" and "data" in frame:
            frame["raw"] = text
        self.inbox.append(frame)
