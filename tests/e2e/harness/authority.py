"""A certificate authority of the test's own, made with the `openssl` command."""

import pathlib
import shutil
import ssl
import subprocess

from .needs import need

_EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def needed():
    """Skips where openssl is missing; in CI that is a failure."""
    need(shutil.which("openssl"), "openssl is not installed: deploy/setup.sh test installs the Debian package openssl")


def _openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)


class Authority:
    """Issues certificates for 127.0.0.1 and localhost; `ca` is what clients trust."""

    def __init__(self, folder):
        needed()
        self.dir = pathlib.Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.ca = self.dir / "ca.pem"
        _openssl("req", "-x509", *_EC, "-keyout", self.dir / "ca.key", "-out", self.ca, "-days", 90, "-subj",
                 f"/CN={self.dir.name} of the end-to-end tests", "-addext", "keyUsage=critical,keyCertSign")

    def issue(self, name, days=90, hosts="DNS:localhost,IP:127.0.0.1"):
        """A certificate and its key, new each time: two paths."""
        certificate, key, request = (self.dir / f"{name}.{end}" for end in ("pem", "key", "csr"))
        _openssl("req", "-new", *_EC, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        extensions = self.dir / "extensions"
        extensions.write_text(f"subjectAltName={hosts}\nbasicConstraints=critical,CA:FALSE\n")
        _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.dir / "ca.key", "-CAcreateserial",
                 "-days", days, "-extfile", extensions, "-out", certificate)
        return certificate, key

    def trust(self, version=None):
        """For a client that trusts this authority; `version` is the only one that it speaks."""
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if version:
            context.minimum_version = context.maximum_version = version
        return context


def subject(tls):
    """The common name that a server proved."""
    return dict(part for group in tls.getpeercert()["subject"] for part in group)["commonName"]
