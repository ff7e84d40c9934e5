"""Certificates between a node and real Kafka and Redis, exchanged while people talk."""

import asyncio
from urllib.parse import quote

import pytest
from harness.authority import Authority
from harness.chat import Chat
from harness.secure import PASSWORD, USER, Proof, SecureKafka, SecureRedis
from harness.server import heddle
from harness.trusted import authority_called, believing
from harness.waiting import until, until_async


# Whom everybody believes at first, and in the end.
old, new = authority_called("old"), authority_called("new")


async def reload(server):
    """While people talk."""
    return await asyncio.to_thread(heddle, "config", "reload", "--data", server.data)


async def broken_files_are_refused(server, section, proof, old, new):
    """Each with its reason; then the files are as they were."""
    good = {key: proof[key].read_text() for key in proof.config()}
    ended = old.issue("ended", days=-1)
    for key, text, words in [
        ("tls_ca", "no certificate", "holds no certificate"),
        ("tls_ca", ended[0].read_text(), "has expired"),
        ("tls_certificate", "no certificate", "holds no certificate"),
        ("tls_certificate", new.issue("another")[0].read_text(), "is not the key of the first certificate"),
        ("tls_key", "no key", "holds no private key"),
    ]:
        proof[key].write_text(text)
        told = await reload(server)
        assert told.returncode != 0 and "nothing was reloaded" in told.stderr and words in told.stderr, (key, told)
        assert f"{section}.tls_" in told.stderr, told
        proof[key].write_text(good[key])
    for key, text in good.items():
        assert proof[key].read_text() == text


def exchanged(told, section, proof):
    """It says that all three count."""
    assert told.returncode == 0, told
    for key, path in proof.config().items():
        assert f'took effect:     {section}.{key}: another "{path}", for new connections' in told.stdout, told


async def test_redis_with_certificates_of_another_authority_is_found_after_a_reload_and_not_before(start, name, old, new, tmp_path):
    proof = Proof(tmp_path / "proof")
    proof.of(old)
    with SecureRedis(old) as redis:
        url = f"rediss://{USER}:{quote(PASSWORD, safe='')}@{redis.address}"
        server = start(config={"registry": {"backend": "redis", "url": url, "deadline": "1 s", **proof.config()}})
        alice = name("alice")

        def known():
            return redis.ask("HGETALL", f"heddle:user:{alice}")

        async with Chat(server, alice, name("bob")) as chat:
            await until_async(known, "Redis knows where alice is")
            await broken_files_are_refused(server, "registry", proof, old, new)
            redis.kill()
            redis.become(new)
            redis.start()
            await until_async(lambda: "the certificate of Redis is not believed" in server.stderr(10_000), "the log says why", 20)
            assert (await reload(server)).stdout.startswith("no key differs"), "the files are the old ones"
            assert not known(), "it is not found yet"
            proof.of(new)
            exchanged(await reload(server), "registry", proof)
            await until_async(known, "Redis knows it again", 20)
            assert (await reload(server)).stdout.startswith("no key differs"), "it is said once"
            accepted = await chat.more(20)
            assert all(frame["type"] == "accepted" for frame in accepted), accepted
            await chat.check()
        assert all(frame["type"] == "accepted" for *_, frame in chat.outcomes)


@pytest.fixture
def kafka(old, new):
    """A broker of the old authority that believes both."""
    broker = believing(SecureKafka, old, also=[new])
    yield broker
    broker.end()


@pytest.mark.heavy
async def test_certificates_of_kafka_are_exchanged_under_way_and_count_when_its_brokers_exchange_theirs(
        start, name, kafka, old, new, tmp_path):
    proof = Proof(tmp_path / "proof")
    proof.of(old)
    section = kafka.config(brokers=kafka.at("proof"), tls=True, **proof.config())
    server = start(config={"log": {"backend": "kafka"}, "kafka": section})
    nobody = Authority(tmp_path / "nobody")
    async with Chat(server, name("alice"), name("bob"), again=True) as chat:
        await chat.more(20)
        await broken_files_are_refused(server, "kafka", proof, old, new)
        # Good in themselves; the broker was asked whether it takes them.
        proof.of(nobody, old)
        told = await reload(server)
        assert told.returncode != 0 and "kafka.tls_certificate: no broker of" in told.stderr, told
        assert "the broker does not take" in told.stderr, told
        await chat.more(20)
        proof.of(new, old)
        exchanged(await reload(server), "kafka", proof)
        await chat.more(100)
        assert chat.unknown == 0 and all(frame["type"] == "accepted" for *_, frame in chat.outcomes), "nobody noticed"
        # Now whoever came with the old ones is refused, and so is a broker by whoever believes the old ones only.
        kafka.kill()
        kafka.become(new)
        kafka.start()
        await chat.more(40)
        until(lambda: server.metrics().get("heddle_archive_lag_records") == 0, "the archive has caught up", 60)
        await chat.check()
        assert all(frame["type"] == "accepted" for *_, frame in chat.outcomes)
    # By whose certificate it comes to nothing; a broker that ends may cut off a handshake.
    assert not any(words in server.stderr(10_000) for words in ("certificate verify failed", "alert number"))
