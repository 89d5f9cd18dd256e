"""What all tests share."""

from __future__ import annotations

import os

import hypothesis
import pytest

from flask_taskq.testing.clock import ManualClock

# The gate tries the same examples each time, so that it is red for a change and not by
# chance. "HYPOTHESIS_PROFILE=search" looks for new ones, for as long as one likes to wait.
hypothesis.settings.register_profile(
    "gate",
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "search",
    parent=hypothesis.settings.get_profile("gate"),
    max_examples=2_000,
    derandomize=False,
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves only when the test says so."""
    return ManualClock()
