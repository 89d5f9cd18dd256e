"""Changes of the rows of one job. The caller has begun the transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from ...jobs.delivery import Envelope
from ...jobs.delivery import Report
from ...jobs.delivery import Settlement
from ...jobs.lifecycle import Change
from ...jobs.lifecycle import Retention
from ...jobs.record import Status
from ...jobs.record_limits import add_lines
from ...jobs.record_limits import cut_progress
from ...jobs.transitions import Transition
from ..base import Enqueued
from ..sql.rows import Row
from ..sql.rows import to_logs
from ..sql.rows import to_rows
from ..sql.rows import token_of
from ..sql.statements import Statements
from ..sql.transition_statements import Changes
from ..sql.transition_statements import Given
from ..sql.transition_statements import Steps
from ..sql.transition_statements import to_values
from ..sql.transition_statements import Values


def run(
    connection: sqlite3.Connection,
    steps: Steps,
    values: Given,
    guard: Values,
    seq: int,
) -> bool:
    """Make a transition.

    :return: whether its guard matched. If not, nothing has changed.
    """
    first, second, job = steps
    if connection.execute(first.text, first.values(values, guard)).rowcount != 1:
        return False
    if second is not None:
        connection.execute(second, guard)
    if job is not None:
        connection.execute(job.text, job.values(values, (seq,)))
    return True


def change(
    connection: sqlite3.Connection,
    changes: Changes,
    wanted: Change,
    row: Transition,
    seq: int,
    now: int,
    retention: Retention,
) -> bool:
    """Make a transition of a job whose status was read in the same transaction."""
    assert row.target is not None
    expires_at = retention.expires_at(row.target, now) if row.target.is_final else 0
    values = to_values(wanted, now, expires_at)
    return run(connection, changes.plain[row], values, (seq,), seq)


def insert_new(
    connection: sqlite3.Connection,
    statements: Statements,
    envelopes: Sequence[Envelope],
    now: int,
) -> list[Enqueued]:
    """Store jobs, except those whose id is known or whose unique key another job holds."""
    stored = []
    seq: int = connection.execute(statements.last_place).fetchone()[0]
    for envelope in envelopes:
        known, reason = _find_known(connection, statements, envelope)
        if known is not None:
            job_id, status, due_at = known
            stored.append(Enqueued(job_id, Status(status), due_at, reason, now))
            continue
        seq += 1
        job, live = to_rows(envelope, seq, now)
        connection.execute(statements.insert_job, job)
        connection.execute(statements.insert_live, live)
        status = Status.QUEUED if live[5] is None else Status.SCHEDULED
        stored.append(Enqueued(envelope.id, status, live[5], None, now))
    return stored


def _find_known(
    connection: sqlite3.Connection, statements: Statements, envelope: Envelope
) -> tuple[Row | None, str]:
    known = connection.execute(statements.known, (envelope.id,)).fetchone()
    if known is not None or envelope.unique_key is None:
        return known, "id"
    return connection.execute(
        statements.key_holder, (envelope.unique_key,)
    ).fetchone(), "unique"


def has_progress(report: Report | Settlement) -> bool:
    """Return whether a report has progress or log lines to store."""
    return report.progress is not None or bool(report.logs)


def store_report(
    connection: sqlite3.Connection,
    statements: Statements,
    report: Report | Settlement,
    now: int,
) -> None:
    """Store the progress and the log lines of a report, if its delivery is still held."""
    token = token_of(report.delivery)
    progress = None
    if report.progress is not None:
        progress = msgspec.json.encode(cut_progress(report.progress))
    if connection.execute(statements.store_report, (progress, now, *token)).rowcount != 1:
        return
    if report.logs:
        # The log lines are read here and not at the claim, because reports have added lines
        # since then.
        [kept] = connection.execute(statements.logs, token[:1]).fetchone() or (None,)
        logs = msgspec.json.encode(add_lines(to_logs(kept), report.logs))
        connection.execute(statements.write_logs, (logs, token[0]))
