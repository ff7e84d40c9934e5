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
# Another user of Kafka, and its password.
SECOND, SECOND_PLAIN = "second", "tell-nobody-200"
LISTENERS = ("login", "proof", "expired", "elsewhere")


class SecureKafka(Kafka):
    """Listeners by name: `login` asks for a password, `proof` for a certificate; `expired` and `elsewhere` have bad ones."""

    def __init__(self, authority, also=()):
        self.authority, self.also = authority, also
        self.ports = {}
        self.format_options = " ".join(
            f"--add-scram 'SCRAM-SHA-{bits}=[name={USER},password={PLAIN}]'" for bits in (256, 512))
        super().__init__()

    def at(self, listener):
        """The broker's address with that listener."""
        return f"127.0.0.1:{self.ports[listener]}"

    def _configure(self, controller):
        super()._configure(controller)
        self.ports = {name: _free_port() for name in LISTENERS}
        ports = {"plaintext": self.port, **self.ports}
        kinds = {"login": "SASL_SSL", "proof": "SSL", "expired": "SSL", "elsewhere": "SSL", "plaintext": "PLAINTEXT"}
        advertised = ",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in ports.items())
        module = "org.apache.kafka.common.security"
        scram = f"{module}.scram.ScramLoginModule required;"
        lines = [
            f"listeners={advertised},CONTROLLER://127.0.0.1:{controller}", f"advertised.listeners={advertised}",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT," + ",".join(f"{n.upper()}:{k}" for n, k in kinds.items()),
            "listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"listener.name.login.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{PLAIN}\" "
            f"user_{SECOND}=\"{SECOND_PLAIN}\";",
            f"listener.name.login.scram-sha-256.sasl.jaas.config={scram}",
            f"listener.name.login.scram-sha-512.sasl.jaas.config={scram}",
            "listener.name.proof.ssl.client.auth=required",
        ]
        self.become(self.authority, *self.also)
        for name in LISTENERS:
            here, folder = f"listener.name.{name}.ssl", self.directory
            lines += [f"{here}.keystore.type=PEM", f"{here}.keystore.location={folder}/{name}.pem", f"{here}.truststore.type=PEM",
                      f"{here}.truststore.location={folder}/believed.pem"]
        with open(self.directory / "server.properties", "a", encoding="utf-8") as properties:
            properties.write("\n".join([*lines, ""]))

    def _tell(self):
        """Strangers are told nothing."""

    def become(self, authority, *also):
        """When it starts next it is of this authority, and believes it, and those others."""
        certificates = {
            "login": authority.issue("kafka-login"), "proof": authority.issue("kafka-proof"),
            "expired": authority.issue("kafka-expired", days=-1),
            "elsewhere": authority.issue("kafka-elsewhere", hosts="DNS:kafka.elsewhere.example"),
        }
        for name, (certificate, key) in certificates.items():
            (self.directory / f"{name}.pem").write_text(key.read_text() + certificate.read_text())
        (self.directory / "believed.pem").write_text("".join(one.ca.read_text() for one in (authority, *also)))


class SecureRedis(Redis):
    """TLS only, with certificates on both sides, and one user."""

    def __init__(self, authority, proof=True):
        super().__init__()
        self.proof = proof
        self.become(authority)

    def become(self, authority):
        """When it starts next it is of this authority, and believes nobody else."""
        self.authority = authority
        self.certificate, self.key = authority.issue("redis")
        self.own = authority.issue("redis-test")

    @property
    def address(self):
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def _tell(self):
        """Its one user may not ask."""

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


class Proof:
    """The three files by which a node believes a backend and proves itself, at the same place whatever is in them."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def __getitem__(self, key):
        return self.folder / key

    def config(self):
        """The keys that name them."""
        return {key: str(self[key]) for key in ("tls_ca", "tls_certificate", "tls_key")}

    def of(self, authority, *also):
        """A new certificate of this authority; it is believed, and so are those others."""
        certificate, key = authority.issue("a-node")
        self["tls_ca"].write_text("".join(one.ca.read_text() for one in (authority, *also)))
        self["tls_certificate"].write_text(certificate.read_text())
        self["tls_key"].write_text(key.read_text())


__all__ = ["PASSWORD", "PLAIN", "SECOND", "SECOND_PLAIN", "USER", "Proof", "SecureKafka", "SecurePostgres", "SecureRedis"]
