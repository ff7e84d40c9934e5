"""TLS for clients and operators: real handshakes with the real binary, certificates of an authority that the test makes."""

import asyncio
import json
import signal
import socket
import ssl

import pytest
from harness import settings
from harness.authority import Authority, subject
from harness.device import Device
from harness.rest import Rest
from harness.server import heddle
from harness.waiting import until, until_async
from websockets.exceptions import InvalidMessage, InvalidStatus


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """One for all tests of this file."""
    return Authority(tmp_path_factory.mktemp("authority"))


def named(certificate, key, **more):
    """Keys of a listener with that certificate."""
    return {"tls_certificate": str(certificate), "tls_key": str(key), **more}


def handshake(server, context, address=None):
    """A TLS connection of its own; close it."""
    host, port = (address or server.client).rsplit(":", 1)
    return context.wrap_socket(socket.create_connection((host, int(port)), timeout=15), server_hostname=host)


def ended(raw):
    """Waits for the end of a socket from which nothing comes before."""
    try:
        return raw.recv(100) == b""
    except ConnectionResetError:
        return True


def rewritten(server, **sections):
    server.config = settings.merged(server.config, sections)
    (server.side / "heddle.toml").write_text(settings.toml_text(settings.placed(server.config, server.data)))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_two_clients_chat_over_wss_and_call_rest_over_https(start, name, authority, version):
    server = start(config={"gateway": named(*authority.issue("chat"))})
    trust = authority.trust(version)
    async with Device(server, name("alice"), tls=trust) as a, Device(server, name("bob"), tls=trust) as b:
        await a.say(b.user, "nobody on the way reads this")
        assert (await b.next("new_message"))["text"] == "nobody on the way reads this"
        history = server.rest(b.user, tls=trust).history(f"user:{a.user}")
        assert "nobody on the way" in json.dumps(history)
    with handshake(server, trust) as tls:
        assert tls.selected_alpn_protocol() == "http/1.1" and subject(tls) == "chat"
    until(lambda: server.metrics_sum('tls_handshakes_total{outcome="done"}') == 4, "all four were counted")


async def test_who_speaks_without_tls_is_told_so_and_gets_nothing_else(start, name, authority):
    server = start(config={"gateway": named(*authority.issue("chat"))})
    told = server.rest(name("alice")).get("/v1/conversations").problem(400, "invalid")
    assert "this port speaks TLS" in told.json["detail"] and "wss://" in told.json["detail"]
    with pytest.raises((InvalidStatus, InvalidMessage)):
        await Device(server, name("alice")).open()
    with socket.create_connection(server.client.split(":"), timeout=15) as raw:
        raw.sendall(b"\x05\x01\x00")
        assert ended(raw)
    until(lambda: server.metrics_sum('tls_handshakes_total{outcome="plain"}') == 2, "both were counted")
    assert server.metrics_sum('tls_handshakes_total{outcome="failed"}') == 1


async def test_a_client_that_trusts_nobody_here_does_not_connect(start, authority):
    server = start(config={"gateway": named(*authority.issue("chat"))})
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, ssl.create_default_context())
    until(lambda: server.metrics_sum('tls_handshakes_total{outcome="failed"}') >= 1, "it was counted")


async def test_a_handshake_that_does_not_end_is_closed_at_its_deadline(start, authority):
    server = start(config={"gateway": named(*authority.issue("chat"), handshake_deadline="500 ms")})
    with (
        socket.create_connection(server.client.split(":"), timeout=15) as slow,
        socket.create_connection(server.client.split(":"), timeout=15) as silent,
    ):
        # The beginning of a record, and no more.
        slow.sendall(b"\x16\x03\x01")
        assert ended(slow) and ended(silent)
    until(lambda: server.metrics_sum('tls_handshakes_total{outcome="late"}') == 2, "both were counted")
    with handshake(server, authority.trust()) as tls:
        assert subject(tls) == "chat"


async def test_only_so_many_handshakes_are_under_way_and_the_others_wait_for_their_turn(start, name, authority):
    limits = {"handshake_deadline": "1 min", "tls_handshakes_max": 1}
    server = start(config={"gateway": named(*authority.issue("chat"), **limits)})

    def later_sockets_are_served():
        for _ in range(20):
            server.rest(name("alice")).get("/v1/conversations").problem(400, "invalid")

    with socket.create_connection(server.client.split(":"), timeout=15) as slow:
        slow.sendall(b"\x16\x03\x01")
        later_sockets_are_served()
        good = asyncio.create_task(asyncio.to_thread(handshake, server, authority.trust()))
        await until_async(lambda: server.metrics()["heddle_gateway_sockets"] >= 2, "it was accepted")
        await asyncio.to_thread(later_sockets_are_served)
        assert not good.done()
    with await good as tls:
        assert subject(tls) == "chat"


def test_who_comes_back_resumes(start, authority):
    server = start(config={"gateway": named(*authority.issue("chat"))})
    trust = authority.trust(ssl.TLSVersion.TLSv1_2)
    with handshake(server, trust) as first:
        assert not first.session_reused
        kept = first.session
        # The client keeps it, not the server: after a drain all of them come back.
        assert kept.has_ticket
    host, port = server.client.split(":")
    tcp = socket.create_connection((host, int(port)), timeout=15)
    with trust.wrap_socket(tcp, server_hostname=host, session=kept) as second:
        assert second.session_reused


@pytest.mark.parametrize("how", ["command", "signal"])
async def test_a_new_certificate_serves_new_connections_while_old_ones_live_on(start, name, authority, how):
    certificate, key = authority.issue("before")
    server = start(config={"gateway": named(certificate, key)})
    trust = authority.trust()
    async with Device(server, name("alice"), tls=trust) as a:
        other, other_key = authority.issue("after")
        other.replace(certificate)
        other_key.replace(key)
        if how == "command":
            told = heddle("config", "reload", "--data", server.data)
            assert told.returncode == 0 and "gateway.tls_certificate: another certificate, good for" in told.stdout, told
        else:
            server.signal(signal.SIGHUP)

        def served():
            with handshake(server, trust) as tls:
                return subject(tls) == "after"

        until(served, "the new certificate serves")
        await a.ping()
        assert subject(a.socket.transport.get_extra_info("ssl_object")) == "before"


async def test_a_bad_file_is_named_and_leaves_the_old_certificate_serving(start, authority):
    certificate, key = authority.issue("good")
    server = start(config={"gateway": named(certificate, key)})
    _, of_another = authority.issue("another")
    for text, what in [
        (of_another.read_text(), "is not the key of the first certificate"),
        ("not a key at all", "holds no private key"),
        (None, "cannot be read"),
    ]:
        if text is None:
            key.unlink()
        else:
            key.write_text(text)
        told = heddle("config", "reload", "--data", server.data)
        assert told.returncode != 0 and "nothing was reloaded" in told.stderr, told
        assert "gateway.tls_key" in told.stderr and str(key) in told.stderr and what in told.stderr, told
        with handshake(server, authority.trust()) as tls:
            assert subject(tls) == "good"


def test_half_a_configuration_and_files_that_do_not_belong_together_are_told_before_the_start(start, authority, tmp_path):
    certificate, key = authority.issue("one")
    _, stranger = authority.issue("two")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")
    for keys, wanted in [
        ({"tls_certificate": str(certificate)}, ["gateway.tls_key", "is empty", str(certificate)]),
        ({"tls_key": str(key)}, ["gateway.tls_certificate", "is empty", str(key)]),
        (named(certificate, stranger), ["gateway.tls_key", "is not the key of the first certificate", str(stranger)]),
        (named(key, key), ["gateway.tls_certificate", "holds no certificate", str(key)]),
        (named(certificate, encrypted), ["gateway.tls_key", "passphrase", str(encrypted)]),
        (named(tmp_path / "no.pem", key), ["gateway.tls_certificate", "cannot be read", "no.pem"]),
    ]:
        server = start(config={"gateway": keys}, launch=False)
        code, said = server.refused()
        assert code == 64 and all(word in said for word in wanted), said
        checked = heddle("config", "check", server.side / "heddle.toml")
        assert checked.returncode == 64 and all(word in checked.stderr for word in wanted), checked


def test_a_certificate_that_ends_within_two_weeks_is_a_warning_and_a_number(start, authority):
    certificate, key = authority.issue("old", days=5)
    server = start(config={"gateway": named(certificate, key)})
    assert f'"{certificate}" expires in' in server.stderr() and "gateway.tls_certificate" in server.stderr()
    checked = heddle("config", "check", server.side / "heddle.toml")
    assert checked.returncode == 0 and "warning: gateway.tls_certificate" in checked.stdout, checked
    left_s = server.metrics()['heddle_gateway_certificate_expires_seconds{listener="gateway"}']
    assert 4 * 86_400 < left_s <= 5 * 86_400
    fresh, fresh_key = authority.issue("fresh", days=90)
    told = heddle("config", "reload", "--data", server.data)
    assert "warning:" in told.stdout, told
    fresh.replace(certificate)
    fresh_key.replace(key)
    told = heddle("config", "reload", "--data", server.data)
    assert told.returncode == 0 and "warning:" not in told.stdout, told


def test_tls_is_neither_begun_nor_ended_by_a_reload(start, name, authority):
    plain = start()
    rewritten(plain, gateway=named(*authority.issue("late")))
    told = heddle("config", "reload", "--data", plain.data)
    assert "needs a restart: gateway.tls_certificate" in told.stdout, told
    plain.rest(name("alice")).get("/v1/conversations").ok()
    secure = start(config={"gateway": named(*authority.issue("early"))})
    rewritten(secure, gateway={"tls_certificate": "", "tls_key": ""})
    told = heddle("config", "reload", "--data", secure.data)
    assert "needs a restart: gateway.tls_certificate" in told.stdout, told
    with handshake(secure, authority.trust()) as tls:
        assert subject(tls) == "early"
    Rest(secure.client).get("/v1/conversations").problem(400, "invalid")


async def test_commands_of_this_machine_find_a_server_with_tls_by_its_data_directory(start, name, authority):
    certificate, key = authority.issue("here")
    both = named(certificate, key)
    server = start(config={"gateway": both, "admin": both})
    alice, bob = name("alice"), name("bob")
    for turn in range(2):
        script = json.dumps({"type": "chat_message", "client_id": f"m{turn}", "to": bob, "text": "hi"}) + "\nwait accepted\n"
        said = heddle("chat", "--user", alice, "--token", server.token(alice), "--data", server.data, "--script", "-",
                      stdin=script)
        assert said.returncode == 0, said
        accepted = next(json.loads(line) for line in said.stdout.splitlines() if '"accepted"' in line)
        told = heddle("explain", accepted["message_id"], "--data", server.data)
        assert told.returncode == 0 and alice in told.stdout, told
        # The second time with a certificate that was not there at the start.
        other, other_key = authority.issue("here too")
        other.replace(certificate)
        other_key.replace(key)
        told = heddle("config", "reload", "--data", server.data)
        assert told.returncode == 0 and "admin.tls_certificate: another certificate" in told.stdout, told
    Rest(server.admin, tls=authority.trust()).get("/readyz").ok()
    Rest(server.admin).get("/readyz").problem(400, "invalid")


def test_commands_take_urls_and_an_authority_and_refuse_who_cannot_prove_it(start, name, authority, tmp_path):
    both = named(*authority.issue("there"))
    server = start(config={"gateway": both, "admin": both})
    elsewhere = Authority(tmp_path / "another")
    alice = name("alice")

    def chat(*words):
        return heddle("chat", "--user", alice, "--token", server.token(alice), "--data", tmp_path, "--script", "-", *words,
                      stdin="wait hello_ok\n")

    def plugins(*words):
        return heddle("plugin", "list", "--token", server.config["admin"]["token"], *words)

    said = chat("--server", f"wss://{server.client}", "--ca", authority.ca)
    assert said.returncode == 0 and "hello_ok" in said.stdout, said
    listed = plugins("--admin", f"https://{server.admin}", "--ca", authority.ca)
    assert listed.returncode == 0 and "token-bucket" in listed.stdout, listed
    for said in [
        chat("--server", f"wss://{server.client}", "--ca", elsewhere.ca),
        plugins("--admin", f"https://{server.admin}", "--ca", elsewhere.ca),
        chat("--server", f"wss://{server.client}"),
    ]:
        assert said.returncode != 0 and "is not trusted" in said.stderr and "--ca FILE" in said.stderr, said
        assert "heddle dev" not in said.stderr, said
    for said in [chat("--server", f"ws://{server.client}"), plugins("--admin", server.admin)]:
        assert said.returncode != 0 and "this port speaks TLS" in said.stderr, said
    plain = start()
    for said in [
        chat("--server", f"wss://{plain.client}", "--ca", authority.ca),
        plugins("--admin", f"https://{plain.admin}", "--ca", authority.ca),
    ]:
        assert said.returncode != 0 and "does not speak TLS" in said.stderr, said
    missing = plugins("--admin", f"https://{server.admin}", "--ca", tmp_path / "no.pem")
    assert missing.returncode == 64 and "no.pem" in missing.stderr and "cannot be read" in missing.stderr, missing
