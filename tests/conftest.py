"""Generated cases are the same in every CI run: a new counterexample is found on a desk, not in somebody's submission."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from lab import engine as engines

settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def engine():
    """A Docker engine of this test process's own; tests/lab/engine.py says how its ports are reached. Remove the containers that you start."""
    if reason := engines.missing():
        pytest.skip(reason)
    with engines.running() as started:
        yield started
