"""The three backends as real servers that encrypt, and ask who comes: with certificates of a test's authority."""

import hashlib
import os
import pwd
import shutil

from .kafka import Kafka, _free_port
from .postgres import Postgres
from .redis import Redis

USER = "node"
# With letters that URLs must quote.
PASSWORD = "p@ss/w0rd:100%\\ofthetests\\"
PLAIN = "tell-nobody-100"


class SecureKafka(Kafka):
    """Listeners by name: `login` asks for a password, `proof` for a certificate; `expired` and `elsewhere` have bad ones."""

    def __init__(self, authority):
        self.authority = authority
        self.ports = {}
        self.format_options = " ".join(
            f"--add-scram 'SCRAM-SHA-{bits}=[name={USER},password={PLAIN}]'" for bits in (256, 512))
        super().__init__()

    def at(self, listener):
        """The broker's address with that listener."""
        return f"127.0.0.1:{self.ports[listener]}"

    def _configure(self, controller):
        super()._configure(controller)
        self.ports = {name: _free_port() for name in ("login", "proof", "expired", "elsewhere")}
        ports = {"plaintext": self.port, **self.ports}
        kinds = {"login": "SASL_SSL", "proof": "SSL", "expired": "SSL", "elsewhere": "SSL", "plaintext": "PLAINTEXT"}
        advertised = ",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in ports.items())
        module = "org.apache.kafka.common.security"
        scram = f"{module}.scram.ScramLoginModule required;"
        lines = [
            f"listeners={advertised},CONTROLLER://127.0.0.1:{controller}", f"advertised.listeners={advertised}",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT," + ",".join(f"{n.upper()}:{k}" for n, k in kinds.items()),
            "listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"listener.name.login.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{PLAIN}\";",
            f"listener.name.login.scram-sha-256.sasl.jaas.config={scram}",
            f"listener.name.login.scram-sha-512.sasl.jaas.config={scram}",
            "listener.name.proof.ssl.client.auth=required",
        ]
        certificates = {
            "login": self.authority.issue("kafka-login"), "proof": self.authority.issue("kafka-proof"),
            "expired": self.authority.issue("kafka-expired", days=-1),
            "elsewhere": self.authority.issue("kafka-elsewhere", hosts="DNS:kafka.elsewhere.example"),
        }
        for name, (certificate, key) in certificates.items():
            both = self.directory / f"{name}.pem"
            both.write_text(key.read_text() + certificate.read_text())
            here = f"listener.name.{name}.ssl"
            lines += [f"{here}.keystore.type=PEM", f"{here}.keystore.location={both}", f"{here}.truststore.type=PEM",
                      f"{here}.truststore.location={self.authority.ca}"]
        with open(self.directory / "server.properties", "a", encoding="utf-8") as properties:
            properties.write("\n".join([*lines, ""]))


class SecureRedis(Redis):
    """TLS only, with certificates on both sides, and one user."""

    def __init__(self, authority, proof=True):
        super().__init__()
        self.authority, self.proof = authority, proof
        self.certificate, self.key = authority.issue("redis")
        self.own = authority.issue("redis-test")

    @property
    def address(self):
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def _listens(self):
        return ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file", str(self.certificate), "--tls-key-file",
                str(self.key), "--tls-ca-cert-file", str(self.authority.ca), "--tls-auth-clients",
                "yes" if self.proof else "no", "--user", "default", "on", "nopass", "~*", "&*", "-@all", "+ping", "+hgetall",
                "+client", "--user", USER, "on", f"#{hashlib.sha256(PASSWORD.encode()).hexdigest()}", "~*", "&*", "+@all"]

    def _connect(self):
        context = self.authority.trust()
        context.load_cert_chain(*self.own)
        return context.wrap_socket(super()._connect(), server_hostname="127.0.0.1")


class SecurePostgres(Postgres):
    """`heddle` sits beside the server; `node` comes over TLS with a password, `proved` with a certificate."""

    def __init__(self, authority):
        self.authority = authority
        super().__init__()
        self.sql("postgres", "CREATE ROLE proved LOGIN; SET password_encryption = 'scram-sha-256'")
        quoted = PASSWORD.replace("'", "''")
        self.sql("postgres", f"CREATE ROLE {USER} LOGIN PASSWORD '{quoted}'")

    @property
    def address(self):
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def owned_by(self, role):
        """A new, empty database of that role."""
        name = self.database()
        self.sql("postgres", f"ALTER DATABASE {name} OWNER TO {role}")
        return name

    def _prepare(self):
        data = self.directory / "data"
        certificate, key = self.authority.issue("postgres", hosts="IP:127.0.0.1")
        for source, name in ((certificate, "server.pem"), (key, "server.key"), (self.authority.ca, "ca.pem")):
            copy = data / name
            shutil.copy(source, copy)
            copy.chmod(0o600)
            if os.geteuid() == 0:
                user = pwd.getpwnam("postgres")
                os.chown(copy, user.pw_uid, user.pw_gid)
        (data / "pg_hba.conf").write_text(
            "host all heddle 127.0.0.1/32 trust\n"
            f"hostssl all {USER} 127.0.0.1/32 scram-sha-256\n"
            "hostssl all proved 127.0.0.1/32 cert\n")

    def _settings(self):
        return ("ssl=on", "ssl_cert_file=server.pem", "ssl_key_file=server.key", "ssl_ca_file=ca.pem")


__all__ = ["PASSWORD", "PLAIN", "USER", "SecureKafka", "SecurePostgres", "SecureRedis"]
