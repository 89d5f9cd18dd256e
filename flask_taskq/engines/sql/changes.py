"""Transitions as statements, made from the effects of each row of the table."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any
from typing import Final
from typing import NamedTuple

import msgspec

from ...jobs.lifecycle import Change
from ...jobs.record import JobRecord
from ...jobs.transitions import Transition
from ...jobs.transitions import TRANSITIONS
from .schema import Tables

Values = tuple[Any, ...]

#: Values for the parameters of statements, by their names.
Given = dict[str, Any]

#: The fields of a record that stand in the table ``job``.
IN_JOB: Final = frozenset({"error", "attempts", "logs"})

#: The columns that ``live`` and ``outcome`` have in common.
SHARED: Final = (
    "attempt",
    "claim",
    "crashes",
    "suspects",
    "cancel_requested",
    "worker",
    "started_at",
    "progress",
)

_NEW: Final = {field.name: field.default for field in msgspec.structs.fields(JobRecord)}

#: Whose row of ``live`` is changed. Parameters: its number; or that, worker and claim.
PLAIN: Final = "seq = ? AND status = '{source}'"
FENCED: Final = "seq = ? AND status = 'running' AND worker = ? AND claim = ?"

#: What the guard of a job adds that would run again, and of one that is stopped instead.
UNLESS_ASKED: Final = " AND cancel_requested = 0"
IF_ASKED: Final = " AND cancel_requested = 1"


class Statement:
    """A statement on the row of one job, and where the values for it come from.

    :param text: with question marks.
    :param names: of each parameter but those of the guard, which come last.
    """

    __slots__ = ("_pick", "names", "text")

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        self.text = text
        self.names = names
        # Done for every job: of several names this gives a tuple, without a step in Python.
        self._pick: Callable[[Given], Values] = (
            itemgetter(*names) if len(names) > 1 else lambda given: (given[names[0]],)
        )

    def values(self, given: Given, guard: Values) -> Values:
        """The values for one job."""
        return self._pick(given) + guard


class Steps(NamedTuple):
    """What a transition does, in this order.

    :param first: writes ``live``, or ``outcome`` if the job is over. It changes no row where
        the guard does not hold.
    :param second: takes the job from ``live`` if it is over; with the same guard.
    :param job: writes what stands in ``job``; its guard is the number of the row alone.
    """

    first: Statement
    second: str | None
    job: Statement | None


def set_live(row: Transition) -> Statement:
    """The part of an UPDATE of ``live`` behind SET that has the effects of a row."""
    assignments = [f"status = '{row.target}'", "updated_at = ?", "version = version + 1"]
    names = ["now"]
    for column in _columns(row):
        expression, of = _express(row, column)
        if expression != column:
            assignments.append(f"{column} = {expression}")
            names += of
    if row.effects.takes_place:
        assignments.append("place = ?")
        names.append("place")
    return Statement(", ".join(assignments), tuple(names))


def _columns(row: Transition) -> tuple[str, ...]:
    """Those of ``live`` that a transition to a status which is not final may change."""
    names = ("scheduled_for", "status_reason", "releases", "released_since", "lane")
    return (*names, *SHARED)


def _express(row: Transition, column: str) -> tuple[str, list[str]]:
    """What a column becomes, and the names of the values in that."""
    effects = row.effects
    if column == "started_at" and column in effects.sets:
        return "coalesce(?, started_at)", [column]
    if column in effects.sets:
        return "?", [column]
    if column in effects.resets:
        return _literal(_NEW[column]), []
    if column == "attempt" and effects.attempt:
        return f"attempt {effects.attempt:+d}", []
    if column == "claim" and row.target == "running":
        return "claim + 1", []
    if column == "releases" and effects.counts_release:
        return "releases + 1", []
    if column == "released_since" and effects.counts_release:
        return "coalesce(released_since, ?)", ["now"]
    if column == "lane" and effects.lane is not None:
        return _literal(effects.lane), []
    return column, []


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return str(int(value)) if isinstance(value, (bool, int)) else f"'{value}'"


class Changes:
    """The statements of all transitions, for the tables of a namespace."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        #: Of a row of the table, by callers that need no token, or have read the row in the
        #: same step.
        self.plain = self._make_all(lambda row: PLAIN.format(source=row.source))
        #: By the holder of the token, for a job that will not run again, whatever was asked.
        self.fenced = self._make_all(lambda row: FENCED)
        #: Likewise, for one that would run again, unless cancelling it was asked for.
        self.unless_asked = self._make_all(lambda row: FENCED + UNLESS_ASKED)
        #: Likewise, in place of that, if it was.
        self.if_asked = self._make_all(lambda row: FENCED + IF_ASKED)

    def _make_all(self, guard: Callable[[Transition], str]) -> dict[Transition, Steps]:
        # Of those that begin or end a job's life as such, and of a requeue, the statements are
        # others.
        return {
            row: self._make(row, guard(row))
            for row in TRANSITIONS
            if row.source is not None and not row.source.is_final and row.target is not None
        }

    def _make(self, row: Transition, guard: str) -> Steps:
        live, outcome, job = self._tables.live, self._tables.outcome, self._tables.job
        of_job = [name for name in row.effects.sets if name in IN_JOB]
        job_statement = None
        if of_job:
            assignments = ", ".join(f"{name} = ?" for name in of_job)
            text = f"UPDATE {job} SET {assignments} WHERE seq = ?"
            job_statement = Statement(text, tuple(of_job))
        assert row.target is not None
        if not row.target.is_final:
            part = set_live(row)
            first = Statement(f"UPDATE {live} SET {part.text} WHERE {guard}", part.names)
            return Steps(first, None, job_statement)
        expressions, names = [], ["now", "expires_at"]
        for column in SHARED:
            expression, of = _express(row, column)
            expressions.append(expression)
            names += of
        result = "NULL"
        if "result" in row.effects.sets:
            result = "?"
            names.append("result")
        text = f"""INSERT INTO {outcome} (seq, status, finished_at, expires_at,
                {", ".join(SHARED)}, result, version)
            SELECT seq, '{row.target}', ?, ?, {", ".join(expressions)}, {result}, version + 1
            FROM {live} WHERE {guard}"""
        delete = f"DELETE FROM {live} WHERE {guard}"
        return Steps(Statement(text, tuple(names)), delete, job_statement)


def to_values(change: Change, now: int, expires_at: int) -> Given:
    """The values that the statements of a change may name.

    :param expires_at: of the record, if the job is over.
    """
    given: Given = {"now": now, "expires_at": expires_at}
    for name in change.transition.effects.sets:
        given[name] = getattr(change, name)
    if change.error is not None:
        given["error"] = msgspec.json.encode(change.error)
    if "attempts" in given:
        given["attempts"] = msgspec.json.encode(change.attempts)
    return given
