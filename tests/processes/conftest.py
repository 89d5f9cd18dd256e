"""A folder, a recorder, and workers that are ended whatever happens."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

import pytest
from flask import Flask

from flask_taskq import TaskQ
from tests.support.machine_time import start_pulse
from tests.support.namespaces import in_another_namespace
from tests.support.redis_server import empty_redis

from . import app as jobs
from .harness import Recorder
from .harness import WorkerCommand


@pytest.fixture(scope="session", autouse=True)
def pulse() -> None:
    """Promises of time are judged by what the machine has time for."""
    start_pulse()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: sockets are made in it."""
    path = Path(tempfile.mkdtemp(prefix="tq"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def recorder(folder: Path) -> Iterator[Recorder]:
    """What the jobs of this test tell."""
    recorder = Recorder(folder)
    yield recorder
    recorder.close()


@pytest.fixture
def broker_url(request: pytest.FixtureRequest, folder: Path) -> str:
    """Where the jobs are: in a file, unless the test asks for ``ON_EVERY_ENGINE``."""
    if getattr(request, "param", "sqlite") == "redis":
        return empty_redis()
    return f"sqlite:///{folder}/taskq.sqlite3"


@pytest.fixture
def env(folder: Path, recorder: Recorder, broker_url: str) -> dict[str, str]:
    """The environment of the test's workers."""
    return {
        **os.environ,
        "TEST_FOLDER": str(folder),
        "FLASK_TASKQ_BROKER_URL": broker_url,
        "TEST_RECORDER": recorder.path,
        "FLASK_TASKQ_GRACE": "5000",
    }


@pytest.fixture
def start_worker(env: dict[str, str]) -> Iterator[Callable[..., WorkerCommand]]:
    """Starts ``flask taskq worker`` with options; keywords go to its environment.

    With ``apart`` it is in another namespace of process ids, as in a container.
    """
    started: list[WorkerCommand] = []

    def start(
        *arguments: str,
        app: str | None = None,
        program: Sequence[str] = (),
        apart: bool = False,
        **more: str,
    ) -> WorkerCommand:
        prefix = in_another_namespace() if apart else ()
        worker = WorkerCommand(
            {**env, **more}, *arguments, app=app, program=program, prefix=prefix
        )
        started.append(worker)
        return started[-1]

    yield start
    for worker in started:
        worker.close()


@pytest.fixture
def app(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The app of the workers, in this process: the web's side."""
    for name in ("TEST_FOLDER", "TEST_RECORDER"):
        monkeypatch.setenv(name, env[name])
    app = Flask("web", instance_path=env["TEST_FOLDER"])
    app.config["TASKQ_BROKER_URL"] = env["FLASK_TASKQ_BROKER_URL"]
    jobs.taskq.init_app(app)
    with app.app_context():
        yield app
    jobs.taskq.broker_for(app).close()


@pytest.fixture
def taskq(app: Flask) -> TaskQ:
    """The extension, with the app's context open."""
    return jobs.taskq
