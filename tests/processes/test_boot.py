"""How a worker starts, and how it refuses to."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_taskq import Message
from flask_taskq import TaskQ

from . import app as jobs
from .harness import PATIENCE
from .harness import processes_of_session
from .harness import Recorder
from .harness import WorkerCommand
from .test_killed_child import assert_all_succeeded
from .test_killed_child import send_work

START = Callable[..., WorkerCommand]

BROKEN = {"TEST_BROKEN_APP": "1"}


def test_a_broken_factory_is_shown_once_and_tried_again(
    start_worker: START, recorder: Recorder, taskq: TaskQ
) -> None:
    """One traceback, growing pauses, one process at a time, and no job is claimed."""
    [job_id] = send_work(taskq, 1, 1)
    worker = start_worker("-p", "4", **BROKEN)
    worker.wait_for_log("starting another process in 1000 ms")
    worker.wait_for_log("starting another process in 2000 ms")
    boots = recorder.wait_for("boot", 2)
    assert boots[1]["at"] - boots[0]["at"] >= 1
    assert worker.log.count("RuntimeError: this factory is broken") == 1
    assert taskq.job(job_id).record.version == 1
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_broken_factory_that_has_left_a_thread_is_tried_again(start_worker: START) -> None:
    """The thread is no daemon: it would keep the process, and its place, for ever."""
    worker = start_worker("-p", "1", TEST_THREAD="1", **BROKEN)
    worker.wait_for_log("starting another process in 2000 ms")


@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_an_app_that_does_not_exist_is_bad_usage(
    arguments: list[str], start_worker: START
) -> None:
    """The name is wrong, and trying again would not help: exit code 2."""
    worker = start_worker(*arguments, app="no_such_module")
    assert worker.wait() == 2
    assert "no_such_module" in worker.log


def test_an_app_without_a_taskq_is_bad_usage(start_worker: START, tmp_path: Path) -> None:
    """The error tells what to call."""
    module = tmp_path / "plain.py"
    module.write_text("from flask import Flask\napp = Flask(__name__)\n")
    worker = start_worker(app=str(module))
    assert worker.wait() == 2
    assert "taskq.init_app(app)" in worker.log


def test_jobs_in_memory_have_no_worker(start_worker: START) -> None:
    """The error tells why, and what to do instead."""
    worker = start_worker(FLASK_TASKQ_BROKER_URL="memory://")
    assert worker.wait() == 2
    assert "memory://" in worker.log
    assert "run the jobs of a test with flask_taskq.testing" in worker.log


def test_eager_jobs_have_no_worker(start_worker: START) -> None:
    """A worker would find nothing, for ever. The error tells what to do."""
    worker = start_worker(FLASK_TASKQ_EAGER="true")
    assert worker.wait() == 2
    assert "TASKQ_EAGER is on" in worker.log


@pytest.mark.parametrize("broken", [False, True])
def test_check_tells_whether_the_app_loads(broken: bool, start_worker: START) -> None:
    """Exit code 0 or 2, at once, and the traceback in the log."""
    worker = start_worker("--check", **(BROKEN if broken else {}))
    assert worker.wait() == (2 if broken else 0)
    assert ("this factory is broken" in worker.log) is broken


SHOP = """
import os
from flask import Flask
from flask_taskq import Middleware, TaskQ

class Counting(Middleware):
    def __init__(self, things):
        self.things = things

taskq = TaskQ()

def create_app():
    app = Flask(__name__, instance_path=os.environ["TEST_FOLDER"])
    app.config.from_prefixed_env()
    app.config["TASKQ_MIDDLEWARE"] = [Counting(object())]
    taskq.init_app(app)
    return app
"""

SHOP_JOBS = """
from shop import taskq

@taskq.actor(queue_name="shop")
def ship(number):
    return number
"""


def test_a_worker_imports_the_modules_of_the_configuration(
    start_worker: START, taskq: TaskQ, folder: Path
) -> None:
    """It serves the queues of their actors; middleware may be any object."""
    (folder / "shop.py").write_text(SHOP)
    (folder / "shop_jobs.py").write_text(SHOP_JOBS)
    job = taskq.broker.enqueue(Message("shop", "ship", (3,), {}, {}))
    start_worker("-p", "1", app=f"{folder}/shop.py", FLASK_TASKQ_ACTORS="shop_jobs")
    assert job.get_result(block=True, timeout=PATIENCE) == 3


@pytest.mark.parametrize("text", ["import nowhere", "1 / 0"])
def test_a_module_that_cannot_be_imported_is_shown(
    start_worker: START, folder: Path, text: str
) -> None:
    """As an app that cannot be built: --check says no."""
    (folder / "shop.py").write_text(SHOP)
    (folder / "shop_jobs.py").write_text(text)
    worker = start_worker("--check", app=f"{folder}/shop.py", FLASK_TASKQ_ACTORS="shop_jobs")
    assert worker.wait() == 2
    assert "shop_jobs" in worker.log


SHOP_CALLBACKS = """
from shop import taskq
from flask_taskq import shared_actor

@taskq.actor(on_success="tell", on_failure="share")
def ship(number):
    return number

@taskq.actor
def tell(message, result): ...

@shared_actor
def share(message, error): ...
"""


@pytest.mark.parametrize("known", [True, False])
def test_a_callback_that_no_actor_is_named_after_is_refused(
    start_worker: START, folder: Path, known: bool
) -> None:
    """When all modules are imported, in whatever order their actors stand; --check says so."""
    (folder / "shop.py").write_text(SHOP)
    text = SHOP_CALLBACKS if known else SHOP_CALLBACKS.replace("def tell(", "def tel(")
    (folder / "shop_jobs.py").write_text(text)
    worker = start_worker("--check", app=f"{folder}/shop.py", FLASK_TASKQ_ACTORS="shop_jobs")
    assert worker.wait() == (0 if known else 2)
    refusal = "on_success of actor 'ship' is 'tell', and no actor has that name"
    assert (refusal in worker.log) is not known
    assert ("did you mean 'tel'?" in worker.log) is not known


def test_a_worker_serves_the_queue_of_a_shared_actor_that_only_it_imports(
    start_worker: START, taskq: TaskQ, folder: Path
) -> None:
    """As that of any other actor in a module of the configuration."""
    (folder / "shop.py").write_text(SHOP)
    (folder / "shop_jobs.py").write_text(
        "from flask_taskq import shared_actor\n"
        "@shared_actor(queue_name='library')\n"
        "def count(number): return number\n"
    )
    job = taskq.broker.enqueue(Message("library", "count", (3,), {}, {}))
    start_worker("-p", "1", app=f"{folder}/shop.py", FLASK_TASKQ_ACTORS="shop_jobs")
    assert job.get_result(block=True, timeout=PATIENCE) == 3


def test_a_bad_value_in_the_configuration_is_named(start_worker: START) -> None:
    """The key is in the log, and --check says no."""
    worker = start_worker("--check", FLASK_TASKQ_LEASE="soon")
    assert worker.wait() == 2
    assert "TASKQ_LEASE" in worker.log


def test_an_engine_out_of_reach_is_given_up_in_time(start_worker: START, folder: Path) -> None:
    """What is there is no database: exit code 3 after --connect-timeout."""
    path = folder / "broken.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    worker = start_worker(
        "--connect-timeout", "300", FLASK_TASKQ_BROKER_URL=f"sqlite:///{path}"
    )
    assert worker.wait() == 3
    assert "broken.sqlite3" in worker.log


def test_the_pid_file_holds_the_supervisor(start_worker: START, folder: Path) -> None:
    """It is there while the worker runs and gone afterwards."""
    path = folder / "worker.pid"
    worker = start_worker("-p", "1", "--pid-file", str(path))
    worker.wait_until_ready(1)
    assert int(path.read_text()) == worker.process.pid
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert not path.exists()


def test_only_the_named_queues_are_served(
    start_worker: START, taskq: TaskQ, recorder: Recorder
) -> None:
    """Jobs of other queues stay where they are."""
    worker = start_worker("-p", "1", "-Q", "other")
    worker.wait_until_ready(1)
    [job_id] = send_work(taskq, 1, 1)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert taskq.job(job_id).record.version == 1


def test_children_are_directly_under_the_supervisor(start_worker: START) -> None:
    """Also when there is only one: the supervisor itself runs no job."""
    worker = start_worker("-p", "1")
    [child] = worker.wait_until_ready(1)
    assert set(processes_of_session(worker.process.pid)) == {worker.process.pid, child}
    parent = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) == worker.process.pid


def test_a_job_in_backoff_leaves_its_thread_to_others(
    start_worker: START, taskq: TaskQ, recorder: Recorder
) -> None:
    """One thread: while a failed job waits ten minutes, another one runs."""
    start_worker("-p", "1", "-t", "1").wait_until_ready(1)
    failing = jobs.fail.send()
    recorder.wait_for("start", 1, jobs=[failing.id])
    [other] = send_work(taskq, 1, 1)
    assert_all_succeeded(taskq, [other])
    record = failing.refresh().record
    assert (record.status, record.attempt) == ("scheduled", 1)


def test_jobs_send_jobs(start_worker: START, taskq: TaskQ, recorder: Recorder) -> None:
    """A job that runs in a worker can send another one."""
    start_worker("-p", "1", "-t", "1").wait_until_ready(1)
    jobs.chain.send(5)
    recorder.wait_for("start", 5)


def test_a_deleted_database_is_reported_and_the_worker_goes_on(
    start_worker: START, taskq: TaskQ, recorder: Recorder, folder: Path
) -> None:
    """One clear error, no endless loop; the worker serves the new file."""
    worker = start_worker("-p", "1")
    worker.wait_until_ready(1)
    for path in folder.glob("taskq.sqlite3*"):
        if path.is_file():
            os.unlink(path)
    worker.wait_for_log(r"taskq\.sqlite3 was (deleted|replaced)")
    taskq.broker.engine.close()
    [job_id] = send_work(taskq, 1, 1)
    assert_all_succeeded(taskq, [job_id])


def test_a_locked_database_delays_jobs_and_loses_none(
    start_worker: START, taskq: TaskQ, recorder: Recorder, folder: Path
) -> None:
    """While another program holds the lock the worker waits, and then goes on."""
    worker = start_worker(
        "-p", "1", FLASK_TASKQ_BROKER_URL="sqlite:///taskq.sqlite3?busy_timeout=100"
    )
    worker.wait_until_ready(1)
    ids = send_work(taskq, 20, 100)
    recorder.wait_for("start", 1)
    locker = sqlite3.connect(folder / "taskq.sqlite3", isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    worker.wait_for_log("will try again")
    locker.execute("ROLLBACK")
    locker.close()
    assert_all_succeeded(taskq, ids)
    assert set(recorder.runs().values()) == {1}


PATCHED = """
import os
import sys
import types

from flask import Flask
from flask_taskq import TaskQ

# As a library does that replaces parts of the standard library.
module, function = os.environ["TEST_PATCHES"].split(":")
sys.modules[module] = types.ModuleType(module)
setattr(sys.modules[module], function, lambda name: name == os.environ["TEST_PATCHED"])

taskq = TaskQ()


def create_app():
    app = Flask(__name__, instance_path=os.environ["TEST_FOLDER"])
    app.config.from_prefixed_env()
    taskq.init_app(app)
    return app
"""


@pytest.mark.parametrize(
    ("patches", "library"),
    [
        ("gevent.monkey:is_module_patched", "gevent"),
        ("eventlet.patcher:is_monkey_patched", "eventlet"),
    ],
)
def test_an_app_that_has_patched_threads_is_refused(
    start_worker: START, tmp_path: Path, patches: str, library: str
) -> None:
    """It would run no job and say nothing. The error names the library."""
    (tmp_path / "patched.py").write_text(PATCHED)
    worker = start_worker(
        app=f"{tmp_path}/patched.py", TEST_PATCHES=patches, TEST_PATCHED="threading"
    )
    assert worker.wait() == 2
    assert f"those of {library} (threading)" in worker.log


def test_an_app_that_has_patched_nothing_a_worker_needs_is_served(
    start_worker: START, tmp_path: Path
) -> None:
    """The library may be there without having replaced anything."""
    (tmp_path / "patched.py").write_text(PATCHED)
    patches = "gevent.monkey:is_module_patched"
    worker = start_worker(
        app=f"{tmp_path}/patched.py", TEST_PATCHES=patches, TEST_PATCHED="builtins"
    )
    worker.wait_until_ready(1)


@pytest.mark.parametrize("check", [True, False])
def test_an_app_whose_error_has_odd_text_is_shown(
    start_worker: START, tmp_path: Path, check: bool
) -> None:
    """Half a surrogate pair, as in the name of a file that is not UTF-8."""
    (tmp_path / "odd.py").write_text('raise FileNotFoundError("no such file: odd\\udce9.toml")')
    worker = start_worker(*(["--check"] if check else []), app=f"{tmp_path}/odd.py")
    worker.wait_for_log(r"FileNotFoundError: no such file: odd\\udce9\.toml")
    if check:
        assert worker.wait() == 2
    else:
        worker.wait_for_log("starting another process")
