"""What happens to a job whose holder is gone."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from flask_taskq.jobs.lifecycle import Change
from flask_taskq.jobs.lifecycle import ISOLATION_DELAY
from flask_taskq.jobs.lifecycle import lose
from flask_taskq.jobs.lifecycle import MAX_SUSPECTS
from flask_taskq.jobs.transitions import FAIL_LOST
from flask_taskq.jobs.transitions import ISOLATE
from flask_taskq.jobs.transitions import RECLAIM
from flask_taskq.jobs.transitions import STOP_LOST

counts = st.integers(0, 20)


def lost(**fields: Any) -> Change:
    defaults = {
        "crashes": 0,
        "suspects": 0,
        "crashed": False,
        "vanished": False,
        "cause": "killed by signal 9",
        "max_crashes": 3,
        "now": 1_000,
    }
    return lose(**{**defaults, **fields})


def test_a_job_that_was_merely_fetched_is_queued_again() -> None:
    """Nothing is counted."""
    change = lost()

    assert change.transition is RECLAIM
    assert (change.crashes, change.suspects, change.scheduled_for) == (0, 0, None)


def test_three_crashes_go_from_the_queue_over_isolation_to_the_end() -> None:
    """At once, alone after a while, never again."""
    first, second, third = (lost(crashes=n, crashed=True) for n in range(3))

    assert [one.transition for one in (first, second, third)] == [RECLAIM, ISOLATE, FAIL_LOST]
    assert second.scheduled_for == 1_000 + ISOLATION_DELAY
    assert third.error is not None and third.crashes == 3
    assert "3 times: killed by signal 9" in third.error.message


def test_a_job_near_its_end_is_not_failed_by_what_is_not_its_fault() -> None:
    """Too many crashes or suspicions matter when one more is added."""
    assert lost(crashes=9).transition is RECLAIM
    assert lost(suspects=MAX_SUSPECTS).transition is RECLAIM


def test_the_last_suspicion_fails_the_job() -> None:
    """The text says that it is one."""
    assert lost(suspects=MAX_SUSPECTS - 2, vanished=True).transition is RECLAIM
    last = lost(suspects=MAX_SUSPECTS - 1, vanished=True)

    assert (last.transition, last.suspects) == (FAIL_LOST, MAX_SUSPECTS)
    assert last.error is not None and "perhaps because of it" in last.error.message


@given(counts, counts, st.booleans(), st.booleans(), st.integers(1, 5))
def test_what_becomes_of_a_lost_job_is_whole(
    crashes: int, suspects: int, crashed: bool, vanished: bool, max_crashes: int
) -> None:
    """Each count grows by what happened; an error and a failure come together."""
    change = lost(
        crashes=crashes,
        suspects=suspects,
        crashed=crashed,
        vanished=vanished,
        max_crashes=max_crashes,
    )

    assert change.crashes == crashes + crashed
    assert change.suspects == suspects + vanished
    assert (change.error is not None) is (change.transition is FAIL_LOST)
    assert (change.scheduled_for is not None) is (change.transition is ISOLATE)
    assert (change.otherwise is STOP_LOST) is (change.transition is not FAIL_LOST)
