"""What happens to a job whose holder is gone."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from flask_taskq.engines.judgement import ISOLATION_DELAY
from flask_taskq.engines.judgement import judge
from flask_taskq.engines.judgement import MAX_SUSPECTS
from flask_taskq.engines.judgement import Verdict
from flask_taskq.record import Status

counts = st.integers(0, 20)


def verdict(**fields) -> Verdict:
    defaults = {
        "crashes": 0,
        "suspects": 0,
        "crashed": False,
        "vanished": False,
        "cause": "killed by signal 9",
        "max_crashes": 3,
        "now": 1_000,
    }
    return judge(**{**defaults, **fields})


def test_a_job_that_was_merely_fetched_is_queued_again() -> None:
    """Nothing is counted."""
    assert verdict() == (Status.QUEUED, 0, 0, None, None)


def test_three_crashes_go_from_the_queue_over_isolation_to_the_end() -> None:
    """At once, alone after a while, never again."""
    first, second, third = (verdict(crashes=n, crashed=True) for n in range(3))

    assert (first.status, first.isolated) == (Status.QUEUED, False)
    assert (second.status, second.isolated) == (Status.SCHEDULED, True)
    assert second.due_at == 1_000 + ISOLATION_DELAY
    assert (third.status, third.crashes) == (Status.FAILED, 3)
    assert "3 times: killed by signal 9" in third.error.message


def test_a_job_near_its_end_is_not_failed_by_what_is_not_its_fault() -> None:
    """Too many crashes or suspicions matter when one more is added."""
    assert verdict(crashes=9).status is Status.QUEUED
    assert verdict(suspects=MAX_SUSPECTS).status is Status.QUEUED


def test_the_last_suspicion_fails_the_job() -> None:
    """The text says that it is one."""
    assert verdict(suspects=MAX_SUSPECTS - 2, vanished=True).status is Status.QUEUED
    last = verdict(suspects=MAX_SUSPECTS - 1, vanished=True)

    assert (last.status, last.suspects) == (Status.FAILED, MAX_SUSPECTS)
    assert "perhaps because of it" in last.error.message


@given(counts, counts, st.booleans(), st.booleans(), st.integers(1, 5))
def test_a_verdict_is_whole(crashes, suspects, crashed, vanished, max_crashes) -> None:
    """Each count grows by what happened; an error and a failure come together."""
    result = verdict(
        crashes=crashes,
        suspects=suspects,
        crashed=crashed,
        vanished=vanished,
        max_crashes=max_crashes,
    )

    assert result.crashes == crashes + crashed
    assert result.suspects == suspects + vanished
    assert (result.error is not None) is (result.status is Status.FAILED)
    assert (result.due_at is not None) is (result.status is Status.SCHEDULED)
    assert result.status in (Status.QUEUED, Status.SCHEDULED, Status.FAILED)
