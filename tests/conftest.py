"""Generated cases are the same in every CI run: a new counterexample is found on a desk, not in somebody's submission."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

import browsing
from lab import engine as engines

# how long a case takes says nothing on a machine that does other things too
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(scope="session")
def engine():
    """A Docker engine of this test process's own; tests/lab/engine.py says how its ports are reached. Remove the containers that you start."""
    if reason := engines.missing():
        pytest.skip(reason)
    with engines.running() as started:
        yield started


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless chromium without a network, shared by all tests; tests/browsing.py says what it witnesses."""
    started = browsing.start(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()
