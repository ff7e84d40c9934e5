"""What an operator types: `heddle plugin ...`, `heddle nodes`."""

import json

from .server import heddle


def plugin(server, *words, token=None):
    """`heddle plugin WORDS` on that server."""
    return heddle("plugin", *words, "--data", server.data, "--output", "json", *(["--token", token] if token else []))


def changed(server, *words):
    """The same; it must succeed."""
    done = plugin(server, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def roll(server):
    """`heddle nodes`: by name."""
    done = heddle("nodes", "--data", server.data, "--output", "json")
    assert done.returncode == 0, done.stderr
    return {node["node"]: node for node in json.loads(done.stdout)["nodes"]}
