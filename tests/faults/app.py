"""The application under test: it writes down what is sent and run, and dies where it is told.

Web server and workers load it alike. It gets nothing of the package that another app would
not get, but for a consumer that watches the one of the engine.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager

from flask import Flask
from flask import jsonify
from flask import request
from flask import Response

from flask_taskq import current_job
from flask_taskq import Middleware
from flask_taskq import TaskQ
from flask_taskq.actors.broker import Broker
from flask_taskq.actors.run import Run
from flask_taskq.errors import BadArguments
from flask_taskq.errors import BrokerError
from flask_taskq.errors import PayloadTooLarge
from flask_taskq.worker.threads.worker import Worker
from tests.support.machine_time import start_of

from .consumers import watch
from .defects import DEFECTS
from .event_log import append
from .points import FOLDER
from .points import reach

taskq = TaskQ()


def create_app() -> Flask:
    app = Flask(__name__, instance_path=str(FOLDER))
    app.config.from_prefixed_env()
    taskq.init_app(app)
    broker = taskq.broker_for(app)
    broker.add_middleware(Recording())
    if defect := os.environ.get("FAULTS_DEFECT"):
        DEFECTS[defect](broker.engine)
    watch(broker.engine)
    app.post("/send")(send)
    if os.environ.get("FAULTS_SEND_AT_BOOT"):
        with app.app_context():
            send_one_by_one(1)
    return app


# --- What is sent ---


def send() -> Response:
    """Send the messages of the body, in one call, and say of each what became of it.

    Each is ``[actor, arguments, expected status]``.
    """
    messages = {}
    for name, arguments, expected in request.get_json():
        message = taskq.broker.get_actor(name).message(*arguments)
        messages[message.message_id] = message
        append(FOLDER, "intent", job=message.message_id, actor=name, expected=expected)
    began = time.monotonic()
    outcome, error = "sent", ""
    try:
        taskq.send_many(list(messages.values()))
    except (BadArguments, PayloadTooLarge) as refusal:
        outcome, error = "refused", repr(refusal)
    except BrokerError as failure:
        # The engine may have stored them before it was lost.
        outcome, error = "unknown", repr(failure)
    took = time.monotonic() - began
    for job_id in messages:
        append(FOLDER, outcome, job=job_id, took=took, error=error)
    return jsonify(list(messages))


# --- What is run ---


class Recording(Middleware):
    """Writes down every run, with its start and its end."""

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        born = start_of(os.getpid())
        append(FOLDER, "ready", isolated=worker.worker_threads == 1, born=born)

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        append(FOLDER, "stopping", isolated=worker.worker_threads == 1)

    def around_process_message(
        self, broker: Broker, message: Run
    ) -> AbstractContextManager[object]:
        return record_run(message)


@contextmanager
def record_run(message: Run) -> Iterator[None]:
    run = os.urandom(6).hex()
    append(FOLDER, "start", job=message.id, attempt=message.attempt, run=run)
    reach("after-start")
    try:
        yield
    except BaseException as error:
        append(FOLDER, "end", job=message.id, run=run, outcome=type(error).__name__)
        raise
    append(FOLDER, "end", job=message.id, run=run, outcome="ok")
    reach("after-return")


# --- Actors ---


@taskq.actor
def work(milliseconds: int) -> int:
    """A job of a known length."""
    time.sleep(milliseconds / 2000)
    reach("mid-job")
    time.sleep(milliseconds / 2000)
    return os.getpid()


@taskq.actor
def yielding(milliseconds: int) -> None:
    """A job that an exception can be raised into at any time."""
    until = time.monotonic() + milliseconds / 1000
    while time.monotonic() < until:
        time.sleep(0.01)


@taskq.actor(max_retries=1, min_backoff=1, max_backoff=1)
def fail_once(path: str) -> None:
    """A job whose first run that comes to its end fails."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    raise RuntimeError("the first run of this job fails")


@taskq.actor
def wait_for_file(path: str) -> None:
    """A job that ends when there is a file, and otherwise only by an exception."""
    while not os.path.exists(path):
        time.sleep(0.01)


@taskq.actor
def tell_progress(milliseconds: int) -> None:
    """A job that has something to tell all the time."""
    for done in range(0, milliseconds, 10):
        current_job.progress(done, milliseconds)
        time.sleep(0.01)


@taskq.actor
def hold_gil(milliseconds: int) -> None:
    """A job in C code that lets no other thread of its process run."""
    ctypes.PyDLL(None).usleep(milliseconds * 1000)


@taskq.actor
def leak(megabytes: int) -> None:
    """A job after which its process is larger."""
    LEAKED.append(bytes([1]) * (megabytes << 20))


#: What the jobs of this process have left behind.
LEAKED: list[bytes] = []


@taskq.actor
def poison() -> None:
    """A job that crashes the interpreter."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    append(FOLDER, "fault", kind="kill", pids=[os.getpid()], point="poison")
    ctypes.string_at(0)


@taskq.actor
def send_from_both_sides(count: int) -> int | None:
    """A job that forks; parent and child then send jobs at the same time."""
    child = multiprocessing.get_context("fork").Process(target=send_one_by_one, args=(count,))
    child.start()
    send_one_by_one(count)
    child.join()
    return child.exitcode


def send_one_by_one(count: int) -> None:
    for _ in range(count):
        message = work.message(0)
        job = message.message_id
        append(FOLDER, "intent", job=job, actor="work", expected="succeeded")
        taskq.broker.enqueue(message)
        append(FOLDER, "sent", job=job, took=0, error="")
