"""Each of the default middleware can be left out: the rest does not miss it."""

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flask_taskq import Status
from flask_taskq import TaskQ
from flask_taskq.clock import Clock
from flask_taskq.middleware import DEFAULT
from tests.support.apps import declare
from tests.support.apps import make_app

ROOT = Path(__file__).parents[2]
PATIENCE = 20
LONG = 20_000

#: An option of each, with a value that lets the jobs here live as they would without it.
OPTIONS = {
    "CurrentJob": {"cooperative": False},
    "JobLogs": {"keep_logs": True},
    "AgeLimit": {"max_age": LONG},
    "TimeLimit": {"time_limit": LONG},
    "ShutdownNotifications": {"notify_shutdown": False},
    "Callbacks": {"on_success": "called"},
    "PublicErrors": {"public_errors": LookupError},
    "Unique": {"unique": False},
    "Retries": {"max_retries": 1},
}


@pytest.mark.needs("Retries")
@pytest.mark.parametrize("dropped", DEFAULT, ids=lambda one: one.__name__)
def test_jobs_live_and_end_without_it(new_broker, start_worker, final, dropped, caplog):
    """They succeed, fail, are cancelled and released, with the options of all others."""
    caplog.set_level(logging.WARNING)
    habits = [one for one in DEFAULT if one is not dropped]
    broker = new_broker(Clock(), habits=habits, min_backoff=0)
    options = {}
    for habit in habits:
        options |= OPTIONS[habit.__name__]
    begun = threading.Semaphore(0)

    @declare(broker, **options)
    def succeeds():
        return "done"

    @declare(broker, **options)
    async def awaits():
        return "done"

    @declare(broker, **options)
    def fails():
        raise LookupError("as it should")

    @declare(broker, **options)
    def stays():
        begun.release()
        while True:
            pass

    declare(broker, lambda *args: None, actor_name="called")
    worker = start_worker(broker)
    well, awaited, failed = [final(one.send()) for one in (succeeds, awaits, fails)]
    assert (well.result, awaited.result) == (b'"done"', b'"done"')
    assert failed.status is Status.FAILED
    assert failed.attempt == (1 if dropped.__name__ == "Retries" else 2)
    cancelled, released = stays.send(), stays.send()
    assert begun.acquire(timeout=PATIENCE) and begun.acquire(timeout=PATIENCE)
    cancelled.cancel()
    worker.tick()
    assert final(cancelled).status is Status.CANCELLED
    worker.stop(0)
    assert released.refresh().status is Status.QUEUED
    assert {record.name for record in caplog.records} == {"flask_taskq.jobs"}


@pytest.mark.needs("Retries")
@pytest.mark.parametrize("dropped", DEFAULT, ids=lambda one: one.__name__)
def test_an_app_drops_it_by_its_configuration(dropped):
    """And its options with it."""
    taskq = TaskQ()

    @taskq.actor
    def add(a, b):
        return a + b

    names = [f"{one.__module__}.{one.__name__}" for one in DEFAULT if one is not dropped]
    app = make_app(taskq, default_middleware=names, eager=True)
    options = OPTIONS[dropped.__name__]
    with app.app_context():
        assert add.send(2, 3).get_result() == 5
        with pytest.raises((ValueError, TypeError), match=next(iter(options))):
            add.send_with_options(args=(2, 3), **options)


#: What runs a job and what runs it where it is sent: tests that know nothing of most habits.
MEANINGFUL = ["tests/unit/worker/test_runner.py", "tests/unit/worker/test_eager.py"]


@pytest.mark.parametrize("dropped", ["CurrentJob", "Retries"])
def test_the_tests_that_do_not_need_it_pass_without_it(dropped):
    """The two that most tests use. ``pytest --without NAME`` does the same with any one, and
    with more tests."""
    words = ["--without", dropped, "-q", "-p", "no:cacheprovider", *MEANINGFUL]
    command = [sys.executable, "-m", "pytest", *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout
