"""What a run tells while it goes on, and with its outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from flask_taskq.jobs.delivery import Delivery
from flask_taskq.jobs.delivery import Report
from flask_taskq.jobs.record import LogLine
from flask_taskq.jobs.record import Progress
from flask_taskq.jobs.record import Status
from flask_taskq.jobs.record_limits import KEPT_LOG_LINES
from flask_taskq.jobs.record_limits import LINE_TEXT
from tests.support.bench import Bench
from tests.support.bench import cancelled
from tests.support.bench import done
from tests.support.bench import expired
from tests.support.bench import failed
from tests.support.bench import released
from tests.support.bench import retry
from tests.support.bench import snoozed

HALF = Progress(5.0, 10.0, "half of it", 1_000)
ALL = Progress(10.0, 10.0, None, 2_000)


def lines(*texts: str, attempt: int = 1) -> tuple[LogLine, ...]:
    return tuple(LogLine(1_000, "info", text, attempt) for text in texts)


def numbered(count: int, start: int = 0) -> tuple[LogLine, ...]:
    return lines(*(f"line {number}" for number in range(start, start + count)))


def report(bench: Bench, *reports: Report) -> Any:
    return bench.worker("w1").report_if_held(reports)


def tell(bench: Bench, delivery: Delivery, **fields: Any) -> Any:
    return report(bench, Report(delivery=delivery, **fields))


def texts(bench: Bench, job_id: str) -> list[str]:
    return [line.text for line in bench.record(job_id).logs]


KINDS: dict[str, Callable[..., Any]] = {
    "done": done,
    "failed": failed,
    "cancelled": cancelled,
    "expired": expired,
    "retry": lambda delivery, **fields: retry(delivery, at=0, **fields),
    "released": released,
    "release later": lambda delivery, **fields: released(delivery, at=0, **fields),
    "snoozed": lambda delivery, **fields: snoozed(delivery, at=0, started_at=1, **fields),
}


def test_progress_is_in_the_record_while_the_job_runs(bench: Bench) -> None:
    """As it was told."""
    delivery = bench.running()
    bench.clock.advance(50)

    assert tell(bench, delivery, progress=HALF) == ([], [])

    record = bench.record(delivery.id)
    assert (record.status, record.progress, record.logs) == (Status.RUNNING, HALF, ())
    assert record.updated_at == bench.clock.now()


def test_a_report_is_a_change_of_the_record(bench: Bench) -> None:
    """A client that polls by version sees it."""
    delivery = bench.running()
    before = bench.record(delivery.id).version

    tell(bench, delivery, progress=HALF)

    assert bench.record(delivery.id).version > before


def test_the_latest_progress_stands(bench: Bench) -> None:
    """A report without any leaves it as it is."""
    delivery = bench.running()
    tell(bench, delivery, progress=HALF)
    tell(bench, delivery, progress=ALL)
    tell(bench, delivery, logs=lines("one"))

    assert bench.record(delivery.id).progress == ALL


def test_log_lines_are_added_in_order(bench: Bench) -> None:
    """Those of each report after those of the one before."""
    delivery = bench.running()
    tell(bench, delivery, logs=lines("one", "two"))
    tell(bench, delivery, logs=lines("three"), progress=HALF)

    assert bench.record(delivery.id).logs == lines("one", "two", "three")


@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_brings_what_was_not_told_yet(bench: Bench, kind: str) -> None:
    """Progress and lines are stored in the same step."""
    delivery = bench.running()
    tell(bench, delivery, progress=HALF, logs=lines("one"))

    settlement = KINDS[kind](delivery, progress=ALL, logs=lines("two"))
    assert None not in bench.settle(settlement).outcomes

    record = bench.record(delivery.id)
    assert record.status is not Status.RUNNING
    assert (record.progress, record.logs) == (ALL, lines("one", "two"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_that_brings_nothing_leaves_what_was_told(bench: Bench, kind: str) -> None:
    """How far a run came is of interest when it has failed."""
    delivery = bench.running()
    tell(bench, delivery, progress=HALF, logs=lines("one"))

    bench.settle(KINDS[kind](delivery))

    record = bench.record(delivery.id)
    assert (record.progress, record.logs) == (HALF, lines("one"))


@pytest.mark.parametrize("kind", ["retry", "released", "release later", "snoozed"])
def test_a_job_that_is_stopped_instead_keeps_what_its_run_told(bench: Bench, kind: str) -> None:
    """The run had been asked to end, and it has told how far it came."""
    delivery = bench.running()
    bench.engine.jobs.cancel(delivery.id)

    bench.settle(KINDS[kind](delivery, progress=HALF, logs=lines("one")))

    record = bench.record(delivery.id)
    assert (record.status, record.progress) == (Status.CANCELLED, HALF)
    assert record.logs == lines("one")


def test_the_last_hundred_lines_are_kept(bench: Bench) -> None:
    """Over several reports, and the outcome."""
    delivery = bench.running()
    tell(bench, delivery, logs=numbered(70))
    tell(bench, delivery, logs=numbered(40, start=70))
    bench.settle(done(delivery, logs=numbered(5, start=110)))

    assert KEPT_LOG_LINES == 100
    assert texts(bench, delivery.id) == [f"line {number}" for number in range(15, 115)]


def test_more_lines_at_once_than_are_kept_are_cut(bench: Bench) -> None:
    """The last ones stay."""
    delivery = bench.running()
    tell(bench, delivery, logs=numbered(250))

    assert texts(bench, delivery.id) == [f"line {number}" for number in range(150, 250)]


def test_a_long_line_is_cut(bench: Bench) -> None:
    """A hundred of them must not make a record of megabytes."""
    delivery = bench.running()
    tell(bench, delivery, logs=lines("x" * (LINE_TEXT + 1), "y" * LINE_TEXT))

    long, whole = texts(bench, delivery.id)
    assert long == "x" * (LINE_TEXT - 1) + "…"
    assert whole == "y" * LINE_TEXT


def test_half_a_surrogate_pair_does_not_keep_anything_from_being_stored(bench: Bench) -> None:
    """As in a file's name that is not UTF-8."""
    delivery = bench.running()
    progress = Progress(1.0, None, "a \udce9", 1_000)
    assert tell(bench, delivery, progress=progress, logs=lines("b \ud800")) == ([], [])

    assert texts(bench, delivery.id) == ["b \\ud800"]
    assert bench.record(delivery.id).progress.message == "a \\udce9"
    assert None not in bench.settle(done(delivery, logs=lines("\udfff"))).outcomes


def test_log_lines_are_kept_over_all_runs(bench: Bench) -> None:
    """Each tells which run it is of."""
    first = bench.running()
    tell(bench, first, logs=lines("one"))
    bench.settle(retry(first, at=0, logs=lines("two")))
    second = bench.claim()
    tell(bench, second, logs=lines("three", attempt=2))

    assert bench.record(first.id).logs == (*lines("one", "two"), *lines("three", attempt=2))


@pytest.mark.parametrize("kind", ["retry", "released", "release later", "snoozed"])
def test_a_new_run_begins_without_progress(bench: Bench, kind: str) -> None:
    """What the run before has told is seen until then, and its lines for longer."""
    delivery = bench.running()
    bench.settle(KINDS[kind](delivery, progress=HALF, logs=lines("one")))
    assert bench.record(delivery.id).progress == HALF

    bench.claim()

    record = bench.record(delivery.id)
    assert (record.progress, record.logs) == (None, lines("one"))


def test_a_run_after_a_crash_begins_without_progress(bench: Bench) -> None:
    """Nobody could settle the one before."""
    delivery = bench.running()
    tell(bench, delivery, progress=HALF, logs=lines("one"))
    bench.engine.workers.hand_back("w1", [delivery.id], "killed by signal 9")
    bench.claim("w2")

    record = bench.record(delivery.id)
    assert (record.progress, record.logs) == (None, lines("one"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_after_the_outcome_is_refused(bench: Bench, kind: str) -> None:
    """It changes nothing, revives nothing, and is named."""
    delivery = bench.running()
    bench.settle(KINDS[kind](delivery))
    before = bench.record(delivery.id)

    assert tell(bench, delivery, progress=HALF, logs=lines("one")) == ([delivery], [])

    assert bench.record(delivery.id) == before


def test_a_report_of_a_lost_job_is_refused(bench: Bench) -> None:
    """Also while another worker runs it: that one's progress stands."""
    delivery = bench.running("w1")
    bench.engine.workers.hand_back("w1", [delivery.id], "killed by signal 9")
    newer = bench.claim("w2")
    bench.worker("w2").report_if_held([Report(delivery=newer, progress=ALL)])
    before = bench.record(delivery.id)

    late = Report(delivery=delivery, progress=HALF, logs=lines("one"))
    assert report(bench, late) == ([delivery], [])

    assert bench.record(delivery.id) == before


def test_a_report_with_a_forged_token_is_refused(bench: Bench) -> None:
    """Neither the worker nor the claim may be another one."""
    delivery = bench.running("w1")
    before = bench.record(delivery.id)
    forged = [
        msgspec.structs.replace(delivery, worker="w2"),
        msgspec.structs.replace(delivery, claim=delivery.claim + 1),
    ]

    told = report(bench, *(Report(delivery=one, progress=HALF) for one in forged))

    assert told == (forged, [])
    assert bench.record(delivery.id) == before


def test_a_late_outcome_stores_nothing_of_what_it_brings(bench: Bench) -> None:
    """Whether or not it comes together with others that are in time."""
    late, good = bench.running(), bench.running()
    bench.settle(done(late))
    before = bench.record(late.id)

    settled = bench.settle(
        done(late, progress=HALF, logs=lines("late")),
        done(good, progress=ALL, logs=lines("good")),
    )

    assert settled.outcomes == [None, Status.SUCCEEDED]
    assert bench.record(late.id) == before
    assert bench.record(good.id).progress == ALL
    assert texts(bench, good.id) == ["good"]


def test_of_two_outcomes_of_one_run_the_first_has_told(bench: Bench) -> None:
    """The second one is stale, and all of it."""
    delivery = bench.running()

    settled = bench.settle(
        done(delivery, logs=lines("first")), failed(delivery, logs=lines("second"))
    )

    assert settled.outcomes == [Status.SUCCEEDED, None]
    assert texts(bench, delivery.id) == ["first"]


def test_some_reports_are_refused_and_the_others_are_stored(bench: Bench) -> None:
    """The answer names those that were refused."""
    late, good = bench.running(), bench.running()
    bench.settle(done(late))

    told = report(
        bench,
        Report(delivery=late, progress=HALF),
        Report(delivery=good, progress=HALF),
    )

    assert told == ([late], [])
    assert bench.record(good.id).progress == HALF


@pytest.mark.parametrize("fields", [{}, {"progress": HALF}, {"logs": lines("one")}])
def test_a_report_is_told_that_cancelling_was_asked_for(bench: Bench, fields: Any) -> None:
    """Whether or not it has anything to tell itself; the job runs on until it ends."""
    asked, other = bench.running(), bench.running()
    bench.engine.jobs.cancel(asked.id)

    told = report(bench, Report(delivery=asked, **fields), Report(delivery=other, **fields))

    assert told == ([], [asked])
    assert bench.status(asked.id) is Status.RUNNING
    assert bench.record(asked.id).progress == fields.get("progress")


def test_a_stale_report_is_not_told_of_cancelling(bench: Bench) -> None:
    """It was lost, which is reason enough to stop; the new holder is informed."""
    delivery = bench.running()
    bench.engine.workers.hand_back("w1", [], "killed by signal 9")
    bench.claim("w2")
    bench.engine.jobs.cancel(delivery.id)

    assert tell(bench, delivery) == ([delivery], [])


def test_a_report_of_nothing_changes_nothing(bench: Bench) -> None:
    """It only asks."""
    delivery = bench.running()
    before = bench.record(delivery.id)
    bench.clock.advance(1_000)

    assert tell(bench, delivery) == ([], [])
    assert report(bench) == ([], [])

    assert bench.record(delivery.id) == before


def test_a_report_is_taken_as_long_as_nobody_took_the_job(bench: Bench) -> None:
    """A lease that ran out is no reason yet: an outcome would be taken, too."""
    delivery = bench.running("w1")
    consumer = bench.worker("w1")
    bench.clock.advance(bench.engine.settings.lease)

    assert consumer.report_if_held([Report(delivery=delivery, progress=HALF)]) == ([], [])

    assert bench.record(delivery.id).progress == HALF
