"""``make demo`` starts two programs and leaves none of them behind."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gunicorn")

ROOT = Path(__file__).parents[2]


class Demo:
    """The demo, with its output in a pipe that all its processes hold: its end is theirs."""

    netloc = ""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "example_app.demo"],
            cwd=ROOT,
            env={
                **os.environ,
                "PORT": str(port),
                "PYTHONUNBUFFERED": "1",
                "FLASK_TASKQ_BROKER_URL": f"sqlite:///{folder}/taskq.sqlite3",
                "FLASK_UPLOAD_FOLDER": str(folder / "uploads"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def read_until(self, *texts: str) -> str:
        assert self.process.stdout is not None
        wanted, lines = set(texts), []
        for line in self.process.stdout:
            lines.append(line)
            wanted -= {text for text in wanted if text in line}
            if not wanted:
                return "".join(lines)
        pytest.fail("the demo ended too early:\n" + "".join(lines))

    def has_ended_within(self, seconds: float) -> bool:
        """Whether every process has closed the pipe in time."""
        assert self.process.stdout is not None
        rest = threading.Thread(target=self.process.stdout.read)
        rest.start()
        rest.join(seconds)
        return not rest.is_alive()

    def end(self) -> None:
        self.process.kill()  # the guard ends the rest
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo whose page answers and whose worker is ready."""
    demo = Demo(tmp_path)
    try:
        output = demo.read_until("Ctrl-C ends it", "is ready as worker")
        [demo.netloc] = re.findall("http://(.*)/ .*Ctrl-C", output)
        yield demo
    finally:
        demo.end()


def test_the_demo_serves_the_page_and_runs_jobs(demo: Demo) -> None:
    """The two programs work together; a signal ends both, and everything below them."""
    connection = http.client.HTTPConnection(demo.netloc, timeout=10)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/summaries", "sample=yes", form)
    assert connection.getresponse().status == 202
    connection.close()
    demo.read_until("succeeded: actor=summarise_csv")

    demo.process.send_signal(signal.SIGTERM)
    demo.process.send_signal(signal.SIGINT)  # of no consequence: it is ending
    assert demo.has_ended_within(2)
    assert demo.process.wait() == 0


def test_a_demo_that_is_killed_leaves_nothing_behind(demo: Demo) -> None:
    """It cannot end its children then, so another process does."""
    demo.process.kill()
    assert demo.has_ended_within(5)


def test_a_busy_port_is_a_clear_error(tmp_path: Path) -> None:
    """Nothing is started then."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        demo = Demo(tmp_path, port)
        output, _ = demo.process.communicate(timeout=20)
    assert demo.process.returncode == 1
    assert f"Port {port}: Address already in use." in output
    assert not (tmp_path / "taskq.sqlite3").exists()
