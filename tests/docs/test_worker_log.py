"""The page on the worker shows logging that works."""

import json
import os
import re
import signal
import textwrap
from pathlib import Path

import pytest
from flask import Flask

from flask_taskq import Message
from flask_taskq import TaskQ
from tests.processes.harness import PATIENCE
from tests.processes.harness import WorkerCommand

PAGE = Path(__file__).parents[2] / "docs" / "worker.rst"

APP = """

import logging
import os
from flask import Flask
from flask_taskq import TaskQ

taskq = TaskQ()

@taskq.actor(max_retries=0)
def fail():
    logging.getLogger("some.library").warning("odd")
    raise ValueError("boom")

def create_app():
    app = Flask(__name__, instance_path=os.environ["TEST_FOLDER"])
    app.config.from_prefixed_env()
    taskq.init_app(app)
    return app
"""


@pytest.mark.needs("Retries")
def test_the_configuration_of_the_page_knows_the_job(tmp_path):
    """With its traceback, once, in lines of JSON, as the library's line in the same job."""
    blocks = re.findall(r"\.\. code-block:: python\n\n((?: +.*\n|\n)+)", PAGE.read_text())
    [example] = [textwrap.dedent(one) for one in blocks if "dictConfig" in one]
    (tmp_path / "shop.py").write_text(example + APP)

    web = Flask("web", instance_path=str(tmp_path))
    taskq = TaskQ(web)
    url = f"sqlite:///{tmp_path}/taskq.sqlite3"
    env = {**os.environ, "TEST_FOLDER": str(tmp_path), "FLASK_TASKQ_BROKER_URL": url}
    worker = WorkerCommand(env, "-p", "1", app=f"{tmp_path}/shop.py")
    try:
        with web.app_context():
            job = taskq.broker.enqueue(Message("default", "fail", (), {}, {}))
            taskq.broker.wait_for_record(job.id, PATIENCE)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    finally:
        worker.close()
        taskq.broker_for(web).close()

    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    odd, failed = [line for line in lines if line.get("job_id") == job.id]
    assert (odd["logger"], odd["message"], odd["actor"]) == ("some.library", "odd", "fail")
    assert (failed["logger"], failed["level"]) == ("flask_taskq.jobs", "ERROR")
    assert failed["exception"].endswith("ValueError: boom")
