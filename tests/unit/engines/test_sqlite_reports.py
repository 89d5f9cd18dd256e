"""What reports cost in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines.sqlite import SQLiteEngine
from flask_taskq.errors import ConnectionClosed
from flask_taskq.jobs.delivery import Report
from flask_taskq.jobs.record import Progress
from tests.support.bench import Bench
from tests.support.bench import done

HALF = Progress(5.0, 10.0, None, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def bench(path: Path) -> Iterator[Bench]:
    """An engine that does not wait long for a lock."""
    settings = Settings(broker_url=f"sqlite:///{path}", broker_options={"busy_timeout": 50})
    bench = Bench(SQLiteEngine(settings, Clock()))
    yield bench
    bench.close()


@contextmanager
def outsider(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def test_a_report_of_nothing_writes_nothing(bench: Bench, path: Path) -> None:
    """Each worker asks once a second whether its jobs were cancelled, for hours."""
    delivery = bench.running()
    consumer = bench.worker("w1")
    with outsider(path) as connection:

        def version() -> int:
            return connection.execute("PRAGMA data_version").fetchone()[0]

        before = version()
        consumer.report_if_held([Report(delivery=delivery)])
        assert version() == before
        consumer.report_if_held([Report(delivery=delivery, progress=HALF)])
        assert version() != before


def test_a_report_of_nothing_waits_for_no_lock(bench: Bench, path: Path) -> None:
    """A job is told that it was cancelled while somebody else writes."""
    delivery = bench.running()
    consumer = bench.worker("w1")
    bench.engine.jobs.cancel(delivery.id)
    with outsider(path) as connection:
        connection.execute("BEGIN IMMEDIATE")

        assert consumer.report_if_held([Report(delivery=delivery)]) == ([], [delivery])
        with pytest.raises(ConnectionClosed):
            consumer.report_if_held([Report(delivery=delivery, progress=HALF)])


def test_an_outcome_that_brings_nothing_takes_no_more_statements(bench: Bench) -> None:
    """Most jobs tell nothing, and pay nothing for those that do."""
    first, second = bench.running(), bench.running()
    consumer = bench.worker("w1")
    seen: list[str] = []
    connection, _ = consumer._handle._connected()  # type: ignore[attr-defined]
    connection.set_trace_callback(seen.append)

    consumer.settle_if_held([done(first)])
    assert [statement.split()[0] for statement in seen] == [
        "BEGIN",
        "INSERT",
        "DELETE",
        "COMMIT",
    ]

    seen.clear()
    consumer.settle_if_held([done(second, progress=HALF)])
    assert [statement.split()[0] for statement in seen] == [
        "BEGIN",
        "UPDATE",
        "INSERT",
        "DELETE",
        "COMMIT",
    ]
