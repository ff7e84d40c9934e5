"""Fixtures: a directory per test, servers that always end, coroutines as tests."""

import asyncio
import inspect
import os
import pathlib
import resource
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness import versions  # noqa: E402
from harness.backends import kafka, nodes, postgres  # noqa: E402, F401
from harness.server import Heddle, binary, end_all  # noqa: E402



@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs a coroutine function on a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def pytest_report_header():
    """Names the binary."""
    return f"binary: {binary()}"


def pytest_terminal_summary(terminalreporter):
    """Names the servers that were started."""
    for line in versions.lines():
        terminalreporter.write_line(line)


def pytest_collection_modifyitems(items):
    """Without a binary nothing can be shown."""
    if not os.path.exists(binary()):
        raise pytest.UsageError(f"there is no binary at {binary()}: run cargo build -p heddle, or set HEDDLE_BIN")
    items.sort(key=lambda item: item.get_closest_marker("heavy") is not None)


def pytest_configure(config):
    """Own marks; and as many open files as the system allows, for tests with a thousand sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    config.addinivalue_line("markers", "heavy: takes longer than ten seconds; runs last")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what the servers said."""
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for number, server in enumerate(getattr(item, "heddle_servers", [])):
            if server.child:
                report.sections.append((f"stderr of server {number}", server.stderr()))


@pytest.fixture
def start(request, tmp_path):
    """Makes servers: `start(config=..., policies=...)`; all end with the test."""
    request.node.heddle_servers = made = []

    def make(data=None, launch=True, **options):
        server = Heddle(data or tmp_path / f"data-{len(made)}", **options)
        made.append(server)
        return server.start() if launch else server

    yield make
    for server in made:
        if server.child:
            server.kill()


@pytest.fixture(autouse=True, scope="session")
def nothing_is_left():
    """Ends whatever is left, even when a test was cut short."""
    yield
    end_all()


def _shared(tmp_path_factory, name, **options):
    server = Heddle(tmp_path_factory.mktemp(name) / "data", **options).start()
    return server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """One server for the tests that change no limits; each uses users of its own."""
    server = _shared(tmp_path_factory, "shared")
    yield server
    server.kill()


@pytest.fixture
def server(request, shared_server):
    """The shared server, started again if a test broke it."""
    request.node.heddle_servers = [shared_server]
    if shared_server.child.poll() is not None:
        shared_server.start()
    return shared_server


_names = iter(range(1, 1_000_000))


@pytest.fixture
def name():
    """Makes user names that no other test uses: `name("alice")`."""
    number = next(_names)
    return lambda who: f"{who}-{number}"
