"""What a worker reports of its jobs while they run."""

from __future__ import annotations

from typing import Any

import pytest

from flask_taskq import Message
from flask_taskq.actors.run import Run
from flask_taskq.config import Settings
from flask_taskq.engines.memory import MemoryEngine
from flask_taskq.errors import ConnectionClosed
from flask_taskq.jobs.record_limits import KEPT_LOG_LINES
from flask_taskq.worker.progress import add_progress
from flask_taskq.worker.progress import Reporter
from tests.support.bench import Bench
from tests.support.bench import done
from tests.support.bench import released


class Flaky:
    """A consumer whose engine is out of reach while ``error`` is set."""

    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer
        self.error: Exception | None = None

    def report_if_held(self, reports: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self.consumer.report_if_held(reports)


@pytest.fixture
def bench(clock) -> Bench:
    return Bench(MemoryEngine(Settings(broker_url="memory://"), clock))


@pytest.fixture
def consumer(bench) -> Flaky:
    return Flaky(bench.worker())


@pytest.fixture
def reporter(consumer) -> Reporter:
    return Reporter(consumer)


@pytest.fixture
def start(bench, clock):
    """Makes a job that runs."""

    def start() -> Run:
        message = Message("default", "add", (), {}, {})
        return Run(message, bench.running(), now=clock.now)

    return start


def texts(bench: Bench, run: Run) -> list[str]:
    return [line.text for line in bench.record(run.delivery.id).logs]


def outcome(run: Run) -> Any:
    """The settlement of a run, as a runner makes it."""
    settlement, unreported = done(run.delivery), run.unreported
    return settlement if unreported is None else add_progress(settlement, unreported)


def test_what_runs_have_noted_is_in_their_records(bench, reporter, start) -> None:
    """Each has its own."""
    one, two = start(), start()
    one.progress(1, 2)
    two.log("hello")

    assert reporter.report([one, two]) == ([], [])

    assert bench.record(one.delivery.id).progress.current == 1.0
    assert bench.record(two.delivery.id).progress is None
    assert texts(bench, two) == ["hello"]


def test_what_was_reported_is_not_in_the_outcome_again(bench, reporter, start) -> None:
    """That has what came afterwards."""
    run = start()
    run.progress(1, 2)
    run.log("one")
    reporter.report([run])
    run.log("two")

    settlement = outcome(run)
    assert (settlement.progress, [line.text for line in settlement.logs]) == (None, ["two"])

    bench.settle(*reporter.complete([settlement]))
    assert texts(bench, run) == ["one", "two"]


def test_a_run_without_news_is_still_asked_for(bench, reporter, start) -> None:
    """Whether it was cancelled or lost is worth knowing in any case."""
    asked, lost, quiet = start(), start(), start()
    bench.engine.jobs.cancel(asked.delivery.id)
    bench.settle(released(lost.delivery))

    assert reporter.report([asked, lost, quiet]) == ([lost.delivery], [asked.delivery])


def test_a_settlement_without_news_is_the_same_object(start) -> None:
    """It costs a look."""
    run = start()
    run.progress(1)
    run.unreported.take()
    settlement = done(run.delivery)

    assert add_progress(settlement, run.unreported) is settlement


def test_what_could_not_be_reported_comes_with_the_next_report(
    bench, reporter, consumer, start
) -> None:
    """In order, with the latest progress."""
    run = start()
    run.progress(1)
    run.log("one")
    consumer.error = ConnectionClosed("out of reach")
    for _ in range(3):
        with pytest.raises(ConnectionClosed):
            reporter.report([run])
    consumer.error = None
    run.log("two")

    reporter.report([run])
    reporter.report([run])

    assert texts(bench, run) == ["one", "two"]
    assert bench.record(run.delivery.id).progress.current == 1.0


def test_what_could_not_be_reported_comes_with_the_outcome(
    bench, reporter, consumer, start
) -> None:
    """Once, though the settlement may have to be tried more than once."""
    run, other = start(), start()
    run.progress(1)
    run.log("one")
    consumer.error = ConnectionClosed("out of reach")
    with pytest.raises(ConnectionClosed):
        reporter.report([run, other])
    run.log("two")
    run.progress(2)

    batch = reporter.complete([outcome(run), outcome(other)])
    assert reporter.complete(batch) == batch
    bench.settle(*batch)

    assert texts(bench, run) == ["one", "two"]
    assert bench.record(run.delivery.id).progress.current == 2.0
    assert texts(bench, other) == []


def test_what_could_not_be_reported_does_not_grow_for_ever(
    bench, reporter, consumer, start
) -> None:
    """An engine may be out of reach for a day."""
    run = start()
    consumer.error = ConnectionClosed("out of reach")
    for number in range(KEPT_LOG_LINES + 5):
        run.log(str(number))
        with pytest.raises(ConnectionClosed):
            reporter.report([run])

    [settlement] = reporter.complete([outcome(run)])

    assert [line.text for line in settlement.logs] == [
        str(number) for number in range(5, KEPT_LOG_LINES + 5)
    ]


def test_what_a_lost_run_could_not_report_is_not_told_of_the_next(
    bench, reporter, consumer, start
) -> None:
    """The job came back to the same worker."""
    lost = start()
    lost.log("of the lost run")
    consumer.error = ConnectionClosed("out of reach")
    with pytest.raises(ConnectionClosed):
        reporter.report([lost])
    bench.engine.workers.hand_back("w1", [], "stopped")
    consumer.error = None
    again = Run(lost.message, bench.claim())

    assert reporter.report([again]) == ([], [])
    bench.settle(*reporter.complete([outcome(again)]))

    assert texts(bench, again) == []


def test_what_is_refused_is_dropped(bench, reporter, start) -> None:
    """There is no record that it belongs to."""
    run = start()
    bench.settle(released(run.delivery))
    run.log("late")

    assert reporter.report([run]).stale == [run.delivery]
    assert reporter.complete([done(run.delivery)]) == [done(run.delivery)]
