"""Configuration that the tests run with, and the names of its keys, in this one place."""

import copy

from .tokens import AUDIENCE, SECRET

ADMIN_TOKEN = "an admin token of the end-to-end tests, known to everybody"

_EACH = {"burst": 1_000_000, "per_second": 1_000_000.0}
_KINDS = ("connect", "chat-message", "receipt", "typing", "presence", "history", "membership", "other")

# Limits far above what any test does, except where a test lowers one: the first-party limiter would throttle load.
BASE = {
    "auth": {"secret": SECRET, "audience": AUDIENCE, "first_frame": True},
    "admin": {"token": ADMIN_TOKEN},
    "gateway": {"loopback_exempt": True, "frames_per_second_max": 100_000, "sends_in_flight_max": 1024, "sockets_per_ip": 10_000},
    "policies": {"config": {"token-bucket": {**_EACH, "commands": {kind: _EACH for kind in _KINDS}}}},
    "telemetry": {"format": "text"},
}


def merged(base, over):
    """`over` laid on `base`, table by table."""
    result = copy.deepcopy(base)
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result


def toml_text(tree, path=()):
    """The nested dict as TOML: scalars and lists first, tables after."""
    plain = [f"{_key(name)} = {_value(value)}" for name, value in tree.items() if not isinstance(value, dict)]
    lines = ([f"[{'.'.join(_key(p) for p in path)}]"] if path and plain else []) + plain
    text = "\n".join(lines) + ("\n\n" if lines else "")
    for name, value in tree.items():
        if isinstance(value, dict):
            text += toml_text(value, (*path, name))
    return text


def _key(name):
    return name if name.replace("_", "").replace("-", "").isalnum() else f'"{name}"'


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def placed(config, data):
    """The configuration with its addresses and its data directory."""
    own = {"node": {"data_dir": str(data)}, "gateway": {"listen": "127.0.0.1:0"}, "admin": {"listen": "127.0.0.1:0"}}
    return merged(own, config)


def explain_args(server):
    """What `heddle explain` needs to find the server."""
    token = server.ready.get("admin_token") or server.config["admin"]["token"]
    return ["--admin", server.admin, "--token", token]
