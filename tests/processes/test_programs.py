"""Workers of programs that have Flask's commands and a factory of their own."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_taskq import Message
from flask_taskq import TaskQ

from .harness import PATIENCE
from .harness import WorkerCommand

START = Callable[..., WorkerCommand]

MANAGE = """
import os
import sys
from flask import Flask
from flask.cli import FlaskGroup
from flask_taskq import TaskQ

taskq = TaskQ()

@taskq.actor
def tell():
    return VERSION, __name__, sys.argv[1:3], os.getpid()

def create_app():
    app = Flask(__name__, instance_path=os.environ["TEST_FOLDER"])
    app.config.from_prefixed_env()
    taskq.init_app(app)
    return app

cli = FlaskGroup(create_app=create_app)
if __name__ == "__main__":
    cli()
"""


def write(path: Path, version: int) -> None:
    path.write_text(f"VERSION = {version}\n{MANAGE}")


def ask(taskq: TaskQ) -> list[object]:
    job = taskq.broker.enqueue(Message("default", "tell", (), {}, {}))
    found: list[object] = job.get_result(block=True, timeout=PATIENCE)
    return found


@pytest.mark.parametrize("is_module", [False, True])
def test_a_program_runs_its_jobs_and_loads_new_code(
    start_worker: START, taskq: TaskQ, folder: Path, is_module: bool
) -> None:
    """Two processes build its app anew; SIGHUP replaces them by ones that have what is there
    then."""
    package = folder / "package"
    package.mkdir()
    write(package / "manage.py", 1)
    program = ["-m", "package.manage"] if is_module else [str(package / "manage.py")]
    worker = start_worker("-p", "2", program=program, PYTHONPATH=str(folder))
    children = worker.wait_until_ready(2)
    *told, pid = ask(taskq)
    assert (told, pid in children) == ([1, "manage", ["taskq", "worker"]], True)
    worker.wait_for_log(r"ready: 1 actor; queue default; .*; 2 processes of 8 threads")

    # Of another length: what Python keeps of a module is told by its size and its second.
    write(package / "manage.py", 20)
    worker.signal(signal.SIGHUP)
    worker.wait_for_log("reloaded: all processes")
    version, *_, pid = ask(taskq)
    assert (version, pid in children) == (20, False)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_program_that_starts_its_commands_when_it_is_imported_is_refused(
    start_worker: START, folder: Path
) -> None:
    """Each process of its worker would be another worker, without end."""
    program = folder / "manage.py"
    program.write_text("VERSION = 1\n" + MANAGE.replace('if __name__ == "__main__"', "if True"))
    worker = start_worker("-p", "2", program=[str(program)])
    assert worker.wait() == 2
    assert f"{program} ends when it is imported" in worker.log
    assert worker.log.count("a process of a worker cannot be a worker itself") == 1


def test_a_factory_below_the_guard_is_refused(start_worker: START, folder: Path) -> None:
    """Only the program itself has it."""
    program = folder / "manage.py"
    hidden = MANAGE[MANAGE.index("def create_app") :].replace("\n", "\n    ")
    program.write_text(
        MANAGE[: MANAGE.index("def create_app")] + f"if __name__ == '__main__':\n    {hidden}"
    )
    worker = start_worker(program=[str(program)])
    assert worker.wait() == 2
    assert f"{program} has no 'create_app' when it is imported" in worker.log
