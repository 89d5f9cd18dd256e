"""The figures: a median of several rounds, and the bare baseline beside it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple


class Row(NamedTuple):
    """One figure.

    :param measure: what it belongs to, a word for ``--only``.
    :param name: what was measured.
    :param unit: ``jobs/s``, ``ms``, ``%`` of a core, ``MiB``, or ``bytes``.
    :param values: one for each round.
    :param bare: the same on the bare baseline, round by round; empty if it has none.
    """

    measure: str
    name: str
    unit: str
    values: Sequence[float]
    bare: Sequence[float] = ()

    @property
    def ratio(self) -> float | None:
        """What is measured to its baseline. Both are of the same minute in each round, so
        that this holds where a busy machine makes the figures themselves doubtful."""
        if not self.bare or not all(self.bare):
            return None
        return statistics.median(a / b for a, b in zip(self.values, self.bare, strict=True))


def as_table(rows: Iterable[Row]) -> str:
    """Lines for people."""
    head = ("", "unit", "median", "min", "max", "bare", "ratio")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for name, *others in cells:
        right = (text.rjust(width) for text, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *right]).rstrip())
    return "\n".join(lines)


def as_json(machine: dict[str, Any], rows: Iterable[Row]) -> str:
    """One object for programs: the machine, and all values of each row."""
    found = [
        {
            "measure": row.measure,
            "name": row.name,
            "unit": row.unit,
            "median": statistics.median(row.values),
            "min": min(row.values),
            "max": max(row.values),
            "values": list(row.values),
            "bare": {"median": statistics.median(row.bare), "values": list(row.bare)}
            if row.bare
            else None,
            "ratio": row.ratio,
        }
        for row in rows
    ]
    return json.dumps({"machine": machine, "rows": found}, indent=2)


def _cells(row: Row) -> tuple[str, ...]:
    values = (statistics.median(row.values), min(row.values), max(row.values))
    bare = _show(statistics.median(row.bare)) if row.bare else "-"
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    return (row.name, row.unit, *map(_show, values), bare, ratio)


def _show(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
