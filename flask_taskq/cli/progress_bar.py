"""The progress of a job that a user waits for at a terminal."""

from __future__ import annotations

import importlib.util
import shutil
from types import TracebackType
from typing import Final
from typing import Self
from typing import TextIO

from ..http import shown_status
from ..jobs.record import JobRecord
from ..jobs.record import Status
from .job_text import show_progress

#: Of the bar itself, in characters.
_WIDTH: Final = 30


class ProgressBar:
    """A bar without rich; on a terminal it is one line, and is gone when the block ends.

    :param stream: where to draw. What is no terminal gets a line for each change.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._drawn = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_terminal:
            self._redraw("")

    def show(self, record: JobRecord) -> None:
        """Draw what the record says, if that is new."""
        text = _describe(record)
        if text == self._drawn:
            return
        if self._is_terminal:
            self._redraw(text)
        else:
            self._stream.write(f"{text}\n")
            self._drawn = text
        self._stream.flush()

    def _redraw(self, text: str) -> None:
        # A line that wraps could not be taken back.
        text = text[: shutil.get_terminal_size().columns - 1]
        self._stream.write("\r" + text.ljust(len(self._drawn)) + ("" if text else "\r"))
        self._stream.flush()
        self._drawn = text


class RichProgressBar:
    """The same with rich.

    :param stream: a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(file=stream), transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, record: JobRecord) -> None:
        """Draw what the record says."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        fraction = _fraction(record)
        bar = ProgressBar(
            total=1.0,
            completed=fraction or 0.0,
            width=_WIDTH,
            pulse=fraction is None and record.status is Status.RUNNING,
        )
        progress = "" if record.progress is None else show_progress(record.progress)
        row = Table.grid(padding=(0, 1))
        # Text, and no string: in a string, brackets of a job's message would be markup.
        row.add_row(Text(shown_status(record)), bar, Text(progress))
        self._live.update(row)


def make_progress_bar(stream: TextIO) -> ProgressBar | RichProgressBar:
    """A bar for this stream, on a terminal with rich if that is installed."""
    if stream.isatty() and importlib.util.find_spec("rich") is not None:
        return RichProgressBar(stream)
    return ProgressBar(stream)


def _describe(record: JobRecord) -> str:
    words = [f"{shown_status(record):<9}"]
    fraction = _fraction(record)
    if fraction is not None:
        words.append(f"[{'#' * int(fraction * _WIDTH):.<{_WIDTH}}]")
    if record.progress is not None:
        words.append(show_progress(record.progress))
    return "  ".join(words).rstrip()


def _fraction(record: JobRecord) -> float | None:
    return None if record.progress is None else record.progress.fraction
