"""Apps configure logging in many ways, and a job that fails is always in the log, once."""

from __future__ import annotations

import re
import signal
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_taskq import Message
from flask_taskq import TaskQ

from .harness import ON_EVERY_ENGINE
from .harness import PATIENCE
from .harness import Recorder
from .harness import WorkerCommand

START = Callable[..., WorkerCommand]

APP = """
import logging
import logging.config
import os
import sys
from flask import Flask, current_app
from flask.logging import default_handler

def configure(**config):
    logging.config.dictConfig({"version": 1, **config})

FORMATTERS = {"plain": {"format": "APP %(levelname)s %(name)s %(message)s"}}
CONSOLE = {"console": {"class": "logging.StreamHandler", "formatter": "plain"}}

@first@
from flask_taskq import TaskQ
taskq = TaskQ()
@imported@

@taskq.actor(max_retries=0, queue_name="shop")
def fail():
    @job@
    current_app.logger.error("by the app")
    logging.getLogger("some.library").error("by a library")
    raise ValueError("boom")

def create_app():
    @factory@
    app = Flask("shop", instance_path=os.environ["TEST_FOLDER"])
    app.config.from_prefixed_env()
    taskq.init_app(app)
    @built@
    return app
"""

#: As in Flask's documentation, where it says how to configure logging.
FLASK = """
configure(
    formatters={
        "default": {
            "format": "[%(asctime)s] %(levelname)s in %(module)s: %(message)s",
        }
    },
    handlers={
        "wsgi": {
            "class": "logging.StreamHandler",
            "stream": "ext://flask.logging.wsgi_errors_stream",
            "formatter": "default",
        }
    },
    root={"level": "INFO", "handlers": ["wsgi"]},
)
"""

FILE = """
from io import StringIO
logging.config.fileConfig(StringIO('''
[loggers]
keys=root
[handlers]
keys=console
[formatters]
keys=plain
[logger_root]
level=INFO
handlers=console
[handler_console]
class=StreamHandler
formatter=plain
args=(sys.stderr,)
[formatter_plain]
format=APP %(levelname)s %(name)s %(message)s
'''))
"""

OWN_LOGGER = """
configure(
    formatters=FORMATTERS,
    handlers=CONSOLE,
    loggers={"shop": {"handlers": ["console"], "level": "INFO"}},
)
"""

OUR_LOGGER = """
configure(
    formatters=FORMATTERS,
    handlers=CONSOLE,
    loggers={"flask_taskq": {"handlers": ["console"], "level": "INFO"}},
)
"""

OUR_LOGGER_ALONE = OUR_LOGGER.replace('"INFO"', '"INFO", "propagate": False')

OUR_LOGGER_AND_ROOT = """
configure(
    formatters=FORMATTERS,
    handlers=CONSOLE,
    root={"handlers": ["console"]},
    loggers={"flask_taskq": {"handlers": ["console"], "level": "INFO", "propagate": False}},
)
"""

NOWHERE = """
logging.getLogger("flask_taskq").propagate = False
"""

SILENT = """
configure(loggers={})
"""

BASIC = "logging.basicConfig(level=logging.INFO, format='APP %(levelname)s %(message)s')"

ROOT_HANDLER = "logging.getLogger().addHandler(logging.StreamHandler())"

CONFIGURATIONS = [
    *[(FLASK, place) for place in ("first", "imported", "factory", "built", "job")],
    *[(FILE, place) for place in ("first", "factory")],
    *[(OWN_LOGGER, place) for place in ("imported", "job")],
    *[(OUR_LOGGER, place) for place in ("first", "factory")],
    *[(OUR_LOGGER_ALONE, place) for place in ("imported", "job")],
    (OUR_LOGGER_AND_ROOT, "factory"),
    (NOWHERE, "factory"),
    *[(SILENT, place) for place in ("factory", "job")],
    *[(BASIC, place) for place in ("first", "factory", "built")],
    *[(ROOT_HANDLER, place) for place in ("factory", "job")],
    ("logging.warning('early')", "imported"),
    ("logging.basicConfig()", "factory"),
    ("app.logger.warning('early')", "built"),
    ("app.logger.addHandler(logging.StreamHandler())", "built"),
    ("logging.getLogger().addHandler(default_handler)", "factory"),
    ("", "first"),
]


def write_app(folder: Path, code: str = "", place: str = "first") -> str:
    """An app that configures logging at one of its places."""
    source = APP
    for name in ("first", "imported", "factory", "built", "job"):
        text = textwrap.dedent(code).strip() if name == place else "pass"
        source = re.sub(
            f"^( *)@{name}@$",
            lambda at, text=text: textwrap.indent(text, at[1]),
            source,
            flags=re.MULTILINE,
        )
    path = folder / "shop.py"
    path.write_text(source)
    return f"{path}:create_app"


def fail_in(worker: WorkerCommand, taskq: TaskQ) -> str:
    """Let a job fail, end the worker, and return the job's id."""
    job = taskq.broker.enqueue(Message("shop", "fail", (), {}, {}))
    taskq.broker.wait_for_record(job.id, PATIENCE)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    return job.id


@pytest.mark.parametrize(("code", "place"), CONFIGURATIONS)
def test_a_failed_job_is_in_the_log_once(
    start_worker: START, taskq: TaskQ, folder: Path, code: str, place: str
) -> None:
    """With its traceback, and so are the lines of the app and of libraries."""
    worker = start_worker("-p", "1", app=write_app(folder, code, place))
    job_id = fail_in(worker, taskq)
    assert worker.log.count(f"job {job_id} failed") == 1
    assert worker.log.count("ValueError: boom") == 1
    assert worker.log.count("by the app") == 1
    assert worker.log.count("by a library") == 1


@pytest.mark.parametrize("place", ["first", "imported", "factory", "built"])
def test_an_app_that_configures_logging_keeps_its_configuration(
    start_worker: START, taskq: TaskQ, folder: Path, place: str
) -> None:
    """As by ``basicConfig()``, which does nothing where the root logger has a handler."""
    path = folder / "shop.log"
    code = f"logging.basicConfig(filename={str(path)!r}, format='APP %(message)s')"
    worker = start_worker("-p", "1", app=write_app(folder, code, place))
    job_id = fail_in(worker, taskq)
    log = path.read_text()
    assert log.count(f"APP job {job_id} failed") == 1
    assert log.count("ValueError: boom") == 1
    assert "boom" not in worker.log
    # The root logger stays at the level that the app has left it at.
    assert "is ready" not in log


def test_a_call_that_configures_nothing_leaves_the_format_to_the_worker(
    start_worker: START, taskq: TaskQ, folder: Path
) -> None:
    """``logging.warning()`` gives the root logger a handler, and no app asks for it."""
    code = "logging.warning('early')"
    worker = start_worker(
        "-p", "1", "--log-format", "json", app=write_app(folder, code, "imported")
    )
    job_id = fail_in(worker, taskq)
    [line] = [line for line in worker.log.splitlines() if f"job {job_id} failed" in line]
    assert line.startswith('{"time":')


def test_what_an_app_logs_before_it_is_built_is_seen(start_worker: START, folder: Path) -> None:
    """Also when it is never built: by Flask's handler, Python's, or the worker's."""
    code = """
    logging.getLogger("some.library").warning("hello")
    raise RuntimeError("this import fails")
    """
    worker = start_worker("--check", app=write_app(folder, code, "imported"))
    assert worker.wait() == 2
    assert worker.log.count("some.library: hello") == 1
    assert "this import fails" in worker.log


FILTER = """
class RequestFilter(logging.Filter):
    def filter(self, record):
        from flask import request
        record.url = request.url
        return True

configure(
    disable_existing_loggers=False,
    filters={"request": {"()": RequestFilter}},
    handlers={"console": {"class": "logging.StreamHandler", "filters": ["request"]}},
    root={"level": "INFO", "handlers": ["console"]},
)
logging.getLogger("shop").propagate = False
logging.getLogger("some").propagate = False
"""

FORMATTER = """
class Odd(logging.Handler):
    def emit(self, record):
        print(record.url, file=sys.stderr)

logging.getLogger().addHandler(Odd())
logging.getLogger("shop").propagate = False
logging.getLogger("some").propagate = False
"""

FACTORY = """
def make(name, *args):
    if name.startswith("flask_taskq"):
        raise AttributeError("no attribute 'url'")
    return logging.LogRecord(name, *args)

logging.setLogRecordFactory(make)
"""


@ON_EVERY_ENGINE
@pytest.mark.parametrize("code", [FILTER, FORMATTER, FACTORY])
def test_logging_that_raises_costs_neither_a_thread_nor_an_outcome(
    start_worker: START, taskq: TaskQ, recorder: Recorder, folder: Path, code: str
) -> None:
    """More jobs than threads end as they end, and each is still in the log."""
    worker = start_worker("-p", "1", "-t", "2", app=write_app(folder, code, "factory"))
    sent = [taskq.broker.enqueue(Message("shop", "fail", (), {}, {})) for _ in range(5)]
    for job in sent:
        record = taskq.broker.wait_for_record(job.id, PATIENCE)
        assert (record.status, record.attempt) == ("failed", 1)
        assert record.error is not None
        assert record.error.message == "boom"
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    for job in sent:
        assert worker.log.count(f"job {job.id} failed") == 1
    assert worker.log.count("ValueError: boom") == len(sent)
    assert "the app's logging raised" in worker.log
    assert "has lost a thread" not in worker.log


PRINTING = """
import os
from flask import Flask
from flask_taskq import TaskQ

taskq = TaskQ()

@taskq.actor(queue_name="shop")
def speak(text, end, go_on):
    print(text, end=end)
    if not go_on:
        open(os.environ["TEST_FOLDER"] + "/fifo").read()

def create_app():
    app = Flask("shop", instance_path=os.environ["TEST_FOLDER"])
    app.config.from_prefixed_env()
    taskq.init_app(app)
    return app
"""


@pytest.mark.parametrize("end", ["\n", ""])
def test_what_a_job_prints_is_seen_while_it_runs(
    env: dict[str, str], taskq: TaskQ, folder: Path, end: str
) -> None:
    """Where standard output is a pipe, which Python keeps back until it has 8 kilobytes."""
    (folder / "shop.py").write_text(PRINTING)
    env.pop("PYTHONUNBUFFERED", None)
    worker = WorkerCommand(env, "-p", "1", app=f"{folder}/shop.py", stdout=subprocess.PIPE)
    try:
        taskq.broker.enqueue(Message("shop", "speak", ("hello", end, False), {}, {}))
        assert worker.process.stdout is not None
        assert worker.process.stdout.read(5) == "hello"
    finally:
        worker.close()
