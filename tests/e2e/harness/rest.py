"""REST over the standard library's client."""

import http.client
import json
from urllib.parse import quote


class Answer:
    """What came back: status, headers (lower case) and the body, as JSON where it is JSON."""

    def __init__(self, status, headers, raw):
        self.status, self.headers, self.raw = status, headers, raw
        self.type = headers.get("content-type", "").split(";")[0]
        self.json = json.loads(raw) if raw and "json" in self.type else None

    def __repr__(self):
        return f"{self.status} {self.type} {self.raw[:600]!r}"

    def ok(self):
        """Itself, if it is a success."""
        assert 200 <= self.status < 300, self
        return self

    def problem(self, status, code=None):
        """Itself, if it is a problem of RFC 9457 with that status."""
        assert self.status == status, self
        assert self.type == "application/problem+json", self
        for field in ("type", "title", "status", "detail"):
            assert field in self.json, (field, self)
        assert self.json["status"] == status, self
        if code:
            assert self.json.get("code") == code, self
        return self


class Rest:
    """Calls as one user. `address` is HOST:PORT."""

    def __init__(self, address, token=None, headers=None, timeout_s=15, tls=None):
        self.address, self.token, self.extra, self.timeout_s = address, token, headers or {}, timeout_s
        self.tls = tls

    def call(self, method, path, body=None, raw=None, headers=None):
        """One call on a connection of its own."""
        sent = dict(self.extra) | (headers or {})
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        payload = raw
        if body is not None:
            payload = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        if self.tls:
            link = http.client.HTTPSConnection(self.address, timeout=self.timeout_s, context=self.tls)
        else:
            link = http.client.HTTPConnection(self.address, timeout=self.timeout_s)
        try:
            link.request(method, path, body=payload, headers=sent)
            reply = link.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            link.close()

    def get(self, path, **more):
        """GET."""
        return self.call("GET", path, **more)

    def post(self, path, body=None, **more):
        """POST."""
        return self.call("POST", path, body, **more)

    def put(self, path, body=None, **more):
        """PUT."""
        return self.call("PUT", path, body, **more)

    def patch(self, path, body=None, **more):
        """PATCH."""
        return self.call("PATCH", path, body, **more)

    def delete(self, path, **more):
        """DELETE."""
        return self.call("DELETE", path, **more)

    def group(self, name, members, client_id=None):
        """Creates a group and returns its id."""
        body = {"client_id": client_id or f"make-{name}", "name": name, "members": members}
        return self.post("/v1/groups", body).ok().json["group"]

    def history(self, conversation, **query):
        """One page of a conversation."""
        words = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
        path = f"/v1/conversations/{quote(conversation, safe='')}/messages"
        return self.get(f"{path}?{words}" if words else path).ok().json
