"""The checker against histories that were made up: it sees what is wrong, and only that."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from flask_taskq import Status
from flask_taskq.jobs.record import JobError
from flask_taskq.jobs.record import JobRecord

from .event_log import Event
from .history import find_blamed
from .history import find_changed
from .history import find_doubles
from .history import find_late
from .history import find_lost
from .history import find_residue
from .history import find_violations
from .history import History
from .history import percentile
from .history import recoveries

A, B = 101, 102

RECORD = JobRecord(
    id="j",
    queue="default",
    actor="work",
    priority=0,
    status=Status.SUCCEEDED,
    message=b"{}",
    created_at=0,
    updated_at=0,
    attempt=1,
)


class Story:
    """Tells events, each a tenth of a second after the one before."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._times = itertools.count(1)
        self._runs: dict[tuple[str, int], str] = {}

    def tell(self, event: str, pid: int = 1, *, after: float = 0.1, **details: Any) -> Story:
        last = self.events[-1]["at"] if self.events else 0.0
        self.events.append({"event": event, "pid": pid, "at": last + after, **details})
        return self

    def sent(self, job: str = "j", outcome: str = "sent", expected: str = "succeeded") -> Story:
        self.tell("intent", job=job, actor="work", expected=expected)
        return self.tell(outcome, job=job, took=0.01, error="")

    def ready(self, *pids: int) -> Story:
        for pid in pids:
            self.tell("ready", pid, isolated=False)
        return self

    def start(self, pid: int, job: str = "j", after: float = 0.1) -> Story:
        run = self._runs[job, pid] = f"run-{next(self._times)}"
        self.tell("claimed", pid, after=after, job=job)
        return self.tell("start", pid, after=0, job=job, attempt=1, run=run)

    def end(self, pid: int, job: str = "j", outcome: str = "ok") -> Story:
        return self.tell("end", pid, job=job, run=self._runs[job, pid], outcome=outcome)

    def settle(self, pid: int, outcome: str = "Succeeded", job: str = "j") -> Story:
        return self.tell("settled", pid, job=job, outcome=outcome)

    def fault(self, kind: str, *pids: int, **details: Any) -> Story:
        return self.tell("fault", kind=kind, pids=list(pids), **details)

    def history(self, record: JobRecord | None = RECORD, **more: Any) -> History:
        return History(self.events, {"j": record}, **more)


def changed(**fields: Any) -> JobRecord:
    return msgspec.structs.replace(RECORD, **fields)


def story() -> Story:
    return Story().ready(A, B).sent()


def test_a_job_that_was_sent_and_run_is_right() -> None:
    """The rule."""
    history = story().start(A).end(A).settle(A).history()
    assert find_violations(history, threads=1, recovery=1, lost=7) == []


def test_a_job_of_a_killed_process_that_ran_again_is_right() -> None:
    """The point of it all."""
    told = story().start(A).fault("kill", A).start(B).end(B).settle(B)
    assert find_violations(told.history(), threads=1, recovery=1, lost=7) == []


def test_a_failed_run_that_was_to_be_retried_is_right() -> None:
    """Another run after it needs no fault."""
    told = story().start(A).end(A, outcome="ValueError").settle(A, "Retried")
    told.start(A).end(A).settle(A)
    assert find_violations(told.history(), threads=1, recovery=1, lost=7) == []


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.SCHEDULED])
def test_a_job_that_never_ends_is_lost(status: Status) -> None:
    """Whatever it waits for."""
    [text] = find_lost(story().history(changed(status=status)))
    assert "never ended" in text


def test_a_job_without_a_record_is_lost() -> None:
    """Its ``send()`` has returned."""
    [text] = find_lost(story().history(None))
    assert "has no record" in text


def test_a_job_that_succeeded_without_a_whole_run_is_lost() -> None:
    """Its record says what did not happen."""
    told = story().start(A).fault("kill", A)
    [text] = find_lost(told.history())
    assert "no run of it came to its end" in text


def test_a_job_that_ends_otherwise_than_it_has_to_is_named() -> None:
    """With its error."""
    error = JobError(type="E", message="what happened")
    [text] = find_lost(story().history(changed(status=Status.FAILED, error=error)))
    assert "what happened" in text


def test_a_refused_job_must_not_be_there() -> None:
    """Its sender was told that it is not."""
    [text] = find_lost(Story().sent(outcome="refused").history())
    assert "send() failed" in text


@pytest.mark.parametrize("record", [None, RECORD])
def test_a_job_of_an_unknown_outcome_may_be_there_or_not(record: JobRecord | None) -> None:
    """If it is there, it runs like any other."""
    told = Story().sent(outcome="unknown")
    if record is not None:
        told.start(A).end(A)
    assert find_lost(told.history(record)) == []


def test_a_second_run_without_a_reason_is_a_double() -> None:
    """Also one that begins while the first one goes on."""
    [text] = find_doubles(story().start(A).start(B).end(A).end(B).history())
    assert "is doubled" in text


def test_a_fault_of_another_process_is_no_reason() -> None:
    """Only what was hit may run again."""
    assert find_doubles(story().start(A).fault("kill", B).start(B).history())


def test_a_fault_after_the_outcome_was_stored_is_no_reason() -> None:
    """The job was not there any more."""
    told = story().start(A).end(A).settle(A).fault("kill", A).start(B)
    assert find_doubles(told.history())


def test_a_fault_between_the_end_and_the_outcome_is_a_reason() -> None:
    """Nobody could know that the run had ended."""
    assert find_doubles(story().start(A).end(A).fault("kill", A).start(B).history()) == []


def test_one_fault_is_a_reason_for_one_run() -> None:
    """The second run was not hit."""
    told = story().start(A).fault("kill", A).start(B).start(B)
    assert len(find_doubles(told.history())) == 1


def test_a_run_of_a_job_that_nobody_sent_is_reported() -> None:
    """Where did it come from?"""
    assert find_doubles(Story().start(A, job="other").history())


def test_two_ends_of_a_job_are_a_double() -> None:
    """Only one of two runs may be believed."""
    told = story().start(A).fault("freeze", A).start(B).end(B).settle(B).end(A).settle(A)
    [text] = find_changed(told.history())
    assert "is doubled" in text


def test_a_run_after_the_end_is_reported() -> None:
    """What has ended stays."""
    assert find_changed(story().start(A).end(A).settle(A).start(B).history())


def test_a_record_that_changes_after_the_end_is_reported() -> None:
    """Even if it says the same."""
    told = story().start(A).end(A).settle(A)
    assert find_changed(told.history(changed(version=2), earlier={"j": RECORD}))
    assert find_changed(told.history(earlier={"j": RECORD})) == []


def test_a_record_that_is_not_what_was_settled_is_reported() -> None:
    """The settlement was accepted."""
    told = story().start(A).end(A).settle(A, "Failed")
    [text] = find_changed(told.history())
    assert "settled as Failed" in text


def test_a_job_that_waits_too_long_for_its_second_run_is_late() -> None:
    """Measured from the kill to the start."""
    told = story().start(A).fault("kill", A)
    in_time = told.start(B, after=0.9).history()
    assert find_late(in_time, limit=1) == []
    told = story().start(A).fault("kill", A)
    assert find_late(told.start(B, after=1.1).history(), limit=1)


def test_nobody_is_late_where_nobody_was_left_to_run_it() -> None:
    """Then the time of the start of a process is in it."""
    told = Story().ready(A).sent().start(A).fault("kill", A).ready(B).start(B, after=3)
    [recovery] = recoveries(told.history())
    assert not recovery.had_other
    assert find_late(told.history(), limit=1) == []


def test_what_is_left_in_a_queue_is_residue() -> None:
    """And so is a job that somebody holds."""
    assert find_residue(story().history(depths={"default": 1}))
    assert find_residue(story().history(changed(status=Status.RUNNING, worker="w")))
    assert find_residue(story().history()) == []


def test_a_crash_is_charged_to_what_was_hit() -> None:
    """Neither to others nor to more than there were threads."""
    told = story().start(A).fault("kill", A).start(B).end(B).settle(B)
    assert find_blamed(told.history(changed(crashes=1)), threads=1) == []
    assert find_blamed(told.history(changed(crashes=2)), threads=2)
    assert find_blamed(told.history(changed(crashes=1)), threads=0)


@pytest.mark.parametrize(
    ("values", "expected"), [([], 0), ([3.0], 3), (range(1, 101), 99), (range(1, 11), 10)]
)
def test_a_percentile_is_a_value_that_was_measured(values: Any, expected: float) -> None:
    """With few values, the largest."""
    assert percentile(values, 99) == expected
