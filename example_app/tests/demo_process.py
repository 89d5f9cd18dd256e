"""``make demo`` as a process of a test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.machine_time import machine_seconds
from tests.support.machine_time import start_pulse

ROOT = Path(__file__).parents[2]

#: A net under waits for an answer that never comes, in seconds.
NET = 60


class Demo:
    """The demo, with its output in a pipe that all its processes hold: its end is theirs."""

    netloc = ""

    def __init__(self, folder: Path, port: int = 0, **config: str) -> None:
        start_pulse()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "example_app.demo"],
            cwd=ROOT,
            env={
                **os.environ,
                "PORT": str(port),
                "PYTHONUNBUFFERED": "1",
                "FLASK_TASKQ_BROKER_URL": f"sqlite:///{folder}/taskq.sqlite3",
                "FLASK_UPLOAD_FOLDER": str(folder / "uploads"),
                "FLASK_SECRET_KEY": "only for tests",
                **config,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        output = self.read_until("Ctrl-C ends it", "is ready as worker")
        [self.netloc] = re.findall("http://(.*)/ .*Ctrl-C", output)

    def read_until(self, *texts: str) -> str:
        assert self.process.stdout is not None
        wanted, lines = set(texts), []
        for line in self.process.stdout:
            lines.append(line)
            wanted -= {text for text in wanted if text in line}
            if not wanted:
                return "".join(lines)
        pytest.fail("the demo ended too early:\n" + "".join(lines))

    def time_to_end(self) -> float:
        """How long it takes from now on until every process has closed the pipe, in seconds
        in which the machine has time for it."""
        assert self.process.stdout is not None
        began = time.monotonic()
        self.process.stdout.read()
        return machine_seconds(began)

    def end(self) -> None:
        self.process.kill()  # the guard ends the rest
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
