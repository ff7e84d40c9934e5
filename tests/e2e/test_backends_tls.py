"""TLS and logins between a node and real Kafka, PostgreSQL and Redis: what is encrypted, what is refused, and in which words."""

import asyncio
from urllib.parse import quote

import pytest
from harness import settings
from harness.chat import Chat
from harness.device import Device
from harness.secure import PASSWORD, PLAIN, SECOND, SECOND_PLAIN, USER, SecureKafka, SecurePostgres, SecureRedis
from harness.server import heddle
from harness.trusted import authority_called, believing
from harness.waiting import until, until_async

QUOTED = quote(PASSWORD, safe="")


# Whom all servers and nodes of this file believe, and whom nobody does.
authority, stranger = authority_called("authority"), authority_called("stranger")


@pytest.fixture(scope="module")
def kafka(authority):
    """One broker for this file."""
    broker = believing(SecureKafka, authority)
    yield broker
    broker.end()


@pytest.fixture(scope="module")
def postgres(authority):
    """One database server for this file."""
    server = believing(SecurePostgres, authority)
    yield server
    server.end()


@pytest.fixture(scope="module")
def redis(authority):
    """One Redis for this file."""
    with believing(SecureRedis, authority) as server:
        yield server


def with_login(kafka, authority, sasl, **more):
    """A section `kafka` with a password."""
    return kafka.config(**{"brokers": kafka.at("login"), "tls": True, "tls_ca": str(authority.ca), "sasl": sasl, "user": USER,
                           "password": PLAIN, **more})


def with_proof(kafka, authority, **more):
    """A section `kafka` with a certificate."""
    certificate, key = authority.issue("a-node")
    return kafka.config(**{"brokers": kafka.at("proof"), "tls": True, "tls_ca": str(authority.ca),
                           "tls_certificate": str(certificate), "tls_key": str(key), **more})


def on_kafka(section):
    """A node whose log is there."""
    return {"log": {"backend": "kafka"}, "kafka": section}


def on_postgres(postgres, authority, password=QUOTED, mode="", **more):
    """A section `store` with a password."""
    url = f"postgres://{USER}:{password}@{postgres.address}/{postgres.owned_by(USER)}{mode}"
    return {"store": {"backend": "postgres", "url": url, "deadline": "2 s", "tls_ca": str(authority.ca), **more}}


def on_redis(redis, authority, password=QUOTED, **more):
    """A section `registry` with a user, and a certificate."""
    certificate, key = authority.issue("a-node-of-redis")
    section = {"backend": "redis", "url": f"rediss://{USER}:{password}@{redis.address}", "tls_ca": str(authority.ca),
               "tls_certificate": str(certificate), "tls_key": str(key), "deadline": "1 s"}
    return {"registry": {**section, **more}}


def knows_redis(server):
    """Redis has answered."""
    until(lambda: "nodes find each other over Redis" in server.stderr(), "Redis answers")


def silent(server):
    """Nothing that it said has a password."""
    said = server.stderr(10_000)
    assert not any(secret in said for secret in (PASSWORD, QUOTED, PLAIN)), said


@pytest.mark.parametrize("how", ["scram-sha-256", "scram-sha-512", "plain", "a certificate"])
async def test_two_people_talk_over_a_node_whose_backends_are_encrypted_and_know_it(
        start, name, kafka, postgres, redis, authority, how):
    log = with_proof(kafka, authority) if how == "a certificate" else with_login(kafka, authority, how)
    store = on_postgres(postgres, authority)
    server = start(config={**on_kafka(log), **store, **on_redis(redis, authority)})
    knows_redis(server)
    alice, bob = name("alice"), name("bob")
    async with Device(server, alice, auto_ack=True) as a, Device(server, bob, auto_ack=True) as b:
        await a.say(bob, "nobody on the way reads this")
        await b.next("new_message", text="nobody on the way reads this")
        await b.say(alice, "nor this")
        await a.next("new_message", text="nor this")
        assert redis.ask("HGETALL", f"heddle:user:{alice}"), "Redis knows where alice is"
    until(lambda: server.metrics().get("heddle_archive_lag_records") == 0, "the archive has caught up", 60)
    rows = postgres.sql("postgres", f"SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = '{USER}'")
    assert rows == [["t"]]
    silent(server)


async def test_a_certificate_is_a_login_at_postgres(start, name, postgres, authority):
    certificate, key = authority.issue("proved")
    url = f"postgres://proved@{postgres.address}/{postgres.owned_by('proved')}"
    store = {"backend": "postgres", "url": url, "tls_ca": str(authority.ca), "tls_certificate": str(certificate), "tls_key": str(key)}
    server = start(config={"store": store})
    async with Device(server, name("alice")) as a, Device(server, name("bob")) as b:
        await a.say(b.user, "hi")
        await b.next("new_message", text="hi")


async def test_with_require_any_certificate_will_do_and_the_log_says_so(start, postgres, authority):
    server = start(config=on_postgres(postgres, authority, mode="?sslmode=require", tls_ca=""))
    assert "sslmode=require: whoever answers is believed" in server.stderr()


def does_not_start(start, config, wanted):
    """A server that ends at its start, says all of that, and no password."""
    server = start(config=config, launch=False)
    code, said = server.refused()
    assert code != 0 and all(words in said for words in wanted), said
    assert "wrong-and-secret" not in said, said
    silent(server)


KAFKA_REFUSALS = {
    "another authority": (
        lambda k, a, s: with_login(k, a, "scram-sha-256", tls_ca=str(s.ca)),
        ["kafka.tls_ca: no broker of", "certificate verify failed", "it must be of the authorities in", "ca.pem", "UnknownIssuer"]),
    "the system's authorities": (
        lambda k, a, s: with_login(k, a, "scram-sha-256", tls_ca=""),
        ["kafka.tls_ca: no broker of", "it must be of the system's authorities"]),
    "an expired certificate": (
        lambda k, a, s: with_login(k, a, "none", brokers=k.at("expired"), user="", password=""),
        ["kafka.tls_ca: no broker of", "of today", "Expired"]),
    "a certificate of another host": (
        lambda k, a, s: with_login(k, a, "none", brokers=k.at("elsewhere"), user="", password=""),
        ["kafka.tls_ca: no broker of", "for the host that kafka.brokers or the broker itself names", "kafka.elsewhere.example"]),
    "a wrong password": (
        lambda k, a, s: with_login(k, a, "scram-sha-256", password="wrong-and-secret"),
        ["kafka.password: no broker of", "uthentication failed", f'correct it or kafka.user "{USER}"']),
    "a wrong password that is told": (
        lambda k, a, s: with_login(k, a, "plain", password="wrong-and-secret"),
        ["kafka.password: no broker of", "uthentication failed", f'correct it or kafka.user "{USER}"']),
    "no login": (
        lambda k, a, s: with_login(k, a, "none", user="", password=""),
        ["kafka.sasl: no broker of", 'is "none", and 127.0.0.1', "it may ask who we are. Set it, kafka.user and kafka.password"]),
    "no TLS": (
        lambda k, a, s: k.config(brokers=k.at("proof")),
        ["kafka.tls: no broker of", "is false, and 127.0.0.1", "speaks TLS: set it to true"]),
    "TLS where none is": (
        lambda k, a, s: k.config(tls=True, tls_ca=str(a.ca)),
        ["kafka.tls: no broker of", "is true, and this port does not speak TLS"]),
    "no certificate": (
        lambda k, a, s: with_proof(k, a, tls_certificate="", tls_key=""),
        ["kafka.tls_certificate: no broker of", "is empty, and the broker wants to see a certificate"]),
    "a certificate of a stranger": (
        lambda k, a, s: with_proof(k, a, **dict(zip(("tls_certificate", "tls_key"), map(str, s.issue("strange")), strict=True))),
        ["kafka.tls_certificate: no broker of", "the broker does not take", "strange.pem"]),
}


@pytest.mark.parametrize("case", KAFKA_REFUSALS)
def test_a_broker_and_a_node_that_do_not_believe_each_other_keep_it_from_starting(start, kafka, authority, stranger, case):
    section, wanted = KAFKA_REFUSALS[case]
    section = section(kafka, authority, stranger)
    does_not_start(start, on_kafka(section), [*wanted, section["brokers"]])


POSTGRES_REFUSALS = {
    "another authority": (
        lambda p, a, s: on_postgres(p, a, tls_ca=str(s.ca)),
        ["store.tls_ca: store at", "UnknownIssuer", "its certificate must be of the authorities in", "ca.pem"]),
    "a certificate of another host": (
        lambda p, a, s: {"store": {"backend": "postgres", "url": f"postgres://{USER}:{QUOTED}@localhost:{p.port}/x", "tls_ca": str(a.ca)}},
        ["store.tls_ca: store at", "localhost", "for the host in store.url"]),
    "a wrong password": (
        lambda p, a, s: on_postgres(p, a, password="wrong-and-secret"),
        ["store.url: store at", "refuses us", "password authentication failed", "check user, password and database"]),
    "no TLS": (
        lambda p, a, s: on_postgres(p, a, mode="?sslmode=disable", tls_ca=""),
        ["store.url: store at", "refuses us", "no encryption"]),
    "no TLS beside an authority": (
        lambda p, a, s: on_postgres(p, a, mode="?sslmode=disable"),
        ["store.url: store at", "its sslmode does not encrypt", "write sslmode=verify-full"]),
    "a certificate of a stranger": (
        lambda p, a, s: on_postgres(p, a, **dict(zip(("tls_certificate", "tls_key"), map(str, s.issue("strange")), strict=True))),
        ["store.tls_certificate: store at", "the server does not take", "strange.pem"]),
}


@pytest.mark.parametrize("case", POSTGRES_REFUSALS)
def test_a_database_and_a_node_that_do_not_believe_each_other_keep_it_from_starting(start, postgres, authority, stranger, case):
    section, wanted = POSTGRES_REFUSALS[case]
    does_not_start(start, section(postgres, authority, stranger), [*wanted, str(postgres.port)])


def test_a_database_without_tls_is_told_from_one_that_is_away(start, authority):
    from harness.postgres import Postgres  # noqa: PLC0415
    plain = believing(lambda _: Postgres(), authority)
    try:
        store = {"backend": "postgres", "url": plain.url(plain.database()), "tls_ca": str(authority.ca)}
        code, said = start(config={"store": store}, launch=False).refused()
        assert code != 0 and "does not support TLS" in said and "set ssl = on at the server" in said, said
    finally:
        plain.end()


REDIS_REFUSALS = {
    "another authority": (
        lambda r, a, s: on_redis(r, a, tls_ca=str(s.ca)),
        ["registry.tls_ca: the certificate of Redis is not believed", "UnknownIssuer", "it must be of the authorities in", "ca.pem"]),
    "a wrong password": (
        lambda r, a, s: on_redis(r, a, password="wrong-and-secret"),
        ["registry.url: Redis refuses us: WRONGPASS", "correct user and password"]),
    "no certificate": (
        lambda r, a, s: on_redis(r, a, tls_certificate="", tls_key=""),
        ["registry.tls_certificate: Redis ended TLS", "Redis wants to see one"]),
    "a certificate of a stranger": (
        lambda r, a, s: on_redis(r, a, **dict(zip(("tls_certificate", "tls_key"), map(str, s.issue("strange")), strict=True))),
        ["registry.tls_certificate: Redis ended TLS", "strange.pem", "is not believed there"]),
}


@pytest.mark.parametrize("case", REDIS_REFUSALS)
async def test_a_node_that_redis_does_not_believe_starts_and_says_so_once(start, name, redis, authority, stranger, case):
    section, wanted = REDIS_REFUSALS[case]
    server = start(config=section(redis, authority, stranger))
    until(lambda: all(words in server.stderr(10_000) for words in wanted), "the log says why", 20)
    async with Device(server, name("alice")) as a, Device(server, name("bob")) as b:
        await a.say(b.user, "it goes on alone")
        await b.next("new_message", text="it goes on alone")
    assert server.stderr(10_000).count(wanted[0]) == 1
    assert "wrong-and-secret" not in server.stderr(10_000)
    silent(server)


def test_what_can_be_seen_before_the_start_is_told_then(start, authority, stranger, tmp_path):
    certificate, key = map(str, authority.issue("mine"))
    other = str(stranger.issue("another")[1])
    ca, gone = str(authority.ca), str(tmp_path / "gone.pem")
    broker = {"brokers": "127.0.0.1:1", "tls": True}
    redis = {"backend": "redis", "url": "rediss://127.0.0.1:1"}
    store = {"backend": "postgres", "url": "postgres://a:b@127.0.0.1:1/c"}
    for config, wanted in [
        (on_kafka({**broker, "tls_ca": gone}), ["kafka.tls_ca", "gone.pem", "cannot be read", "name a file"]),
        (on_kafka({**broker, "tls_ca": key}), ["kafka.tls_ca", key, "holds no certificate"]),
        (on_kafka({**broker, "tls_certificate": certificate}), ["kafka.tls_key", "is empty", certificate]),
        (on_kafka({**broker, "tls_certificate": certificate, "tls_key": other}),
         ["kafka.tls_key", other, "is not the key of the first certificate"]),
        (on_kafka({"brokers": "127.0.0.1:1", "tls_ca": ca}), ["kafka.tls", "is false, and files for TLS are set"]),
        (on_kafka({"brokers": "127.0.0.1:1", "sasl": "plain", "user": "u", "password": "wrong-and-secret"}),
         ["kafka.sasl", "whoever listens would have the password"]),
        (on_kafka({**broker, "sasl": "scram-sha-256"}), ["kafka.user", "kafka.password", "is empty"]),
        (on_kafka({**broker, "user": "u"}), ["kafka.sasl", 'is "none"']),
        (on_kafka({**broker, "sasl": "gssapi"}), ["kafka.sasl", "gssapi", "scram-sha-512"]),
        (on_kafka({**broker, "sasl": "plain", "user": "u", "password_file": gone}), ["kafka.password_file", "gone.pem", "cannot be read"]),
        ({"registry": {**redis, "tls_ca": gone}}, ["registry.tls_ca", "gone.pem", "cannot be read"]),
        ({"registry": {**redis, "url": "redis://127.0.0.1:1", "tls_ca": ca}}, ["registry.url", "does not begin with rediss://"]),
        ({"registry": {**redis, "tls_certificate": certificate, "tls_key": other}}, ["registry.tls_key", "is not the key"]),
        ({"registry": {**redis, "url": "redis://u:wrong%20and-secret@127.0.0.1:1"}}, ["registry.url", "has a space"]),
        ({"store": {**store, "tls_ca": gone}}, ["store.tls_ca", "gone.pem", "cannot be read"]),
        ({"store": {**store, "tls_certificate": certificate, "tls_key": other}}, ["store.tls_key", "is not the key"]),
        ({"store": {"tls_ca": ca}}, ["store.backend", "files for TLS are set"]),
    ]:
        server = start(config=config, launch=False)
        code, said = server.refused()
        assert code == 64 and all(words in said for words in wanted), (config, said)
        assert "wrong-and-secret" not in said, said
        if "has a space" not in wanted:
            checked = heddle("config", "check", server.side / "heddle.toml")
            assert checked.returncode == 64 and all(words in checked.stderr for words in wanted), checked


def test_a_password_is_never_shown(start, tmp_path):
    server = start(config=on_kafka({"brokers": "127.0.0.1:1", "tls": True, "sasl": "scram-sha-512", "user": "u", "password": PLAIN}),
                   launch=False)
    server.command()
    shown = heddle("config", "show", "--config", server.side / "heddle.toml")
    assert shown.returncode == 0 and 'user = "u"' in shown.stdout and PLAIN not in shown.stdout, shown
    secret = tmp_path / "secret"
    secret.write_text(f"{PLAIN}\n")
    server.config["kafka"]["password"] = ""
    for more in [{"HEDDLE_KAFKA__PASSWORD": PLAIN}, {"HEDDLE_KAFKA__PASSWORD_FILE": str(secret)}]:
        server.command()
        shown = heddle("config", "show", "--config", server.side / "heddle.toml", env=more)
        assert shown.returncode == 0 and PLAIN not in shown.stdout, shown


def rewritten(server, **sections):
    """Another configuration in the same file."""
    server.config = settings.merged(server.config, sections)
    (server.side / "heddle.toml").write_text(settings.toml_text(settings.placed(server.config, server.data)))


async def test_a_file_of_postgres_is_read_with_each_new_connection(start, name, postgres, authority, stranger, tmp_path):
    copy = tmp_path / "store.pem"
    copy.write_text(authority.ca.read_text())
    server = start(config=on_postgres(postgres, authority, tls_ca=str(copy)))
    told = heddle("config", "reload", "--data", server.data)
    assert told.returncode == 0 and "tls_ca" not in told.stdout, told
    copy.write_text(stranger.ca.read_text())
    line = f'took effect:     store.tls_ca: another "{copy}", for new connections'
    assert line in heddle("config", "reload", "--data", server.data).stdout
    assert line not in heddle("config", "reload", "--data", server.data).stdout, "it was said the first time"
    postgres.stop()
    postgres.start()
    history = f"/v1/conversations/user:{name('bob')}/messages"
    until(lambda: server.rest(name("alice")).get(history).status == 503, "the archive is not believed", 60)
    copy.write_text(authority.ca.read_text())
    until(lambda: server.rest(name("alice")).get(history).status == 200, "it is again", 60)


async def test_another_login_at_kafka_takes_effect_and_a_wrong_one_is_refused(start, name, kafka, authority):
    server = start(config=on_kafka(with_login(kafka, authority, "plain")))
    async with Chat(server, name("alice"), name("bob")) as chat:
        await chat.more(10)
        for section, code, words in [
            ({"password": "wrong-and-secret"}, 1, "kafka.password: no broker of"),
            ({"user": SECOND, "password": SECOND_PLAIN}, 0, f'took effect:     kafka.user: "{USER}" -> "{SECOND}"'),
            ({"user": USER, "password": PLAIN, "sasl": "scram-sha-256"}, 0, "needs a restart: kafka.password"),
        ]:
            rewritten(server, kafka=section)
            told = await asyncio.to_thread(heddle, "config", "reload", "--data", server.data)
            assert (told.returncode != 0) == bool(code) and words in told.stdout + told.stderr, told
            assert not any(secret in told.stdout + told.stderr for secret in ("wrong-and-secret", PLAIN, SECOND_PLAIN)), told
            await chat.more(10)
        await chat.check()
        assert all(frame["type"] == "accepted" for *_, frame in chat.outcomes)


async def test_a_broker_that_comes_back_as_somebody_else_gets_nothing_and_the_log_says_so(start, name, authority, stranger):
    broker = believing(SecureKafka, authority)
    try:
        server = start(config=on_kafka(with_login(broker, authority, "scram-sha-256")))
        own = broker.directory / "login.pem"
        good, (certificate, key) = own.read_text(), stranger.issue("kafka")
        async with Device(server, name("alice")) as a, Device(server, name("bob"), auto_ack=True) as b:
            await a.say(b.user, "before")
            await b.next("new_message", text="before")
            broker.kill()
            own.write_text(key.read_text() + certificate.read_text())
            broker.start()
            words = "a Kafka broker does not let us in"
            await until_async(lambda: words in server.stderr(10_000), "the log says so", 30)
            assert (await a.outcome(await a.post(b.user, "meanwhile", client_id="m")))["code"] == "unavailable"
            broker.kill()
            own.write_text(good)
            broker.start()

            async def accepted():
                return (await a.outcome(await a.post(b.user, "meanwhile", client_id="m", resend=True)))["type"] == "accepted"

            # A node that does not know what decides refuses at once.
            for _ in range(120):
                if await accepted():
                    break
                await asyncio.sleep(0.25)
            await b.next("new_message", text="meanwhile")
        assert server.stderr(10_000).count(words) == 1
        silent(server)
    finally:
        broker.end()


def test_a_certificate_that_ends_within_two_weeks_is_a_warning(start, kafka, authority):
    certificate, key = authority.issue("old", days=5)
    section = with_proof(kafka, authority, tls_certificate=str(certificate), tls_key=str(key))
    server = start(config=on_kafka(section))
    wanted = f'kafka.tls_certificate: "{certificate}" expires in 4 days: renew it, then `heddle config reload`'
    assert wanted in server.stderr().replace("\\\"", "\""), server.stderr()
    checked = heddle("config", "check", server.side / "heddle.toml")
    assert checked.returncode == 0 and f"warning: {wanted}" in checked.stdout, checked
