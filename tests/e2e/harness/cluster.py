"""Nodes on a real Kafka, PostgreSQL and Redis."""

from .kafka import Kafka
from .kafka import Missing as NoKafka
from .lossy import Lossy
from .needs import missing
from .postgres import Missing as NoPostgres
from .postgres import Postgres
from .redis import Redis
from .settings import merged


class Cluster:
    """Three nodes and what they stand on. `roles`: those of each, in order, if not all; `host`: where the servers listen; `redis`: it is there, not
    only in the configuration; or several that are one (`redis_modes.py`), which run; `broker`, `server`: the Kafka and the PostgreSQL of
    somebody else, who ends them; `more` is configuration of all nodes, by section."""

    def __init__(self, start, roles=((), (), ()), host="127.0.0.1", redis=True, broker=None, server=None, **more):
        self._start, self.proxies = start, []
        self.kafka, self.postgres = broker or Kafka(host), server or Postgres(host)
        self._own = [own for own, given in ((self.kafka, broker), (self.postgres, server)) if not given]
        self.redis = Redis(host) if isinstance(redis, bool) else redis
        if redis is True:
            self.redis.start()
        self.database = self.postgres.database()
        self.common = merged({
            "log": {"backend": "kafka"},
            "kafka": self.kafka.config(),
            "store": {"backend": "postgres", "url": self.postgres.url(self.database), "deadline": "1 s"},
            "registry": {"backend": "redis", "lease": "3 s"},
            "presence": {"node_lease": "5 s"},
        }, more)
        self.nodes = [self.node(f"n{number}", node={"roles": list(of)} if of else {}) for number, of in enumerate(roles, 1)]
        self.up = set(self.nodes)

    def lose(self, losing):
        """Every third message between nodes is lost, or none any more."""
        for proxy in self.proxies:
            proxy.losing = losing

    @property
    def prefix(self):
        """Of its topics."""
        return self.common["kafka"]["prefix"]

    def node(self, name, launch=True, **more):
        """Another node of that name, which reaches Redis, if it is one, through a proxy of its own; clients are not sent to it."""
        if isinstance(self.redis, Redis):
            self.proxies.append(Lossy(self.redis.port))
            way = {"url": self.proxies[-1].url}
        else:
            way = {"url": self.redis.url, "mode": self.redis.mode}
        own = {"node": {"id": name}, "registry": way}
        return self._start(config=merged(self.common, merged(own, more)), launch=launch)

    def end(self):
        """Ends the servers; the nodes end with the test."""
        for server in self._own:
            server.end()
        self.redis.kill()
        for proxy in self.proxies:
            proxy.close()


def needed(make):
    """What it makes; a missing server is a skip, under CI=true a failure."""
    try:
        return make()
    except (NoKafka, NoPostgres) as why:
        missing(str(why))
