"""The PROXY protocol by hand, and a real HAProxy with the sample that ships: limits by address see clients, not the balancer."""

import signal
import socket

import pytest
from harness.authority import Authority
from harness.deployed import compose
from harness.device import Device
from harness.haproxy import HAProxy, free_port, header_v1, header_v2
from harness.raw import RawSocket
from harness.server import ROOT, heddle
from harness.waiting import until, until_async
from websockets.exceptions import InvalidStatus

REFUSED = 'heddle_gateway_proxy_headers_refused_total{reason="%s"}'


def behind(start, *, trusted=("127.0.0.1",), policies=None, **gateway):
    """A server that trusts the balancer at 127.0.0.1."""
    keys = {"trusted_proxies": list(trusted), "proxy_protocol": "trusted", "loopback_exempt": False, **gateway}
    return start(config={"gateway": keys, "policies": policies or {}})


def ended(raw):
    """Waits for the end of a socket from which nothing comes before."""
    try:
        return raw.socket.recv(100) == b""
    except ConnectionResetError:
        return True


def refused(server, reason):
    """Waits until one more connection was refused for that reason, and for no other."""
    until(lambda: server.metrics().get(REFUSED % reason) == 1, f"one is counted as {reason}")
    assert server.metrics_sum("proxy_headers_refused") == 1


@pytest.mark.parametrize("header", [header_v1, header_v2, lambda source: header_v2(source, more=b"\x05\0\x03abc")])
def test_the_limit_by_address_counts_whom_a_trusted_proxy_names(start, name, header):
    server = behind(start, connections_per_ip=1)

    def status(raw, source):
        raw.write(header(source))
        return raw.upgrade(server.token(name("alice")))

    with RawSocket(server.client) as one, RawSocket(server.client) as again, RawSocket(server.client) as other:
        assert status(one, "192.0.2.7") == 101
        assert status(again, "192.0.2.7") == 429
        assert status(other, "192.0.2.8") == 101


def test_the_sockets_of_one_client_are_bounded_behind_a_balancer_too(start):
    server = behind(start, sockets_per_ip=2)
    made = [RawSocket(server.client) for _ in range(4)]
    try:
        for raw in made[:2]:
            raw.write(header_v2("192.0.2.7") + b"GET /v1/conversations HTTP/1.1\r\nHost: heddle\r\n\r\n")
            assert raw.socket.recv(12) == b"HTTP/1.1 401"
        made[2].write(header_v2("192.0.2.7"))
        assert ended(made[2])
        made[3].write(header_v2("192.0.2.8") + b"GET /v1/conversations HTTP/1.1\r\nHost: heddle\r\n\r\n")
        assert made[3].socket.recv(12) == b"HTTP/1.1 401"
    finally:
        for raw in made:
            raw.socket.close()
    assert server.metrics_sum("proxy_headers_refused") == 0


def test_a_header_may_come_in_pieces_and_with_what_follows(start, name):
    server = behind(start)
    for header in [header_v1("192.0.2.7"), header_v2("192.0.2.7")]:
        with RawSocket(server.client) as raw:
            raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(header)):
                raw.write(header[at : at + 1])
            assert raw.upgrade(server.token(name("alice"))) == 101


def test_a_balancer_that_looks_whether_we_live_is_no_client(start):
    server = behind(start, sockets_per_ip=1)
    with RawSocket(server.client) as one, RawSocket(server.client) as two:
        for raw in (one, two):
            raw.write(header_v2(None, local=True) + b"GET /nothing HTTP/1.1\r\nHost: heddle\r\n\r\n")
            assert raw.socket.recv(12) == b"HTTP/1.1 404"
    assert server.metrics_sum("proxy_headers_refused") == 0


@pytest.mark.parametrize(("sent", "reason"), [
    (b"GET /v1/ws HTTP/1.1\r\nHost: heddle\r\n\r\n", "missing"),
    (b"POST", "missing"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "missing"),
    (b"PROXY TCP4 not.an.address 127.0.0.1 1 2\r\n", "broken"),
    (b"PROXY TCP4 " + b"1" * 120, "broken"),
    (b"\r\n\r\n\0\r\nQUIT\n\x99\x11\0\x0c" + b"\0" * 12, "broken"),
    (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + b"\0" * 3_000, "broken"),
])
def test_a_trusted_proxy_without_a_good_header_is_closed_at_once_and_counted(start, sent, reason):
    # At once: the deadline of a handshake is longer than the test waits.
    server = behind(start, handshake_deadline="1 min")
    with RawSocket(server.client) as raw:
        raw.write(sent)
        assert ended(raw)
    refused(server, reason)


def test_a_header_that_does_not_end_is_closed_at_the_deadline(start):
    server = behind(start, handshake_deadline="300 ms")
    with RawSocket(server.client) as raw:
        raw.write(b"PROXY TCP4 192.0.2.7 ")
        assert ended(raw)
    refused(server, "late")


@pytest.mark.parametrize("header", [header_v1, header_v2])
def test_a_stranger_cannot_say_who_it_is(start, name, header):
    server = behind(start, trusted=["192.0.2.1"], connections_per_ip=1)
    with RawSocket(server.client) as forger:
        forger.write(header("192.0.2.7"))
        # To this listener it is a broken request, like any other.
        answer = forger.socket.recv(100)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer
    with RawSocket(server.client) as one, RawSocket(server.client) as again:
        assert one.upgrade(server.token(name("alice"))) == 101
        assert again.upgrade(server.token(name("bob"))) == 429
    assert server.metrics_sum("proxy_headers_refused") == 0


def test_nothing_is_read_before_it_is_configured(start, name):
    server = start(config={"gateway": {"trusted_proxies": ["127.0.0.1"]}})
    with RawSocket(server.client) as raw:
        assert raw.upgrade(server.token(name("alice"))) == 101
    nobody = start(config={"gateway": {"proxy_protocol": "trusted"}}, launch=False)
    code, said = nobody.refused()
    assert code == 64 and "gateway.proxy_protocol" in said and "gateway.trusted_proxies is empty" in said, said


def balanced(server):
    """The sample in front of that server and of one that is not there."""
    nobody = f"127.0.0.1:{free_port()} port {free_port()}"
    here = f"{server.client} port {server.admin.rsplit(':', 1)[1]}"
    return HAProxy([("10.0.0.11:7600 port 7601", here), ("10.0.0.12:7600 port 7601", nobody)])


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_clients_chat_through_haproxy_and_limits_see_their_own_addresses(start, name, tmp_path, tls):
    gateway, trust = {"connections_per_ip": 1}, None
    if tls:
        authority = Authority(tmp_path / "authority")
        certificate, key = authority.issue("chat")
        gateway |= {"tls_certificate": str(certificate), "tls_key": str(key)}
        trust = authority.trust()
    server = behind(start, **gateway)
    with balanced(server) as balancer:
        until(lambda: balancer.status("heddle-2") == "DOWN", "the check takes out who is not there")
        assert balancer.status("heddle-1") == "UP"
        through = {"address": balancer.address, "tls": trust}
        async with (
            Device(server, name("alice"), local="127.0.0.2", **through) as a,
            Device(server, name("bob"), local="127.0.0.3", **through) as b,
        ):
            await a.say(b.user, "through the balancer")
            assert (await b.next("new_message"))["text"] == "through the balancer"
            for local, limited in [("127.0.0.2", True), ("127.0.0.3", True), ("127.0.0.4", False)]:
                again = Device(server, name("carol"), local=local, **through)
                if limited:
                    with pytest.raises(InvalidStatus) as told:
                        await again.open()
                    assert told.value.response.status_code == 429
                    assert f"{local} has 1 connections" in told.value.response.body.decode()
                else:
                    await again.connect()
                    await again.leave()
        assert server.metrics_sum("proxy_headers_refused") == 0


async def test_clients_chat_through_the_balancer_of_the_compose_file(start, name):
    node = compose()["services"]["node-1"]["environment"]
    # As each node there is told, but for the address of the network.
    assert node["HEDDLE_GATEWAY__PROXY_PROTOCOL"] == "trusted" and node["HEDDLE_GATEWAY__TRUSTED_PROXIES"]
    server = behind(start, connections_per_ip=1)
    here = f"{server.client} port {server.admin.rsplit(':', 1)[1]}"
    nobody = f"127.0.0.1:{free_port()} port {free_port()}"
    places = [("node-1:7600 port 7601", here), ("node-2:7600 port 7601", nobody)]
    with HAProxy(places, ROOT / "deploy" / "compose" / "haproxy.cfg") as balancer:
        until(lambda: balancer.status("node-2") == "DOWN", "the check takes out who is not there")
        async with (
            Device(server, name("alice"), local="127.0.0.2", address=balancer.address) as a,
            Device(server, name("bob"), local="127.0.0.3", address=balancer.address) as b,
        ):
            await a.say(b.user, "through the balancer")
            assert (await b.next("new_message"))["text"] == "through the balancer"
            with pytest.raises(InvalidStatus) as told:
                await Device(server, name("carol"), local="127.0.0.2", address=balancer.address).open()
            assert told.value.response.status_code == 429


async def test_a_policy_that_limits_an_address_sees_the_clients_behind_haproxy(start, name):
    one_message = {"ip_factor": 2, "commands": {"chat-message": {"burst": 1, "per_second": 0.001}}}
    server = behind(start, policies={"config": {"token-bucket": one_message}})
    with balanced(server) as balancer:
        def device(who, local):
            return Device(server, name(who), local=local, address=balancer.address)

        async with device("alice", "127.0.0.2") as a, device("bob", "127.0.0.2") as b, device("carol", "127.0.0.2") as c:
            await a.say(b.user, "one of two from this address")
            await b.say(a.user, "two of two")
            await c.refused("rate_limited", a.user, "one too many")
            async with device("dave", "127.0.0.3") as d:
                await d.say(a.user, "from elsewhere")


async def test_a_node_that_drains_is_taken_out_by_the_check_while_its_clients_are_still_there(start, name):
    server = behind(start, drain_pace="30 s", drain_deadline="40 s")
    with balanced(server) as balancer:
        # The second in the queue of a drain waits for half of its pace.
        async with (
            Device(server, name("alice"), address=balancer.address) as a,
            Device(server, name("bob"), address=balancer.address) as b,
        ):
            assert balancer.status("heddle-1") == "UP"
            server.signal(signal.SIGTERM)
            await until_async(lambda: balancer.status("heddle-1") == "DOWN", "the check takes it out", 20)
            assert [a.closed, b.closed].count(None) == 1, (a.closed, b.closed)
        server.kill()


def test_the_keys_that_the_sample_names_are_keys(tmp_path):
    lines = (line for line in HAProxy.sample().splitlines() if line.startswith("#   "))
    wanted = [line[4:] for line in lines if line[4:].startswith(("[", "listen", "trusted", "proxy_protocol"))]
    assert len(wanted) == 6, wanted
    file = tmp_path / "heddle.toml"
    file.write_text("\n".join([*wanted, "[auth]", 'secret = "a secret of more than thirty-two bytes"']))
    checked = heddle("config", "check", file)
    assert checked.returncode == 0, checked.stderr
