"""Signatures in minisign's form (https://jedisct1.github.io/minisign/), by OpenSSL: over any bytes, plugin file or not."""

import base64
import hashlib
import pathlib
import subprocess

_KEY_ID = b"e2e-key!"


class Key:
    """An Ed25519 key of the test's own; `public` is what `policies.trusted_keys` takes."""

    def __init__(self, folder):
        self.file = folder / "signing.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", self.file], check=True)
        der = subprocess.run(["openssl", "pkey", "-in", self.file, "-pubout", "-outform", "DER"],
                             check=True, capture_output=True).stdout
        self.public = base64.b64encode(b"Ed" + _KEY_ID + der[-32:]).decode()

    def _signed(self, content):
        part = self.file.with_suffix(".part")
        part.write_bytes(content)
        return subprocess.run(["openssl", "pkeyutl", "-sign", "-inkey", self.file, "-rawin", "-in", part],
                              check=True, capture_output=True).stdout

    def sign(self, file):
        """Writes FILE.minisig, and returns FILE."""
        comment = b"of the end-to-end tests"
        signature = self._signed(hashlib.blake2b(pathlib.Path(file).read_bytes()).digest())
        whole = self._signed(signature + comment)
        lines = [b"untrusted comment: signature", base64.b64encode(b"ED" + _KEY_ID + signature),
                 b"trusted comment: " + comment, base64.b64encode(whole)]
        pathlib.Path(f"{file}.minisig").write_bytes(b"\n".join(lines) + b"\n")
        return file
