"""Keys and tokens of EdDSA and ES256, made with the `openssl` command; and a place where a set of keys stands."""

import base64
import http.server
import json
import pathlib
import ssl
import subprocess
import threading
import time

from .authority import needed
from .tokens import AUDIENCE


def _openssl(*words, given=None):
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, input=given, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def part(raw):
    """base64url without padding."""
    raw = raw if isinstance(raw, bytes) else json.dumps(raw, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Key:
    """A pair of keys. `algorithm`: EdDSA or ES256."""

    def __init__(self, folder, algorithm, kid=None):
        needed()
        self.algorithm, self.kid = algorithm, kid
        self.dir = pathlib.Path(folder)
        self.private = self.dir / f"{kid or algorithm}.key"
        kind = ["ED25519"] if algorithm == "EdDSA" else ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        _openssl("genpkey", "-algorithm", *kind, "-out", self.private)

    def public(self):
        """The file with the public key in PEM form."""
        path = self.private.with_suffix(".pem")
        _openssl("pkey", "-in", self.private, "-pubout", "-out", path)
        return path

    def jwk(self, **more):
        """The public key as a set holds it."""
        der = _openssl("pkey", "-in", self.private, "-pubout", "-outform", "DER")
        key = {"kty": "OKP", "crv": "Ed25519", "x": part(der[-32:])}
        if self.algorithm == "ES256":
            key = {"kty": "EC", "crv": "P-256", "x": part(der[-64:-32]), "y": part(der[-32:])}
        return key | ({"kid": self.kid} if self.kid else {}) | more

    def token(self, user, **claims):
        """A token for `user`."""
        now = int(time.time())
        head = {"alg": self.algorithm, "typ": "JWT"} | ({"kid": self.kid} if self.kid else {})
        body = {"sub": user, "iat": now, "exp": now + 3_600, "aud": AUDIENCE} | claims
        signed = f"{part(head)}.{part(body)}"
        text = self.dir / "to-sign"
        text.write_text(signed)
        if self.algorithm == "EdDSA":
            signature = _openssl("pkeyutl", "-sign", "-inkey", self.private, "-rawin", "-in", text)
        else:
            signature = _two_numbers(_openssl("dgst", "-sha256", "-sign", self.private, text))
        return f"{signed}.{part(signature)}"


def _two_numbers(der):
    """DER has two integers of any length, a token 32 bytes of each (RFC 7518, 3.4)."""
    first = der[4:4 + der[3]]
    second = der[6 + der[3]:]
    return b"".join(number.lstrip(b"\0").rjust(32, b"\0") for number in (first, second))


class Place:
    """A server on loopback that gives out what it is told to, and counts who asks."""

    def __init__(self, *keys, tls=None):
        self.status, self.asked = 200, 0
        self.tls = tls
        self.put(*keys)
        self.port = 0
        self.open()

    def put(self, *keys):
        """The set from now on."""
        self.body = json.dumps({"keys": [key if isinstance(key, dict) else key.jwk() for key in keys]}).encode()

    def open(self):
        """Begins to listen, on the same port as before."""
        place = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """One answer."""

            def do_GET(self):  # noqa: N802
                """The set."""
                place.asked += 1
                self.send_response(place.status)
                self.send_header("Content-Length", str(len(place.body)))
                self.end_headers()
                self.wfile.write(place.body)

            def log_message(self, *_):
                """Nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        """Where it is."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/keys.json"

    def close(self):
        """It is away."""
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
