"""Keys that verify tokens: from files, from a URL, good and broken; and tokens that are missing."""

import json

import pytest
from websockets.exceptions import InvalidStatus

from harness import settings
from harness.authority import Authority
from harness.device import Device
from harness.keys import Key, Place
from harness.server import Heddle, heddle
from harness.tokens import token as by_secret
from harness.waiting import until

OFTEN = {"jwks_refresh": "1 s", "jwks_unknown_interval": "100 ms", "jwks_deadline": "2 s"}


async def door(server, token):
    """The status of an upgrade: 101 or the refusal."""
    device = Device(server, "somebody", token=token, auth="bearer" if token else "none")
    try:
        await device.open()
    except InvalidStatus as refused:
        return refused.response.status_code
    await device.leave()
    return 101


async def test_tokens_by_eddsa_and_es256_open_the_door_and_others_do_not(start, tmp_path, name):
    ed, ec, spare = Key(tmp_path, "EdDSA"), Key(tmp_path, "ES256"), Key(tmp_path, "ES256", "in-a-set")
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [spare.jwk(use="sig", alg="ES256"), ec.jwk(kid="enc", use="enc")]}))
    server = start(config={"auth": {"keys": [str(ed.public()), str(ec.public()), str(keys)]}})
    for key in (ed, ec, spare):
        user = name("alice")
        async with Device(server, user, token=key.token(user)) as device:
            await device.say(user, "to myself")
    other = Key(tmp_path, "ES256", "other")
    assert await door(server, other.token("mallory")) == 401
    # A public key is no secret.
    assert await door(server, by_secret("mallory", secret=ec.public().read_text())) == 401


@pytest.mark.parametrize("broken, says", [
    ({"kty": "EC", "crv": "P-256", "kid": "k1", "x": "AAAA", "y": "AAAA"}, '"k1" has an x of 3'),
    ({"kty": "EC", "crv": "P-384", "x": "AAAA", "y": "AAAA"}, 'is on the curve "P-384"'),
    ({"kty": "oct", "kid": "k2", "k": "c2hvcnQ"}, "HS256 wants at least 32"),
    ({"kty": "OKP", "crv": "Ed25519", "use": "enc", "x": "AAAA"}, 'is for "enc"'),
    (None, "neither a public key in PEM form nor a JWKS"),
])
def test_broken_keys_are_found_by_config_check_and_at_start(start, tmp_path, broken, says):
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [broken]}) if broken else "-----BEGIN PUBLIC KEY-----\nAAAA")
    config = settings.merged(settings.BASE, {"auth": {"keys": [str(keys)]}})
    file = tmp_path / "heddle.toml"
    file.write_text(settings.toml_text(settings.placed(config, tmp_path / "data")))
    done = heddle("config", "check", file)
    assert done.returncode == 64 and says in done.stderr and "auth.keys" in done.stderr, done.stderr
    code, said = start(config={"auth": {"keys": [str(keys)]}}, launch=False).refused()
    assert code == 64 and says in said, said


def test_a_url_that_is_no_place_for_keys_is_refused(tmp_path):
    for url, says in (("http://id.example/keys", "is not https"), ("ftp://id.example/", "write https"), ("nowhere", "is not a URL")):
        config = settings.merged(settings.BASE, {"auth": {"jwks_url": url}})
        file = tmp_path / "heddle.toml"
        file.write_text(settings.toml_text(settings.placed(config, tmp_path / "data")))
        done = heddle("config", "check", file)
        assert done.returncode == 64 and says in done.stderr and "auth.jwks_url" in done.stderr, done.stderr


async def test_keys_of_a_url_are_fetched_rotated_and_kept_while_it_is_away(start, tmp_path):
    old, new, newer = (Key(tmp_path, algorithm, kid) for algorithm, kid in
                       (("EdDSA", "old"), ("ES256", "new"), ("EdDSA", "newer")))
    with Place(old) as place:
        server = start(config={"auth": {**OFTEN, "jwks_refresh": "1 h", "jwks_url": place.url}})
        until(lambda: server.admin_rest().get("/readyz").status == 200, "the first set is there")
        assert await door(server, old.token("alice")) == 101
        # Rotated: a token that names a key which is not there makes it be fetched, and is let in.
        place.put(old, new)
        assert await door(server, new.token("alice")) == 101
        assert place.asked == 2
        # Strangers' names make it be fetched as well, but not each time: one fetch serves all that wait for it.
        place.put(new)
        strangers = [Key(tmp_path, "EdDSA", f"stranger-{number}") for number in range(3)]
        until(lambda: place.asked > 2 or _asks(server, strangers[0]), "the pause is over")
        assert place.asked <= 4
        assert await door(server, old.token("alice")) == 401, "what the set no longer has"
        # Garbage and failures change nothing.
        for body, status in ((b"no json", 200), (b'{"keys": []}', 200), (b"{}", 500), (b"x" * 300_000, 200)):
            place.body, place.status = body, status
            failed = server.metrics_sum('heddle_jwks_fetches_total{outcome="failed"}')
            until(lambda failed=failed: server.metrics_sum('outcome="failed"') > failed or _asks(server, strangers[1]),
                  f"{body[:20]} is refused")
            assert await door(server, new.token("alice")) == 101
        place.close()
        assert await door(server, new.token("alice")) == 101
        place.open()
        place.status = 200
        place.put(newer)
        until(lambda: _asks(server, newer) == 200, "the newest key is known")
        assert server.metrics()["heddle_jwks_keys"] == 1


def _asks(server, key):
    """One call with a token of that key; its status, or nothing while it is refused."""
    answer = server.admin_rest(key.token("ops", role="viewer")).get("/connections")
    return answer.status if answer.status == 200 else None


async def test_a_node_is_not_ready_before_the_first_keys_have_come(start, tmp_path, name):
    key = Key(tmp_path, "ES256", "only")
    with Place(key) as place:
        place.close()
        server = start(config={"auth": {**OFTEN, "jwks_url": place.url}})
        answer = server.admin_rest().get("/readyz")
        assert answer.status == 503 and b"auth.jwks_url" in answer.raw, answer
        assert await door(server, key.token("alice")) == 401
        # Its own secret serves meanwhile.
        async with Device(server, name("bob")):
            pass
        place.open()
        until(lambda: server.admin_rest().get("/readyz").status == 200, "ready")
        assert await door(server, key.token("alice")) == 101
        # A set that is read again because the configuration is changes nothing.
        assert heddle("config", "reload", "--data", server.data).returncode == 0
        assert server.admin_rest().get("/readyz").status == 200
        assert await door(server, key.token("alice")) == 101


async def test_keys_come_over_tls_from_whom_the_authority_vouches_for(start, tmp_path):
    authority, stranger = Authority(tmp_path / "authority"), Authority(tmp_path / "stranger")
    key = Key(tmp_path, "ES256", "only")
    with Place(key, tls=authority.issue("keys")) as place:
        server = start(config={"auth": {**OFTEN, "jwks_url": place.url, "jwks_ca": str(authority.ca)}})
        until(lambda: server.admin_rest().get("/readyz").status == 200, "ready")
        assert await door(server, key.token("alice")) == 101
        other = start(config={"auth": {**OFTEN, "jwks_url": place.url, "jwks_ca": str(stranger.ca)}})
        until(lambda: server_says(other, "auth.jwks_ca"), "the operator is told what to mend")
        assert await door(other, key.token("alice")) == 401


def server_says(server: Heddle, word):
    """It stands in its log."""
    return word in server.stderr()


@pytest.fixture
def strict(start):
    """As `serve` is by default: no token, no upgrade."""
    return start(config={"auth": {"first_frame": False}})


async def test_without_first_frame_nobody_gets_in_without_a_token(strict, name):
    with pytest.raises(InvalidStatus) as refused:
        await Device(strict, name("alice"), auth="first_frame").open()
    answer = refused.value.response
    assert answer.status_code == 401 and "there is no token" in answer.body.decode()
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    alice = name("alice")
    for auth in ("bearer", "subprotocol"):
        async with Device(strict, alice, auth, auth=auth) as device:
            await device.say(alice, "in")


async def test_sockets_that_owe_their_token_are_few_and_give_their_place_back(start, name):
    server = start(config={"auth": {"first_frame_connections_max": 2}, "gateway": {"handshake_deadline": "30 s"}})
    waiting = [Device(server, name(f"u{number}"), auth="first_frame") for number in range(3)]
    for device in waiting[:2]:
        await device.open()
    with pytest.raises(InvalidStatus) as refused:
        await waiting[2].open()
    assert refused.value.response.status_code == 429
    # Who brings a token is not counted, and who says hello gives the place back.
    async with Device(server, name("bob")):
        pass
    await waiting[0].frame({"type": "hello", "device": "phone", "token": waiting[0].token})
    await waiting[0].next("hello_ok")
    await waiting[2].connect()
    for device in waiting:
        await device.leave()
