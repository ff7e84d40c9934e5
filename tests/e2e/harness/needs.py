"""What a test cannot do without: where it is missing the test is skipped, with words, and counted; under CI=true that is a failure."""

import os

import pytest


def need(condition, what):
    """Goes on if the condition holds."""
    if not condition:
        missing(what)


def missing(what):
    """Ends the test."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have it: {what}")
    pytest.skip(what)
