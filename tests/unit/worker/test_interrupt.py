"""Exceptions from outside, and the gate that they come through."""

from __future__ import annotations

import io
import logging
import os
import random
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import Final

import pytest

from flask_taskq.engines.sqlite import fork_safety
from flask_taskq.errors import Interrupt
from flask_taskq.errors import Shutdown
from flask_taskq.errors import TimeLimitExceeded
from flask_taskq.worker.interrupt import Gate
from flask_taskq.worker.interrupt import keep_out_of_forks
from flask_taskq.worker.interrupt import MAX_INTERRUPTS

# Many of these raise exceptions at any moment.
pytestmark = pytest.mark.usefixtures("no_garbage")

KEY: Final = "the call"

#: Longer than anything takes, in seconds.
PATIENCE: Final = 10


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
            self.gate.call(KEY, self._stay, (), {})
        except BaseException as error:
            self.caught = error

    def _stay(self) -> None:
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


def stands_in(thread: threading.Thread, name: str) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name == name


def call(gate: Gate, function: Callable[[], Any], key: object = KEY) -> Any:
    return gate.call(key, function, (), {})


def test_an_exception_is_raised_in_a_thread_that_is_in_the_call() -> None:
    """It ends a loop that would never end."""
    runner = Runner()
    runner.start()
    assert runner.inside.wait(20)

    assert runner.gate.raise_inside(KEY, Shutdown) is True

    runner.join(20)
    assert isinstance(runner.caught, Shutdown)


def test_nothing_is_raised_before_a_call() -> None:
    """And who wanted to is told."""
    assert Gate().raise_inside(KEY, Shutdown) is False


def test_nothing_is_raised_after_a_call() -> None:
    """The thread goes on undisturbed."""
    gate = Gate()
    call(gate, lambda: None)

    assert gate.raise_inside(KEY, Shutdown) is False


def test_nothing_is_raised_in_another_call() -> None:
    """The run that was meant has ended, and the thread has begun with the next job."""
    gate = Gate()

    assert call(gate, lambda: gate.raise_inside("another", Shutdown)) is False


def test_the_function_gets_its_arguments_and_its_value_is_returned() -> None:
    """Also a value that is false."""
    gate = Gate()
    assert gate.call(KEY, lambda *args, **kwargs: (args, kwargs), (1, 2), {"x": 3}) == (
        (1, 2),
        {"x": 3},
    )
    assert call(gate, lambda: None) is None


def test_a_gate_may_be_used_again() -> None:
    """A runner has one for all of its jobs."""
    gate = Gate()

    def end_itself() -> None:
        gate.raise_inside(KEY, Shutdown)
        raise AssertionError("it should have been raised by now")

    for _ in range(3):
        with pytest.raises(Shutdown):
            call(gate, end_itself)


def test_the_actor_s_own_exception_passes() -> None:
    """The gate swallows nothing that was raised inside, and is closed."""
    gate = Gate()

    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        call(gate, fail)

    assert gate.raise_inside(KEY, Shutdown) is False


def test_an_actor_may_handle_the_exception() -> None:
    """It is an exception like any other, but no Exception; another one may follow."""
    gate = Gate()
    handled = []

    def handle() -> str:
        for exception in (TimeLimitExceeded, Shutdown):
            try:
                assert gate.raise_inside(KEY, exception)
            except Exception:
                handled.append("too much")
            except Interrupt as error:
                handled.append(type(error).__name__)
        return "done"

    assert call(gate, handle) == "done"
    assert handled == ["TimeLimitExceeded", "Shutdown"]


def test_an_actor_that_swallows_all_is_left_alone() -> None:
    """There is a limit to how many exceptions may be on their way at the same time."""
    gate = Gate()
    answers = []

    def swallow() -> None:
        for _ in range(MAX_INTERRUPTS + 2):
            try:
                answers.append(gate.raise_inside(KEY, Shutdown))
            except Interrupt:
                answers.append("raised")

    call(gate, swallow)
    assert answers.count("raised") == MAX_INTERRUPTS
    assert answers[-1] is False


def test_an_exception_that_comes_when_the_function_has_returned_is_too_late() -> None:
    """The job has done its work: its value counts."""

    class Late(Gate):
        closings = 0

        def _close(self) -> None:
            self.closings += 1
            if self.closings <= MAX_INTERRUPTS:
                raise Shutdown
            super()._close()

    gate = Late()
    assert call(gate, lambda: "value") == "value"
    assert gate.raise_inside(KEY, Shutdown) is False


def test_no_exception_ever_escapes_the_gate(quick_switches: None) -> None:
    """However many, at random moments: inside or not at all, and the thread lives."""
    gate = Gate()
    counts = {"inside": 0, "outside": 0, "left open": 0}
    keys: list[object] = [None]
    over = threading.Event()
    rng = random.Random(1)

    def work() -> None:
        for _ in range(rng.randrange(4_000)):
            len("")

    def run_jobs() -> None:
        try:
            while counts["inside"] < 2_000:
                keys[0] = object()
                try:
                    gate.call(keys[0], work, (), {})
                except Interrupt:
                    counts["inside"] += 1
                try:
                    counts["left open"] += gate._call is not None
                    for _ in range(20):
                        len("")
                except Interrupt:
                    counts["outside"] += 1
        finally:
            over.set()

    thread = threading.Thread(target=run_jobs)
    thread.start()
    moments = random.Random(2)
    while not over.is_set():
        gate.raise_inside(keys[0], Shutdown)
        for _ in range(moments.randrange(1_000)):
            pass
    thread.join(20)

    assert counts["inside"] >= 2_000, "the thread has died"
    assert (counts["outside"], counts["left open"]) == (0, 0)


class Taker(Runner):
    """Takes a lock and releases it, and stays."""

    def __init__(self, take: Callable[[], Any]) -> None:
        super().__init__()
        self.take = take

    def _stay(self) -> None:
        self.take()
        super()._stay()


def check_lock(lock: Any, take: Callable[[], Any], taking: str) -> None:
    lock.acquire()
    taker = Taker(take)
    taker.start()
    while not stands_in(taker, taking):
        pass
    assert not taker.gate.raise_inside(KEY, TimeLimitExceeded)
    lock.release()
    assert taker.inside.wait(20)
    assert taker.gate.raise_inside(KEY, TimeLimitExceeded)
    taker.join(20)
    assert isinstance(taker.caught, TimeLimitExceeded)
    next_one = threading.Thread(target=lock.acquire, daemon=True)
    next_one.start()
    next_one.join(20)
    assert not next_one.is_alive(), "it is held by a thread that has ended"


def test_nothing_is_raised_while_a_condition_is_entered() -> None:
    """It would be locked and never released, and all who want it would wait for ever."""
    condition = threading.Condition(threading.Lock())

    def take() -> None:
        with condition:
            pass

    check_lock(condition, take, "__enter__")


def test_nothing_is_raised_while_a_log_handler_is_taken() -> None:
    """All threads of the process log by it."""
    handler = logging.StreamHandler(io.StringIO())
    check_lock(handler, lambda: handler.handle(logging.makeLogRecord({})), "acquire")


def test_a_thread_that_handles_locks_again_and_again_is_hit_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that logs beside others is seen waiting for its turn nearly always."""
    interval = sys.getswitchinterval()
    seen = iter([True, True, True, False])
    monkeypatch.setattr("flask_taskq.worker.interrupt._is_busy", lambda _: next(seen))
    runner = Runner()
    runner.start()
    assert runner.inside.wait(20)

    assert runner.gate.raise_inside(KEY, TimeLimitExceeded)

    runner.join(20)
    assert isinstance(runner.caught, TimeLimitExceeded)
    assert sys.getswitchinterval() == interval


def test_nothing_is_raised_in_code_of_the_package() -> None:
    """It may be about to send a job, or to get ready for a fork."""
    runner = Runner()
    code = compile("while not runner.leave: pass", __file__, "exec")
    names = {"__name__": "flask_taskq.engines.sqlite.fork_safety", "runner": runner}
    over = threading.Event()

    def stay() -> None:
        runner.inside.set()
        exec(code, names)
        over.set()
        while True:
            pass

    runner._stay = stay  # type: ignore[method-assign]
    runner.start()
    assert runner.inside.wait(20)
    while not stands_in(runner, "<module>"):
        pass
    assert not runner.gate.raise_inside(KEY, Shutdown)
    runner.leave = True
    assert over.wait(20)
    assert runner.gate.raise_inside(KEY, Shutdown)
    runner.join(20)
    assert isinstance(runner.caught, Shutdown)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_nothing_is_raised_while_the_process_forks() -> None:
    """The interpreter would print it, and leave out the rest of what is to be done then."""
    keep_out_of_forks()
    runner = Runner()
    runner.start()
    assert runner.inside.wait(20)
    answers = []

    def ask() -> None:
        if is_asking:
            answers.append(runner.gate.raise_inside(KEY, Shutdown))

    # Runs after the steps of the package, which were there first.
    is_asking = False
    os.register_at_fork(after_in_parent=ask)
    is_asking = True
    monitor = Fork(ask)
    monitor.fork()
    is_asking = False
    assert answers[0] is False
    assert answers[-1] is True
    runner.join(20)
    assert isinstance(runner.caught, Shutdown)


class Fork:
    """Forks, and asks in the midst of it.

    :param ask: called between the first step before the fork and the last one after it.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask

    def fork(self) -> None:
        fork_safety.watch(self)
        if os.fork() == 0:
            os._exit(0)
        os.wait()

    def rest(self) -> Iterator[None]:
        self._ask()
        return iter(())

    def after_fork_in_child(self) -> None:
        pass


class Starter(Runner):
    """Starts one thread after the other."""

    def _stay(self) -> None:
        self.inside.set()
        while not self.leave:
            threading.Thread(target=len, args=("",), daemon=True).start()


# The interpreter ignores what comes at the moment when it forgets an object.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nothing_is_raised_in_a_thread_that_is_being_started(quick_switches: None) -> None:
    """It would have been meant for the one that starts it, which would wait for it for ever."""
    moments = random.Random(1)
    for _ in range(300):
        starter = Starter()
        starter.start()
        assert starter.inside.wait(PATIENCE)
        for _ in range(moments.randrange(2_000)):
            pass
        starter.gate.raise_inside(KEY, Shutdown)
        starter.leave = True
        starter.join(PATIENCE)
        assert not starter.is_alive()
