"""The statuses, and the table of transitions."""

from __future__ import annotations

import msgspec
import pytest

from flask_taskq.jobs.lifecycle import Change
from flask_taskq.jobs.record import FINAL
from flask_taskq.jobs.record import JobError
from flask_taskq.jobs.record import JobRecord
from flask_taskq.jobs.record import Status
from flask_taskq.jobs.transitions import Transition
from flask_taskq.jobs.transitions import TRANSITIONS

WORDS = "scheduled queued blocked running succeeded failed cancelled expired"


def reachable(start: Status | None) -> set[Status]:
    """Every status that the table leads to from here."""
    found: set[Status] = set()
    edge = {start}
    while edge:
        step = {row.target for row in TRANSITIONS if row.source in edge and row.target}
        edge = step - found
        found |= step
    return found


def test_the_statuses_are_the_documented_words() -> None:
    """Other programs read them as text."""
    assert [str(status) for status in Status] == WORDS.split()
    assert Status("queued") is Status.QUEUED


@pytest.mark.parametrize("status", Status)
def test_a_status_knows_whether_it_is_final(status: Status) -> None:
    """Four are."""
    assert status.is_final is (status in FINAL)
    assert len(FINAL) == 4


@pytest.mark.parametrize("status", sorted(FINAL))
def test_only_an_operator_leads_out_of_a_final_status(status: Status) -> None:
    """A life that is over is over, unless somebody wants it otherwise."""
    ways = {row.name for row in TRANSITIONS if row.source is status and row.by == "operator"}

    assert len(ways) == sum(row.source is status for row in TRANSITIONS)
    assert ("requeue" in ways) is (status in (Status.FAILED, Status.CANCELLED))


@pytest.mark.parametrize("status", sorted(reachable(None) - FINAL))
def test_every_job_can_come_to_an_end(status: Status) -> None:
    """From each status that a job may be in, some way leads to a final one."""
    assert reachable(status) & FINAL


def test_a_job_enters_as_queued_or_scheduled() -> None:
    """Nothing runs before it was stored."""
    entries = {row.target for row in TRANSITIONS if row.source is None}

    assert entries == {Status.QUEUED, Status.SCHEDULED}


def test_only_a_job_that_runs_succeeds_or_fails() -> None:
    """An outcome needs a run."""
    sources = {
        row.source for row in TRANSITIONS if row.target in (Status.SUCCEEDED, Status.FAILED)
    }

    assert sources == {Status.RUNNING}


def test_only_a_queued_job_begins_to_run() -> None:
    """A scheduled one is promoted first."""
    sources = {row.source for row in TRANSITIONS if row.target is Status.RUNNING}

    assert sources == {Status.QUEUED}


def test_whatever_a_holder_does_needs_its_token() -> None:
    """Fencing is part of each of its rows."""
    rows = [row for row in TRANSITIONS if row.by == "holder"]

    assert rows
    assert all("token" in row.guard and row.source is Status.RUNNING for row in rows)


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row.name}-{row.target}")
def test_effects_are_on_fields_of_a_record(row: Transition) -> None:
    """Each is set or reset, and not both; what is set, a change can bring."""
    fields, brought = set(JobRecord.__struct_fields__), set(Change.__struct_fields__)
    sets, resets = set(row.effects.sets), set(row.effects.resets)

    assert sets | resets <= fields
    assert sets & resets == set()
    assert sets <= brought


def test_no_row_stands_twice() -> None:
    """The event, the source, the target, and the actor of each."""
    rows = [(row.name, row.source, row.target, row.by) for row in TRANSITIONS]

    assert len(rows) == len(set(rows))


def test_a_new_record_counts_nothing_yet() -> None:
    """No attempt, no crash, no suspicion."""
    record = JobRecord(
        id="0" * 32,
        queue="default",
        actor="add",
        priority=0,
        status=Status.QUEUED,
        message=b"{}",
        created_at=1,
        updated_at=1,
    )

    assert (record.attempt, record.crashes, record.suspects) == (0, 0, 0)
    assert record.version == 1
    assert record.cancel_requested is False


def test_an_error_that_an_older_version_has_stored_is_not_for_clients() -> None:
    """Nobody has said that it is."""
    data = b'{"type":"OSError","message":"no","code":"exception","traceback":null}'

    assert msgspec.json.decode(data, type=JobError) == JobError("OSError", "no")
    assert JobError("OSError", "no").is_public is False
