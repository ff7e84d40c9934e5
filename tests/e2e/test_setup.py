"""`make run` on a machine that lacks something: what is said, and what is installed. The machine is a folder of commands."""

import os
import pathlib
import shutil
import subprocess

import pytest

from harness.server import ROOT

# What every machine has.
USUAL = ("bash", "dirname", "awk", "sort", "head", "tail", "tr", "mkdir", "id", "nproc", "cat", "df")
RUSTC = 'case "$1" in --version) echo "rustc {version} (0 2026-01-01)";; *) echo "{sysroot}";; esac'


class Machine:
    """With those commands alone on its path, each given by what it does."""

    def __init__(self, folder):
        self.bin, self.sysroot, self.home = folder / "bin", folder / "sysroot", folder / "home"
        for made in (self.bin, self.sysroot, self.home):
            made.mkdir()
        for name in USUAL:
            (self.bin / name).symlink_to(pathlib.Path(shutil.which(name)).resolve())
        for name in ("cargo", "cc", "c++", "perl"):
            self.has(name, "true")
        self.has_rust("1.95.0")
        self.has("df", "echo 'Avail'; echo '  50000'")

    def has(self, name, does):
        """That command, in place of another of its name."""
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(f"#!{self.bin / 'bash'}\n{does}\n")
        (self.bin / name).chmod(0o755)

    def has_rust(self, version, target=True):
        """That compiler, with the target for policies or without."""
        self.has("rustc", RUSTC.format(version=version, sysroot=self.sysroot))
        folder = self.sysroot / "lib" / "rustlib" / "wasm32-wasip2"
        folder.mkdir(parents=True) if target else shutil.rmtree(folder, ignore_errors=True)

    def lacks(self, name):
        (self.bin / name).unlink()

    def set_up(self):
        """`deploy/setup.sh build`: its code, and what it said."""
        done = subprocess.run(
            [shutil.which("bash"), ROOT / "deploy" / "setup.sh", "build"], capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": str(self.bin), "HOME": str(self.home)})
        assert done.stdout == "", done
        return done.returncode, done.stderr


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_machine_that_has_all_is_told_how_long_the_first_build_takes_and_no_other(machine):
    code, said = machine.set_up()
    assert code == 0 and "first build, into" in said and "minutes on these" in said and len(said.splitlines()) == 1, said
    built = machine.home / ".cache" / "heddle" / "target" / "debug" / "heddle"
    built.parent.mkdir(parents=True)
    built.touch()
    assert machine.set_up() == (0, "")


def test_make_run_builds_links_the_binary_and_starts_it(machine, tmp_path):
    checkout, binary = tmp_path / "checkout", machine.home / ".cache" / "heddle" / "target" / "debug" / "heddle"
    (checkout / "deploy").mkdir(parents=True)
    for file in ("Makefile", "deploy/setup.sh"):
        shutil.copy(ROOT / file, checkout / file)
    for name in ("make", "ln", "chmod"):
        (machine.bin / name).symlink_to(pathlib.Path(shutil.which(name)).resolve())
    machine.has("cargo", f"""echo "cargo $*"
mkdir -p {binary.parent}
printf '#!/bin/sh\\necho "started: $0 $*"\\n' > {binary}
chmod +x {binary}""")
    for args, wanted in (
        ((), "dev --data ./heddle-data"),
        (("DATA=./elsewhere", "ARGS=--no-bot"), "dev --data ./elsewhere --no-bot"),
    ):
        done = subprocess.run(
            [machine.bin / "make", "-C", checkout, "run", *args], capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": str(machine.bin), "HOME": str(machine.home)})
        assert done.returncode == 0, done
        said = [line.strip() for line in done.stdout.splitlines()]
        (built, started), link = said[1:3], checkout / "heddle"
        assert built.startswith("cargo test ") and started in (f"started: {at} {wanted}" for at in (link, "./heddle")), done
        assert link.readlink() == binary


def test_what_another_checkout_built_last_is_built_again_for_this_one(machine):
    asked = machine.home / "asked"
    machine.has("find", f'echo "$*" >> {asked}')
    machine.has("xargs", f'echo "xargs $*" >> {asked}')
    assert machine.set_up()[0] == 0
    stamp = machine.home / ".cache" / "heddle" / "target" / ".setup-checkout"
    assert (stamp.read_text(), asked.exists()) == (str(ROOT), False), "nothing was built yet"
    stamp.write_text("/another/checkout")
    assert machine.set_up()[0] == 0
    said = asked.read_text()
    assert "host plugins sdk tests wit" in said and "xargs -0 touch" in said, said
    asked.unlink()
    assert machine.set_up()[0] == 0 and not asked.exists() and stamp.read_text() == str(ROOT)


@pytest.mark.parametrize("name", ["rustc", "cargo"])
def test_without_rust_the_command_that_installs_it_is_told(machine, name):
    machine.lacks(name)
    code, said = machine.set_up()
    assert code == 69 and "there is no Rust" in said and "https://sh.rustup.rs | sh" in said, said
    assert "first build" not in said, said


def test_an_old_rust_is_told_with_its_version(machine):
    machine.has_rust("1.94.1", target=False)
    code, said = machine.set_up()
    assert code == 69 and "rustc 1.94.1 is older than 1.95" in said and "rustup update stable" in said, said


def test_a_missing_target_is_installed_and_said(machine):
    machine.has_rust("1.95.0", target=False)
    machine.has("rustup", f'echo "$*" > {machine.home}/asked')
    code, said = machine.set_up()
    assert code == 0 and "installing the Rust target wasm32-wasip2" in said, said
    assert (machine.home / "asked").read_text() == "target add wasm32-wasip2\n"


@pytest.mark.parametrize("rustup", ["false", None])
def test_a_target_that_cannot_be_installed_is_told_with_the_command(machine, rustup):
    machine.has_rust("1.95.0", target=False)
    if rustup:
        machine.has("rustup", rustup)
    code, said = machine.set_up()
    assert code == 69 and "rustup target add wasm32-wasip2" in said.splitlines()[-1], said


@pytest.mark.parametrize(("lacks", "packages"), [("cc", "gcc libc6-dev"), ("c++", "g++")])
def test_a_compiler_that_is_missing_is_installed_or_the_command_is_told(machine, lacks, packages):
    machine.lacks(lacks)
    machine.has("sudo", f'echo "$*" >> {machine.home}/asked')
    machine.has("apt-get", f'echo "apt-get $*" >> {machine.home}/asked')
    code, said = machine.set_up()
    assert code == 0 and f"installing Debian packages: {packages}" in said, said
    assert f"apt-get install -y --no-install-recommends {packages}" in (machine.home / "asked").read_text()
    for name in ("sudo", "apt-get"):
        machine.has(name, "false")
    code, said = machine.set_up()
    assert code == 69 and f"sudo apt-get update && sudo apt-get install -y {packages}" in said, said


def test_a_disk_that_is_too_small_is_told_with_a_way_to_build_elsewhere(machine):
    machine.has("df", "echo 'Avail'; echo '   300'")
    code, said = machine.set_up()
    assert code == 69 and "has 300 MiB free, the build needs 6000" in said, said
    assert "make run CARGO_TARGET_DIR=" in said, said


def test_a_place_that_cannot_be_written_is_told(machine):
    os.symlink("/proc/nothing", machine.home / ".cache")
    code, said = machine.set_up()
    assert code == 69 and "Choose another place" in said and "make run CARGO_TARGET_DIR=DIR" in said, said
