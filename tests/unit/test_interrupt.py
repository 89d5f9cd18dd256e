"""Exceptions from outside, and the gate that they come through."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator

import pytest

from flask_taskq.errors import Interrupt
from flask_taskq.errors import Shutdown
from flask_taskq.interrupt import Gate


class Runner(threading.Thread):
    """A thread with a gate, in which a test is told what arrived where."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.gate = Gate()
        self.inside = threading.Event()
        self.leave = False
        self.caught: BaseException | None = None

    def run(self) -> None:
        try:
            with self.gate:
                self._stay()
        except BaseException as error:
            self.caught = error

    def _stay(self) -> None:
        # A function of its own, as an actor is one.
        self.inside.set()
        while not self.leave:
            pass


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns as often as the interpreter can, so that moments are random."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_an_exception_is_raised_in_a_thread_whose_gate_is_open() -> None:
    """It ends a loop that would never end."""
    runner = Runner()
    runner.start()
    assert runner.inside.wait(20)

    assert runner.gate.raise_inside(Shutdown) is True

    runner.join(20)
    assert isinstance(runner.caught, Shutdown)


def test_nothing_is_raised_before_the_gate_opens() -> None:
    """And the caller is told."""
    assert Gate().raise_inside(Shutdown) is False


def test_nothing_is_raised_after_the_gate_closed() -> None:
    """The thread goes on undisturbed."""
    gate = Gate()
    with gate:
        pass

    assert gate.raise_inside(Shutdown) is False


def test_one_exception_closes_the_gate() -> None:
    """A second one would hit whoever handles the first."""
    gate = Gate()
    with pytest.raises(Shutdown):
        with gate:
            gate.raise_inside(Shutdown)

    assert gate.raise_inside(Shutdown) is False


def test_a_gate_may_be_opened_again() -> None:
    """A runner has one for all of its jobs."""
    gate = Gate()
    for _ in range(3):
        with pytest.raises(Shutdown):
            with gate:
                gate.raise_inside(Shutdown)
                raise AssertionError("it should have been raised by now")


def test_the_actor_s_own_exception_passes() -> None:
    """The gate swallows nothing that was raised inside."""
    gate = Gate()

    with pytest.raises(LookupError):
        with gate:
            raise LookupError

    assert gate.raise_inside(Shutdown) is False


def test_an_actor_may_handle_the_exception() -> None:
    """It is an exception like any other, but no Exception."""
    gate = Gate()
    handled = []

    with gate:
        try:
            gate.raise_inside(Shutdown)
        except Exception:
            handled.append("too much")
        except Interrupt:
            handled.append("interrupt")

    assert handled == ["interrupt"]


def test_no_exception_ever_escapes_the_gate(quick_switches: None) -> None:
    """However many, at random moments: inside or not at all, and the thread lives."""
    gate = Gate()
    counts = {"inside": 0, "outside": 0, "left open": 0}
    over = threading.Event()

    def run_jobs() -> None:
        rng = random.Random(1)
        try:
            while counts["inside"] < 1_000:
                try:
                    with gate:
                        for _ in range(rng.randrange(4_000)):
                            len("")
                except Interrupt:
                    counts["inside"] += 1
                try:
                    counts["left open"] += gate._open != []
                    for _ in range(20):
                        len("")
                except Interrupt:
                    counts["outside"] += 1
        finally:
            over.set()

    thread = threading.Thread(target=run_jobs)
    thread.start()
    rng = random.Random(2)
    while not over.is_set():
        gate.raise_inside(Shutdown)
        for _ in range(rng.randrange(4_000)):
            pass
    thread.join(20)

    assert counts["inside"] == 1_000, "the thread has died"
    assert (counts["outside"], counts["left open"]) == (0, 0)
