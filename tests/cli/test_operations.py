"""``flask taskq`` queues, jobs, retry, delete, pause, resume, purge, workers, and init-db."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from flask_taskq import TaskQ
from flask_taskq.cli import STATUSES
from flask_taskq.cli import taskq as group
from flask_taskq.engines.listing import WorkerInfo
from flask_taskq.jobs.record import Status
from tests.support.apps import Line
from tests.support.apps import make_app
from tests.support.apps import once

UNKNOWN = "0" * 32
INFO = WorkerInfo(
    hostname="shop\x1b[2J", pid=77, queues=("default", "mail"), version="1.0", started_at=0
)


@pytest.fixture
def taskq() -> TaskQ:
    taskq = TaskQ()
    taskq.actor(lambda n: n, actor_name="add")

    @taskq.actor(**once(), queue_name="mail")
    def fail(text: str = "no\x1b[2J month") -> None:
        raise LookupError(text)

    return taskq


@pytest.fixture
def app(taskq: TaskQ, tmp_path: Path) -> Flask:
    return make_app(taskq, broker_url=f"sqlite:///{tmp_path}/jobs.sqlite3")


@pytest.fixture
def broker(app: Flask, taskq: TaskQ) -> Any:
    with app.app_context():
        yield taskq.broker


@pytest.fixture
def run(app: Flask, broker: Any) -> Any:
    def run(*args: str, **kwargs: Any) -> Result:
        return app.test_cli_runner().invoke(group, args, **kwargs)

    return run


@pytest.fixture
def failed(broker: Any) -> str:
    """The id of a job that has failed."""
    job = broker.get_actor("fail").send()
    Line(broker).run(job)
    assert job.refresh().status is Status.FAILED
    return job.id


def rows(result: Result) -> list[list[str]]:
    """The words of each line of a table."""
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.output.splitlines()]


def test_the_statuses_of_the_command_are_those_of_jobs() -> None:
    """They are written out there."""
    assert STATUSES == tuple(Status)


# Queues


def test_queues_are_listed_with_what_waits(broker: Any, run: Any) -> None:
    """Those that the app has, those that jobs are in, and those that workers serve."""
    broker.get_actor("add").send(1)
    broker.get_actor("add").send_with_options(args=(2,), delay=60_000)
    broker.engine.queues.pause("default")
    broker.engine.workers.register("w1", INFO)

    head, default, mail = rows(run("queues"))

    assert head == ["QUEUE", "QUEUED", "SCHEDULED", "OLDEST", "WORKERS"]
    assert default[:3] + default[5:] == ["default", "1", "1", "1", "paused"]
    assert mail == ["mail", "0", "0", "-", "1"]
    shown = json.loads(run("queues", "--json").output)
    assert shown[0]["queue"] == "default"
    assert (shown[0]["queued"], shown[0]["paused"], shown[0]["workers"]) == (1, True, 1)


def test_a_queue_is_paused_and_served_again(broker: Any, run: Any) -> None:
    """The text says what that means."""
    assert "What runs goes on" in run("pause", "mail").output
    assert broker.engine.queues.paused() == {"mail"}
    assert "is served" in run("resume", "mail").output
    assert broker.engine.queues.paused() == set()


def test_a_queue_is_purged_when_that_is_confirmed(broker: Any, run: Any) -> None:
    """Or without a question."""
    for _ in range(2):
        broker.get_actor("add").send(1)

    refused = run("purge", "default", input="n\n")
    assert (refused.exit_code, broker.engine.queues.depths()) == (1, {"default": 2})
    assert "Remove 2 jobs that wait in the queue default?" in refused.output
    assert "2 jobs are removed." in run("purge", "default", "--yes").output
    assert broker.engine.queues.depths() == {}
    assert "0 jobs are removed." in run("purge", "default").output


@pytest.mark.parametrize("command", ["pause", "resume", "purge"])
def test_what_is_no_queue_is_refused(run: Any, command: str) -> None:
    """It cannot have been meant."""
    result = run(command, "no queue")
    assert (result.exit_code, "no queue" in result.output) == (2, True)


# Jobs


def test_jobs_are_listed(broker: Any, run: Any, failed: str) -> None:
    """A line for each, with its error; and how many there are."""
    waiting = broker.get_actor("add").send(1)

    result = run("jobs")

    head, first, second, counts = rows(result)
    assert head == ["ID", "STATUS", "QUEUE", "ACTOR", "ATTEMPT", "CREATED", "ERROR"]
    assert first[:5] == [waiting.id, "queued", "default", "add", "0"]
    assert second[:5] == [failed, "failed", "mail", "fail", "1"]
    assert second[-3:] == ["LookupError:", "no\\x1b[2J", "month"]
    assert counts == ["1", "queued,", "1", "failed"]
    assert "\x1b" not in result.output


def test_jobs_are_filtered_and_shown_page_by_page(broker: Any, run: Any, failed: str) -> None:
    """Each page names the next one."""
    ids = [broker.get_actor("add").send(n).id for n in range(3)]

    first = run("jobs", "--status", "queued", "--limit", "2")
    cursor = first.output.split("--after ")[1].strip()
    second = run("jobs", "--status", "queued", "--limit", "2", "--after", cursor)

    assert [row[0] for row in rows(first)[1:3]] == ids[:2]
    assert [row[0] for row in rows(second)[1:2]] == ids[2:]
    only = json.loads(run("jobs", "-a", "fail", "-q", "mail", "--json").output)
    assert [job["id"] for job in only["jobs"]] == [failed]
    assert only["jobs"][0]["error"]["type"] == "LookupError"
    assert only["counts"]["failed"] == {"number": 1, "is_exact": True}
    assert "no jobs" in run("jobs", "-a", "add", "-q", "mail").output


@pytest.mark.parametrize(
    "words", [["--after", "x"], ["--queue", "a b"], ["--actor", "a b"], ["--status", "lost"]]
)
def test_a_wrong_word_is_named(run: Any, words: list[str]) -> None:
    """With the option that has it."""
    result = run("jobs", *words)
    assert result.exit_code == 2
    assert words[0] in result.output and words[1] in result.output


def test_a_failed_job_is_run_again(broker: Any, run: Any, failed: str) -> None:
    """A second time there is nothing to do."""
    assert f"Job {failed} is queued again." in run("retry", failed).output
    assert broker.get_record(failed).status is Status.QUEUED
    again = run("retry", failed)
    assert again.exit_code == 1
    assert f"job {failed} is queued: only what failed or was cancelled" in again.output


def test_a_job_whose_key_another_one_has_is_not_run_again(broker: Any, run: Any) -> None:
    """The text says so."""
    fail = broker.get_actor("fail")
    job = fail.send_with_options(unique="x")
    Line(broker).run(job)
    fail.send_with_options(unique="x")

    result = run("retry", job.id)

    assert result.exit_code == 1
    assert "stays failed: another job has its unique key" in result.output


def test_jobs_are_deleted_but_those_that_run(broker: Any, run: Any, failed: str) -> None:
    """The text says what to do with these."""
    job = broker.get_actor("add").send(1)
    broker.engine.workers.register("w1")
    broker.engine.consumer(["default"], "w1").fetch(1, 0)

    result = run("delete", failed, job.id)

    assert result.exit_code == 1
    assert f"Job {failed} is deleted; it was failed." in result.output
    assert f"job {job.id} is running: cancel it first" in result.output
    assert broker.engine.jobs.get(failed) is None


@pytest.mark.parametrize("command", ["retry", "delete"])
def test_an_unknown_job_is_an_error(run: Any, command: str) -> None:
    """With its id."""
    result = run(command, UNKNOWN)
    assert (result.exit_code, UNKNOWN in result.output) == (1, True)


# Workers


def test_workers_are_listed(broker: Any, run: Any) -> None:
    """Whatever their host says of itself moves no cursor."""
    assert rows(run("workers")) == [["WORKER", "HOST", "PID", "VERSION", "STARTED", "QUEUES"]]
    broker.engine.workers.register("w1", INFO)
    broker.engine.workers.register("w2")

    result = run("workers")

    assert rows(result)[1] == ["w1", "shop\\x1b[2J", "77", "1.0", "-", "default,", "mail"]
    assert rows(result)[2] == ["w2", "-", "-", "-", "-", "-"]
    shown = json.loads(run("workers", "--json").output)
    assert (shown[0]["worker"], shown[0]["queues"]) == ("w1", ["default", "mail"])


# The storage


def test_the_storage_is_made_ready(run: Any, tmp_path: Path) -> None:
    """Before anything is sent."""
    result = run("init-db")

    assert (result.exit_code, "is ready" in result.output) == (0, True)
    assert (tmp_path / "jobs.sqlite3").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["queues"],
        ["jobs"],
        ["retry", UNKNOWN],
        ["delete", UNKNOWN],
        ["pause", "a"],
        ["resume", "a"],
        ["purge", "a"],
        ["workers"],
        ["init-db"],
    ],
)
def test_a_storage_that_cannot_be_used_is_an_error(tmp_path: Path, words: list[str]) -> None:
    """With the exit code of a worker, and no traceback."""
    (tmp_path / "file").touch()
    app = make_app(TaskQ(), broker_url=f"sqlite:///{tmp_path}/file/jobs.sqlite3")

    result = app.test_cli_runner().invoke(group, words)

    assert result.exit_code == 3
    assert result.output.startswith("Error: ")
    assert "Not a directory" in result.output
