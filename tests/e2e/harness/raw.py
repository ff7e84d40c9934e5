"""A WebSocket by hand, for what a good library refuses to do: halves, floods, wrong bytes, silence."""

import base64
import json
import os
import socket
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class RawSocket:
    """One blocking socket that speaks as much of the protocol as the test wants."""

    def __init__(self, address, timeout_s=15, receive_buffer_bytes=None):
        host, port = address.rsplit(":", 1)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.connect((host, int(port)))
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def write(self, data):
        """Bytes as they are."""
        self.socket.sendall(data)

    def upgrade(self, token=None, headers=(), path="/v1/ws"):
        """The HTTP half; returns the status."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", "Host: heddle", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        lines += [f"{name}: {value}" for name, value in headers]
        self.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return int(head.split(b" ", 2)[1])

    def frame(self, opcode, payload, fin=True, mask=True):
        """One frame, masked as a client must."""
        first = (0x80 if fin else 0) | opcode
        length = len(payload)
        flag = 0x80 if mask else 0
        if length < 126:
            head = struct.pack("!BB", first, flag | length)
        elif length < 65536:
            head = struct.pack("!BBH", first, flag | 126, length)
        else:
            head = struct.pack("!BBQ", first, flag | 127, length)
        if not mask:
            self.write(head + payload)
            return
        key = b"\x00\x00\x00\x00"
        self.write(head + key + payload)

    def text(self, value):
        """A text frame: a dict as JSON, bytes as they are."""
        self.frame(TEXT, value if isinstance(value, bytes) else json.dumps(value).encode())

    def hello(self, device="raw"):
        """`hello`, and the frames up to `hello_ok`."""
        self.text({"type": "hello", "device": device})
        return self.until("hello_ok")

    def read(self):
        """The next frame: (opcode, payload). A connection that ends is (None, b"")."""
        try:
            while True:
                done = self._parse()
                if done:
                    return done
                self._more()
        except (ConnectionError, EOFError):
            return None, b""

    def until(self, kind):
        """Reads text frames until one has that type; pings are answered."""
        while True:
            opcode, payload = self.read()
            if opcode == PING:
                self.frame(PONG, payload)
            elif opcode == TEXT:
                value = json.loads(payload)
                if value["type"] == kind:
                    return value
            elif opcode in (CLOSE, None):
                raise AssertionError(f"closed before `{kind}`: {payload!r}")

    def close_code_at_pong(self):
        """Reads up to a pong: None; or up to the server's close, and says with which code."""
        while True:
            opcode, payload = self.read()
            if opcode == PONG:
                return None
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0]
            if opcode is None:
                raise ConnectionError("closed without a code")

    def close_code(self):
        """Reads on until the server closes, and says with which code (None: without one)."""
        while True:
            opcode, payload = self.read()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else None
            if opcode is None:
                return None

    def close_code_answering_pings(self):
        """As `close_code`, but alive in the meantime."""
        while True:
            opcode, payload = self.read()
            if opcode == PING:
                self.frame(PONG, payload)
            elif opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else None
            elif opcode is None:
                return None

    def _more(self):
        got = self.socket.recv(65536)
        if not got:
            raise EOFError
        self.buffer += got

    def _parse(self):
        if len(self.buffer) < 2:
            return None
        opcode, length, at = self.buffer[0] & 0x0F, self.buffer[1] & 0x7F, 2
        if length == 126:
            if len(self.buffer) < 4:
                return None
            length, at = struct.unpack("!H", self.buffer[2:4])[0], 4
        elif length == 127:
            if len(self.buffer) < 10:
                return None
            length, at = struct.unpack("!Q", self.buffer[2:10])[0], 10
        if len(self.buffer) < at + length:
            return None
        payload, self.buffer = self.buffer[at : at + length], self.buffer[at + length :]
        return opcode, payload
