"""Data directories that cannot serve, each with words and nothing lost."""

import os
import re
import sqlite3

import pytest

from harness.device import Device
from harness.faults import Image, run
from harness.needs import need


def _refused(server, *words):
    code, said = server.refused()
    assert code != 0 and "panicked" not in said, said
    for word in words:
        assert word.lower() in said.lower(), (word, said)


def test_a_directory_in_use_by_another_process_is_refused_with_its_pid(start):
    first = start()
    second = start(data=first.data, launch=False)
    second.side = first.side / "second"
    second.side.mkdir()
    _refused(second, str(first.data), f"kill {first.pid}", f"dev --data {first.data}-2 --listen 127.0.0.1:0 --admin 127.0.0.1:0")
    assert first.admin_rest().get("/readyz").status == 200


async def test_a_directory_of_a_newer_version_is_refused_and_left_alone(start, name):
    server = start()
    bob = name("bob")
    async with Device(server, name("alice")) as a:
        await a.say(bob, "kept")
    server.stop()
    meta = server.data / "log" / "heddle-log"
    before = meta.read_text()
    newer = re.sub(r"(format\D*)\d+", r"\g<1>999", before, count=1)
    assert newer != before, before
    meta.write_text(newer)
    _refused(server, "999")
    meta.write_text(before)
    server.start()
    async with Device(server, bob) as b:
        assert (await b.next("new_message"))["text"] == "kept"


def test_a_store_of_a_newer_version_is_refused(start):
    server = start()
    server.stop()
    files = [p for p in server.data.rglob("*") if p.is_file() and p.open("rb").read(15) == b"SQLite format 3"]
    assert len(files) == 1, files
    with sqlite3.connect(files[0]) as store:
        tables = {row[0] for row in store.execute("select name from sqlite_master where type = 'table'")}
        if "_sqlx_migrations" in tables:
            store.execute(
                "insert into _sqlx_migrations (version, description, success, checksum, execution_time) "
                "values (99999999, 'from the future', 1, x'00', 0)"
            )
        else:
            version = store.execute("pragma user_version").fetchone()[0]
            store.execute(f"pragma user_version = {version + 1000}")
    _refused(server, "newer")


def test_a_directory_that_is_read_only_is_refused(start, tmp_path):
    need(Image.possible(), "mount loop images (needs root)")
    with Image(tmp_path / "disk", tmp_path / "mount", 32) as image:
        run("mount", "-o", "remount,ro", image.mount)
        _refused(_on(start, image, tmp_path), str(image.mount), "Read-only file system", "node.data_dir")


def _on(start, image, tmp_path, **config):
    """A server whose data lies on the image, and whose configuration does not."""
    server = start(data=tmp_path / "beside", launch=False, config=config)
    server.data = image.mount / "data"
    return server


@pytest.mark.timeout(180)
async def test_a_full_disk_refuses_sends_and_loses_nothing_that_was_accepted(start, name, tmp_path):
    need(Image.possible(), "mount loop images (needs root)")
    alice, bob = name("alice"), name("bob")
    with Image(tmp_path / "disk", tmp_path / "mount", 48) as image:
        server = _on(start, image, tmp_path, log={"segment_bytes": "1 MiB"})
        server.start()
        accepted, refused = [], None
        try:
            a = Device(server, alice)
            await a.connect()
            for i in range(3000):
                outcome = await a.outcome(await a.post(bob, f"m{i}", data="x" * 30_000, client_id=f"m{i}"), 30)
                if outcome["type"] == "rejected":
                    refused = outcome
                    break
                accepted.append(f"m{i}")
                if a.position and i % 50 == 49:
                    await a.ack()
        finally:
            server.kill()
            await a.abort()
        assert accepted and refused, "the disk never filled up"
        assert refused["code"] == "unavailable" and refused["retryable"], refused
        run("sh", "-c", f"umount {image.mount} && truncate -s 160M {image.path} && e2fsck -fy {image.path} >/dev/null; "
                        f"resize2fs {image.path} >/dev/null 2>&1 && mount -o loop {image.path} {image.mount}")
        server.start()
        async with Device(server, bob, auto_ack=True) as b:
            await b.until(lambda: set(accepted) <= set(b.texts()), "all that was accepted", 60)
            assert b.texts()[: len(accepted)] == accepted
        server.kill()


def test_a_full_disk_at_start_is_said_with_what_to_do(start, tmp_path):
    need(Image.possible(), "mount loop images (needs root)")
    with Image(tmp_path / "disk", tmp_path / "mount", 16) as image:
        with open(image.mount / "filler", "wb") as file:
            try:
                while True:
                    file.write(b"x" * 65536)
                    file.flush()
            except OSError:
                pass
        server = _on(start, image, tmp_path)
        mends = ("No space left on device", f"df -h {image.mount}", "heddle serve --config FILE --set node.data_dir=")
        _refused(server, str(server.data), *mends)
        # The directory alone finds room: then it is its files that do not.
        server.data.mkdir(exist_ok=True)
        _refused(server, str(server.data), *mends)
        dev = start(data=tmp_path / "beside-dev", launch=False, mode="dev")
        dev.data = server.data
        _refused(dev, "No space left on device", f"df -h {image.mount}", "heddle dev --data ")


def test_a_port_that_is_taken_is_said_with_the_port(start):
    first = start()
    second = start(launch=False, config={"gateway": {"listen": first.client}})
    port = first.client.rsplit(":", 1)[1]
    _refused(second, f"ss -ltnp 'sport = :{port}'", "heddle serve --config FILE --set gateway.listen=127.0.0.1:0")


def test_both_ports_that_are_taken_are_said_at_once_by_dev_too(start):
    first = start()
    second = start(launch=False, mode="dev")
    addresses = iter([first.client, first.admin])
    words = [next(addresses) if word == "127.0.0.1:0" else word for word in second.command()]
    second.command = lambda: words
    _refused(second, first.client, first.admin, "heddle dev --data", "--listen 127.0.0.1:0 --admin 127.0.0.1:0")


def test_a_file_where_the_directory_should_be_is_refused(start, tmp_path):
    path = tmp_path / "a-file"
    path.write_text("x")
    assert os.path.isfile(path)
    _refused(start(data=path, launch=False), str(path))
