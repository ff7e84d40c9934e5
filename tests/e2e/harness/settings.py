"""Configuration that the tests run with, and the names of its keys, in this one place."""

import copy

from .tokens import SECRET

# Limits far above what any test does, except where a test lowers one: the first-party limiter would throttle load.
BASE = {
    "auth": {"secret": SECRET, "first_frame": True},
    "users": {"unknown": "accept"},
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


# The published development secret; `dev` tells it in its documentation.
DEV_SECRET = ""


def placed(config, data):
    """The configuration with its addresses and its data directory."""
    return merged(
        {"node": {"data": str(data)}, "gateway": {"listen": "127.0.0.1:0"}, "admin": {"listen": "127.0.0.1:0"}}, config
    )


def explain_args(server):
    """What `heddle explain` needs to find the server."""
    return ["--data", str(server.data)]
