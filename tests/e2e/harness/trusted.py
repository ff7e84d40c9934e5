"""Fixtures of tests with certificates: authorities, and servers that believe one of them, each once per file."""

import pytest

from .authority import Authority
from .backends import started
from .kafka import Missing as NoKafka
from .postgres import Missing as NoPostgres


def authority_called(name):
    """A fixture of that name: an authority."""

    @pytest.fixture(scope="module", name=name)
    def authority(tmp_path_factory):
        return Authority(tmp_path_factory.mktemp(name))

    return authority


def believing(make, authority, **more):
    """The server; without it tests are skipped, under CI=true they fail."""
    return started(lambda: make(authority, **more), (NoKafka, NoPostgres))
