"""SQL statements for the transitions, built from the effects in the table of transitions."""

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

#: The values of statement parameters, by name.
Given = dict[str, Any]

#: The fields of a record that are stored in the table ``job``.
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

#: Conditions that select the row of ``live`` to change. The parameter of ``PLAIN`` is the
#: number of the row. The parameters of ``FENCED`` are the number of the row, the worker and the
#: claim.
PLAIN: Final = "seq = ? AND status = '{source}'"
FENCED: Final = "seq = ? AND status = 'running' AND worker = ? AND claim = ?"

#: Additional conditions for a job that would run again: the first is for a job whose
#: cancellation was not requested, the second for a job that is cancelled instead.
UNLESS_ASKED: Final = " AND cancel_requested = 0"
IF_ASKED: Final = " AND cancel_requested = 1"


class Statement:
    """A statement on the row of one job, and the names of its values.

    :param text: the text of the statement, with question marks for parameters.
    :param names: the names of the parameters, without those of the guard, which come last.
    """

    __slots__ = ("_pick", "names", "text")

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        self.text = text
        self.names = names
        # This runs for every job. With several names, itemgetter() returns a tuple without
        # running Python code. With one name it would return the bare value.
        self._pick: Callable[[Given], Values] = (
            itemgetter(*names) if len(names) > 1 else lambda given: (given[names[0]],)
        )

    def values(self, given: Given, guard: Values) -> Values:
        """Return the values for one job."""
        return self._pick(given) + guard


class Steps(NamedTuple):
    """The statements of a transition, in the order of execution.

    :param first: writes ``live``, or ``outcome`` if the job is over. It changes no row if the
        guard does not hold.
    :param second: deletes the row in ``live`` if the job is over. It has the same guard.
    :param job: writes the fields that are stored in ``job``. Its only guard is the number of
        the row.
    """

    first: Statement
    second: str | None
    job: Statement | None


def set_live(row: Transition) -> Statement:
    """Return the part after SET of an UPDATE of ``live``, with the effects of a transition."""
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
    """Return the columns of ``live`` that a transition to a status that is not final may
    change."""
    names = ("scheduled_for", "status_reason", "releases", "released_since", "lane")
    return (*names, *SHARED)


def _express(row: Transition, column: str) -> tuple[str, list[str]]:
    """Return the SQL expression for a column, and the names of the values in the expression."""
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
    """The statements of all transitions, for the tables of one namespace."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        #: For callers that need no token, or that have read the row in the same transaction.
        self.plain = self._make_all(lambda row: PLAIN.format(source=row.source))
        #: For the holder of the token, if the job will not run again. A requested cancellation
        #: makes no difference.
        self.fenced = self._make_all(lambda row: FENCED)
        #: For the holder of the token, if the job would run again and its cancellation was not
        #: requested.
        self.unless_asked = self._make_all(lambda row: FENCED + UNLESS_ASKED)
        #: For the holder of the token, if the job would run again and its cancellation was
        #: requested.
        self.if_asked = self._make_all(lambda row: FENCED + IF_ASKED)

    def _make_all(self, guard: Callable[[Transition], str]) -> dict[Transition, Steps]:
        # Other statements insert and delete jobs and requeue them, so those transitions are
        # left out.
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
    """Return the values that the statements of a change may use.

    :param expires_at: the expiry time of the record. It is used if the job is over.
    """
    given: Given = {"now": now, "expires_at": expires_at}
    for name in change.transition.effects.sets:
        given[name] = getattr(change, name)
    if change.error is not None:
        given["error"] = msgspec.json.encode(change.error)
    if "attempts" in given:
        given["attempts"] = msgspec.json.encode(change.attempts)
    return given
