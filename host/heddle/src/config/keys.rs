//! The table of keys. What stands here is the configuration: `deploy/heddle.toml` and `heddle config show --defaults` are printed from it.

use std::path::PathBuf;

use super::choices::{
    KafkaLogin, LogBackend, LogFormat, ProxyProtocol, RedisKind, RegistryBackend, StoreBackend, UnknownUsers,
};
use super::setting::{Free, Network, Size, Span};
use super::table::sections;

sections! {
    /// This process.
    node: Node {
        /// "gateway": clients connect here, at `gateway.listen`. "worker": derives and archives its share of the partitions. On Kafka a node may be one of both.
        roles: Vec<String> = ["gateway", "worker"];
        /// What this node is called among the others; each has a name of its own.
        id: String = "node-1";
        /// Where everything durable lives: the log, the archive, the cache of native code. One process at a time.
        data_dir: PathBuf = "./heddle-data";
        /// Threads that serve connections and run policies; 0 takes one per core.
        worker_threads: u64 = 0 [0, 1024];
    }
    /// Where clients connect, and what one of them may use.
    gateway: Gateway {
        /// Address of WebSocket and REST. Port 0 takes a free one.
        listen: std::net::SocketAddr = "127.0.0.1:7600";
        /// Connections of one user; one more closes with 4403.
        connections_per_user: u64 = 5 [1, 1000];
        /// Connections from one address; one more is refused before the upgrade, with 429.
        connections_per_ip: u64 = 10 [1, 1_000_000];
        /// Loopback does not count against `connections_per_ip`. On in `heddle dev` only.
        loopback_exempt: bool = false;
        /// Sockets open at once, before and after their upgrade; beyond it new ones wait.
        sockets_max: u64 = 18_000 [1, 10_000_000];
        /// Sockets open at once from one address that is no trusted proxy; one more is closed at once.
        sockets_per_ip: u64 = 64 [1, 1_000_000];
        /// File with the certificate in PEM form, then those that lead to its authority. With it, this listener speaks TLS only.
        tls_certificate: PathBuf = "";
        /// File with its private key in PEM form, without a passphrase.
        tls_key: PathBuf = "";
        /// TLS handshakes under way at once; more wait for their turn, within `handshake_deadline`.
        tls_handshakes_max: u64 = 1_024 [1, 1_000_000];
        /// Proxies whose `X-Forwarded-For` names the client.
        trusted_proxies: Vec<Network> = [];
        /// "trusted": each connection of a trusted proxy begins with a PROXY header (version 1 or 2) that names the client, or is closed. Nobody
        /// else's is read.
        proxy_protocol: ProxyProtocol = "off";
        /// Origins of pages that may call REST, like "https://chat.example".
        allowed_origins: Vec<String> = [];
        /// From a connection's acceptance to its `hello`: PROXY header, TLS, headers, upgrade and authentication.
        handshake_deadline: Span = "5 s" ["100 ms", "1 min"];
        /// The server pings so often; a connection from which nothing came until the next ping closes with 4012.
        heartbeat: Span = "30 s" ["100 ms", "1 h"];
        /// How long one write to a socket may take before the client is slow: 4008.
        write_timeout: Span = "10 s" ["100 ms", "10 min"];
        /// How long a REST call may take, its body included. An operator's may take as long as a compiler on top, see `policies.compile_time`.
        rest_timeout: Span = "30 s" ["100 ms", "10 min"];
        /// Frames that a connection may send a second, on average, twice as many at once; more closes with 4013.
        frames_per_second_max: u64 = 1_000 [1, 1_000_000];
        /// Sends of one connection that are not durable yet; then nothing is read from it.
        sends_in_flight_max: u64 = 256 [1, 65_536];
        /// Conversations of one connection with a send of unknown outcome; one more closes with 4003.
        unsettled_max: u64 = 64 [1, 65_536];
        /// Typing indicators that one connection has on; the oldest ends early.
        typing_max: u64 = 64 [1, 65_536];
        /// A typing indicator ends by itself after so long.
        typing_timeout: Span = "5 s" ["100 ms", "1 min"];
        /// A drain spreads its closes over so long.
        drain_pace: Span = "5 s" ["0 ms", "10 min"];
        /// The longest delay before a reconnect that a drain asks for.
        drain_reconnect_delay: Span = "5 s" ["0 ms", "10 min"];
        /// How long a drain waits for connections to end, its pace included.
        drain_deadline: Span = "15 s" ["0 s", "1 h"];
    }
    /// Who a client is. At least one of `secret`, `secret_file`, `keys` and `jwks_url` is needed.
    auth: Auth {
        /// Secret for HS256, at least 32 bytes.
        secret: String = "" : secret;
        /// File that holds the secret instead.
        secret_file: PathBuf = "";
        /// Files with public keys in PEM (EdDSA, ES256) or a JWKS in JSON.
        keys: Vec<String> = [];
        /// Where a JWKS with public keys is fetched from: https://, or http:// on loopback. Keys that were fetched count while it is away.
        jwks_url: String = "";
        /// File with the authorities that its certificate must be of, in PEM form. Empty: those of the system.
        jwks_ca: PathBuf = "";
        /// How often it is fetched.
        jwks_refresh: Span = "5 min" ["1 s", "1 d"];
        /// A token that names a key which is not there makes it be fetched too, at most once in so long.
        jwks_unknown_interval: Span = "10 s" ["100 ms", "1 h"];
        /// How long one fetch may take.
        jwks_deadline: Span = "5 s" ["100 ms", "1 min"];
        /// Bytes of the answer; a longer one is not taken.
        jwks_bytes_max: Size = "256 KiB" ["1 KiB", "4 MiB"];
        /// If set, the `aud` that a token must carry.
        audience: String = "";
        /// If set, the `iss` that a token must carry.
        issuer: String = "";
        /// Clocks may differ by so much.
        leeway: Span = "5 s" ["0 s", "5 min"];
        /// Lets a client bring its token in `hello`. On in `heddle dev`.
        first_frame: bool = false;
        /// Connections that have not shown a token yet, if `first_frame` is on.
        first_frame_connections_max: u64 = 256 [1, 100_000];
    }
    /// People.
    users: Users {
        /// What becomes of a message to a user that was never seen: "accept" or "reject".
        unknown: UnknownUsers = "accept";
        /// Devices of a user; the least recently seen is forgotten first.
        devices_max: u64 = 20 [1, 1_000];
        /// Users whose first day is kept in memory.
        cached_max: u64 = 50_000 [16, 10_000_000];
        /// Users whom one user may block.
        blocks_max: u64 = 1_000 [1, 100_000];
        /// Blocks of all users that are kept in memory, some 16 bytes each; with more of them the store is asked about each message.
        blocks_cached_max: u64 = 1_000_000 [16, 100_000_000];
        /// Users whose tokens are taken back at once (`heddle user revoke`); all of them are kept in memory.
        revoked_max: u64 = 100_000 [1, 10_000_000];
    }
    /// Groups.
    groups: Groups {
        /// Members of a group.
        members_max: u64 = 10_000 [2, 100_000];
        /// Members that share one record of a message.
        chunk_members: u64 = 1_000 [1, 10_000];
        /// Up to so many members receipts are events per member, above it a counter.
        receipts_members_max: u64 = 32 [0, 1_000];
        /// Groups kept in memory per partition.
        cached_max: u64 = 2_000 [16, 1_000_000];
        /// How long a change of members waits to be applied before it is answered with 503.
        change_deadline: Span = "5 s" ["100 ms", "1 min"];
    }
    /// The log: the truth of the platform.
    log: LogSection {
        /// "embedded": files in `node.data_dir`, for one node. "kafka": the topics of section `kafka`, for any number of nodes. The other keys here are of the embedded log.
        backend: LogBackend = "embedded";
        /// Partitions of `messages` and of `group_messages`, each. Fixed when the log is made.
        partitions: u64 = 16 [1, 1_024];
        /// What is older is removed, once it is archived and derived.
        retention: Span = "7 d" ["1 s", "3650 d"];
        /// How often retention runs.
        retention_interval: Span = "1 min" ["100 ms", "1 d"];
        /// Bytes of one segment file; retention removes whole segments.
        segment_bytes: Size = "64 MiB" ["16 KiB", "1 GiB"];
        /// Bytes of all segments, at which sends are refused; "0 B": the disk is the bound.
        bytes_max: Size = "0 B" ["0 B", "1048576 GiB"];
        /// For how long a message id is remembered.
        dedupe_window: Span = "30 d" ["1 s", "3650 d"];
        /// Appends that wait for the commit thread; more are refused.
        queue_max: u64 = 8_192 [16, 1_000_000];
        /// Bytes of appends that wait for the commit thread.
        queue_bytes_max: Size = "64 MiB" ["1 MiB", "4 GiB"];
        /// Bytes of records in one group commit.
        commit_bytes_max: Size = "4 MiB" ["64 KiB", "64 MiB"];
        /// Records in one group commit.
        commit_records_max: u64 = 4_096 [1, 65_536];
        /// How long copies for a sender's other devices wait to share the commit of something that is waited for.
        derive_linger: Span = "5 ms" ["0 ms", "1 s"];
        /// The newest records, kept in memory.
        cache_bytes_max: Size = "32 MiB" ["1 MiB", "4 GiB"];
        /// Block cache of the index of message ids.
        ids_cache_bytes: Size = "16 MiB" ["1 MiB", "4 GiB"];
        /// A log that a failed sync closed is opened anew from disk so many times within `log.reopen_window`; after that the process ends.
        reopen_max: u64 = 5 [0, 1000];
        /// For how long a reopening counts.
        reopen_window: Span = "10 min" ["1 s", "1 d"];
        /// Before the first reopening; before each further one within the window twice as long.
        reopen_delay: Span = "200 ms" ["1 ms", "1 min"];
    }
    /// A log on Kafka or Redpanda.
    kafka: KafkaSection {
        /// Some brokers, with commas: "kafka-1:9092,kafka-2:9092".
        brokers: String = "";
        /// Connections to brokers are encrypted, and each broker's certificate and name is checked.
        tls: bool = false;
        /// File with the authorities that brokers' certificates must be of, in PEM form. Empty: those of the system. It, the two below, user and
        /// password are exchanged by `heddle config reload`.
        tls_ca: PathBuf = "";
        /// File with this node's certificate in PEM form, then those that lead to its authority, if brokers ask for one.
        tls_certificate: PathBuf = "";
        /// File with its private key in PEM form, without a passphrase.
        tls_key: PathBuf = "";
        /// How this node proves who it is: "none", "plain" (over TLS only), "scram-sha-256" or "scram-sha-512".
        sasl: KafkaLogin = "none";
        /// Its user at the brokers.
        user: String = "";
        /// Its password.
        password: String = "" : secret;
        /// File that holds the password instead.
        password_file: PathBuf = "";
        /// Topics are called PREFIX.messages, PREFIX.group_messages and PREFIX.control, the consumer group PREFIX.workers.
        prefix: String = "heddle";
        /// Partitions of PREFIX.messages and of PREFIX.group_messages, each, when the topics are made; later `heddle log partitions` raises them.
        partitions: u64 = 100 [1, 1_024];
        /// Copies of each partition, when the topics are made.
        replication: u64 = 3 [1, 32];
        /// Copies that must have a record before it counts, when the topics are made.
        min_in_sync: u64 = 2 [1, 32];
        /// Takes topics with fewer than 3 copies or fewer than 2 in sync: they lose records with a broker.
        lenient: bool = false;
        /// What is older is removed, when the topics are made; later theirs counts, as a node finds it at its start. Sends are refused while a record has waited for half of it to be worked on or archived.
        retention: Span = "7 d" ["10 s", "3650 d"];
        /// Of two records of one message so near each other the second does not count. What is sent again later is found by the archive, or in memory until it is archived. The same at all nodes.
        dedupe_window: Span = "10 min" ["1 s", "1 d"];
        /// Message ids of the last `dedupe_window` in memory, some 110 bytes each, and as many that are not archived yet. Each partition has an equal share; above it the window is shorter, and what is sent again is "unavailable" until the archive has come on. The same at all nodes.
        ids_max: u64 = 4_000_000 [1_024, 1_000_000_000];
        /// Records of one partition that do not count, until they are archived; above it this node reads that partition no further.
        skipped_max: u64 = 20_000 [16, 10_000_000];
        /// Records that wait for brokers, of clients and of workers each; more are refused, or wait.
        queue_max: u64 = 100_000 [16, 10_000_000];
        /// Bytes of them.
        queue_bytes_max: Size = "128 MiB" ["1 MiB", "4 GiB"];
        /// A send that the brokers do not acknowledge in this time is answered with "unavailable".
        append_deadline: Span = "5 s" ["100 ms", "25 s"];
        /// A node that the others have not heard of for this long loses its partitions.
        session_timeout: Span = "10 s" ["1 s", "5 min"];
        /// Brokers answer a node that reads once they have so many bytes for it. More makes fewer and fuller answers: with "64 KiB" and a `fetch_wait`
        /// of "10 ms" a message costs a third less processor time, and arrives up to 10 ms later.
        fetch_bytes: Size = "1 B" ["1 B", "16 MiB"];
        /// They answer after this time even so.
        fetch_wait: Span = "100 ms" ["1 ms", "5 s"];
        /// The newest records, kept in memory.
        cache_bytes_max: Size = "256 MiB" ["1 MiB", "64 GiB"];
    }
    /// The archive, users, groups, contacts and the catalog.
    store: StoreSection {
        /// "sqlite": a file in `node.data_dir`. "postgres": the database of `url`.
        backend: StoreBackend = "sqlite";
        /// Postgres: where it is, like "postgres://USER:PASSWORD@HOST:5432/DATABASE".
        url: String = "" : secret;
        /// Postgres: file that holds the URL instead.
        url_file: PathBuf = "";
        /// Postgres: URLs of more databases, at least two, over which the archive is spread; that of `url` keeps all that belongs to no partition of the
        /// log. Their number divides that of the partitions, and neither it nor their order can be changed afterwards.
        shards: Vec<String> = [] : secret;
        /// Postgres: file that holds these URLs instead, one a line.
        shards_file: PathBuf = "";
        /// Postgres: file with authorities that the server's certificate may be of, beside those of the system, in PEM form. With it connections are
        /// encrypted, and certificate and host are checked, unless the URL has another `sslmode`.
        tls_ca: PathBuf = "";
        /// Postgres: file with this node's certificate in PEM form, then those that lead to its authority, if the server asks for one.
        tls_certificate: PathBuf = "";
        /// Postgres: file with its private key in PEM form, without a passphrase.
        tls_key: PathBuf = "";
        /// Postgres: connections of this node to each database.
        connections_max: u64 = 16 [2, 1_000];
        /// Postgres: how long a call may take; a batch of the archive six times that. A database that is away for longer stops no send and no push.
        deadline: Span = "5 s" ["100 ms", "1 min"];
        /// Postgres: positions of each partition of the log that share a table of the archive; old tables can be dropped.
        range_positions: u64 = 4_194_304 [1_024, 1_099_511_627_776];
        /// SQLite: connections that read. Writes have one of their own.
        readers_max: u64 = 4 [1, 64];
        /// SQLite: writes that wait for the writer.
        queue_max: u64 = 256 [16, 1_000_000];
        /// Records in one archive transaction.
        archive_records_max: u64 = 2_000 [1, 100_000];
        /// Bytes of their records. So many records, or so many bytes, are written without waiting for the interval.
        archive_bytes_max: Size = "8 MiB" ["64 KiB", "1 GiB"];
        /// Pause between archive transactions while there is little to write and nobody waits for it. On Kafka at most half of `delivery.history_deadline`: without Redis no node hears that somebody waits at another.
        archive_interval: Span = "5 s" ["0 ms", "1 min"];
    }
    /// From the log to devices.
    delivery: DeliverySection {
        /// Events of a connection that are sent and not acknowledged; then the gateway waits.
        unacknowledged_max: u64 = 1_000 [1, 100_000];
        /// Bytes of them.
        unacknowledged_bytes_max: Size = "1 MiB" ["1 KiB", "64 MiB"];
        /// Without an acknowledgement for so long, while some are due, a connection closes with 4008.
        slow_timeout: Span = "1 min" ["100 ms", "1 d"];
        /// Un-archived events in memory per partition; readers below them go to the archive.
        tail_events_max: u64 = 16_384 [16, 10_000_000];
        /// Bytes of their records, of all partitions together: about twice as much memory. Each partition may hold its share in any case.
        tail_bytes_max: Size = "256 MiB" ["1 MiB", "64 GiB"];
        /// Events read from the archive at once.
        page_events: u64 = 200 [1, 10_000];
        /// Bytes that a worker reads from the log at once.
        read_bytes: Size = "256 KiB" ["4 KiB", "64 MiB"];
        /// Pushes that wait for a connection; beyond it the connection reads its stream.
        mailbox_max: u64 = 128 [1, 65_536];
        /// At most one receipt per reader and conversation in so long.
        receipt_interval: Span = "1 s" ["0 ms", "1 min"];
        /// At most one write of a device's position in so long.
        position_interval: Span = "1 s" ["0 ms", "1 min"];
        /// How long a read of history waits for the archive.
        history_deadline: Span = "2 s" ["0 ms", "1 min"];
        /// Times that a record which fails for its own sake is tried before it is set aside.
        poison_tries: u64 = 3 [1, 100];
        /// Messages on their way into the log, on this node.
        in_flight_max: u64 = 100_000 [16, 10_000_000];
    }
    /// Who is connected where, and what nodes tell each other: hints only, messages never depend on it.
    registry: RegistrySection {
        /// Where it is: "embedded" for one node, "redis" for Redis or Valkey.
        backend: RegistryBackend = "embedded";
        /// Address of Redis, like "redis://user:password@redis.example:6379"; "rediss://" for TLS, "?node=HOST:PORT" for more of a cluster, "?sentinelServiceName=NAME" for Sentinel.
        url: String = "" : secret;
        /// With "rediss://": file with the authorities that Redis' certificate must be of, in PEM form. Empty: those of the system. It and the two
        /// below are exchanged by `heddle config reload`.
        tls_ca: PathBuf = "";
        /// With "rediss://": file with this node's certificate in PEM form, then those that lead to its authority, if Redis asks for one.
        tls_certificate: PathBuf = "";
        /// With "rediss://": file with its private key in PEM form, without a passphrase.
        tls_key: PathBuf = "";
        /// What runs there: "standalone", "sentinel" or "cluster".
        mode: RedisKind = "standalone";
        /// What all keys and channels in Redis begin with.
        prefix: String = "heddle";
        /// How long a call to Redis may take; after three missed in a row nobody waits until it answers again.
        deadline: Span = "100 ms" ["5 ms", "10 s"];
        /// Calls to Redis that wait for an answer, and messages to other nodes that wait to be sent, each; a call counts once for every 4 KiB of it.
        queue_max: u64 = 4_096 [16, 1_000_000];
        /// Bytes of messages to other nodes that wait to be sent.
        queue_bytes_max: Size = "16 MiB" ["1 MiB", "1 GiB"];
        /// A node that was not heard of for so long is dead, and its connections count no more.
        lease: Span = "10 s" ["1 s", "5 min"];
    }
    /// Who is online.
    presence: PresenceSection {
        /// A connection of which nothing was heard for so long counts as gone.
        lease: Span = "90 s" ["1 s", "1 d"];
        /// Users with a known status, at whatever node they are.
        users_max: u64 = 200_000 [16, 10_000_000];
        /// Users that one connection may watch.
        watched_max: u64 = 500 [1, 10_000];
        /// Connections that may watch one user.
        watchers_max: u64 = 10_000 [1, 1_000_000];
        /// Where several nodes are one platform: a node that others have not heard for so long counts as gone, and its connections with it.
        /// Each tells the others three times within it, and at least every 5 s, that it is there.
        node_lease: Span = "15 s" ["1 s", "1 h"];
        /// Connections at other nodes that a node keeps in mind.
        remote_max: u64 = 400_000 [16, 100_000_000];
        /// While a user is online, activity within so long is noted without asking the policy.
        pause: Span = "5 s" ["0 ms", "5 min"];
    }
    /// The policies in use. A hook without one gets the built-in component.
    policies: PoliciesSection {
        /// Plugin files, or names of built-in policies (token-bucket), in the order in which they are asked. All must allow.
        rate_limit: Vec<String> = [];
        /// Plugin files, or inbox-routing, in the order in which they are asked. Changes are passed on, the first refusal ends it.
        routing: Vec<String> = [];
        /// Plugin files, or group-fanout. Pull wins; per member the more restrictive answer.
        fanout: Vec<String> = [];
        /// Plugin files, or last-seen. The lowest status and the least revealing answer win.
        presence: Vec<String> = [];
        /// Merged over the `[config]` of a plugin, by its name: `[policies.config.token-bucket]` with `burst = 50`.
        config: Free = {};
        /// Plugins in one chain.
        chain_max: u64 = 8 [1, 64];
        /// Public keys of minisign, as in the .pub files of `heddle plugin keys new`: a plugin signed with one of them is trusted.
        trusted_keys: Vec<String> = [];
        /// Refuse plugins that no trusted key has signed (FILE.minisig beside FILE), and a lower version of a plugin after a higher one. The
        /// built-in ones need no signature.
        require_signature: bool = false;
        /// The most memory that a manifest may ask for.
        memory_max: Size = "64 MiB" ["1 MiB", "4 GiB"];
        /// The longest deadline that a manifest may ask for.
        deadline_max: Span = "50 ms" ["1 ms", "10 s"];
        /// CPU time for a plugin's start and for its `configure`, each.
        start_deadline: Span = "500 ms" ["10 ms", "1 min"];
        /// Stack of a call; deep recursion ends there.
        stack_max: Size = "256 KiB" ["16 KiB", "1 MiB"];
        /// Elements of one table; embedded engines need about 8,000.
        table_elements_max: u64 = 20_000 [100, 1_000_000];
        /// Instances at one time, of all plugins together: worker threads, times plugins, times 2 during a change. They take address space.
        instances_max: u64 = 256 [16, 4_096];
        /// Instances that a plugin keeps ready when nobody calls; 0 makes one for each call.
        warm_instances_max: u64 = 32 [0, 4_096];
        /// Calls after which an instance is renewed.
        calls_per_instance_max: u64 = 100_000 [1, 1_000_000_000];
        /// Bytes that one call may hand to the host, in texts and lists.
        call_output_max: Size = "4 MiB" ["64 KiB", "256 MiB"];
        /// Lines that one call may write to the plugin's log; what follows is dropped.
        log_lines_per_call_max: u64 = 64 [0, 10_000];
        /// Lines a second of a plugin's log; what follows is dropped and counted.
        log_lines_per_second_max: u64 = 100 [0, 100_000];
        /// Lines of a plugin's log that are kept; the oldest go first.
        log_lines_kept: u64 = 1_000 [1, 100_000];
        /// CPU time for compiling one component, in a process of its own, behind everybody who serves. By the clock it may take five times as long,
        /// and a minute at least.
        compile_time: Span = "1 min" ["1 s", "1 h"];
        /// Memory for compiling one component.
        compile_memory: Size = "2 GiB" ["64 MiB", "64 GiB"];
        /// Native code of plugins in `native` of the data directory. What a loaded plugin came from is kept whatever it takes; of the rest what was
        /// used longest ago goes first.
        native_cache_max: Size = "512 MiB" ["1 MiB", "1024 GiB"];
        /// Plugin files in `plugins` of the data directory, so that a node has them while the store is away. What a generation needs that decides,
        /// drains or is kept stays whatever it takes; of the rest what was used longest ago goes first.
        plugin_files_max: Size = "256 MiB" ["1 MiB", "1024 GiB"];
        /// Plugin files in the store. What a generation needs stays, and so does what was deployed within 2 minutes; of the rest what was deployed
        /// longest ago goes first, and no rollback reaches it any more.
        catalog_max: Size = "1 GiB" ["1 MiB", "1024 GiB"];
        /// Plugins whose name and version the store knows, so that no older one is taken for new; those deployed longest ago go first.
        catalog_plugins_max: u64 = 10_000 [64, 10_000_000];
        /// Generations in the store, the newest; those that still drain stay.
        catalog_generations_max: u64 = 10_000 [128, 10_000_000];
        /// Rows of the audit, the newest.
        audit_max: u64 = 100_000 [100, 100_000_000];
        /// Keys of rate limits whose state is kept; the oldest go first.
        states_max: u64 = 200_000 [16, 100_000_000];
        /// Generations that are drained (no record of theirs waits any more) and kept loaded, for a quick way back.
        generations_max: u64 = 4 [1, 64];
        /// Generations that decide no more and are not drained yet, held loaded; of more, the one that was not asked for longest is read from the
        /// catalog again when a record of it is met.
        draining_max: u64 = 4 [1, 64];
        /// Takes a plugin back by itself: after 5 faults in a row, or when over 1 % of at least 100 calls in 10 s fail, its version before decides.
        breaker: bool = true;
        /// Of so many calls of a plugin one is repeated on a fresh instance, to see that it is pure; 0: none.
        repeat_one_in: u64 = 1_000 [0, 1_000_000_000];
        /// A canary is abandoned when its share of refusals differs from the others' by so many points, and more than by chance.
        canary_band_percent: u64 = 5 [1, 100];
        /// Hooks whose calls are kept for `heddle plugin replay`.
        record: Vec<String> = ["rate-limit", "routing", "fanout", "presence"];
        /// Of so many calls of a plugin one is kept; 0: none.
        record_one_in: u64 = 16 [0, 1_000_000_000];
        /// Calls that are kept, the newest.
        record_calls_max: u64 = 20_000 [1, 10_000_000];
        /// Bytes of them, at most.
        record_bytes_max: Size = "16 MiB" ["64 KiB", "4 GiB"];
        /// Keep what people wrote as they wrote it, in what is recorded and in what a shadow shows; else letters and digits of texts, data and tags,
        /// in calls and in answers, become `x`.
        record_bodies: bool = false;
        /// Names of tags whose values are kept all the same.
        record_tags: Vec<String> = [];
    }
    /// The listener for operators.
    admin: Admin {
        /// Its address. Keep it off the internet. Port 0 takes a free one.
        listen: std::net::SocketAddr = "127.0.0.1:7601";
        /// File with the certificate in PEM form, then those that lead to its authority. With it, this listener speaks TLS only.
        tls_certificate: PathBuf = "";
        /// File with its private key in PEM form, without a passphrase.
        tls_key: PathBuf = "";
        /// Token for everything. Empty: only /healthz, /readyz, /version and /metrics answer.
        token: String = "" : secret;
    }
    /// What the process tells about itself.
    telemetry: Telemetry {
        /// "json" or "text".
        format: LogFormat = "json";
        /// What is logged, as `tracing` filters are written: "info", "warn,heddle_log=debug".
        filter: String = "info,fjall=warn,lsm_tree=warn";
    }
}
