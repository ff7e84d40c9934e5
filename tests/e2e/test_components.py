"""Files that are no policy: refused at start with words, and nothing serves."""

import pytest

from harness.device import Device
from harness.policies import FOLDER, fixture, truncated
from harness.waiting import until


def _refused(start, hook, path, *words):
    server = start(launch=False, policies=[(hook, path)])
    code, said = server.refused()
    # A guest's panic is quoted; one of ours would name a thread.
    assert code != 0 and "thread '" not in said, said
    for word in words:
        assert word.lower() in said.lower(), (word, said)
    return said


def test_a_component_of_the_wrong_world_is_refused(start):
    _refused(start, "routing", fixture("everyone-offline"), '"everyone-offline" has no hook routing, only presence')


def test_a_truncated_file_is_refused(start):
    path = fixture("deny-all")
    size = path.stat().st_size
    for keep, words in (
        (0, "the file is empty"),
        (4, "ends at byte 4 in the middle"),
        # Whole as far as it goes: a component of nothing.
        (8, "without the section `heddle:plugin`"),
        (100, "ends at byte 100 in the middle"),
        (size // 2, "the file is truncated"),
        (size - 1, f"ends at byte {size - 1} in the middle of a section; copy or build it again"),
    ):
        file = truncated(path, keep)
        _refused(start, "routing", file, file.name, words)


def test_a_file_that_is_not_wasm_is_refused(start, tmp_path):
    file = tmp_path / "poem.wasm"
    file.write_text("roses are red")
    _refused(start, "routing", file, "poem.wasm", 'not a WebAssembly file: it starts with "rose"')


def test_a_file_that_is_not_there_is_refused_with_its_name(start, tmp_path):
    _refused(start, "routing", tmp_path / "missing.wasm", "policies.routing", "missing.wasm", "cannot be read")


def test_a_component_without_a_manifest_is_refused(start, tmp_path):
    file = tmp_path / "bare.wasm"
    file.write_bytes(b"\0asm\x0d\0\1\0")
    _refused(start, "routing", file, "bare.wasm", "without the section `heddle:plugin`: pack it with `heddle plugin build`")


def test_an_unknown_hook_is_refused_with_the_known_ones(start, tmp_path):
    _refused(start, "routin", tmp_path / "x.wasm", 'no hook "routin": it is rate-limit, routing, fanout or presence')


@pytest.mark.parametrize("name_,words", [
    ("trap-at-start", ("it failed in `configure`", "no configuration is good enough", "trap-at-start/src/lib.rs:")),
    ("wrong-type", ("`heddle:policy/routing` has another type than heddle:policy 0.1.0 says", "build it against this host's wit/")),
])
def test_a_component_that_cannot_start_is_refused(start, name_, words):
    assert (FOLDER / name_).is_dir(), f"there is no fixture {name_}"
    _refused(start, "routing", fixture(name_), f"{name_}.wasm", *words)


@pytest.mark.parametrize("name_", ["too-few-codes", "unknown-codes"])
async def test_a_fanout_that_answers_too_few_or_unknown_codes_is_a_fault_and_the_message_arrives(start, name, name_):
    assert (FOLDER / name_).is_dir(), f"there is no fixture {name_}"
    server = start(policies=[("fanout", fixture(name_))])
    alice, bob = name("alice"), name("bob")
    group = server.rest(alice).group("codes", [bob])
    async with Device(server, alice) as a, Device(server, bob) as b:
        await a.say(group=group, text="whole")
        await b.next("new_message", text="whole", deadline_s=30)
    until(lambda: server.metrics_sum("fault") > 0, "the fault is counted")
