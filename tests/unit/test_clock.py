"""The machine's clock, and the one that tests bring."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from flask_taskq.clock import Clock
from flask_taskq.testing.clock import ManualClock
from flask_taskq.testing.clock import MovableClock


def test_the_wall_clock_counts_milliseconds_since_the_epoch() -> None:
    """It is the machine's time."""
    before = time.time()
    now = Clock().now()
    after = time.time()

    assert int(before * 1000) <= now <= int(after * 1000)
    assert isinstance(now, int)


def test_the_monotonic_clock_does_not_run_backwards() -> None:
    """Each reading is at least the one before."""
    clock = Clock()
    readings = [clock.monotonic() for _ in range(1_000)]

    assert readings == sorted(readings)


def test_a_wait_ends_when_its_time_is_over() -> None:
    """It says that nobody came."""
    condition = threading.Condition()

    with condition:
        assert Clock().wait(condition, 1) is False


def test_a_wait_ends_when_it_is_notified() -> None:
    """It says that somebody came."""
    condition = threading.Condition()

    def notify() -> None:
        with condition:
            condition.notify_all()

    with condition:
        thread = threading.Thread(target=notify)
        thread.start()
        assert Clock().wait(condition, 60_000) is True
    thread.join()


def test_a_manual_clock_stands_still(clock: ManualClock) -> None:
    """Nothing passes between two readings."""
    assert clock.now() == clock.now()
    assert clock.monotonic() == clock.monotonic()


@pytest.mark.parametrize("amount", [1_500, timedelta(seconds=1.5)])
def test_a_manual_clock_moves_when_told(clock: ManualClock, amount) -> None:
    """Both of its times move by the same amount."""
    wall, monotonic = clock.now(), clock.monotonic()

    clock.advance(amount)

    assert (clock.now() - wall, clock.monotonic() - monotonic) == (1_500, 1_500)


def test_a_manual_clock_begins_where_the_test_says() -> None:
    """A date may matter."""
    assert ManualClock(now=86_400_000).now() == 86_400_000


def test_time_does_not_run_backwards(clock: ManualClock) -> None:
    """A clock that people set is another thing."""
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_a_step_moves_the_wall_clock_only(clock: ManualClock) -> None:
    """As when somebody sets the machine's time, forward or back."""
    wall, monotonic = clock.now(), clock.monotonic()

    clock.step(timedelta(hours=-1))

    assert (clock.now() - wall, clock.monotonic() - monotonic) == (-3_600_000, 0)


class Sleeper:
    """A thread that waits on a clock until a deadline, as an engine does."""

    def __init__(self, clock: MovableClock, timeout: int) -> None:
        self.condition = threading.Condition()
        self.read = threading.Event()
        self.woken = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(clock, timeout))
        self._thread.start()
        assert self.read.wait(20)

    def _run(self, clock: MovableClock, timeout: int) -> None:
        until = clock.monotonic() + timeout
        self.read.set()
        with self.condition:
            while clock.monotonic() < until:
                clock.wait(self.condition, until - clock.monotonic())
        self.woken.set()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_who_waits_on_a_manual_clock_wakes_when_the_time_has_come(
    clock: ManualClock,
) -> None:
    """An hour passes in no time."""
    sleeper = Sleeper(clock, 3_600_000)

    clock.advance(3_600_000)

    sleeper.join()


def test_who_waits_on_a_manual_clock_sleeps_until_then(clock: ManualClock) -> None:
    """Being woken too early does not end the wait."""
    sleeper = Sleeper(clock, 1_000)

    clock.advance(999)
    assert not sleeper.woken.is_set()

    clock.advance(1)
    sleeper.join()


def test_no_advance_is_missed_by_who_is_about_to_wait() -> None:
    """However the two threads meet, the sleeper wakes: the wait counts from its reading."""
    for _ in range(300):
        clock = ManualClock()
        sleeper = Sleeper(clock, 10)
        for _ in range(10):
            clock.advance(1)
        sleeper.join()


def test_many_threads_may_wait_on_one_manual_clock(clock: ManualClock) -> None:
    """One advance wakes them all."""
    sleepers = [Sleeper(clock, timeout) for timeout in range(1, 9)]

    clock.advance(8)

    for sleeper in sleepers:
        sleeper.join()


def test_a_wait_on_a_manual_clock_says_whether_the_time_ran_out(clock: ManualClock) -> None:
    """As a condition does."""
    condition = threading.Condition()
    clock.monotonic()
    with condition:
        assert clock.wait(condition, 0) is False
        clock.advance(100)
        assert clock.wait(condition, 100) is False


def test_waits_without_a_reading_between_them_follow_each_other(clock: ManualClock) -> None:
    """The second begins when the first has ended."""
    condition = threading.Condition()
    clock.now()
    clock.advance(100)

    with condition:
        assert clock.wait(condition, 50) is False
        threading.Thread(target=clock.advance, args=(50,)).start()
        assert clock.wait(condition, 50) is False


def test_who_waits_without_a_limit_on_a_manual_clock_is_woken_by_a_notice(
    clock: ManualClock,
) -> None:
    """Time alone does not end such a wait, and a notice does."""
    condition = threading.Condition()

    def notify() -> None:
        with condition:
            condition.notify_all()

    with condition:
        thread = threading.Thread(target=notify)
        thread.start()
        assert clock.wait(condition, None) is True
    thread.join()


def test_a_movable_clock_begins_at_the_machines_time_and_stands_still() -> None:
    """What a test sees on it does not depend on how fast the test is."""
    before = Clock()
    earliest = before.now(), before.monotonic()
    clock = MovableClock()
    latest = before.now(), before.monotonic()

    wall, monotonic = clock.now(), clock.monotonic()
    assert earliest[0] <= wall <= latest[0]
    assert earliest[1] - 1 <= monotonic <= latest[1]
    for _ in range(10_000):
        assert (clock.now(), clock.monotonic()) == (wall, monotonic)
    assert isinstance(wall, int)


@pytest.mark.parametrize("amount", [3_600_000, timedelta(hours=1)])
def test_a_movable_clock_moves_when_told(amount) -> None:
    """Both of its times move by the same amount."""
    clock = MovableClock()
    wall, monotonic = clock.now(), clock.monotonic()
    clock.advance(amount)
    assert (clock.now() - wall, clock.monotonic() - monotonic) == (3_600_000, 3_600_000)
    clock.step(-1_000)
    assert (clock.now() - wall, clock.monotonic() - monotonic) == (3_599_000, 3_600_000)


def test_a_movable_clock_goes_on_while_somebody_waits() -> None:
    """Nobody has to move it; afterwards it stands still where it is."""
    clock, condition = MovableClock(), threading.Condition()
    began = clock.monotonic()
    with condition:
        assert clock.wait(condition, 5) is False
    ended = clock.monotonic()
    assert ended - began >= 5
    assert clock.monotonic() == ended


def test_a_movable_clock_goes_on_in_a_block() -> None:
    """As the machine's does, and also after it was moved."""
    clock, machine = MovableClock(), Clock()
    began = clock.monotonic()
    with clock.running(), clock.running():
        before = machine.monotonic()
        first = clock.monotonic()
        clock.advance(1_000)
        with clock.running():
            pass
        second = clock.monotonic()
        after = machine.monotonic()
    assert first >= began
    assert 1_000 <= second - first <= 1_000 + after - before
    ended = clock.monotonic()
    assert ended >= second
    assert clock.monotonic() == ended


def test_who_waits_on_a_movable_clock_wakes_when_it_is_moved() -> None:
    """An hour passes in no time."""
    clock = MovableClock()
    sleeper = Sleeper(clock, 3_600_000)
    clock.advance(3_600_000)
    sleeper.join()


def test_no_advance_of_a_movable_clock_is_missed_by_who_is_about_to_wait() -> None:
    """The wait counts from its reading, not from where the clock was moved to."""
    for _ in range(100):
        clock = MovableClock()
        sleeper = Sleeper(clock, 3_600_000)
        for _ in range(10):
            clock.advance(360_000)
        sleeper.join()
