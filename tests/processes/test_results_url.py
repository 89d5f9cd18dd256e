"""``TASKQ_RESULTS_URL``: jobs in one engine, and the records of those that ended in another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.engines.split import SplitEngine
from tests.support.redis_server import RedisServer

from . import app as jobs
from .harness import APP
from .harness import NET
from .harness import WorkerCommand

START = Callable[..., WorkerCommand]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that the test may stop."""
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["sqlite+redis", "redis+sqlite"])
def urls(request: pytest.FixtureRequest, folder: Path, server: RedisServer) -> list[str]:
    """The broker's URL, and that of the results store."""
    known = {"sqlite": f"sqlite:///{folder}/jobs.sqlite3", "redis": f"{server.url}?timeout=500"}
    return [known[name] for name in request.param.split("+")]


@pytest.fixture
def broker_url(urls: list[str]) -> str:
    return urls[0]


@pytest.fixture
def env(env: dict[str, str], urls: list[str]) -> dict[str, str]:
    return {**env, "FLASK_TASKQ_RESULTS_URL": urls[1]}


@pytest.fixture
def engine(taskq: TaskQ) -> SplitEngine:
    engine = taskq.broker.engine
    assert isinstance(engine, SplitEngine)
    return engine


def wait_until_moved(engine: SplitEngine, job_id: str) -> None:
    """Until the record is in the results store, and nowhere else."""
    until = engine.clock.monotonic() + NET * 1000
    while engine.broker.jobs.get(job_id) is not None:
        assert engine.clock.monotonic() < until
    assert engine.results.jobs.get(job_id) is not None


def test_a_result_is_read_wherever_it_is(
    app: Flask, engine: SplitEngine, env: dict[str, str], start_worker: START
) -> None:
    """By HTTP, by a handle, and by the command, before and after it has moved."""
    client = app.test_client()
    job = jobs.work.send(0)
    url = f"/jobs/{job.id}"
    assert client.get(url).get_json()["status"] == "queued"
    start_worker("-p", "1")
    result = job.get_result(block=True, timeout=int(NET * 1000))
    before = client.get(url).get_json()
    assert (before["status"], before["result"]) == ("succeeded", result)

    wait_until_moved(engine, job.id)

    assert client.get(url).get_json() == before
    assert client.delete(url).status_code == 409
    assert job.refresh().status is Status.SUCCEEDED
    assert job.get_result() == result
    command = [sys.executable, "-m", "flask", "--app", f"{APP}:create_app", "taskq", "job"]
    done = subprocess.run([*command, job.id], env=env, capture_output=True, text=True)
    assert (done.returncode, "succeeded" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("urls", ["sqlite+redis"], indirect=True)
def test_a_worker_runs_jobs_without_its_results_store(
    server: RedisServer, taskq: TaskQ, engine: SplitEngine, start_worker: START
) -> None:
    """It says so, starts, and what it ran can be read. Later it moves, which it says, too."""
    server.kill()
    worker = start_worker("-p", "1")
    job = jobs.work.send(0)
    assert job.get_result(block=True, timeout=int(NET * 1000)) is not None
    worker.wait_for_log("TASKQ_RESULTS_URL cannot be used now")
    worker.wait_for_log("stay in the broker, and move when that is possible")

    server.start()

    wait_until_moved(engine, job.id)
    worker.wait_for_log("move again")
    assert taskq.job(job.id).status is Status.SUCCEEDED
    assert worker.log.count("stay in the broker, and move") == 1


@pytest.mark.parametrize("urls", ["sqlite+redis"], indirect=True)
def test_a_results_store_that_refuses_ends_the_command(
    urls: list[str], start_worker: START
) -> None:
    """With the code of a wrong configuration, and the key that is to be mended."""
    url = urls[1].replace("//", "//nobody:hunter2@")
    worker = start_worker("-p", "1", FLASK_TASKQ_RESULTS_URL=url)

    assert worker.wait() == 2
    worker.wait_for_log("TASKQ_RESULTS_URL: ")
    assert "hunter2" not in worker.log
