"""What the SQLite engine waits for until it says that something is stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines import make_engine
from tests.support.bench import Bench
from tests.support.bench import done

#: What SQLite says of a connection: a commit waits for the disk, or is left to the system.
FULL, NORMAL = 2, 1


class Recording(sqlite3.Connection):
    """Notes for each commit whether it waited for the disk."""

    commits: list[int] = []

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            self.commits.append(super().execute("PRAGMA synchronous").fetchone()[0])
        return super().execute(statement, *values)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How each commit of this test was made, in order."""
    connect = sqlite3.connect
    noted: list[int] = []
    monkeypatch.setattr(Recording, "commits", noted)
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda *args, **options: connect(*args, factory=Recording, **options),
    )
    return noted


def new_bench(path: Path, **options: Any) -> Bench:
    settings = Settings(broker_url=f"sqlite:///{path}", broker_options=options)
    engine = make_engine(settings, Clock())
    engine.connect()
    return Bench(engine)


def test_a_job_that_was_sent_is_on_the_disk(tmp_path: Path, commits: list[int]) -> None:
    """Without any option: a loss of power takes no job whose sending has returned."""
    bench = new_bench(tmp_path / "jobs")
    commits.clear()
    bench.send()
    bench.send_many(2)
    assert commits == [FULL] * len(commits)
    assert commits
    bench.close()


def test_waiting_for_the_disk_is_given_up_by_an_option_alone(
    tmp_path: Path, commits: list[int]
) -> None:
    """It makes sending faster."""
    bench = new_bench(tmp_path / "jobs", synchronous="normal")
    commits.clear()
    bench.send()
    assert commits == [NORMAL]
    bench.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda bench, job_id: bench.engine.jobs.cancel(job_id),
        lambda bench, job_id: bench.engine.queues.purge("default"),
    ],
    ids=["cancel", "purge"],
)
def test_what_was_asked_of_a_job_is_on_the_disk(
    tmp_path: Path, commits: list[int], call: Callable[[Bench, str], object]
) -> None:
    """A job that was cancelled does not run after a loss of power."""
    bench = new_bench(tmp_path / "jobs")
    job_id = bench.send()
    commits.clear()
    call(bench, job_id)
    assert set(commits) == {FULL}
    bench.close()


def test_outcomes_do_not_wait_for_the_disk(tmp_path: Path, commits: list[int]) -> None:
    """What a loss of power takes of them is done again, and a worker is much faster."""
    bench = new_bench(tmp_path / "jobs")
    consumer = bench.worker()
    bench.send()
    commits.clear()
    [delivery] = consumer.fetch(1, 0)
    consumer.settle_if_held([done(delivery)])
    assert set(commits) == {NORMAL}
    bench.close()
