"""What a node has of plugins on its own disk: enough to start with, and never too much."""

import shutil

from harness.device import Device
from harness.operator import changed
from harness.policies import fixture
from harness.waiting import until
from test_postgres import on_postgres  # noqa: F401
from test_trials import renamed

MEBIBYTE = 1 << 20


def files(server, folder):
    """Names and sizes."""
    return {path.name: path.stat().st_size for path in (server.data / folder).iterdir()}


def digest(server, plugin):
    [info] = [info for info in changed(server, "list")["policies"] if info["name"] == plugin]
    return info["digest"]


async def test_a_node_starts_and_compiles_with_its_own_files_while_the_store_gives_none(on_postgres, postgres, name):  # noqa: F811
    server, database = on_postgres()
    changed(server, "deploy", fixture("mark"))
    serving = {f"{info['digest']}.wasm" for info in changed(server, "list")["policies"]}
    assert serving <= set(files(server, "plugins")), "all that decides"
    server.stop()
    postgres.sql(database, "ALTER TABLE plugins RENAME TO plugins_away")
    shutil.rmtree(server.data / "native")
    server.start()
    async with Device(server, name("alice")) as a, Device(server, name("bob")) as b:
        await a.say(name("bob"), "decided by what was deployed")
        assert "mark" in (await b.next("new_message"))["tags"]
    assert changed(server, "list")["generation"] == 2
    assert len(files(server, "native")) == 5, "compiled anew"
    server.stop()
    # A file that is torn is no file: it comes from the store again, which has to be there.
    postgres.sql(database, "ALTER TABLE plugins_away RENAME TO plugins")
    [torn] = [path for path in (server.data / "plugins").iterdir() if path.name in serving][:1]
    whole = torn.read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    server.start()
    until(lambda: torn.exists() and torn.read_bytes() == whole, "it is whole again")
    assert changed(server, "list")["generation"] == 2


async def test_folders_of_plugins_keep_what_decides_and_lose_what_was_used_longest_ago(start, tmp_path):
    bounds = {"native_cache_max": "1 MiB", "plugin_files_max": "1 MiB", "generations_max": 1}
    server = start(config={"policies": bounds})
    digests = []
    for version in range(1, 8):
        changed(server, "deploy", renamed(tmp_path, "guard", "mark", f"1.0.{version}"))
        digests.append(digest(server, "guard"))

    def kept(folder):
        names = files(server, folder)
        return [any(name.startswith(digest) for name in names) for digest in digests]

    until(lambda: not any(kept("plugins")[:4]), "old plugin files go", 30)
    assert kept("plugins")[-2:] == [True, True], "what decides, and what it may go back to"
    assert kept("native")[-1] and not all(kept("native")), "native code too"
    server.restart()
    assert (digest(server, "guard"), changed(server, "list")["generation"]) == (digests[-1], 8)
