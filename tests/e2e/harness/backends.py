"""Fixtures: the real servers that nodes stand on, each started once per file and ended with it; and nodes of one cluster."""

import pytest

from .kafka import Kafka
from .kafka import Missing as NoKafka
from .needs import missing
from .postgres import Missing as NoPostgres
from .postgres import Postgres


def started(make, absent):
    """Starts a server; without it tests are skipped, under CI=true they fail."""
    try:
        return make()
    except absent as why:
        missing(str(why))


@pytest.fixture(scope="module")
def kafka():
    """One broker."""
    broker = started(Kafka, NoKafka)
    yield broker
    broker.end()


@pytest.fixture(scope="module")
def postgres():
    """One database server."""
    server = started(Postgres, NoPostgres)
    yield server
    server.end()


@pytest.fixture
def nodes(kafka, postgres, start):
    """Makes nodes of one cluster: the same topics, the same database. `roles`: those of each, in order; `store_more`: of section `store`."""

    def make(count, roles=(), store_more=None, **more):
        common = {
            "log": {"backend": "kafka"},
            "kafka": kafka.config(),
            "store": {"backend": "postgres", "url": postgres.url(postgres.database()), "deadline": "1 s", **(store_more or {})},
        }
        made = []
        for number in range(1, count + 1):
            node = {"id": f"n{number}"}
            if roles:
                node["roles"] = roles[number - 1]
            made.append(start(config={**common, "node": node, **more}))
        return made

    return make
