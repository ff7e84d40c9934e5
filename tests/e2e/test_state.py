"""What a plugin remembers, over its versions: deployed while it is used, through the CLI."""

from harness.operator import changed
from harness.policies import FOLDER, built, fixture

ALLOWED = 3


def quota(folder, version, *, state_version, form, migrates):
    """The fixture `quota`, three commands for each user: in form 1 the count is one byte, in form 2 four."""
    fixture("quota")
    folder = folder / version
    folder.mkdir()
    (folder / "plugin.toml").write_text(
        f'name = "quota"\nversion = "{version}"\nstate_version = {state_version}\n'
        '[hooks.rate-limit]\nscopes = ["user"]\non_failure = "closed"\n'
        f'[build]\ncommand = ["true"]\nartifact = "{FOLDER / "target" / "wasm32-wasip2" / "release" / "quota.wasm"}"\n'
        f"[config]\nform = {form}\nmigrates = {str(migrates).lower()}\n")
    return built(folder)


def passed(server, user):
    """So many commands more are allowed to that user; all are asked for."""
    statuses = [server.rest(user).get("/v1/conversations").status for _ in range(ALLOWED + 1)]
    assert set(statuses) <= {200, 429} and statuses == sorted(statuses), statuses
    return statuses.count(200)


def test_state_survives_a_swap_and_another_version_of_it_is_migrated_or_starts_afresh(start, name, tmp_path):
    server = start()
    alice, bob = name("alice"), name("bob")
    changed(server, "deploy", quota(tmp_path, "1.0.0", state_version=1, form=1, migrates=False))
    for user in (alice, bob):
        assert server.rest(user).get("/v1/conversations").status == 200
    changed(server, "deploy", quota(tmp_path, "1.0.1", state_version=1, form=1, migrates=False))
    assert passed(server, alice) == ALLOWED - 1, "the same state_version goes on"
    changed(server, "deploy", quota(tmp_path, "2.0.0", state_version=2, form=2, migrates=True))
    assert passed(server, alice) == 0, "what was counted in one byte counts in four"
    assert passed(server, bob) == ALLOWED - 1
    changed(server, "deploy", quota(tmp_path, "3.0.0", state_version=3, form=1, migrates=False))
    assert passed(server, bob) == ALLOWED, "what is not migrated starts afresh"
    changed(server, "rollback")
    assert passed(server, bob) == 0, "and the version before finds what it left"
    assert server.faults("quota", "trap") == 0
