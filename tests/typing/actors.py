"""What type checkers make of actors. Checked by them, and never run."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import UTC
from typing import Any
from typing import assert_type

from flask import Flask
from flask import Response

from flask_taskq import Actor
from flask_taskq import current_job
from flask_taskq import Job
from flask_taskq import Message
from flask_taskq import Middleware
from flask_taskq import TaskQ
from flask_taskq.actors.hooks import HookBroker
from flask_taskq.actors.run import Run

taskq = TaskQ()


@taskq.actor
def bare(month: int, *, draft: bool = False) -> dict[str, int]:
    return {"month": month}


@taskq.actor(queue_name="slow", priority=-1, max_retries=0)
def called(month: int, *, draft: bool = False) -> dict[str, int]:
    return {"month": month}


@taskq.actor
async def bare_async(name: str) -> int:
    return len(name)


@taskq.actor(actor_name="other")
async def called_async(name: str) -> int:
    return len(name)


@taskq.actor
def nothing() -> None: ...


def check_sending() -> None:
    """A job knows what its actor returns."""
    assert_type(bare.send(1, draft=True), Job[dict[str, int]])
    assert_type(called.send(1), Job[dict[str, int]])
    assert_type(bare_async.send("a"), Job[int])
    assert_type(called_async.send("a"), Job[int])
    assert_type(nothing.send(), Job[None])
    assert_type(
        bare.send_with_options(args=(1,), delay=timedelta(seconds=1)), Job[dict[str, int]]
    )


def check_arguments() -> None:
    """They are those of the function."""
    bare.send("x")  # type: ignore[arg-type]
    bare.send()  # type: ignore[call-arg]
    bare.send(1, True)  # type: ignore[call-arg]
    called.send("x")  # type: ignore[arg-type]
    called.message(1, colour="red")  # type: ignore[call-arg]
    bare_async.send(1)  # type: ignore[arg-type]
    called_async.send(1)  # type: ignore[arg-type]


def check_calling() -> None:
    """A plain call is a plain call."""
    assert_type(bare(1), dict[str, int])
    assert_type(called(1), dict[str, int])


async def check_awaiting() -> None:
    """So is one of a coroutine function, which is awaited as ever."""
    assert_type(await bare_async("a"), int)
    assert_type(await called_async("a"), int)
    await bare_async(1)  # type: ignore[arg-type]
    anything: Actor[..., int] = bare_async
    assert_type(anything.send("a"), Job[int])


async def check_results(job: Job[int]) -> None:
    """They have the type of the job."""
    assert_type(job.get_result(), int)
    assert_type(job.get_result(block=True, timeout=timedelta(seconds=1)), int)
    assert_type(await job.result(timeout=1_000), int)
    assert_type(job.refresh(), Job[int])
    assert_type(job.cancel(), Job[int])
    assert_type(job.id, str)


def check_handles(job: Job[int], anything: Actor[..., Any]) -> None:
    """A handle of something narrower will do."""
    wider: Job[object] = job
    assert_type(anything.message(), Message)
    assert_type(taskq.job(wider.id), Job[Any])
    assert_type(taskq.send_many([bare.message(1), nothing.message()]), list[Job[Any]])


def create_app() -> Flask:
    """As in the documentation."""
    app = Flask(__name__)
    taskq.init_app(app)

    @app.post("/reports")
    def create_report() -> Response:
        return taskq.accepted(bare.send(1))

    return app


class Timing(Middleware):
    """A hook overrides with the types of the base class."""

    def before_process_message(self, broker: HookBroker, message: Run) -> None:
        assert_type(current_job.attempt, int)
        message.retry(1_000)


def check_options() -> None:
    """Of one call."""
    job = called.send_with_options(
        args=(1,), eta=datetime.now(UTC), priority=-1, queue_name="fast", max_retries=0
    )
    assert_type(job, Job[dict[str, int]])
    called.message_with_options(eta="noon")  # type: ignore[arg-type]


def check_using() -> None:
    """With options for the message, arguments and results are checked as without."""
    soon = called.using(delay=timedelta(seconds=1), priority=-1, queue_name="fast")
    assert_type(soon.send(1, draft=True), Job[dict[str, int]])
    assert_type(bare_async.using(eta=datetime.now(UTC), max_retries=0).send("a"), Job[int])
    assert_type(soon.message(1), Message)
    soon.send("x")  # type: ignore[arg-type]
    soon.using(max_age=1_000).send()  # type: ignore[call-arg]
    called.using(eta="noon")  # type: ignore[arg-type]
