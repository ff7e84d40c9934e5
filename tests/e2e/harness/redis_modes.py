"""Several real redis-servers that are one: a primary and its replicas watched by Sentinels, and a cluster."""

import itertools

from .redis import Redis, free_port
from .waiting import until

# How long a server that is silent counts as there, in milliseconds.
PATIENCE_MS = 1_000
# The longest that servers take to agree on anything.
AGREED_S = 60


class Sentinel(Redis):
    """One that watches a primary."""

    def __init__(self, primary, quorum):
        super().__init__()
        self.primary, self.quorum = primary, quorum

    def _command(self):
        with open(f"{self.dir}/sentinel.conf", "w", encoding="utf-8") as file:
            file.write(
                f"port {self.port}\nbind {self.host}\nprotected-mode no\n"
                f"sentinel monitor heddle {self.host} {self.primary.port} {self.quorum}\n"
                f"sentinel down-after-milliseconds heddle {PATIENCE_MS}\nsentinel failover-timeout heddle 2000\n"
                "sentinel parallel-syncs heddle 2\n")
        return ["redis-server", f"{self.dir}/sentinel.conf", "--sentinel", "--dir", self.dir]


class Sentinels:
    """A primary, two replicas, three Sentinels."""

    mode = "sentinel"

    def __init__(self):
        quick = ("--repl-diskless-sync-delay", "0")
        first = Redis(args=quick).start()
        self.servers = [first, *(Redis(args=(*quick, "--replicaof", first.host, str(first.port))).start() for _ in range(2))]
        self.sentinels = [Sentinel(first, 2).start() for _ in range(3)]
        for sentinel in self.sentinels:
            until(lambda sentinel=sentinel: self._knows(sentinel), "a Sentinel knows all servers", AGREED_S)

    @property
    def url(self):
        """For a client."""
        first, *others = self.sentinels
        more = "".join(f"&node={sentinel.host}:{sentinel.port}" for sentinel in others)
        return f"{first.url}?sentinelServiceName=heddle{more}"

    @staticmethod
    def _knows(sentinel):
        told = _pairs(sentinel.ask("SENTINEL", "MASTER", "heddle"))
        return (told["num-slaves"], told["num-other-sentinels"], told["flags"]) == ("2", "2", "master")

    def primary(self):
        """Who it is now, as all Sentinels say."""
        said = {tuple(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "heddle")) for sentinel in self.sentinels}
        if len(said) > 1:
            return None
        return next(server for server in self.servers if str(server.port) == said.copy().pop()[1])

    def back(self, server):
        """One that was killed is a replica now; Sentinels would say so to it too, after ten seconds."""
        server.start()
        primary = self.primary()
        server.ask("REPLICAOF", primary.host, primary.port)

    def follow(self):
        """Waits until all servers but the primary are its replicas, and the Sentinels know."""
        def followed():
            primary = self.primary()
            told = primary and primary.ask("ROLE")
            return told and told[0] == "master" and len(told[2]) == 2 and all(self._knows(sentinel) for sentinel in self.sentinels)

        until(followed, "two replicas follow the primary", AGREED_S)

    def kill(self):
        """All of them."""
        for server in (*self.sentinels, *self.servers):
            server.end()


class RedisCluster:
    """Three primaries, each with a replica."""

    mode = "cluster"

    def __init__(self):
        settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(PATIENCE_MS), "--cluster-replica-validity-factor", "0",
                    "--repl-diskless-sync-delay", "0")
        self._buses = [free_port() for _ in range(6)]
        self.servers = [Redis(args=(*settings, "--cluster-port", str(port))).start() for port in self._buses]
        for server, (low, high) in zip(self.servers, ((0, 5460), (5461, 10922), (10923, 16383)), strict=False):
            server.ask("CLUSTER", "ADDSLOTSRANGE", low, high)
        first = self.servers[0]
        for server in self.servers[1:]:
            server.ask("CLUSTER", "MEET", first.host, first.port, self._buses[0])
        for server in self.servers:
            until(lambda server=server: len(_nodes(server)) == 6, "all know each other", AGREED_S)
        for server, replica in zip(self.servers, self.servers[3:], strict=False):
            replica.ask("CLUSTER", "REPLICATE", server.ask("CLUSTER", "MYID"))
        self.follow()

    @property
    def url(self):
        """For a client."""
        first, *others = self.servers
        return f"{first.url}?" + "&".join(f"node={server.host}:{server.port}" for server in others)

    def follow(self):
        """Waits until three primaries with a replica each say that the cluster is whole."""
        def followed():
            flags = [line[2] for line in _nodes(self.servers[0])]
            return (all("cluster_state:ok" in server.ask("CLUSTER", "INFO") for server in self.servers)
                    and not any("fail" in flag or "handshake" in flag for flag in flags) and sum("master" in flag for flag in flags) == 3
                    and all("master_link_status:down" not in server.ask("INFO", "replication") for server in self.servers))

        until(followed, "the cluster is whole", AGREED_S)

    def primaries(self):
        """Those who have slots: the server, and its slots."""
        by_port = {server.port: server for server in self.servers}
        found = {}
        for line in _nodes(self._awake()):
            if "master" in line[2] and "fail" not in line[2] and line[8:]:
                found[by_port[int(line[1].split("@")[0].rsplit(":", 1)[1])]] = set(itertools.chain(*map(_slots, line[8:])))
        return found

    def slot(self, key):
        """Of a key or a channel."""
        return self._awake().ask("CLUSTER", "KEYSLOT", key)

    def _awake(self):
        return next(server for server in self.servers if server.child.poll() is None and not server.frozen)

    def owner(self, key):
        """The primary that has it; None: nobody for now."""
        slot = self.slot(key)
        return next((server for server, slots in self.primaries().items() if slot in slots), None)

    def move(self, slots):
        """Each of these goes to another primary, with its keys, as redis.io/docs/latest/commands/cluster-setslot has it."""
        primaries = self.primaries()
        ids = {server: server.ask("CLUSTER", "MYID") for server in primaries}
        for slot in slots:
            giver = next(server for server, has in primaries.items() if slot in has)
            taker = next(server for server in primaries if server is not giver)
            taker.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[giver])
            giver.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[taker])
            while keys := giver.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
                giver.ask("MIGRATE", taker.host, taker.port, "", 0, 5_000, "KEYS", *keys)
            for server in (taker, *primaries):
                server.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[taker])

    def kill(self):
        """All of them."""
        for server in self.servers:
            server.end()


def _pairs(flat):
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _nodes(server):
    """Of each node that it knows: id, address, flags, and so on, its slots from the ninth."""
    return [line.split() for line in server.ask("CLUSTER", "NODES").splitlines()]


def _slots(text):
    if text.startswith("["):
        return ()
    low, _, high = text.partition("-")
    return range(int(low), int(high or low) + 1)
