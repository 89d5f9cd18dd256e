"""Why a job waits, as clients are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_taskq import TaskQ
from flask_taskq.engines.listing import WorkerInfo
from flask_taskq.jobs.record import Status
from flask_taskq.testing.clock import ManualClock
from tests.support.apps import make_app

SECOND = 1_000


@pytest.fixture
def taskq() -> TaskQ:
    taskq = TaskQ()
    taskq.actor(lambda: None, actor_name="work")
    return taskq


@pytest.fixture
def app(taskq: TaskQ, tmp_path: Path) -> Iterator[Flask]:
    app = make_app(taskq, broker_url=f"sqlite:///{tmp_path}/jobs.sqlite3")
    with app.app_context():
        yield app
        taskq.broker.close()


@pytest.fixture
def clock(app: Flask, taskq: TaskQ) -> ManualClock:
    """The time of what the broker knows of queues."""
    taskq.broker.clock = ManualClock()
    return taskq.broker.clock


@pytest.fixture
def job(app: Flask, taskq: TaskQ) -> Any:
    return taskq.broker.get_actor("work").send()


def reason(app: Flask, job: Any) -> str | None:
    response = app.test_client().get(f"/jobs/{job.id}")
    assert response.status_code == 200
    return response.json["status_reason"]


def test_a_job_whose_queue_nobody_serves_says_so(
    app: Flask, taskq: TaskQ, clock: ManualClock, job: Any
) -> None:
    """Until a worker does, or one of which nobody knows its queues."""
    workers = taskq.broker.engine.workers
    assert reason(app, job) == "no_worker"
    workers.register("w1", WorkerInfo(queues=("mail",)))
    clock.advance(SECOND)
    assert reason(app, job) == "no_worker"
    workers.register("w2")
    clock.advance(SECOND)
    assert reason(app, job) is None
    workers.register("w2", WorkerInfo(queues=("default",)))
    clock.advance(SECOND)
    assert reason(app, job) is None


def test_a_job_in_a_paused_queue_says_so(
    app: Flask, taskq: TaskQ, clock: ManualClock, job: Any
) -> None:
    """In any worker that serves the queue."""
    taskq.broker.engine.queues.pause("default")
    assert reason(app, job) == "paused"
    taskq.broker.engine.queues.resume("default")
    taskq.broker.engine.workers.register("w1", WorkerInfo(queues=("default",)))
    clock.advance(SECOND)
    assert reason(app, job) is None


def test_what_holds_for_queues_is_asked_for_once_a_second(
    app: Flask, taskq: TaskQ, clock: ManualClock, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many clients poll."""
    asked = []
    workers = taskq.broker.engine.workers
    find = workers.all
    monkeypatch.setattr(workers, "all", lambda: (asked.append(1), find())[1])
    for _ in range(5):
        reason(app, job)
    assert len(asked) == 1
    clock.advance(SECOND)
    reason(app, job)
    assert len(asked) == 2


def test_the_tag_of_a_job_changes_with_why_it_waits(
    app: Flask, taskq: TaskQ, clock: ManualClock, job: Any
) -> None:
    """A client that asks whether anything is new hears of it, though the record is the same."""
    client = app.test_client()
    first = client.get(f"/jobs/{job.id}")
    old = {"If-None-Match": first.headers["ETag"]}
    assert client.get(f"/jobs/{job.id}", headers=old).status_code == 304

    taskq.broker.engine.queues.pause("default")
    clock.advance(SECOND)

    second = client.get(f"/jobs/{job.id}", headers=old)
    assert second.status_code == 200
    assert second.json["status_reason"] == "paused"


def test_a_job_that_does_not_wait_has_no_such_reason(
    app: Flask, taskq: TaskQ, clock: ManualClock, job: Any
) -> None:
    """It runs, or is over, or its time has not come."""
    later = taskq.broker.get_actor("work").send_with_options(delay=60_000)
    taskq.broker.engine.queues.pause("default")
    assert reason(app, later) is None
    job.cancel()
    assert (reason(app, job), job.status) == (None, Status.CANCELLED)


def test_jobs_in_memory_need_no_worker(taskq: TaskQ) -> None:
    """The caller that waits for them runs them."""
    app = make_app(taskq)
    with app.app_context():
        job = taskq.broker.get_actor("work").send()
        assert reason(app, job) is None
