"""The application that is measured: actors that do next to nothing."""

import os
import time

from flask import Flask

from flask_taskq import TaskQ

taskq = TaskQ()


@taskq.actor
def noop(payload: str) -> None:
    pass


@taskq.actor
def tell_time() -> int:
    """The clock is the same for all processes of a machine."""
    return time.monotonic_ns()


def create_app() -> Flask:
    app = Flask(__name__, instance_path=os.environ["BENCH_FOLDER"])
    app.config.from_prefixed_env()
    taskq.init_app(app)
    return app
