"""Exceptions that come from outside at any moment, as by the handler of a signal."""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from types import FrameType
from typing import Final

import pytest

from flask_taskq.clock import Clock
from tests.support.bench import Bench

#: How often the work is interrupted, and from when to when, in seconds.
TIMES: Final = 400
SOONEST: Final = 20e-6
LATEST: Final = 1_500e-6

#: How soon another signal follows, in seconds, which may come while the first one is handled.
AGAIN: Final = 50e-6


class Alarm(Exception):
    """What the handler raises."""


@pytest.fixture
def guarded(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Calls a function until a signal handler raises in it."""
    is_armed = False

    def ring(number: int, frame: FrameType | None) -> None:
        if is_armed:
            raise Alarm

    def call(function: Callable[[], object]) -> None:
        nonlocal is_armed
        try:
            is_armed = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(SOONEST, LATEST), AGAIN)
            while True:
                function()
        except (Alarm, RuntimeError):
            # A condition that has let go of its lock, and is hit before it knows, says so.
            is_armed = False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    # Told where a finalizer is hit. In C code, which is not hit in its turn.
    monkeypatch.setattr(sys, "unraisablehook", deque[object](maxlen=0).append)
    former = signal.signal(signal.SIGALRM, ring)
    yield call
    is_armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, former)


def test_they_leave_no_lock_taken_and_lose_no_job(
    new_bench: Callable[..., Bench], guarded: Callable[[Callable[[], object]], None]
) -> None:
    """Other threads go on, and what was said to be stored is."""
    bench = new_bench(Clock())
    sent = []

    def work() -> None:
        sent.append(bench.send())
        bench.engine.jobs.get(sent[-1])
        bench.engine.jobs.wait(sent[-1], 1)

    for _ in range(TIMES):
        guarded(work)

    others = []
    thread = threading.Thread(target=lambda: others.append(bench.send()), daemon=True)
    thread.start()
    thread.join(30)
    assert len(others) == 1, "it waits for a lock that nobody will release"
    for job_id in (*sent, *others):
        assert bench.engine.jobs.get(job_id) is not None
