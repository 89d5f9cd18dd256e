"""How much is measured, and how."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from typing import NamedTuple

from .bench import Bench
from .storages import Bare


class Sizes(NamedTuple):
    """How much of everything is measured.

    :param url: of the engine; None for an SQLite file.
    :param sent: how many jobs one thread sends one by one in a round.
    :param at_once: how many threads, or processes, send at the same time.
    :param jobs: how many are drained.
    :param samples: how many jobs the latency is taken of.
    :param waiting: how many are queued while a worker's step is timed.
    :param delayed: how many wait for later.
    :param seconds: how long an idle worker is watched.
    """

    url: str | None = None
    rounds: int = 5
    sent: int = 500
    at_once: int = 8
    jobs: int = 30_000
    samples: int = 200
    waiting: int = 1_000_000
    delayed: int = 100_000
    seconds: float = 10.0


@contextmanager
def opened(bench: Bench, count: int) -> Iterator[list[Bare]]:
    """Connections to the baseline."""
    baselines = [bench.bare() for _ in range(count)]
    try:
        yield baselines
    finally:
        for baseline in baselines:
            baseline.close()


def rate(count: int, action: Callable[[], object]) -> float:
    """How many a second an action does."""
    began = time.perf_counter()
    action()
    return count / (time.perf_counter() - began)


def at_once(actions: Sequence[Callable[[], object]]) -> None:
    """Each in a thread of its own."""
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many per cent of all do not exceed, or about that."""
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]
