"""The hostile set as plugin files: the guest of `tests/hostile` under any act, hook and failure mode, and files that are worse."""

import functools
import itertools
import json
import os
import random
import subprocess

from .policies import built, scratch
from .server import ROOT

FOLDER = ROOT / "tests" / "hostile"
_numbers = itertools.count(1)


@functools.cache
def _out():
    return scratch("hostile")


@functools.cache
def _component():
    """Built once, by cargo; the files that differ in their manifest only take this artifact."""
    built(FOLDER, _out() / "hostile.wasm")
    return FOLDER / "target" / "wasm32-wasip2" / "release" / "hostile.wasm"


def packed(artifact, hooks, *, name="hostile", config=None, more="", cases=()):
    """A plugin file of that component with another manifest. `hooks`: failure modes by hook."""
    folder = _out() / f"{name}-{next(_numbers)}"
    folder.mkdir()
    lines = [f'name = "{name}"', 'version = "0.1.0"']
    for hook, mode in hooks.items():
        lines += [f"[hooks.{hook}]", f'on_failure = "{mode}"']
    lines += ["[build]", 'command = ["true"]', f'artifact = "{artifact}"', more]
    lines += ["[config]", *(f"{key} = {json.dumps(value)}" for key, value in (config or {}).items())]
    (folder / "plugin.toml").write_text("\n".join(lines) + "\n")
    for number, case in enumerate(cases):
        (folder / "cases").mkdir(exist_ok=True)
        (folder / "cases" / f"case-{number}.json").write_text(json.dumps(case))
    return built(folder, folder / "plugin.wasm")


def hostile(act, hook="routing", mode="builtin", **more):
    """The guest that does `act` at that hook, with a deadline that the harmless acts keep on a busy machine."""
    more["more"] = "[limits]\ndeadline_ms = 50\n" + more.get("more", "")
    return packed(_component(), {hook: mode}, config={"act": act}, **more)


@functools.cache
def random_components(count):
    """Plugin files around what wasm-smith makes of so many seeds, for the hooks in turn."""
    folder = _out() / "random"
    tool = FOLDER / "wat" / "tool" / "Cargo.toml"
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    subprocess.run(["cargo", "run", "--locked", "--quiet", "--manifest-path", tool, "--", "random", "0", str(count), folder],
                   check=True, env=environment)
    hooks = ("rate-limit", "routing", "fanout", "presence")
    components = sorted(folder.glob("*.component"), key=lambda path: int(path.stem))
    return [packed(path, {hooks[number % 4]: "builtin"}, name="random") for number, path in enumerate(components)]


def wat_guest(name):
    """A guest in text."""
    return built(FOLDER / "wat" / name, _out() / f"{name}.wasm")


def _leb(number):
    out = b""
    while True:
        low, number = number & 0x7F, number >> 7
        if not number:
            return out + bytes([low])
        out += bytes([low | 0x80])


def _section(number, content):
    return bytes([number]) + _leb(len(content)) + content


def _component_of(module):
    return b"\0asm\x0d\0\1\0" + _section(1, module)


@functools.cache
def compile_bomb():
    """A component of 350 KB whose one function, 20,000 loops over 1,000 locals, takes a compiler 20 s and gigabytes."""
    rand, locals_ = random.Random(1), 1_000
    body = b""
    for _ in range(20_000):
        a, b, c = (_leb(rand.randrange(locals_)) for _ in range(3))
        # loop; local.get a; local.get b; i32.add; local.tee c; br_if 0; end
        body += b"\x03\x40\x20" + a + b"\x20" + b + b"\x6a\x22" + c + b"\x0d\x00\x0b"
    code = _leb(1) + _leb(locals_) + b"\x7f" + body + b"\x0b"
    module = b"\0asm\1\0\0\0" + _section(1, b"\1\x60\0\0") + _section(3, b"\1\0")
    module += _section(10, b"\1" + _leb(len(code)) + code)
    path = _out() / "bomb.component.wasm"
    path.write_bytes(_component_of(module))
    return packed(path, {"routing": "builtin"}, name="bomb")


@functools.cache
def stranger():
    """A component that imports what no policy gets: (import "wasi:sockets/tcp@0.2.0" (instance))."""
    name = b"wasi:sockets/tcp@0.2.0"
    empty_instance_type = _section(7, b"\1\x42\0")
    imported = _section(10, b"\1\0" + _leb(len(name)) + name + b"\5\0")
    path = _out() / "stranger.component.wasm"
    path.write_bytes(b"\0asm\x0d\0\1\0" + empty_instance_type + imported)
    return packed(path, {"routing": "builtin"}, name="stranger")


@functools.cache
def oversized():
    """The head of a plugin file, and 65 MiB of nothing."""
    path = _out() / "oversized.wasm"
    path.write_bytes(hostile("behave").read_bytes()[:1_000])
    with open(path, "r+b") as file:
        file.truncate(65 << 20)
    return path
