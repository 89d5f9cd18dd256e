"""The app under the servers that its documentation names."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import build_opener
from urllib.request import ProxyHandler

import pytest

from example_app.tests.demo_process import NET
from example_app.tests.demo_process import ROOT

pytest.importorskip("gunicorn")

COMMANDS = {
    "flask run": ["flask", "--app", "example_app", "run", "--port", "0"],
    "gunicorn": [
        "gunicorn",
        "--config",
        "example_app/gunicorn.conf.py",
        "example_app:create_app()",
    ],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_app_runs_under(name: str, tmp_path: Path) -> None:
    """It takes a job, and all of its processes know it."""
    process = subprocess.Popen(
        [sys.executable, "-m", *COMMANDS[name]],
        cwd=ROOT,
        env={
            **os.environ,
            "BIND": "127.0.0.1:0",
            "PYTHONUNBUFFERED": "1",
            "FLASK_SECRET_KEY": "only for tests",
            "FLASK_TASKQ_BROKER_URL": f"sqlite:///{tmp_path}/taskq.sqlite3",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        # The lines come as the server writes them, and end when it does.
        found = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stderr)
        address = next(match[0] for match in found if match)
        opener = build_opener(ProxyHandler({}))
        with opener.open(f"{address}/sums", b"x=2&y=3", timeout=NET) as response:
            assert response.status == 202
            location = response.headers["Location"]
        for _ in range(4):
            with opener.open(f"{address}{location}", timeout=NET) as response:
                assert json.load(response)["status"] == "queued"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=NET)
