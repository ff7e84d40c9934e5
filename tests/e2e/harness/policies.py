"""Fixture policies of `tests/policies`, built once per run by `heddle plugin build`."""

import atexit
import functools
import hashlib
import pathlib
import shutil
import tempfile
import tomllib

from .server import ROOT, heddle

FOLDER = ROOT / "tests" / "policies"


def scratch(what):
    """A folder that is gone when the run ends."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"heddle-e2e-{what}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _out():
    return scratch("policies")


@functools.cache
def fixture(name):
    """The built file of `tests/policies/NAME`."""
    folder = FOLDER / name
    assert (folder / "plugin.toml").exists(), f"there is no fixture policy {folder}"
    return built(folder)


def built(folder, out=None):
    """Runs `heddle plugin build`, and returns the file that it wrote."""
    out = out or _out() / f"{folder.name}.wasm"
    done = heddle("plugin", "build", str(folder), "--out", str(out), timeout_s=600)
    assert done.returncode == 0, done.stderr
    return out


def manifest(name):
    """The fixture's manifest."""
    return tomllib.loads((FOLDER / name / "plugin.toml").read_text())


def digest(path):
    """What `sha256sum` says."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def truncated(path, keep):
    """A copy of the file that ends too early."""
    copy = _out() / f"truncated-{keep}-{pathlib.Path(path).name}"
    shutil.copyfile(path, copy)
    with open(copy, "r+b") as file:
        file.truncate(keep)
    return copy
