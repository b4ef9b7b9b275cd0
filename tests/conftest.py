"""Generated cases are the same in every CI run: a new counterexample is found on a desk, not in somebody's submission."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")
