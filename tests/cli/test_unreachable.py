"""What a user is told when the storage of jobs cannot be used."""

from __future__ import annotations

import socket
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_taskq import TaskQ
from flask_taskq.cli import taskq as group
from flask_taskq.errors import ConnectionFailed


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(params=["redis", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, closed_port: int) -> dict[str, str]:
    """The URL of one that cannot be used, how errors name it, and what they say."""
    if request.param == "redis":
        return {
            "url": f"redis://user:secret@127.0.0.1:{closed_port}/0?timeout=300",
            "name": f"TASKQ_BROKER_URL: redis://user:***@127.0.0.1:{closed_port}/0",
            "reason": "Connection refused",
            "advice": "check that the server is running",
        }
    (tmp_path / "file").touch()
    return {
        "url": f"sqlite:///{tmp_path}/file/jobs.sqlite3",
        "name": f"{tmp_path}/file/jobs.sqlite3",
        "reason": "Not a directory",
        "advice": "or let TASKQ_BROKER_URL name another file",
    }


@pytest.fixture
def app(storage: dict[str, str]) -> Flask:
    app = Flask("app")
    app.testing = True
    app.config["TASKQ_BROKER_URL"] = storage["url"]
    taskq = TaskQ(app)

    @taskq.actor
    def work() -> None:
        pass

    @app.post("/")
    def send() -> str:
        return work.send().id

    return app


def send_in_view(app: Flask) -> str:
    with pytest.raises(ConnectionFailed) as caught:
        app.test_client().post("/")
    return str(caught.value)


def show_job(app: Flask) -> str:
    result = app.test_cli_runner().invoke(group, ["job", "0" * 32])
    assert result.exit_code == 3
    return result.output


@pytest.mark.parametrize("act", [send_in_view, show_job])
def test_a_storage_that_cannot_be_used_is_named_with_what_to_do(
    app: Flask, storage: dict[str, str], act: Callable[[Flask], str]
) -> None:
    """Which one, what the system said, and what to do next; no password."""
    text = act(app)
    assert storage["name"] in text
    assert storage["reason"] in text
    assert storage["advice"] in text
    assert "secret" not in text
