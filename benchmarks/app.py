"""The application that is measured: one actor that does nothing."""

import os

from flask import Flask

from flask_taskq import TaskQ

taskq = TaskQ()


@taskq.actor
def noop(payload: str) -> None:
    pass


def create_app() -> Flask:
    app = Flask(__name__, instance_path=os.environ["BENCH_FOLDER"])
    app.config.from_prefixed_env()
    taskq.init_app(app)
    return app
