"""What a plugin's author types: new, test, check, inspect, dev, sign, logs."""

import json
import os
import shutil
import subprocess

import pytest

from harness.authoring import PluginDev, copied, edited
from harness.device import Device
from harness.policies import built, digest, fixture, truncated
from harness.server import ROOT, binary, heddle
from harness.terminal import Terminal

HOOKS = ("rate-limit", "routing", "fanout", "presence")
OFFLINE = {"CARGO_NET_OFFLINE": "true"}


def typed(*words, timeout_s=300, code=0, env=None):
    """`heddle plugin WORDS`; it must end with that code."""
    done = heddle("plugin", *words, timeout_s=timeout_s, env=env)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


@pytest.fixture(scope="module")
def one_of_each(tmp_path_factory):
    """A new plugin with all four hooks, built offline from what is downloaded already."""
    folder = tmp_path_factory.mktemp("new") / "one-of-each"
    done = typed("new", "one-of-each", *[word for hook in HOOKS for word in ("--hook", hook)], folder)
    assert done.stdout.count("heddle ") == 3, done.stdout
    words = ["cargo", "build", "--offline", "--locked", "--release", "--target", "wasm32-wasip2"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=_without_cargo())
    assert done.returncode == 0, done.stderr
    typed("build", folder, env=OFFLINE)
    return folder


@pytest.mark.parametrize("hook", HOOKS)
def test_a_new_plugin_of_each_hook_builds_offline_passes_its_cases_and_decides(hook, start, tmp_path):
    folder = tmp_path / f"my-{hook}"
    made = json.loads(typed("new", f"my-{hook}", "--hook", hook, folder, "--output", "json").stdout)
    assert made["hooks"] == [hook] and "src/lib.rs" in made["files"], made
    tested = json.loads(typed("test", folder, "--output", "json", env=OFFLINE).stdout)
    assert tested["failed"] == 0 and tested["passed"] >= 1, tested
    file = folder / f"my-{hook}.wasm"
    assert json.loads(typed("check", file, "--output", "json").stdout)["fits"] is True
    server = start()
    deployed = json.loads(typed("deploy", file, "--data", server.data, "--output", "json").stdout)
    policies = {(p["hook"], p["name"]): p["digest"] for p in deployed["policies"]}
    assert policies[(hook, f"my-{hook}")] == digest(file), policies


def test_the_unit_tests_of_a_new_plugin_pass_natively_and_its_lock_fits(one_of_each):
    done = subprocess.run(
        ["cargo", "test", "--offline", "--locked", "--quiet"], cwd=one_of_each, capture_output=True, text=True,
        timeout=300, check=False, env=_without_cargo(),
    )
    assert done.returncode == 0 and "9 passed" in done.stdout, (done.stdout, done.stderr)


def test_a_new_plugin_is_formatted(one_of_each):
    done = subprocess.run(["cargo", "fmt", "--check"], cwd=one_of_each, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def _without_cargo():
    return {name: value for name, value in os.environ.items() if not name.startswith("CARGO_") or name == "CARGO_HOME"}


def test_new_refuses_what_is_there_and_what_is_no_name_or_hook(tmp_path):
    (tmp_path / "notes").write_text("mine")
    assert "not empty" in typed("new", "x1", "--hook", "routing", tmp_path, code=1).stderr
    assert (tmp_path / "notes").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    for name, why in [("Quiet", "a-z"), ("9x", "letter"), ("inbox-routing", "built-in"), ("match", "Rust")]:
        assert why in typed("new", name, "--hook", "routing", tmp_path / "n", code=64).stderr
    assert "presence" in typed("new", "x1", "--hook", "rooting", tmp_path / "n", code=64).stderr
    assert not (tmp_path / "n").exists()


def test_test_shows_what_was_expected_and_what_was_found(one_of_each, tmp_path):
    folder = shutil.copytree(one_of_each, tmp_path / "copy", ignore=shutil.ignore_patterns("*.wasm"))
    assert typed("test", folder).stdout.count("\nok  ") >= 4
    case = folder / "cases" / "groups-are-quiet-at-night.json"
    edited(case, "until 7:00", "until 8:00")
    done = typed("test", folder, code=1)
    line = next(line for line in done.stdout.splitlines() if "step 1" in line)
    assert "until 8:00" in line and "until 7:00" in line, done.stdout
    assert "1 of 6" in done.stdout and "would not be deployed" in done.stderr, done
    report = json.loads(typed("test", folder, "--output", "json", code=1).stdout)
    wrong = [one for one in report["cases"] if not one["passed"]]
    assert report["failed"] == 1 and wrong[0]["name"] == case.stem and wrong[0]["micros"] > 0, wrong


def test_check_says_what_a_file_is_and_inspect_shows_all_of_it(one_of_each):
    file = one_of_each / "one-of-each.wasm"
    said = typed("check", file).stdout
    for part in (digest(file), "one-of-each 0.1.0", "scopes user", "16 MiB", "version 1", "MiB at start", "fits"):
        assert part in said, (part, said)
    whole = typed("inspect", file).stdout
    for part in ("--- plugin.toml", "[hooks.presence]", "--- cases/a-day.json", "heddle:policy/fanout@0.1.0 (plan, sort)"):
        assert part in whole, (part, whole)
    shown = json.loads(typed("inspect", file, "--output", "json").stdout)
    assert shown["digest"] == digest(file) and shown["hooks"]["rate-limit"]["scopes"] == ["user"], shown


def test_check_tells_every_problem_at_once_and_what_to_do(one_of_each, tmp_path):
    folder = shutil.copytree(one_of_each, tmp_path / "copy", ignore=shutil.ignore_patterns("*.wasm"))
    manifest = folder / "plugin.toml"
    edited(manifest, 'memory = "16 MiB"', 'memory = "512 MiB"')
    edited(manifest, "deadline_ms = 5", "deadline_ms = 500")
    edited(folder / "src" / "lib.rs", ", presence);", ");")
    edited(folder / "src" / "lib.rs", "message.kind()", "message.text().unwrap_or_default()")
    done = typed("check", folder, code=1)
    for part in ("limits.memory", "limits.deadline_ms", "[hooks.presence]", "body = true", "4 problem(s)"):
        assert part in done.stderr, (part, done.stderr)


def test_check_of_what_is_no_plugin_says_so(tmp_path):
    text = tmp_path / "text.wasm"
    text.write_text("no component at all")
    for file, why in [(text, "WebAssembly"), (truncated(fixture("mark"), 30_000), "truncated"), (fixture("wrong-type"), "type")]:
        assert why in typed("check", file, code=1).stderr
    assert "cannot read" in typed("check", tmp_path / "nothing.wasm", code=66).stderr


def test_an_answer_that_is_piped_away_is_no_crash(one_of_each):
    file = one_of_each / "one-of-each.wasm"
    done = subprocess.run(
        ["sh", "-c", f'"{binary()}" plugin inspect "{file}" | true'], capture_output=True, text=True, check=False,
    )
    assert "panicked" not in done.stderr, done.stderr


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_an_edit_decides_within_seconds_and_the_open_chat_says_so(start, tmp_path, capsys):
    """The README's step: edit one line, save, see it in the open chat; nobody is disconnected; then back."""
    folder = copied("inbox-routing", tmp_path)
    source = folder / "src" / "lib.rs"
    server = start(mode="dev")
    chat = Terminal("chat", "--user", "alice", "--to", "bob", "--data", server.data)
    dev = PluginDev(folder, server)
    watching = Device(server, "carol", token=server.token("carol"))
    try:
        await watching.connect()
        chat.shows(r"generation 1\b")
        assert dev.next("watching")["generation"] == 1
        dev.next("serving")
        edited(source, "        if envelope.size > self.max_bytes {", (
            '        if envelope.size < 4 {\n            return Decision::reject("say a little more");\n        }\n'
            "        if envelope.size > self.max_bytes {"))
        serving = dev.next("serving")
        assert serving["digest"] == digest(folder / "inbox-routing.wasm"), serving
        seen = chat.shows(rf"generation {serving['generation']} \((\d+\.\d) s\)")
        chat.type("hi\r")
        chat.shows(r"say a little more")

        edited(source, '"say a little more"', '"say a little more" oops')
        failed = dev.next("stays", generation=serving["generation"])
        assert "oops" in failed["problem"], failed
        edited(source, '< 4 {\n            return Decision::reject("say a little more" oops', (
            '< 64 {\n            return Decision::reject("say more"'))
        case = dev.next("stays", generation=serving["generation"])
        assert "case(s) fail" in case["problem"] and "newcomer-waits" in case["problem"], case

        assert dev.interrupt() == 0
        dev.next("ended", generation=serving["generation"], first=1, restored=None)
        done = json.loads(typed("rollback", "1", "--data", server.data, "--output", "json").stdout)
        chat.shows(rf"generation {done['generation']} \(rollback\)")
        chat.type("hi\r")
        chat.shows(r"alice  now  ✓")
        assert watching.closed is None and chat.child.poll() is None
        with capsys.disabled():
            print(f"\n  edit to serving: {serving['seconds']:.2f} s (build {serving['build_seconds']:.2f} s, "
                  f"cases {serving['cases_seconds']:.2f} s, swap {serving['swap_seconds']:.2f} s); "
                  f"the chat says {seen.group(1)} s; connections dropped: 0")
    finally:
        dev.end()
        chat.close()
        await watching.leave()


@pytest.mark.timeout(180)
def test_dev_signs_where_signatures_are_required(start, keys, one_of_each, tmp_path):
    folder = shutil.copytree(one_of_each, tmp_path / "copy", ignore=shutil.ignore_patterns("*.wasm"))
    server = start(config={"policies": {"trusted_keys": [keys["ours"][1]], "require_signature": True}})
    for key, event in [((), "stays"), (("--key", keys["ours"][0]), "serving")]:
        dev = PluginDev(folder, server, *key)
        try:
            dev.next("watching")
            said = dev.next(event)
            assert event == "serving" or "not signed" in said["problem"], said
            assert dev.interrupt() == 0
        finally:
            dev.end()


@pytest.mark.timeout(180)
def test_dev_restores_what_decided_before_when_it_is_asked_to(start, one_of_each):
    server = start(mode="dev")
    dev = PluginDev(one_of_each, server, "--restore")
    try:
        dev.next("watching", generation=1)
        assert dev.next("serving")["before"] == 1
        (one_of_each / "src" / "lib.rs").touch()
        dev.next("same", generation=2)
        assert dev.interrupt() == 0
        dev.next("ended", restored=3)
    finally:
        dev.end()
    listed = json.loads(typed("list", "--data", server.data, "--output", "json").stdout)
    assert listed["generation"] == 3 and "one-of-each" not in {p["name"] for p in listed["policies"]}


def test_dev_without_a_server_or_a_plugin_says_what_to_do(tmp_path):
    folder = ROOT / "plugins" / "inbox-routing"
    assert "heddle dev" in typed("dev", folder, "--data", tmp_path / "none", code=66).stderr
    assert "plugin.toml" in typed("dev", tmp_path, code=66).stderr


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two keys: ours and somebody else's."""
    folder = tmp_path_factory.mktemp("keys")
    made = [json.loads(typed("keys", "new", folder / who, "--output", "json").stdout) for who in ("ours", "theirs")]
    return {who: (one["secret"], one["public_key"]) for who, one in zip(("ours", "theirs"), made, strict=True)}


def versioned(folder, version):
    """The fixture `mark` as that version."""
    folder.mkdir()
    text = (ROOT / "tests" / "policies" / "mark" / "plugin.toml").read_text()
    lines = [f'version = "{version}"' if line.startswith("version") else line for line in text.splitlines()]
    text = "\n".join(lines).replace("../target", str(ROOT / "tests" / "policies" / "target"))
    text = text.replace('"cargo"', f'"env", "-C", "{ROOT / "tests" / "policies" / "mark"}", "cargo"')
    (folder / "plugin.toml").write_text(text)
    return built(folder, folder / f"mark-{version}.wasm")


def test_a_key_is_for_its_owner_and_never_written_over(tmp_path):
    key = tmp_path / "k"
    said = typed("keys", "new", key).stdout
    assert "trusted_keys" in said and key.stat().st_mode & 0o777 == 0o600, said
    before = key.read_bytes()
    assert "there already" in typed("keys", "new", key, code=1).stderr and key.read_bytes() == before


def test_a_key_with_a_password_signs_only_with_it(tmp_path):
    key, file = tmp_path / "k", shutil.copy(fixture("mark"), tmp_path / "mark.wasm")
    typed("keys", "new", key, env={"HEDDLE_KEY_PASSWORD": "open"})
    assert "HEDDLE_KEY_PASSWORD" in typed("sign", file, "--key", key, code=64).stderr
    typed("sign", file, "--key", key, code=64, env={"HEDDLE_KEY_PASSWORD": "wrong"})
    typed("sign", file, "--key", key, env={"HEDDLE_KEY_PASSWORD": "open"})


def test_where_signatures_are_required_only_trusted_ones_decide_and_none_goes_back(start, keys, tmp_path):
    """Unsigned, changed, signed by others, older: each is refused with 422 in words, and the present set goes on."""
    server = start(config={"policies": {"trusted_keys": [keys["ours"][1]], "require_signature": True}})

    def deployed(file, *more, code=0):
        return typed("deploy", file, "--data", server.data, *more, code=code)

    first, second = versioned(tmp_path / "v1", "0.1.9"), versioned(tmp_path / "v2", "0.1.10")
    assert "heddle plugin sign" in deployed(first, code=1).stderr
    answer = server.admin_rest(server.config["admin"]["token"]).post("/policies/plugins", raw=first.read_bytes())
    assert answer.status == 422, answer
    typed("sign", first, "--key", keys["theirs"][0])
    assert "trusted_keys" in deployed(first, code=1).stderr
    typed("sign", first, "--key", keys["ours"][0])
    assert "signed" in typed("check", first).stdout
    deployed(first)
    assert "changed after it was signed" in deployed(second, "--signature", f"{first}.minisig", code=1).stderr
    typed("sign", second, "--key", keys["ours"][0])
    deployed(second)
    old = deployed(first, code=1).stderr
    assert "0.1.9 is older than 0.1.10" in old and "--allow-downgrade" in old, old
    typed("remove", "mark", "--data", server.data)
    assert "older" in deployed(first, code=1).stderr, "taking it out first is no way round"
    deployed(first, "--allow-downgrade")
    listed = json.loads(typed("list", "--data", server.data, "--output", "json").stdout)["policies"]
    assert {p["name"]: p["version"] for p in listed}["mark"] == "0.1.9"
    server.restart()
    assert any(p["name"] == "mark" for p in server.ready["policies"])


def test_a_configured_plugin_must_be_signed_too_and_keys_must_be_keys(start, keys, tmp_path):
    file = shutil.copy(fixture("mark"), tmp_path / "mark.wasm")
    trust = {"policies": {"trusted_keys": [keys["ours"][1]], "require_signature": True}}
    code, said = start(launch=False, config=trust, policies=[("routing", file)]).refused()
    assert code == 64 and "policies.routing" in said and "not signed" in said, said
    typed("sign", file, "--key", keys["ours"][0])
    assert any(p["name"] == "mark" for p in start(config=trust, policies=[("routing", file)]).ready["policies"])
    wrong = {"policies": {"trusted_keys": ["RWnonsense"], "require_signature": True}}
    code, said = start(launch=False, config=wrong).refused()
    assert code == 64 and "policies.trusted_keys" in said and "RWnonsense" in said, said


def test_where_none_is_required_an_unsigned_file_decides(start, keys):
    server = start(config={"policies": {"trusted_keys": [keys["ours"][1]]}})
    typed("deploy", fixture("mark"), "--data", server.data)


async def test_logs_show_what_a_plugin_wrote_and_follow(start, name, tmp_path):
    folder = copied("inbox-routing", tmp_path)
    edited(folder / "src" / "lib.rs", "        if envelope.size > self.max_bytes {", (
        '        heddle_sdk::log::info(format!("{} bytes", envelope.size));\n'
        "        if envelope.size > self.max_bytes {"))
    server = start()
    typed("deploy", built(folder), "--data", server.data)
    async with Device(server, name("alice")) as a:
        await a.say(name("bob"), "x" * 17)
        words = [binary(), "plugin", "logs", "-f", "inbox-routing", "--data", str(server.data), "--output", "json"]
        following = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            lines = iter(following.stdout.readline, "")
            first = json.loads(next(line for line in lines if "17 bytes" in line))
            assert first["level"] == "info" and first["plugin"] == "inbox-routing", first
            await a.say(name("bob"), "x" * 23)
            assert json.loads(next(lines))["text"] == "23 bytes"
        finally:
            following.kill()
            following.wait()
    said = typed("logs", "inbox-routing", "--data", server.data).stdout
    assert "17 bytes" in said and "23 bytes" in said, said
    assert typed("logs", "nobody", "--data", server.data).stdout == ""
