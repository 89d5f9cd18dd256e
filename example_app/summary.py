"""The work itself, which knows nothing of Flask or of jobs."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from datetime import date
from typing import Literal
from typing import TypedDict

MAX_COLUMNS = 200
DELIMITERS = ",;\t|"

#: How often is told that rows are read, how many values of a column are named, and how many
#: bars its chart has.
STEPS = 40
FREQUENT = 6
BARS = 12

#: Is told how much is done, of how much, and what is being done.
Tell = Callable[[int, int, str], None]

#: Stricter than float(), which takes "nan" and "1_000" as well.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Frequency(TypedDict):
    """A value, and how many rows have it."""

    value: str
    count: int


class Column(TypedDict):
    """What is known of one column; None where it does not apply to the type.

    ``bars`` says how many values lie in each part of the way from ``min`` to ``max``.
    """

    name: str
    type: Literal["number", "date", "text", "empty"]
    missing: int
    min: float | str | None
    mean: float | None
    max: float | str | None
    most_frequent: list[Frequency]
    bars: list[int]


class Summary(TypedDict):
    """What is known of a file."""

    title: str
    rows: int
    columns: list[Column]


def summarise(content: bytes, title: str, tell: Tell = lambda *_: None) -> Summary:
    """Say what is in a CSV file.

    :param tell: is called between the steps.
    :raises ValueError: it is none; the text says why, to the user.
    """
    header, rows = _read(content, tell)
    columns = []
    for number, (name, *cells) in enumerate(zip(header, *rows, strict=True)):
        # The rows were one half of the work, and the columns are the other.
        done = len(rows) + len(rows) * number // len(header)
        tell(done, 2 * len(rows), f"Counting column {number + 1} of {len(header)}")
        columns.append(_describe(name, cells))
    tell(2 * len(rows), 2 * len(rows), "Every column is counted")
    return Summary(title=title, rows=len(rows), columns=columns)


def _read(content: bytes, tell: Tell) -> tuple[list[str], list[list[str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("This is not a text file in UTF-8.") from None
    first_line = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = text.count("\n") or 1
    rows: list[list[str]] = []
    try:
        for row in reader:
            if reader.line_num % (lines // STEPS + 1) == 0:
                tell(min(reader.line_num, lines), 2 * lines, f"Reading row {len(rows):,}")
            if not row:  # a blank line
                continue
            rows.append([cell.strip() for cell in row])
            if len(row) != len(rows[0]):
                raise ValueError(
                    f"Line {reader.line_num} does not fit the first one: number of cells is"
                    f" {len(row)}, not {len(rows[0])}."
                )
    except csv.Error as error:
        raise ValueError(f"Line {reader.line_num} is not CSV: {error}.") from None
    if len(rows) < 2:
        raise ValueError("There is nothing to summarise: no row follows the header.")
    header, *rows = rows
    if len(header) > MAX_COLUMNS:
        raise ValueError(f"It has {len(header):,} columns; {MAX_COLUMNS} is the limit.")
    return header, rows


def _describe(name: str, cells: Sequence[str]) -> Column:
    values = [cell for cell in cells if cell]
    column = Column(
        name=name,
        type="text",
        missing=len(cells) - len(values),
        min=None,
        mean=None,
        max=None,
        most_frequent=[],
        bars=[],
    )
    if not values:
        column["type"] = "empty"
    elif (numbers := _numbers(values)) is not None:
        column["type"] = "number"
        column["min"], column["max"] = min(numbers), max(numbers)
        column["mean"] = math.fsum(numbers) / len(numbers)
        column["bars"] = _bars(numbers)
    elif (dates := _dates(values)) is not None:
        column["type"] = "date"
        column["min"], column["max"] = min(dates).isoformat(), max(dates).isoformat()
        column["bars"] = _bars([float(day.toordinal()) for day in dates])
    else:
        column["most_frequent"] = [
            Frequency(value=value[:80], count=count)
            for value, count in Counter(values).most_common(FREQUENT)
        ]
    return column


def _bars(numbers: Sequence[float]) -> list[int]:
    first, last = min(numbers), max(numbers)
    width = (last - first) / BARS
    if not 0 < width < math.inf:  # all the same, or too far apart for a float
        return []
    places = Counter(min(int((number - first) / width), BARS - 1) for number in numbers)
    return [places[place] for place in range(BARS)]


def _numbers(values: Sequence[str]) -> list[float] | None:
    if not all(map(_NUMBER.fullmatch, values)):
        return None
    numbers = [float(value) for value in values]
    return numbers if all(map(math.isfinite, numbers)) else None


def _dates(values: Sequence[str]) -> list[date] | None:
    try:
        return [date.fromisoformat(value) for value in values]
    except ValueError:
        return None
