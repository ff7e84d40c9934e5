"""The databases of an archive that is spread: which is whose, and one of them away."""

import hashlib


class Shards:
    """So many databases of one server, and the keys that name them."""

    def __init__(self, postgres, count):
        self.postgres = postgres
        self.names = [postgres.database() for _ in range(count)]

    def store(self):
        """Keys of section `store`. One that is away refuses at once; a busy machine has time to answer."""
        return {"deadline": "5 s", "shards": [self.postgres.url(name) for name in self.names]}

    def of(self, who):
        """The shard of a user's or a group's home."""
        return int.from_bytes(hashlib.sha256(who.encode()).digest()[:8], "big") % len(self.names)

    def away(self, nth):
        """Its connections are cut and new ones refused, as if the server were not there."""
        self._sql(f'ALTER DATABASE "{self.names[nth]}" ALLOW_CONNECTIONS false')
        self._sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.names[nth]}'")

    def back(self, nth):
        """It takes connections again."""
        self._sql(f'ALTER DATABASE "{self.names[nth]}" ALLOW_CONNECTIONS true')

    def rows(self, nth, statement):
        """Of one of them."""
        return self.postgres.sql(self.names[nth], statement)

    def _sql(self, statement):
        self.postgres.sql("postgres", statement)
