"""Apps and brokers as a test wants them, and middleware that watches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from typing import Any

from flask import Flask

from flask_taskq import Middleware
from flask_taskq import middleware
from flask_taskq import TaskQ
from flask_taskq.actors.actor import Actor
from flask_taskq.actors.broker import Broker
from flask_taskq.actors.hooks import HOOKS
from flask_taskq.actors.job import Job
from flask_taskq.actors.run import Run
from flask_taskq.clock import Clock
from flask_taskq.config import Settings
from flask_taskq.engines.memory import MemoryEngine
from flask_taskq.jobs.delivery import Delivery
from flask_taskq.jobs.delivery import Envelope
from flask_taskq.jobs.encoding import encode_message
from flask_taskq.jobs.message import Message
from flask_taskq.jobs.record import JobRecord
from flask_taskq.middleware.retries import Retries
from flask_taskq.worker.runner import Runner


def once() -> dict[str, Any]:
    """Options of an actor whose job fails with its first failure, with retries or without."""
    return {"max_retries": 0} if Retries in middleware.DEFAULT else {}


def make_app(taskq: TaskQ, name: str = "app", **config: Any) -> Flask:
    """An app whose jobs are in memory; ``config`` is without the ``TASKQ_`` prefix."""
    app = Flask(name)
    keys = {f"TASKQ_{key.upper()}": value for key, value in config.items()}
    app.config.update({"TASKQ_BROKER_URL": "memory://", **keys})
    taskq.init_app(app)
    return app


def make_broker(
    clock: Clock, *extra: Middleware, habits: Any = None, **settings: Any
) -> Broker:
    """A broker without an app: the default middleware, and what is given after it."""
    checked = Settings(broker_url="memory://", **settings)
    chosen = middleware.DEFAULT if habits is None else habits
    chain = [*(habit() for habit in chosen), *extra]
    return Broker(MemoryEngine(checked, clock), checked, clock, chain)


def declare(broker: Broker, fn: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Declare a function as an actor of this broker. Usable bare or as a decorator."""

    def decorate(fn: Callable[..., Any]) -> Actor[..., Any]:
        fields = {
            name: options.pop(name)
            for name in ("actor_name", "queue_name", "priority", "check_types")
            if name in options
        }
        if "actor_name" not in fields:
            fields["actor_name"] = fn.__name__
        actor = Actor(fn, resolver=lambda: broker, options=options, **fields)
        broker.declare_actor(actor)
        return actor

    return decorate if fn is None else decorate(fn)


def run_of(message: Message, **fields: Any) -> Run:
    """A run of a message that no engine has delivered; ``fields`` are of its delivery."""
    delivery = Delivery(
        id=message.message_id,
        queue=message.queue_name,
        actor=message.actor_name,
        priority=0,
        message=b"",
        worker="w",
        **{"attempt": 1, "claim": 1, "created_at": message.message_timestamp, **fields},
    )
    return Run(message, delivery)


class Line:
    """A broker with one runner, which the test lets run job by job."""

    def __init__(self, broker: Broker, worker: str = "w1") -> None:
        self.broker = broker
        self.engine = broker.engine
        self.runner = Runner(broker)
        self.worker = worker

    def run_next(self) -> Any:
        """Run the job that is next, and store its settlement, which is returned."""
        self.engine.workers.register(self.worker)
        queues = sorted(self.broker.get_declared_queues() | {"default"})
        consumer = self.engine.consumer(queues, self.worker)
        [delivery] = consumer.fetch(1, 0)
        settlement = self.runner.run(delivery)
        outcomes = consumer.settle_if_held([settlement]).outcomes
        assert None not in outcomes
        if settlement.line is not None:
            with suppress(BaseException):
                settlement.line.log(outcomes[0])
        return settlement

    def run(self, job: Job[Any]) -> JobRecord:
        """Run this job, which must be next; its record afterwards."""
        settlement = self.run_next()
        assert settlement.delivery.id == job.id
        return job.refresh().record

    def put(self, sent: Message, /, **fields: Any) -> str:
        """Store a message past the broker's checks, as another program might; its id."""
        defaults = {
            "id": sent.message_id,
            "queue": sent.queue_name,
            "actor": sent.actor_name,
            "priority": 0,
            "message": encode_message(sent, 10**9),
            "created_at": sent.message_timestamp,
        }
        envelope = Envelope(**{**defaults, **fields})
        self.engine.enqueue([envelope])
        return envelope.id

    def record(self, job_id: str) -> JobRecord:
        return self.broker.get_record(job_id)


class Watcher(Middleware):
    """Notes the name of every hook that is called, in order, and what it was given.

    :param name: put before each hook's name.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.seen: list[str] = []
        self.given: dict[str, Any] = {}

    def note(self, hook: str, *args: Any, **kwargs: Any) -> None:
        self.seen.append(self.name + hook)
        self.given[hook] = (args, kwargs)

    @contextmanager
    def around_process_message(self, broker: Broker, message: Any) -> Iterator[None]:
        self.note("enter")
        try:
            yield
        except BaseException as error:
            self.note("leave", error)
            raise
        else:
            self.note("leave", None)


def _noting(hook: str) -> Callable[..., None]:
    def note(self: Watcher, broker: Broker, *args: Any, **kwargs: Any) -> None:
        self.note(hook, *args, **kwargs)

    return note


for _hook in HOOKS:
    if not _hook.startswith("around_"):
        setattr(Watcher, _hook, _noting(_hook))


def messages(caplog: Any, level: int = logging.NOTSET) -> list[str]:
    """The log lines of at least this level, formatted as a handler would."""
    formatter = logging.Formatter("%(message)s")
    return [formatter.format(record) for record in caplog.records if record.levelno >= level]
