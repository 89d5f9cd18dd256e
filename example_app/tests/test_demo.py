"""``make demo`` starts two programs and leaves none of them behind."""

from __future__ import annotations

import http.client
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_app.tests.demo_process import Demo
from example_app.tests.demo_process import NET
from tests.support.redis_server import empty_redis

pytest.importorskip("gunicorn")


@pytest.fixture
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Demo]:
    """A demo whose page answers and whose worker is ready."""
    is_on_redis = getattr(request, "param", "sqlite") == "redis"
    demo = Demo(tmp_path, **({"FLASK_TASKQ_BROKER_URL": empty_redis()} if is_on_redis else {}))
    try:
        demo.wait_until_ready()
        yield demo
    finally:
        demo.end()


@pytest.mark.parametrize("demo", ["sqlite", "redis"], indirect=True)
def test_the_demo_serves_the_page_and_runs_jobs(demo: Demo) -> None:
    """The two programs work together; a signal ends both, and everything below them."""
    connection = http.client.HTTPConnection(demo.netloc, timeout=NET)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/summaries", "sample=yes", form)
    assert connection.getresponse().status == 202
    connection.close()
    demo.read_until("succeeded: actor=summarise_csv")

    demo.process.send_signal(signal.SIGTERM)
    demo.process.send_signal(signal.SIGINT)  # of no consequence: it is ending
    assert demo.time_to_end() < 2
    assert demo.process.wait() == 0


def test_a_demo_that_is_killed_leaves_nothing_behind(demo: Demo) -> None:
    """It cannot end its children then, so another process does."""
    demo.process.kill()
    assert demo.time_to_end() < 5


def test_a_busy_port_is_a_clear_error(tmp_path: Path) -> None:
    """Nothing is started then."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        demo = Demo(tmp_path, port)
        output, _ = demo.process.communicate(timeout=NET)
    assert demo.process.returncode == 1
    assert f"Port {port}: Address already in use." in output
    assert not (tmp_path / "taskq.sqlite3").exists()
