"""What runs tell while they go on, and with their outcome."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from ...jobs.delivery import Delivery
from ...jobs.delivery import Report
from ...jobs.delivery import Settlement
from ...jobs.keeping import add_lines
from ...jobs.keeping import cut_progress
from ..base import Reported
from .records import to_logs
from .statements import Statements

Token = tuple[int, str, str, int]


def token_of(delivery: Delivery) -> Token:
    """What the statements on a held row ask for."""
    return delivery.handle[0], delivery.id, delivery.worker, delivery.claim


def tells(told: Report | Settlement) -> bool:
    """Whether there is anything in it to store."""
    return told.progress is not None or bool(told.logs)


def tell(
    connection: sqlite3.Connection, statements: Statements, told: Report | Settlement, now: int
) -> None:
    """Store what a run tells, if its delivery is still held."""
    token = token_of(told.delivery)
    progress = logs = None
    if told.progress is not None:
        progress = msgspec.json.encode(cut_progress(told.progress))
    if told.logs:
        # They are read here and not when the job is claimed: reports have added to them.
        row = connection.execute(statements.logs, token).fetchone()
        if row is None:
            return
        logs = msgspec.json.encode(add_lines(to_logs(row[0]), told.logs))
    connection.execute(statements.tell, (progress, logs, now, *token))


def sort_out(
    connection: sqlite3.Connection, statements: Statements, reports: Sequence[Report]
) -> Reported:
    """Which of them are stale, and which are to end."""
    stale, cancelled = [], []
    for report in reports:
        token = token_of(report.delivery)
        row = connection.execute(statements.is_cancelled, token).fetchone()
        if row is None:
            stale.append(report.delivery)
        elif row[0]:
            cancelled.append(report.delivery)
    return Reported(stale, cancelled)
