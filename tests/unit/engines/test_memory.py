"""What is particular to the memory engine. What it shares is in the conformance suite."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from flask_taskq.engines.base import Engine
from flask_taskq.engines.memory import MemoryEngine
from flask_taskq.testing.clock import ManualClock
from tests.support.bench import Bench


def make(clock: Clock) -> Engine:
    return make_engine(Settings(broker_url="memory://"), clock)


def test_the_url_names_the_engine() -> None:
    """``memory://``, and nothing more."""
    assert isinstance(make(Clock()), MemoryEngine)


def test_other_processes_do_not_see_its_jobs() -> None:
    """It says so, and a worker process can refuse it."""
    assert make(Clock()).is_shared is False


def test_two_engines_share_nothing() -> None:
    """Each app has its own jobs."""
    first, second = Bench(make(Clock())), Bench(make(Clock()))
    job_id = first.send()

    assert second.engine.jobs.get(job_id) is None


def test_closing_it_keeps_the_jobs() -> None:
    """They live as long as the engine."""
    bench = Bench(make(Clock()))
    job_id = bench.send()

    with bench.engine:
        pass

    assert bench.claim().id == job_id


def in_thread(function, *args) -> Future:
    future: Future = Future()
    threading.Thread(target=lambda: future.set_result(function(*args))).start()
    return future


def test_a_fetch_waits_on_the_clock_that_it_was_given(clock: ManualClock) -> None:
    """A job that is due in an hour is there when the test says that an hour has passed."""
    bench = Bench(make(clock))
    job_id = bench.send(delay=3_600_000)
    consumer = bench.worker()
    fetching = in_thread(consumer.fetch, 1, 10**9)

    for _ in range(60):
        bench.engine.workers.renew(["w1"])
        clock.advance(10_000)
    bench.engine.workers.register("w1")
    clock.step(3_600_000)
    clock.advance(1)

    assert [delivery.id for delivery in fetching.result(20)] == [job_id]


def test_a_wait_for_a_job_ends_on_the_clock_that_it_was_given(clock: ManualClock) -> None:
    """No time of the machine's passes."""
    bench = Bench(make(clock))
    job_id = bench.send()
    began = threading.Event()

    class Told(ManualClock):
        def monotonic(self) -> float:
            reading = super().monotonic()
            began.set()
            return reading

    told = Told()
    bench.engine.set_clock(told)
    waiting = in_thread(bench.engine.jobs.wait, job_id, 3_600_000)
    assert began.wait(20)

    told.advance(3_600_000)

    assert waiting.result(20) == bench.record(job_id)
