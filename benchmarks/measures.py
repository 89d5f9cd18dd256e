"""All measures. Each gives its rows, with a value for each round."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import Final

from . import calls
from . import listing
from . import resting
from . import sending
from . import working
from .rounds import Sizes
from .table import Row

#: By the word for ``--only``, in the order of the table.
MEASURES: Final[dict[str, Callable[[Sizes], Iterator[Row]]]] = {
    "send": sending.measure_send,
    "processes": sending.measure_processes,
    "many": sending.measure_many,
    "drain": working.measure_drain,
    "backlog": working.measure_backlog,
    "latency": working.measure_latency,
    "idle": resting.measure_idle,
    "seldom": resting.measure_seldom,
    "memory": resting.measure_memory,
    "start": resting.measure_start,
    "calls": calls.measure_calls,
    "room": resting.measure_room,
    "lists": listing.measure_lists,
}
