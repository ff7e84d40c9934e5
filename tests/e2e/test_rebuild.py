"""`heddle archive rebuild`: whatever was damaged, every column of every table is what it was. (DELIVERY 12)"""

import pytest

from harness.rebuild import CONFIG, Database, Sqlite, archived, cut_off, damage, rebuilt, talk, told, words
from harness.server import heddle


def stop(servers):
    """In order, so that the archive has everything."""
    for server in servers:
        archived(server)
    for server in servers:
        assert server.stop() == 0


def found_wrong(found):
    """Something of everything."""
    assert all(found[table][what] > 0 for table in ("records", "stream") for what in ("missing", "different", "foreign"))
    assert found["pulled"]["missing"] and found["pulled"]["foreign"] and found["given_up"] == 0, found
    assert found["groups"] and found["receipts"] and found["heads"] and found["conversations"], found


async def test_a_damaged_archive_becomes_what_the_log_says(start, name):
    server = start(config=CONFIG)
    who, groups = await talk([server], name)
    running = heddle(*words(server))
    assert running.returncode == 1 and "stop it first" in running.stderr, running.stderr
    server.restart(hard=False)
    archived(server)
    was_told = told(server, who, groups)
    stop([server])
    store = Sqlite(server)
    whole = store.tables()
    assert all(whole[table] for table in ("records", "stream", "pulled", "receipts", "group_heads", "conversations"))

    untouched = rebuilt(server)
    assert store.tables() == whole and untouched["groups"] == untouched["receipts"] == 0, untouched
    damage(store, who, groups)
    damaged = store.tables()
    trial = rebuilt(server, "--dry-run")
    assert trial["dry_run"] is True and store.tables() == damaged
    found_wrong(trial)
    found_wrong(rebuilt(server))
    assert differences(store.tables(), whole) == {}
    again = rebuilt(server)
    assert store.tables() == whole
    assert all(again[table][what] == 0 for table in ("records", "stream", "pulled") for what in ("missing", "different", "foreign"))

    damage(store, who, groups)
    assert cut_off(server, 24), "it had come to its end"
    assert store.tables() != whole
    found = rebuilt(server)
    assert found["epoch"] == 0 and found["partitions"] == 32 and differences(store.tables(), whole) == {}
    server.start()
    assert told(server, who, groups) == was_told


def differences(now, before):
    """By table: what is there now and was not, and the other way."""
    return {table: (sorted(set(now[table]) - set(rows))[:5], sorted(set(rows) - set(now[table]))[:5])
            for table, rows in before.items() if now[table] != rows}


@pytest.mark.timeout(300)
async def test_on_kafka_and_postgres_too(nodes, postgres, name):
    servers = nodes(2, **CONFIG)
    who, groups = await talk(servers, name)
    url = servers[0].config["store"]["url"]
    store = Database(postgres, url.rsplit("/", 1)[1])
    running = heddle(*words(servers[0]))
    assert running.returncode == 1 and "stop all of them first" in running.stderr, running.stderr
    for server in servers:
        server.restart(hard=False)
    for server in servers:
        archived(server)
    was_told = told(servers[0], who, groups)
    stop(servers)
    whole = store.tables()
    damage(store, who, groups)
    found = rebuilt(servers[0])
    found_wrong(found)
    assert differences(store.tables(), whole) == {}
    again = rebuilt(servers[0])
    assert store.tables() == whole and again["groups"] == again["receipts"] == again["heads"] == 0, again
    damage(store, who, groups)
    assert cut_off(servers[0], found["partitions"] * 3 // 4), "it had come to its end"
    rebuilt(servers[0])
    assert differences(store.tables(), whole) == {}
    servers[0].start()
    servers[1].start()
    assert told(servers[1], who, groups) == was_told


def test_what_is_not_there_is_said(tmp_path, start):
    none = heddle("archive", "rebuild", "--data", tmp_path / "none")
    assert none.returncode == 66 and "does not exist" in none.stderr, none.stderr
    server = start(mode="dev")
    server.stop()
    (server.data / "store.sqlite").unlink()
    gone = heddle("archive", "rebuild", "--data", server.data)
    assert gone.returncode == 66 and "no store" in gone.stderr, gone.stderr
    assert not (server.data / "store.sqlite").exists()
