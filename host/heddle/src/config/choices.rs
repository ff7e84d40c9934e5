//! Keys that take one word of a few.

use super::setting::choice;

choice! {
    /// How the log of the process is written.
    LogFormat {
        /// For eyes.
        Text = "text",
        /// For programs, one object a line.
        Json = "json",
    }
    form "\"text\" or \"json\""
}

choice! {
    /// What becomes of a message to a user that was never seen.
    UnknownUsers {
        /// It waits for them.
        Accept = "accept",
        /// It is rejected with `unknown_user`.
        Reject = "reject",
    }
    form "\"accept\" or \"reject\""
}

choice! {
    /// Whether the trusted proxies say in a PROXY header whom they speak for.
    ProxyProtocol {
        /// They do not.
        Off = "off",
        /// Each of their connections begins with one.
        Trusted = "trusted",
    }
    form "\"off\" or \"trusted\""
}

choice! {
    /// Where nodes find each other and each other's connections.
    RegistryBackend {
        /// In this process: one node.
        Embedded = "embedded",
        /// In Redis or Valkey: many nodes.
        Redis = "redis",
    }
    form "\"embedded\" or \"redis\""
}

choice! {
    /// How Redis is run.
    RedisKind {
        /// One server.
        Standalone = "standalone",
        /// Replicas watched by Sentinel.
        Sentinel = "sentinel",
        /// Redis Cluster.
        Cluster = "cluster",
    }
    form "\"standalone\", \"sentinel\" or \"cluster\""
}

choice! {
    /// Where the log is.
    LogBackend {
        /// Files in the data directory of this node alone.
        Embedded = "embedded",
        /// Brokers, and any number of nodes.
        Kafka = "kafka",
    }
    form "\"embedded\" or \"kafka\""
}

choice! {
    /// How a node proves to brokers who it is.
    KafkaLogin {
        /// Not at all, or with a certificate.
        None = "none",
        /// It tells its password, over TLS only.
        Plain = "plain",
        /// It proves that it knows the password.
        ScramSha256 = "scram-sha-256",
        /// As before, with a longer digest.
        ScramSha512 = "scram-sha-512",
    }
    form "\"none\", \"plain\", \"scram-sha-256\" or \"scram-sha-512\""
}

choice! {
    /// Where the archive is.
    StoreBackend {
        /// A file in the data directory.
        Sqlite = "sqlite",
        /// A server of its own.
        Postgres = "postgres",
    }
    form "\"sqlite\" or \"postgres\""
}
